"""A temporary directory that is removed even if its process was killed (used for Ray)."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

TEMP_PREFIX = "hiri_"
DRIVER_LOCK = "driver.lock"  # held by the process as long as it lives
SOCKET_FOLDER = 20  # letters; a socket's path has at most 107, of which Ray takes up to 80


@contextmanager
def temporary_directory() -> Iterator[Path]:
    """A folder for this process; what those of this user that were killed have left is removed first."""
    _clear_away(_short())
    made = Path(tempfile.mkdtemp(prefix=TEMP_PREFIX, dir=_short()))
    unheld = made / f"{DRIVER_LOCK}.new"
    with unheld.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        unheld.rename(made / DRIVER_LOCK)  # held from the moment it is there
        try:
            yield made
        finally:
            shutil.rmtree(made, ignore_errors=True)


def _short() -> Path:
    """A place for temporary files whose path leaves room for the names of Ray's sockets."""
    usual = tempfile.gettempdir()
    return Path(usual if len(usual) <= SOCKET_FOLDER else "/tmp")


def _clear_away(place: Path) -> None:
    for old in place.glob(f"{TEMP_PREFIX}*"):
        with suppress(OSError):  # others' folders, or one that is gone meanwhile
            if _is_ours(old) and _is_left(old / DRIVER_LOCK):
                shutil.rmtree(old, ignore_errors=True)


def _is_ours(folder: Path) -> bool:
    return folder.is_dir() and not folder.is_symlink() and folder.lstat().st_uid == os.getuid()


def _is_left(lock: Path) -> bool:
    """Whether the process that held it is gone; OSError where there is none, or another user's."""
    with os.fdopen(os.open(lock, os.O_RDWR | os.O_NOFOLLOW), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return True
