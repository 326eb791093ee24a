"""The one truth of a study: an append-only file of what happened, written by one process, safe against any kill."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any

from pydantic_core import from_json

from hiri_search.nets.garbage import all_kept
from hiri_search.study.errors import StudyError
from hiri_search.study.sums import SUM, summed
from hiri_search.training.files import Say, patiently

LEDGER, LOCK = "ledger.jsonl", "ledger.lock"
TIME = "time"  # of a line: seconds since 1970 by the clock of the machine that wrote it
GRACE = 0.5  # seconds: who only looks whether a folder is held lets go of it sooner
GO_ON = "when that is mended, the same command goes on"
ENDED = ("finished", "failed", "stopped")
MERGED = "merged"  # the event that the trials of another results folder follow

Event = dict[str, Any]  # one line: {"event": "asked" | "epoch" | "finished" | ..., ...}


@dataclass
class Trial:
    """One network x seed x recipe, as its events tell it."""

    number: int
    asked: Event  # name, key, spec, params, macs, core_macs, seed, ...: what it is
    state: str = "unfinished"  # | finished | failed | paused on a rung | stopped there for good
    rung: int = 0  # the last one that it went on from: so many epochs
    reason: str = ""  # of failing
    source: str = ""  # where its curve is from, if it was not trained: `trial 3`, or that of another results folder
    curve: list[dict[str, Any]] = field(default_factory=list)  # by epoch
    scores: dict[str, float | None] = field(default_factory=dict)  # of zero-cost proxies
    lost: int = 0  # so often since its last epoch
    alone: bool = False  # it did not fit on a device that it shared
    device: str = ""  # that it was last trained on

    def apply(self, event: Event) -> None:
        """Move on by one event."""
        match event["event"]:
            case "finished":
                self.state, self.curve, self.source = "finished", event["curve"], event.get("source", "")
            case "failed":
                self.state, self.reason = "failed", event["reason"]
            case "retried":
                self.state, self.reason, self.lost = "unfinished", "", 0
            case "paused":
                self.state, self.curve = "paused", event["curve"]
            case "promoted":
                self.state, self.rung = "unfinished", len(self.curve)
            case "stopped":
                self.state, self.reason = "stopped", event.get("reason", "")
            case _:
                self._learn(event)

    def _learn(self, event: Event) -> None:
        """What leaves the state as it is."""
        facts = {name: value for name, value in event.items() if name not in ("event", "trial")}
        match event["event"]:
            case "began":
                self.device = event["device"]
            case "scored":
                self.scores = event["scores"]
            case "epoch":
                # An epoch that is told again takes the place of the first telling.
                self.curve, self.lost = [*self.curve[: event["epoch"] - 1], facts], 0
            case "lost":
                self.lost += 1
            case "crowded":
                self.alone = True

    @property
    def ended(self) -> bool:
        """Whether nothing more will come of it."""
        return self.state in ENDED

    @property
    def is_second_look(self) -> bool:
        """Whether it trains longer what another trial has trained before."""
        return "confirms" in self.asked

    def row(self) -> dict[str, Any]:
        """Flat, for tables."""
        last = self.curve[-1] if self.curve else {}
        scores = {name: last.get(name) for name in ("top1", "top5", "ema_top1", "ema_top5", "loss")}
        facts = {name: value for name, value in self.asked.items() if name not in ("event", "trial", "decisions")}
        # Ledgers of an earlier version do not tell all of it.
        spent = [] if self.source else self.curve
        sums = {name: sum(epoch.get(name, 0.0) for epoch in spent) for name in ("seconds", "seconds_waiting")}
        told = [joules for epoch in spent if (joules := epoch.get("joules")) is not None]
        ends = {name: last.get(name) for name in ("images_per_second", "parts", "peak_memory_bytes")}
        return {
            "trial": self.number,
            **facts,
            "state": self.state,
            "reason": self.reason,
            "source": self.source,
            "device": self.device,
            "epochs": len(self.curve),
            **scores,
            **{f"proxy_{name}": score for name, score in self.scores.items()},
            **sums,
            "joules": sum(told) if told else None,
            **ends,
            "curve": [epoch["top1"] for epoch in self.curve],
        }


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


@all_kept()
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


@all_kept()
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
        self._sums = summed(lines, path)
        self._length = sum(map(len, lines)) + len(lines)  # what of the file is whole lines
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
        os.truncate(self._file, self._length)  # cut a torn last line, or the next one would be joined to it

    def append(self, event: str, **facts: Any) -> Event:
        """One more line, on disk before this returns; StudyError where that stays impossible."""
        line: Event = {"event": event, **facts}
        written = self._sums.signed(as_line({**line, TIME: round(time.time(), 3)}))
        try:
            patiently(partial(self._write, written + b"\n"), say=self._say)
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


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a results folder; the system lets go of it when this process ends, however it ends."""
    with _lock_file(folder) as lock:
        if not _taken(lock, fcntl.LOCK_EX, GRACE):
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            raise StudyError(f"{folder} is in use by process {holder}; wait for it, or stop it")
        lock.truncate(0)
        lock.write(f"{os.getpid()} on {platform.node()}")
        lock.flush()
        yield


def _taken(lock: IO[str], how: int, seconds: float) -> bool:
    """Whether the lock could be had within so many seconds."""
    end = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(lock, how | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= end:
                return False
        time.sleep(0.02)


@dataclass(frozen=True)
class Holder:
    """Who writes a ledger, as far as it is seen from here."""

    held: bool  # now
    who: str  # `PROCESS on HOST`, now or last; `` where nobody ever was

    @property
    def elsewhere(self) -> bool:
        """Whether it was another machine, whose lock not every file system shows."""
        return bool(self.who) and not self.who.endswith(f" on {platform.node()}")


def holder(folder: Path) -> Holder:
    """Looks without getting in the way: a lock that is free is let go of at once, and `locked` waits for that."""
    try:
        with (folder / LOCK).open() as lock:
            return Holder(not _taken(lock, fcntl.LOCK_SH, 0.0), lock.read().strip())
    except (FileNotFoundError, PermissionError):
        return Holder(False, "")


def _lock_file(folder: Path) -> IO[str]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return (folder / LOCK).open("a+")
    except OSError as error:
        reason = f"{folder} cannot hold results ({error.strerror})"
        raise StudyError(f"{reason}; give a folder that can be written with --results") from error
