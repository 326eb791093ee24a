"""The on-disk cache of decoded images: filled by one process, atomically, memory-mapped by all trials."""

from __future__ import annotations

import errno
import fcntl
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
from hiri_search.system.files import Say, atomic_write
from hiri_search.training.data.image_folder import DataError

FINGERPRINTS = "contents"  # folder of the cached content fingerprints
MAX_DISK_SHARE = 0.95  # share of the free disk space that decoded images may take
PROGRESS_SECONDS = 5.0


def cache_folder(home: Path) -> Path:
    """The decode cache: $HIRI_SEARCH_CACHE, or the user's cache directory, or `home` if that is not writable.

    All studies of a user share the cache, and nothing in it is removed automatically. Each of its folders holds some
    images at one side. A folder, or a cached fingerprint, may be deleted while no study runs; it is made again on
    demand.
    """
    return user_cache("images") or home


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
    """Create `folder` with the content that `fill` writes, unless it exists; only one process does so at a time.

    Other processes wait. The content is written to a temporary folder, which is renamed at the end: a killed process
    leaves no partly filled `folder`, and the system releases its lock. Raises DataError, with the sizes, if the disk
    is too small.
    """
    if folder.exists():
        return
    _require_disk_space(bytes_needed, folder.parent)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.with_name(folder.name + ".lock"), say):
        if folder.exists():
            return
        unfinished = folder.with_name(folder.name + ".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)  # left by a killed process
        unfinished.mkdir()
        try:
            _fill(unfinished, bytes_needed, fill)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
        unfinished.rename(folder)


def _fill(folder: Path, bytes_needed: int, fill: Callable[[Path], None]) -> None:
    try:
        fill(folder)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise _disk_too_small(bytes_needed, folder, "other programs filled it meanwhile") from error


@contextmanager
def _locked(path: Path, say: Say) -> Iterator[None]:
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another process is preparing the same images; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _require_disk_space(needed: int, folder: Path) -> None:
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if needed > MAX_DISK_SHARE * shutil.disk_usage(existing).free:
        raise _disk_too_small(needed, existing, f"point {CACHE_VARIABLE} to a larger one")


def _disk_too_small(needed: int, folder: Path, remark: str) -> DataError:
    free = shutil.disk_usage(folder).free
    return DataError(
        f"the decoded images need {needed / 1e9:.2f} GB and the disk of {folder} has {free / 1e9:.2f} GB free"
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
    """Reports the number of finished images and the time left, at most every few seconds."""

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
            self.say(f"{self.count:,} of {self.total:,} images {self.done}, about {left:,.0f} s left")
