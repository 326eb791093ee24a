"""The ledger: append-only JSON lines, one writer, crash-safe; reading it back."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from hiri_search.study.errors import StudyError
from hiri_search.study.ledger.checksums import SUM, check_lines
from hiri_search.study.ledger.events import GO_ON, TIME, Event
from hiri_search.study.ledger.layout import LEDGER
from hiri_search.study.ledger.lock import locked
from hiri_search.study.ledger.trial import Trial
from hiri_search.system.files import Say, retrying
from hiri_search.system.gc_control import gc_disabled


def read_events(folder: Path, *, timed: bool = False) -> list[Event]:
    """All events of a results folder, oldest first; a torn last line is passed over.

    `timed`: each with the time of its line, where it has one. It is left out everywhere else, so that nothing rests on
    a clock. StudyError where there is no ledger, or where a line that is not the last cannot be read. Sums are not
    looked at: that is for who goes on writing, and for `verify`.
    """
    return _parse(read_lines(folder), folder / LEDGER, timed=timed)


def read_lines(folder: Path) -> list[bytes]:
    """The lines of a ledger without their ends; a torn last one is left out. StudyError where there is no ledger."""
    path = folder / LEDGER
    if not path.is_file():
        raise StudyError(f"{folder} holds no {LEDGER}; give the folder of a study, such as results/block_mix")
    try:
        return _whole(path.read_bytes())
    except OSError as error:
        raise StudyError(f"{path} cannot be read: {error.strerror}") from error


def _whole(content: bytes) -> list[bytes]:
    """The lines that were whole on disk: what follows the last newline is torn, or nothing."""
    *lines, rest = content.split(b"\n")
    return lines[:-1] if lines and not rest and _event(lines[-1]) is None else lines


@gc_disabled()
def _parse(lines: Iterable[bytes], path: Path, *, timed: bool = False) -> list[Event]:
    events = []
    for number, line in enumerate(lines, 1):
        event = _event(line)
        if event is None:
            raise StudyError(f"{path}:{number}: this line cannot be read; restore the file from a copy")
        event.pop(SUM, None)
        if not timed:
            event.pop(TIME, None)
        events.append(event)
    return events


def _event(line: bytes) -> Event | None:
    """None where the line is not one."""
    try:
        event = from_json(line)  # at twice the speed of `json`: a ledger of 10,000 trials has 84,000 lines
    except ValueError:
        return None
    return event if isinstance(event, dict) and isinstance(event.get("event"), str) else None


def study_event(events: Sequence[Event], folder: Path) -> Event:
    """What the last run of a results folder began with."""
    about = next((event for event in reversed(events) if event["event"] == "study"), None)
    if about is None:
        raise StudyError(f"the ledger of {folder} is empty: its study never began")
    return about


@gc_disabled()
def trials(events: Iterable[Event]) -> list[Trial]:
    """The trials by number, each in the state that its last events left it in."""
    found: dict[int, Trial] = {}
    for number, event in enumerate(events, 1):
        if event["event"] == "asked":
            found[event["trial"]] = Trial(event["trial"], event)
        elif "trial" in event:
            if event["trial"] not in found:
                lost = f"trial {event['trial']} was never asked for; lines are missing before it"
                raise StudyError(f"{LEDGER}:{number}: {lost}: restore the file from a copy")
            found[event["trial"]].apply(event)
    return [found[number] for number in sorted(found)]


class Ledger:
    """The open ledger of the one process that writes it; made by `open_ledger`."""

    def __init__(self, path: Path, say: Say) -> None:
        self._path, self._say = path, say
        lines = _whole(path.read_bytes()) if path.exists() else []
        self.events = _parse(lines, path)
        self._sums = check_lines(lines, path)
        self._length = sum(map(len, lines)) + len(lines)  # what of the file is whole lines
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
        os.truncate(self._file, self._length)  # cut a torn last line, or the next one would be joined to it

    def append(self, event: str, **facts: Any) -> Event:
        """One more line, on disk before this returns; StudyError where that stays impossible."""
        line: Event = {"event": event, **facts}
        written = self._sums.signed(as_line({**line, TIME: round(time.time(), 3)}))
        try:
            retrying(partial(self._write, written + b"\n"), say=self._say)
        except OSError as error:
            raise StudyError(f"{self._path} cannot be written: {error}; {GO_ON}") from error
        self._sums.added(written)
        return line

    def _write(self, line: bytes) -> None:
        """Wherever an attempt before has ended, behind the last whole line."""
        written = 0
        while written < len(line):
            written += os.pwrite(self._file, line[written:], self._length + written)
        os.fsync(self._file)
        self._length += len(line)

    def close(self) -> None:
        os.close(self._file)


def as_line(event: Event) -> bytes:
    """An event as it is written, but for its sum and the end of the line."""
    return json.dumps(event, allow_nan=False).encode()


@contextmanager
def open_ledger(folder: Path, say: Say = lambda text: None) -> Iterator[Ledger]:
    """The ledger of a results folder, for this process alone.

    StudyError, naming the process, where another one has it; and where the file was changed behind its back.
    """
    with locked(folder):
        ledger = Ledger(folder / LEDGER, say)
        try:
            yield ledger
        finally:
            ledger.close()
