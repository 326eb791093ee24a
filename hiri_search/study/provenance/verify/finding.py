"""The result of a check."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

MAX_FAULTS_SHOWN = 12  # faults of one check


@dataclass(frozen=True)
class Finding:
    """Of one check; without a fault, what it has looked at holds."""

    check: str
    faults: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()  # what was looked at, and what could not be
    hint: str = ""  # what may be behind the faults

    @property
    def holds(self) -> bool:
        return not self.faults


@dataclass
class Findings:
    """What is noted while a check goes on."""

    faults: list[str]
    remarks: list[str]

    @classmethod
    def none(cls) -> Findings:
        return cls([], [])

    def of(self, check: str) -> Finding:
        return Finding(check, tuple(dict.fromkeys(self.faults)), tuple(self.remarks))


def finding_lines(finding: Finding) -> Iterator[str]:
    """In words, one line where nothing is wrong."""
    if finding.holds:
        yield f"good   {finding.check}: {'; '.join(finding.remarks)}"
        return
    for fault in finding.faults[:MAX_FAULTS_SHOWN]:
        yield f"FAULT  {finding.check}: {fault}"
    if len(finding.faults) > MAX_FAULTS_SHOWN:
        yield f"FAULT  {finding.check}: and {len(finding.faults) - MAX_FAULTS_SHOWN:,} more"
    if finding.hint:
        yield f"note   {finding.check}: {finding.hint}"
