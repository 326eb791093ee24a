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

WAIT_SECONDS = 0.5  # longer than `holder` keeps the lock while it tests it


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a results folder; the operating system releases it when this process ends, even if killed."""
    with _lock_file(folder) as lock:
        if not _acquired(lock, fcntl.LOCK_EX, WAIT_SECONDS):
            lock.seek(0)
            process = lock.read().strip() or "unknown"
            raise StudyError(f"{folder} is in use by process {process}; wait for it, or stop it")
        lock.truncate(0)
        lock.write(f"{os.getpid()} on {platform.node()}")
        lock.flush()
        yield


def _acquired(lock: IO[str], mode: int, seconds: float) -> bool:
    """Try to acquire the lock for up to `seconds`; return True on success."""
    end = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(lock, mode | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= end:
                return False
        time.sleep(0.02)


@dataclass(frozen=True)
class Holder:
    """The process that writes to a results folder, as this machine sees it."""

    held: bool  # True: the lock is held now
    who: str  # `PROCESS on HOST`, the present or the last holder; empty if the folder was never locked

    @property
    def on_another_machine(self) -> bool:
        """True if the holder is on another machine, whose lock some file systems do not show."""
        return bool(self.who) and not self.who.endswith(f" on {platform.node()}")


def holder(folder: Path) -> Holder:
    """Return the holder of a results folder; a free lock is acquired only for an instant, which `locked` waits for."""
    try:
        with _open(folder, "r") as lock:
            return Holder(not _acquired(lock, fcntl.LOCK_SH, 0.0), lock.read().strip())
    except (FileNotFoundError, PermissionError):
        return Holder(False, "")


def _open(folder: Path, mode: str) -> IO[str]:
    return (folder / LEDGER_LOCK).open(mode, encoding="utf-8", errors="surrogateescape")  # a host may have any name


def _lock_file(folder: Path) -> IO[str]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return _open(folder, "a+")
    except OSError as error:
        reason = f"{folder} cannot hold results ({error.strerror})"
        raise StudyError(f"{reason}; give a folder that can be written with --results") from error
