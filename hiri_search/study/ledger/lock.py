"""The lock of a results folder: one writer at a time."""

from __future__ import annotations

import fcntl
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from hiri_search.study.errors import StudyError
from hiri_search.study.ledger.layout import LEDGER_LOCK

GRACE = 0.5  # seconds: who only looks whether a folder is held lets go of it sooner


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
    def on_another_machine(self) -> bool:
        """Whether it was another machine, whose lock not every file system shows."""
        return bool(self.who) and not self.who.endswith(f" on {platform.node()}")


def holder(folder: Path) -> Holder:
    """Looks without getting in the way: a lock that is free is let go of at once, and `locked` waits for that."""
    try:
        with (folder / LEDGER_LOCK).open() as lock:
            return Holder(not _taken(lock, fcntl.LOCK_SH, 0.0), lock.read().strip())
    except (FileNotFoundError, PermissionError):
        return Holder(False, "")


def _lock_file(folder: Path) -> IO[str]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return (folder / LEDGER_LOCK).open("a+")
    except OSError as error:
        reason = f"{folder} cannot hold results ({error.strerror})"
        raise StudyError(f"{reason}; give a folder that can be written with --results") from error
