"""The one truth of a study: an append-only file of what happened, written by one process, safe against any kill."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from hiri_search.study.errors import StudyError

LEDGER, LOCK = "ledger.jsonl", "ledger.lock"
VERSION = 1
ENDED = ("finished", "failed", "stopped")

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

    def apply(self, event: Event) -> None:
        """Move on by one event."""
        facts = {name: value for name, value in event.items() if name not in ("event", "trial")}
        match event["event"]:
            case "epoch":
                # An epoch that is told again takes the place of the first telling.
                self.curve = [*self.curve[: event["epoch"] - 1], facts]
            case "finished":
                self.state, self.curve, self.source = "finished", event["curve"], event.get("source", "")
            case "failed":
                self.state, self.reason = "failed", event["reason"]
            case "scored":
                self.scores = event["scores"]
            case "retried":
                self.state, self.reason = "unfinished", ""
            case "paused":
                self.state, self.curve = "paused", event["curve"]
            case "promoted":
                self.state, self.rung = "unfinished", len(self.curve)
            case "stopped":
                self.state, self.reason = "stopped", event.get("reason", "")

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
        ends = {name: last.get(name) for name in ("images_per_second", "parts", "peak_memory_bytes")}
        return {
            "trial": self.number,
            **facts,
            "state": self.state,
            "reason": self.reason,
            "source": self.source,
            "epochs": len(self.curve),
            **scores,
            **{f"proxy_{name}": score for name, score in self.scores.items()},
            **sums,
            **ends,
            "curve": [epoch["top1"] for epoch in self.curve],
        }


def read_events(folder: Path) -> list[Event]:
    """All events of a results folder, oldest first; a torn last line is passed over.

    StudyError where there is no ledger, or where a line that is not the last cannot be read.
    """
    path = folder / LEDGER
    if not path.is_file():
        raise StudyError(f"{folder} holds no {LEDGER}; give the folder of a study, such as results/block_mix")
    return _parse(path, path.read_bytes())[0]


def _parse(path: Path, content: bytes) -> tuple[list[Event], int]:
    """The events, and the length of the whole lines that hold them."""
    lines = content.split(b"\n")
    events: list[Event] = []
    length = 0
    for number, line in enumerate(lines[:-1], 1):  # what follows the last newline is torn, or nothing
        event = _event(line)
        if event is None and number == len(lines) - 1 and not lines[-1]:
            break  # a last line that was never whole on disk
        if event is None:
            raise StudyError(f"{path}:{number}: this line cannot be read; restore the file from a copy")
        events.append(event)
        length += len(line) + 1
    return events, length


def _event(line: bytes) -> Event | None:
    """None where the line is not one."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and isinstance(event.get("event"), str) else None


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

    def __init__(self, path: Path) -> None:
        self.events: list[Event] = []
        if path.exists():
            self.events, length = _parse(path, path.read_bytes())
            os.truncate(path, length)  # cut a torn last line, or the next one would be joined to it
        self._file = path.open("ab")

    def append(self, event: str, **facts: Any) -> Event:
        """One more line, on disk before this returns."""
        line: Event = {"event": event, **facts}
        self._file.write(json.dumps(line, allow_nan=False).encode() + b"\n")
        self._file.flush()  # all of it: on a full disk a bare write may write less, and say nothing
        os.fsync(self._file.fileno())
        self.events.append(line)
        return line

    def close(self) -> None:
        self._file.close()


@contextmanager
def open_ledger(folder: Path) -> Iterator[Ledger]:
    """The ledger of a results folder, for this process alone.

    StudyError, naming the process, where another one has it.
    """
    with locked(folder):
        ledger = Ledger(folder / LEDGER)
        try:
            yield ledger
        finally:
            ledger.close()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a results folder; the system lets go of it when this process ends, however it ends."""
    with _lock_file(folder) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            raise StudyError(f"{folder} is in use by process {holder}; wait for it, or stop it") from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _lock_file(folder: Path) -> IO[str]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return (folder / LOCK).open("a+")
    except OSError as error:
        reason = f"{folder} cannot hold results ({error.strerror})"
        raise StudyError(f"{reason}; give a folder that can be written with --results") from error
