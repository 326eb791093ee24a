"""A temporary directory that is removed even if its process is killed (used for Ray)."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hiri_search.system.files import remove

_TEMP_PREFIX = "hiri_"
DRIVER_LOCK = "driver.lock"  # locked by the process while it runs
_MAX_TEMP_PATH = 20  # characters; a socket's path has at most 107, of which Ray uses up to 80


@contextmanager
def temporary_directory() -> Iterator[Path]:
    """Yield a folder for this process, and remove the folders that killed processes of this user have left."""
    _remove_abandoned(_temp_root())
    folder = Path(tempfile.mkdtemp(prefix=_TEMP_PREFIX, dir=_temp_root()))
    new_lock = folder / f"{DRIVER_LOCK}.new"
    with new_lock.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        new_lock.rename(folder / DRIVER_LOCK)  # so that DRIVER_LOCK never exists unlocked
        try:
            yield folder
        finally:
            _remove(folder)


def _remove(folder: Path) -> None:
    """Remove a folder, its lock last: where a process still writes into the folder, a later run removes the rest."""
    for entry in folder.iterdir():
        if entry.name != DRIVER_LOCK:
            remove(entry, ignore_errors=True)
    if [entry.name for entry in folder.iterdir()] == [DRIVER_LOCK]:
        remove(folder, ignore_errors=True)


def _temp_root() -> Path:
    """Return a folder for temporary files whose path is short enough for Ray's sockets."""
    default = tempfile.gettempdir()
    return Path(default if len(default) <= _MAX_TEMP_PATH else "/tmp")


def _remove_abandoned(root: Path) -> None:
    for folder in root.glob(f"{_TEMP_PREFIX}*"):
        with suppress(OSError):  # a folder of another user, or one that another process has just removed
            ours = folder.is_dir() and not folder.is_symlink() and folder.lstat().st_uid == os.getuid()
            if ours and _is_abandoned(folder / DRIVER_LOCK):
                _remove(folder)


def _is_abandoned(lock: Path) -> bool:
    """Return True if no process holds the lock; OSError if a process does, or the file is missing or not ours."""
    with os.fdopen(os.open(lock, os.O_RDWR | os.O_NOFOLLOW), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return True
