"""Running checksum over the ledger's lines."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hiri_search.study.errors import StudyError

SUM = "sum"  # of a line, its last fact: that of all before it, and of the line without it
LETTERS = 16  # 64 bits: against accidents and edits; who makes all sums anew is told by a copy of the last one
SEEK = 20  # lines that do not fit, for which the line is looked for that they stood behind
WITHOUT = "it has no sum, though lines before it have: it was added, or its sum was taken away"
CHANGED = "it was changed, or lines before it were changed or taken away"
_WRITTEN = re.compile(rb', "sum": "([0-9a-f]{16})"\}')
_LENGTH = len(f', "{SUM}": ""}}') + LETTERS


@dataclass(frozen=True)
class BrokenLine:
    """A line that does not fit what is before it."""

    line: int  # counted from 1
    says: str


class RunningChecksum:
    """The sum behind the last line; lines of an earlier version, without one, count as they are."""

    def __init__(self) -> None:
        self.last = ""
        self._begun = False  # a line had one

    def signed(self, content: bytes) -> bytes:
        """A line, `{...}`, with its sum in it; it does not count before it is `added`."""
        return content[:-1] + f', "{SUM}": "{_sum(self.last, content)}"}}'.encode()

    def added(self, line: bytes) -> str:
        """Count a line; what is wrong with it, or nothing. The sums behind it go on from the one that it carries."""
        content, carried = split(line)
        found = _sum(self.last, content)
        self.last = carried or found
        if carried is None:
            return WITHOUT if self._begun else ""
        self._begun = True
        return "" if carried == found else CHANGED


def check_lines(lines: Iterable[bytes], path: Path) -> RunningChecksum:
    """Where the sums of a ledger go on. StudyError where a line does not fit: nothing is built upon it."""
    sums = RunningChecksum()
    for number, line in enumerate(lines, 1):
        if wrong := sums.added(line):
            way_out = f"`hiri-search verify {path.parent}` says more; restore the file from a copy"
            raise StudyError(f"{path}:{number}: this line does not fit its sum: {wrong}; {way_out}")
    return sums


def split(line: bytes) -> tuple[bytes, str | None]:
    """A line without its sum, and that."""
    found = _WRITTEN.fullmatch(line, max(0, len(line) - _LENGTH))
    return (line[: found.start()] + b"}", found[1].decode()) if found else (line, None)


def misfits(lines: Sequence[bytes]) -> Iterator[BrokenLine]:
    """The lines that do not fit, each with what can be known of it."""
    sums, sought = RunningChecksum(), 0
    for number, line in enumerate(lines, 1):
        wrong = sums.added(line)
        if wrong == CHANGED and sought < SEEK:
            sought += 1
            wrong = _told(lines, number)
        if wrong:
            yield BrokenLine(number, wrong)


def _told(lines: Sequence[bytes], number: int) -> str:
    """A line that is whole says by its sum which one it stood behind."""
    content, own = split(lines[number - 1])
    if own == _sum("", content):
        return "it was the first line: lines were put before it"
    for other, line in enumerate(lines, 1):
        _, theirs = split(line)
        if theirs and other != number - 1 and own == _sum(theirs, content):
            return f"it is whole, but stood behind line {other}: lines changed places, were added, or came twice"
    return CHANGED


def _sum(before: str, content: bytes) -> str:
    return hashlib.sha256(before.encode() + content).hexdigest()[:LETTERS]
