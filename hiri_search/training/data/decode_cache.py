"""The on-disk cache of decoded images: filled by one process, atomically, memory-mapped by all trials."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from hiri_search.system.cache_dir import CACHE_VARIABLE, user_cache
from hiri_search.system.files import Say
from hiri_search.training.data.image_folder import DataError

FINGERPRINTS = "contents"
MAX_DISK_SHARE = 0.95  # share of the free disk that may be taken
PROGRESS_SECONDS = 5.0


def cache_folder(home: Path) -> Path:
    """The folder for decoded images: $HIRI_SEARCH_CACHE, or the user's cache, or `home` where that is not writable.

    Shared by all studies of a user. Nothing in it is ever removed by us; each of its folders holds some images at one
    side, may be deleted whenever no study runs, and is made again when it is wanted. So may what is `remembered`.
    """
    return user_cache("images") or home


def cached_fingerprint(place: Path, seen: str, find: Callable[[], str]) -> str:
    """The digest that `find` takes long for, kept in a small file of `place` under that of what was seen before.

    A file that is not whole is as good as none; one that cannot be written is done without.
    """
    file = place / FINGERPRINTS / seen[:16]
    with suppress(OSError):
        if known := re.fullmatch(f"{seen} ([0-9a-f]{{64}})\n", file.read_text(errors="replace")):
            return known[1]
    found = find()
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_suffix(f".{os.getpid()}.tmp")
        unfinished.write_text(f"{seen} {found}\n")
        unfinished.replace(file)
    return found


def has_cached_fingerprint(place: Path, seen: str) -> bool:
    """Whether `remembered` has something to read."""
    return (place / FINGERPRINTS / seen[:16]).is_file()


def make_once(folder: Path, bytes_needed: int, make: Callable[[Path], None], say: Say) -> None:
    """Have `make` fill a folder that is not there; DataError, with the sizes, where the disk is too small.

    Of several processes one makes it and the others wait. A process killed here leaves nothing half done: it fills a
    folder beside, which is renamed at the end, and the system lets go of its lock.
    """
    if folder.exists():
        return
    _demand_room(bytes_needed, folder.parent)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.with_name(folder.name + ".lock"), say):
        if folder.exists():
            return
        unfinished = folder.with_name(folder.name + ".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)  # of a process that was killed
        unfinished.mkdir()
        try:
            _make(unfinished, bytes_needed, make)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
        unfinished.rename(folder)


def _make(folder: Path, bytes_needed: int, make: Callable[[Path], None]) -> None:
    try:
        make(folder)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise _too_small(bytes_needed, folder, "others took it meanwhile") from error


@contextmanager
def _locked(path: Path, say: Say) -> Iterator[None]:
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another process is preparing the same images; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _demand_room(needed: int, folder: Path) -> None:
    there = next(one for one in (folder.absolute(), *folder.absolute().parents) if one.exists())
    if needed > MAX_DISK_SHARE * shutil.disk_usage(there).free:
        raise _too_small(needed, there, f"point {CACHE_VARIABLE} to a larger one")


def _too_small(needed: int, folder: Path, remark: str) -> DataError:
    free = shutil.disk_usage(folder).free
    return DataError(
        f"the decoded images need {needed / 1e9:.2f} GB and the disk of {folder} has {free / 1e9:.2f} GB free"
        f" ({remark}); take fewer with data.train and data.val, or decode as you go with cache: none or timm:PATH"
    )


def write_array(path: Path, images: Iterable[NDArray[np.uint8]], shape: tuple[int, ...]) -> int:
    """A .npy file of images as they come, none kept in memory; their number, at most `shape[0]`.

    Written, not mapped: a disk that is full is then an OSError, and not the death of the process.
    """
    with path.open("wb") as file:
        _header(file, shape)
        begins, count = file.tell(), 0
        for image in images:
            file.write(np.ascontiguousarray(image).data)
            count += 1
        file.seek(0)
        _header(file, (count, *shape[1:]))
        assert file.tell() == begins  # numpy leaves room for a first axis that grows
    return count


def _header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    npy.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})


class Progress:
    """Says how many images are done, at most every few seconds."""

    def __init__(self, total: int, say: Say, *, done: str = "prepared", every: float = PROGRESS_SECONDS) -> None:
        self.total, self.say, self.done, self.every = total, say, done, every
        self.count, self.began = 0, time.monotonic()
        self.said = self.began

    def step(self) -> None:
        self.count += 1
        now = time.monotonic()
        if now - self.said >= self.every and self.count < self.total:
            self.said = now
            left = (now - self.began) / self.count * (self.total - self.count)
            self.say(f"{self.count:,} of {self.total:,} images {self.done}, about {left:,.0f} s left")
