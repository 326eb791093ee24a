"""Atomic writes, and retries while a disk is full or unreachable."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from errno import EDQUOT, ENOSPC
from pathlib import Path
from typing import BinaryIO, TypeVar

_RETRY_SECONDS = 90.0  # an outage of the storage of one minute then only delays the run
_FIRST_WAIT, _LONGEST_WAIT = 0.2, 5.0  # seconds between attempts

UNFINISHED = ".tmp"  # suffix of a file that is being written
DISK_FULL = (ENOSPC, EDQUOT)  # `errno` of an OSError where the disk or the user's share of it is full

_T = TypeVar("_T")
Say = Callable[[str], None]


def expanded(path: str) -> Path:
    """Return a path with the home folder in place of `~`; as it is where there is no such user, or no home folder.

    `Path.expanduser` raises RuntimeError there, as in a container whose user has no name.
    """
    return Path(os.path.expanduser(path))


def retrying(do: Callable[[], _T], *, seconds: float = _RETRY_SECONDS, say: Say = lambda text: None) -> _T:
    """Call `do` and retry while it raises OSError, with growing waits; raise the OSError after `seconds`."""
    end, wait = time.monotonic() + seconds, _FIRST_WAIT
    while True:
        try:
            return do()
        except OSError as error:
            if time.monotonic() + wait > end:
                raise
            say(f"{error}; retrying for up to {end - time.monotonic():.0f} s")
        time.sleep(wait)
        wait = min(2 * wait, _LONGEST_WAIT)


def absolute(path: str) -> Path:
    """Return an absolute path with the home folder in place of `~`; FileNotFoundError where there is none.

    Otherwise a folder called `~` would be made in the working folder.
    """
    folder = expanded(path)
    if path.startswith("~") and folder == Path(path):
        raise FileNotFoundError(None, "there is no home folder for its ~", path)
    return folder.absolute()


def remove(path: Path, *, ignore_errors: bool = False) -> None:
    """Remove a folder with all that is in it, or a file; of a link only the link itself."""
    if path.is_dir() and not path.is_symlink():  # rmtree refuses a link to a folder
        shutil.rmtree(path, ignore_errors=ignore_errors)
    else:
        path.unlink(missing_ok=True)


def unfinished_path(path: Path) -> Path:
    """Return the path of a file while it is written; no other process uses it, on this machine or another one."""
    return path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}{UNFINISHED}")


def _is_special(path: Path) -> bool:
    """Return whether there is something else than a file at a path. OSError for links that lead in a circle."""
    with suppress(FileNotFoundError):
        return not stat.S_ISREG(path.stat().st_mode)
    return False


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Yield a temporary file that replaces `path` when the block ends: a kill leaves the old file or the new one.

    Two processes may write one file at once: the last one stays. Creates the folder of the file but not the parent of
    that folder: if a disk is not mounted, nothing is written below its mount point. A device or a pipe, such as
    /dev/stdout, is written to and never replaced. A link stays: what it leads to is replaced.
    """
    path.parent.mkdir(exist_ok=True)
    if _is_special(path):
        with path.open("wb") as file:
            yield file
        return
    path = Path(os.path.realpath(path))
    unfinished = unfinished_path(path)
    try:
        with unfinished.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # otherwise a power failure may leave an empty file under the new name
        unfinished.replace(path)
    except BaseException as error:
        with suppress(OSError):
            unfinished.unlink()
        if isinstance(error, OSError) and error.errno in DISK_FULL:  # its own text does not say which disk
            error.filename = str(path)
        raise
