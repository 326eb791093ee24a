"""Atomic writes, and retries while a disk is full or unreachable."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, TypeVar

RETRY_SECONDS = 90.0  # seconds: a storage that is away for a minute costs a minute, and nothing else
FIRST_WAIT, LONGEST_WAIT = 0.2, 5.0  # seconds between attempts

_T = TypeVar("_T")
Say = Callable[[str], None]


def retrying(do: Callable[[], _T], *, seconds: float = RETRY_SECONDS, say: Say = lambda text: None) -> _T:
    """Do it again and again while the system refuses; its OSError where it still does after so many seconds."""
    end, wait = time.monotonic() + seconds, FIRST_WAIT
    while True:
        try:
            return do()
        except OSError as error:
            if time.monotonic() + wait > end:
                raise
            say(f"{error}; trying again for up to {end - time.monotonic():.0f} s")
        time.sleep(wait)
        wait = min(2 * wait, LONGEST_WAIT)


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """A file to be filled, and then put in the place of the old one: a kill leaves the old one or the new one.

    Its folder is made, but not the folder of that: where a storage is away, it is not to be written beneath it.
    """
    path.parent.mkdir(exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        with unfinished.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # else a machine that goes down may leave the new name with nothing in it
        unfinished.replace(path)
    except BaseException:
        with suppress(OSError):
            unfinished.unlink()
        raise
