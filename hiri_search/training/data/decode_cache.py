"""The on-disk cache of decoded images: filled by one process, atomically, memory-mapped by all trials."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from hiri_search.system.cache_dir import CACHE_VARIABLE, user_cache
from hiri_search.system.checksums import find_damage, flush, has_checksums, seal
from hiri_search.system.files import DISK_FULL, Say, atomic_write, remove
from hiri_search.training.data.image_folder import DataError

FINGERPRINTS = "contents"  # folder of the cached content fingerprints
MAX_DISK_SHARE = 0.95  # share of the free disk space that decoded images may take
PROGRESS_SECONDS = 5.0
# Images, or a share of them, before the time left is estimated: at first processes start, and files are found.
PROGRESS_IMAGES, PROGRESS_SHARE = 1000, 0.05


def cache_folder(home: Path) -> Path:
    """The decode cache: $HIRI_SEARCH_CACHE, or the user's cache directory, or `home` if that is not writable.

    All studies of a user share the cache, and nothing whole in it is removed automatically. Each of its folders holds
    some images at one side. A folder, or a cached fingerprint, may be deleted while no study runs; it is made again on
    demand. Raises DataError if the folder that the user chose does not exist and cannot be made.
    """
    try:
        return user_cache("images")
    except OSError as error:
        if chosen := os.environ.get(CACHE_VARIABLE):
            remedy = "name a folder that can be written, or leave the variable out"
            raise DataError(f"{CACHE_VARIABLE}={chosen} cannot be used: {error.strerror}; {remedy}") from error
        return home


@contextmanager
def fingerprint_folder(*, read: bool) -> Iterator[Path]:
    """Give the folder of cached fingerprints; with `read` an empty one, so that all files are read again."""
    with TemporaryDirectory() as empty:
        yield Path(empty) if read else cache_folder(Path(empty))


def cached_fingerprint(cache_dir: Path, stat_digest: str, compute: Callable[[], str]) -> str:
    """The content fingerprint that belongs to a stat fingerprint: read from a small file of the cache, or computed.

    A damaged file counts as missing. A file that cannot be written is no error.
    """
    file = _fingerprint_file(cache_dir, stat_digest)
    with suppress(OSError):
        if match := re.fullmatch(f"{stat_digest} ([0-9a-f]{{64}})\n", file.read_text(errors="replace")):
            return match[1]
    digest = compute()
    with suppress(OSError):
        cache_dir.mkdir(parents=True, exist_ok=True)
        with atomic_write(file) as output:
            output.write(f"{stat_digest} {digest}\n".encode())
    return digest


def has_cached_fingerprint(cache_dir: Path, stat_digest: str) -> bool:
    """Return True if `cached_fingerprint` has a file to read."""
    return _fingerprint_file(cache_dir, stat_digest).is_file()


def _fingerprint_file(cache_dir: Path, stat_digest: str) -> Path:
    return cache_dir / FINGERPRINTS / stat_digest[:16]


def make_once(folder: Path, bytes_needed: int, fill: Callable[[Path], None], say: Say) -> None:
    """Create `folder` with the content that `fill` writes, unless it is there; only one process does so at a time.

    Other processes wait. The content is written to a temporary folder, flushed to disk, and renamed at the end: a
    killed process, or a power failure, leaves no partly filled `folder`, and the system releases its lock. A `folder`
    that differs from its checksums is removed, and made again. Raises DataError, with the sizes, if the disk is too
    small, and with the reason, if the folder cannot be made.
    """
    try:
        if _is_whole(folder, say):
            return
        _require_disk_space(bytes_needed, folder.parent)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(folder, say):
            if not folder.exists():
                _fill(folder, fill)
    except OSError as error:
        if error.errno in DISK_FULL:
            raise _disk_too_small(bytes_needed, folder.parent, "other programs filled it meanwhile") from error
        remedy = f"{CACHE_VARIABLE} may name another folder"
        raise DataError(f"the decoded images cannot be kept in {folder.parent}: {error}; {remedy}") from error


def _is_whole(folder: Path, say: Say) -> bool:
    """Return True if a folder is there; one that is damaged is removed."""
    if not os.path.lexists(folder):
        return False
    if not find_damage(folder):
        return True
    with _locked(folder, say):
        if os.path.lexists(folder) and (damage := find_damage(folder)):  # no other process has made it again
            say(f"{damage_of(folder, damage)}; they are made again")
            remove(folder)
    return False


def damage_of(folder: Path, damage: str) -> str:
    """A clause that says what `find_damage` found in a folder of decoded images."""
    state = f"are damaged ({damage})" if has_checksums(folder) else "have no checksums"
    return f"the decoded images in {folder} {state}"


def _fill(folder: Path, fill: Callable[[Path], None]) -> None:
    unfinished = folder.with_name(folder.name + ".unfinished")
    remove(unfinished)  # left by a killed process
    unfinished.mkdir()
    try:
        fill(unfinished)
        seal(unfinished)
    except BaseException:
        remove(unfinished, ignore_errors=True)
        raise
    unfinished.rename(folder)
    flush(folder.parent)


@contextmanager
def _locked(folder: Path, say: Say) -> Iterator[None]:
    with folder.with_name(folder.name + ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another process is preparing the same images; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _require_disk_space(needed: int, folder: Path) -> None:
    if needed > MAX_DISK_SHARE * shutil.disk_usage(_existing(folder)).free:
        raise _disk_too_small(needed, folder, f"point {CACHE_VARIABLE} to a larger one")


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())


def _disk_too_small(needed: int, folder: Path, remark: str) -> DataError:
    existing = _existing(folder)
    free = shutil.disk_usage(existing).free
    return DataError(
        f"the decoded images need {needed / 1e9:.2f} GB and the disk of {existing} has {free / 1e9:.2f} GB free"
        f" ({remark}); take fewer with data.train and data.val, or decode during training with cache: none or timm:PATH"
    )


def write_array(path: Path, images: Iterable[NDArray[np.uint8]], shape: tuple[int, ...]) -> int:
    """Stream images into a .npy file, none kept in memory; return their number, at most `shape[0]`.

    The file is written, not memory-mapped: a full disk then raises OSError and does not kill the process.
    """
    with path.open("wb") as file:
        _write_header(file, shape)
        data_start, count = file.tell(), 0
        for image in images:
            file.write(np.ascontiguousarray(image).data)
            count += 1
        file.seek(0)
        _write_header(file, (count, *shape[1:]))
        assert file.tell() == data_start  # numpy pads the header, so that the length of the first axis may change
    return count


def _write_header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    npy.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})


class Progress:
    """Reports the number of finished images, and the time left once enough are finished, at most every few seconds."""

    def __init__(self, total: int, say: Say, *, done: str = "prepared", every: float = PROGRESS_SECONDS) -> None:
        self.total, self.say, self.done, self.every = total, say, done, every
        self.count, self.started = 0, time.monotonic()
        self.last_report = self.started

    def step(self) -> None:
        self.count += 1
        now = time.monotonic()
        if now - self.last_report >= self.every and self.count < self.total:
            self.last_report = now
            left = (now - self.started) / self.count * (self.total - self.count)
            enough = self.count >= min(PROGRESS_SHARE * self.total, PROGRESS_IMAGES)
            time_left = f", about {left:,.0f} s left" if enough else ""
            self.say(f"{self.count:,} of {self.total:,} images {self.done}{time_left}")
