"""The ledger: append-only JSON lines, one writer, crash-safe; reading it back."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from pydantic_core import from_json

from hiri_search.study.errors import StudyError
from hiri_search.study.ledger.events import (
    FORMAT,
    GO_ON,
    AnyEvent,
    Event,
    LedgerStarted,
    RunEnded,
    StudyStarted,
    TrialAsked,
    TrialEvent,
)
from hiri_search.study.ledger.json_lines import InvalidLine, read_line, write_line
from hiri_search.study.ledger.layout import CALIBRATION, LEDGER, OWN_LEDGER, REFERENCE
from hiri_search.study.ledger.lock import locked
from hiri_search.study.ledger.trial import Trial
from hiri_search.study.ledger.values import LedgerSum
from hiri_search.system.files import Say, retrying
from hiri_search.system.gc_control import gc_disabled

Kind = TypeVar("Kind", bound=Event)


class UnreadableLedger(StudyError):
    """A ledger of another format, or with a line that is no event."""


@dataclass(frozen=True)
class LedgerContent:
    """A ledger, read once for a whole command."""

    folder: Path
    lines: Sequence[bytes]  # without their ends, the format line included
    events: Sequence[AnyEvent]  # oldest first, without the format line

    @property
    def sum(self) -> LedgerSum:
        return ledger_sum(self.lines)


def read_ledger(folder: Path) -> LedgerContent:
    """Read the ledger of a results folder; a torn last line is ignored.

    StudyError where there is no ledger, where it has another format, or where a line cannot be read.
    """
    lines = read_lines(folder)
    return LedgerContent(folder, lines, _parse(lines, folder / LEDGER))


def read_events(folder: Path) -> Sequence[AnyEvent]:
    """Return the events of a results folder, as `read_ledger` does."""
    return read_ledger(folder).events


def read_lines(folder: Path) -> list[bytes]:
    """Return the lines of a ledger without their ends, without a torn last one. StudyError where there is no ledger."""
    path = folder / LEDGER
    if not path.is_file():
        wanted = "of a study, such as results/block_mix"
        if (folder / CALIBRATION).is_file():
            wanted = f"of one setting of this calibration, such as {folder / REFERENCE}"
        raise StudyError(f"{folder} holds no {LEDGER}; give the folder {wanted}")
    try:
        return _complete(path.read_bytes())
    except OSError as error:
        raise StudyError(f"{path} cannot be read: {error.strerror}") from error


def ledger_sum(lines: Sequence[bytes]) -> LedgerSum:
    """Return the identity of a ledger of these lines."""
    return LedgerSum(len(lines), hashlib.sha256(b"".join(line + b"\n" for line in lines)).hexdigest())


def _complete(content: bytes) -> list[bytes]:
    """Return the lines that were written completely: not what follows the last newline, nor a last line of garbage."""
    *lines, rest = content.split(b"\n")
    return lines[:-1] if lines and not rest and not _is_json(lines[-1]) else lines


def _is_json(line: bytes) -> bool:
    try:
        return isinstance(from_json(line), dict)
    except ValueError:
        return False


@gc_disabled()  # halves the time of a ledger of 100,000 lines
def _parse(lines: Iterable[bytes], path: Path) -> list[AnyEvent]:
    events: list[AnyEvent] = []
    for number, line in enumerate(lines, 1):
        if number == 1:
            _check_format(line, path)
        try:
            events.append(read_line(line))
        except InvalidLine as error:
            message = f"{path}:{number}: this line cannot be read: {error}"
            raise UnreadableLedger(f"{message}; restore the file from a copy") from None
    return events[1:]


def _check_format(line: bytes, path: Path) -> None:
    """StudyError where the first line does not name the format that this version reads."""
    first = from_json(line) if _is_json(line) else {}
    if (first.get("event"), first.get("format")) != (LedgerStarted.event, FORMAT):
        message = f"{path} has another format; this version of hiri_search reads format {FORMAT} only"
        remedy = "continue with the version that began it, give another folder with --results, or begin with --fresh"
        raise UnreadableLedger(f"{message}: {remedy}")


def of_kind(events: Iterable[Event], kind: type[Kind]) -> list[Kind]:
    """Return the events of one kind, in their order."""
    return [event for event in events if isinstance(event, kind)]


def study_event(events: Sequence[Event], folder: Path) -> StudyStarted:
    """Return the start of the last run of a results folder. StudyError where no run began."""
    if started := last_start(events):
        return started
    raise StudyError(f"the ledger of {folder} is empty: its study never began")


def last_start(events: Sequence[Event]) -> StudyStarted | None:
    """Return the start of the last run; None before the first run."""
    return next((event for event in reversed(events) if isinstance(event, StudyStarted)), None)


def end_of_run(events: Sequence[Event]) -> RunEnded | None:
    """Return the end of the last run; None while it goes on, or where it was killed."""
    last = next((event for event in reversed(events) if isinstance(event, StudyStarted | RunEnded)), None)
    return last if isinstance(last, RunEnded) else None


def trials(events: Iterable[Event]) -> list[Trial]:
    """Return the trials by number, each in the state that its last events left it in."""
    by_number: dict[int, Trial] = {}
    for line, event in enumerate(events, 2):  # after the format line
        if isinstance(event, TrialAsked):
            by_number[event.trial] = Trial(event)
        elif isinstance(event, TrialEvent):
            if event.trial not in by_number:
                missing = f"trial {event.trial} was never asked for: lines are missing"
                raise StudyError(f"{LEDGER}:{line}: {missing}; restore the file from a copy")
            by_number[event.trial].apply(event)
    return [by_number[number] for number in sorted(by_number)]


def ledger_id(first: Event) -> str:
    """Return a digest of a ledger's first event, which is unique; a moved or longer ledger keeps it."""
    return hashlib.sha256(write_line(first)).hexdigest()[:16]


class Ledger:
    """The open ledger of the one process that writes it; made by `open_ledger`."""

    listener: Callable[[Event], object] | None = None  # is called with each event that was written

    def __init__(self, path: Path, say: Say) -> None:
        self._path, self._say = path, say
        lines = _complete(path.read_bytes()) if path.exists() else []
        self.events: list[AnyEvent] = _parse(lines, path)
        self._content = bytearray(b"".join(line + b"\n" for line in lines))  # the complete lines, as they must be there
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
        os.truncate(self._file, len(self._content))  # cut a torn last line, or the next one would be joined to it
        self._left = os.fstat(self._file)  # as this process left the file

    def append(self, event: Event) -> None:
        """Add one line, on disk before this returns.

        StudyError where that stays impossible, or where another program has written other lines into the file.
        """
        event = replace(event, time=round(time.time(), 3))
        lines = write_line(event) + b"\n"
        if not self._content:  # an opened ledger stays empty until it is used
            lines = write_line(LedgerStarted(format=FORMAT)) + b"\n" + lines
        try:
            retrying(self._check_place, say=self._say)
            retrying(partial(self._write, lines), say=self._say)
        except OSError as error:
            raise StudyError(f"{self._path} cannot be written: {error}; {GO_ON}") from error
        self._content += lines
        self._left = os.fstat(self._file)
        if self.listener:
            self.listener(event)

    def _check_place(self) -> None:
        """Notice that an editor or a sync tool has replaced or changed the file, and write again what it has lost."""
        if _is_unchanged(self._path, self._left):
            return
        there = self._path.read_bytes() if self._path.exists() else b""
        if not self._content.startswith(there):
            aside = self._path.with_name(OWN_LEDGER)
            aside.write_bytes(self._content)
            fault = f"another program has changed {self._path} while this run wrote it"
            way_out = f"the lines of this run are in {aside.name}: rename it to {LEDGER}, or remove it"
            raise StudyError(f"{fault}; {way_out}; then the same command continues the study")
        former, self._file = self._file, os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o666)
        os.close(former)
        if missing := bytes(self._content[len(there) :]):
            self._say(f"another program has replaced {self._path}; the lines that it lacked are written again")
            self._write(missing, len(there))

    def _write(self, lines: bytes, start: int | None = None) -> None:
        """Write after the last complete line, wherever an earlier attempt has ended."""
        start, written = len(self._content) if start is None else start, 0
        while written < len(lines):
            written += os.pwrite(self._file, lines[written:], start + written)
        os.fsync(self._file)

    def close(self) -> None:
        os.close(self._file)


def _is_unchanged(path: Path, left: os.stat_result) -> bool:
    """Return whether a path is still the file that this process left, of the same length and time of writing."""
    try:
        now = path.stat()
    except FileNotFoundError:
        return False
    return all(getattr(now, name) == getattr(left, name) for name in ("st_dev", "st_ino", "st_size", "st_mtime_ns"))


@contextmanager
def open_ledger(folder: Path, say: Say = lambda text: None) -> Iterator[Ledger]:
    """Open the ledger of a results folder for this process alone. StudyError where another process has it."""
    with locked(folder):
        ledger = Ledger(folder / LEDGER, say)
        try:
            yield ledger
        finally:
            ledger.close()
