"""The result of a check."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

MAX_FAULTS_SHOWN = 12  # faults of one check


@dataclass(frozen=True)
class Finding:
    """The result of one check; it is good if there are no faults."""

    check: str
    faults: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()  # extent of the check, and parts that were not checked
    hint: str = ""  # likely cause of the faults

    @property
    def holds(self) -> bool:
        return not self.faults


@dataclass
class Findings:
    """Faults and remarks collected during a check."""

    faults: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def finding(self, check: str) -> Finding:
        """Return the finding of a check; repeated faults appear once."""
        return Finding(check, tuple(dict.fromkeys(self.faults)), tuple(self.remarks))


def finding_lines(finding: Finding) -> Iterator[str]:
    """Yield a finding as text: one line if it is good, else a line for each fault."""
    if finding.holds:
        yield f"good   {finding.check}: {'; '.join(finding.remarks)}"
        return
    for fault in finding.faults[:MAX_FAULTS_SHOWN]:
        yield f"FAULT  {finding.check}: {fault}"
    if len(finding.faults) > MAX_FAULTS_SHOWN:
        yield f"FAULT  {finding.check}: and {len(finding.faults) - MAX_FAULTS_SHOWN:,} more"
    if finding.hint:
        yield f"note   {finding.check}: {finding.hint}"
