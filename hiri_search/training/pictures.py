"""Pictures of the user's in train/CLASS/ and val/CLASS/, in a folder or in an archive, and how they are decoded."""

from __future__ import annotations

import hashlib
import lzma
import struct
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from itertools import islice
from pathlib import Path, PurePosixPath
from random import Random

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

SPLITS = ("train", "val")
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})
LAYOUT = "a folder, .tar or .zip with train/CLASS/*.jpg and val/CLASS/*.jpg"
THREADS, CHUNK = 4, 256
# What broken files and archives make the standard library raise.
UNREADABLE = (OSError, EOFError, RuntimeError, tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)


Read = Callable[[str], bytes]


class DataError(ValueError):
    """Pictures that cannot be trained on: which file or folder, and what is wrong with it."""


@dataclass(frozen=True)
class Entry:
    """One picture: where it lies on its shelf, and the index of its class."""

    name: str
    label: int


@dataclass(frozen=True)
class Shelf:
    """The pictures of a folder or archive, by split, still encoded."""

    path: Path
    entries: dict[str, tuple[Entry, ...]]
    classes: tuple[str, ...]
    fingerprint: str  # changes when a file does
    reading: Callable[[], AbstractContextManager[Read]]

    def pick(self, split: str, count: int | None, *, seed: int) -> Sequence[Entry]:
        """All pictures of a split, or `count` of them drawn by the seed, in their old order."""
        entries = self.entries[split]
        if count is None or count >= len(entries):
            return entries
        chosen = sorted(Random(seed).sample(range(len(entries)), count))
        return [entries[i] for i in chosen]


def open_shelf(path: Path, *, classes: int | None = None) -> Shelf:
    """The pictures at `path`, of the first so many classes by name; DataError where the layout is not kept."""
    if not path.exists():
        raise DataError(f"{path} is not there; folder:PATH wants {LAYOUT}")
    names, reading = _list_names(path)
    found = _by_class(path, names)
    _check_layout(path, found)
    known = sorted(found["train"])[:classes]
    if len(known) < max(2, classes or 2):
        wanted = f"proxy.classes={classes} is more; write fewer" if classes else "a training needs 2 or more"
        raise DataError(f"{path} has pictures of {len(known)} class(es) in train/ ({', '.join(known)}); {wanted}")
    entries = {
        split: tuple(Entry(name, label) for label, one in enumerate(known) for name in found[split][one])
        for split in found
    }
    return Shelf(path, entries, tuple(known), _fingerprint(path, names), reading)


def _list_names(path: Path) -> tuple[list[str], Callable[[], AbstractContextManager[Read]]]:
    """All names below `path`, folders with a slash at the end, and how to read what they stand for."""
    if path.is_dir():
        inside = sorted(path.glob("*/*/*")) + sorted(path.glob("*/*")) + sorted(path.glob("*/*/*/*"))
        return [p.relative_to(path).as_posix() + "/" * p.is_dir() for p in inside], partial(_in_folder, path)
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                return archive.namelist(), partial(_in_zip, path)
        with tarfile.open(path) as tar:
            members = {m.name.removeprefix("./") + "/" * m.isdir(): m for m in tar if m.isfile() or m.isdir()}
            return list(members), partial(_in_tar, path, members)
    except UNREADABLE as error:
        reason = str(error).partition("\n")[0].rstrip(":")
        raise DataError(
            f"{path} is no folder, and no archive that can be opened ({reason}); folder:PATH wants {LAYOUT}"
        ) from error


@contextmanager
def _in_folder(path: Path) -> Iterator[Read]:
    yield lambda name: (path / name).read_bytes()


@contextmanager
def _in_zip(path: Path) -> Iterator[Read]:
    with zipfile.ZipFile(path) as archive:
        yield archive.read


@contextmanager
def _in_tar(path: Path, members: dict[str, tarfile.TarInfo]) -> Iterator[Read]:
    with tarfile.open(path) as tar:
        yield lambda name: tar.extractfile(members[name]).read()  # type: ignore[union-attr]


def _by_class(path: Path, names: Iterable[str]) -> dict[str, dict[str, list[str]]]:
    """The pictures of each class of each split; all may lie one folder deeper, as archives often have it."""
    roots: dict[tuple[str, ...], dict[str, dict[str, list[str]]]] = {}
    for name in names:
        parts = PurePosixPath(name).parts
        depth = next((i for i, part in enumerate(parts[:2]) if part in SPLITS), None)
        if depth is None or parts[0] == "__MACOSX" or (len(parts) == depth + 2 and not name.endswith("/")):
            continue
        inside = parts[depth + 1 :]
        if inside and not inside[0].startswith("."):
            found = roots.setdefault(parts[:depth], {split: {} for split in SPLITS})
            pictures = found[parts[depth]].setdefault(inside[0], [])
            if len(inside) == 2 and _is_picture(name):
                pictures.append(name)
    filled = [root for root, found in roots.items() if any(map(any, (found[split].values() for split in SPLITS)))]
    if len(filled) > 1:
        several = " and ".join("/".join((*root, "train")) for root in sorted(filled))
        raise DataError(f"{path} holds more than one set of pictures ({several}); give a folder or archive of one")
    return roots[filled[0]] if filled else next(iter(roots.values()), {split: {} for split in SPLITS})


def _is_picture(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _check_layout(path: Path, found: dict[str, dict[str, list[str]]]) -> None:
    for split, classes in found.items():
        if not classes:
            raise DataError(f"{path} has no {split}/ with a folder for each class; folder:PATH wants {LAYOUT}")
    for split, classes in found.items():
        for name in sorted({*found["train"], *found["val"]}):
            if not classes.get(name):
                raise DataError(f"{path}: class {name!r} has no picture in {split}/; add some or remove the class")


def _fingerprint(path: Path, names: Sequence[str]) -> str:
    files = [path / name for name in names if not name.endswith("/")] if path.is_dir() else [path]
    lines = [f"{f.name} {f.stat().st_size} {f.stat().st_mtime_ns}" for f in files]
    return hashlib.sha256("\n".join([*names, *lines]).encode()).hexdigest()


def decode(
    shelf: Shelf, entries: Sequence[Entry], shape: Callable[[Image.Image], Image.Image], *, skip_corrupt: bool
) -> tuple[NDArray[np.uint8], NDArray[np.int64], list[str]]:
    """Pictures (N, S, S, 3), their labels (N,), and the names of those that were left out as unreadable."""
    images, labels, skipped = [], [], []
    # Odd EXIF blocks and palettes are not the study's business. Set here: filters are not of one thread alone.
    with warnings.catch_warnings(action="ignore"), shelf.reading() as read, ThreadPoolExecutor(THREADS) as pool:
        for chunk in _chunks(entries):  # not all at once: encoded pictures may be larger than memory
            encoded = [_read(read, entry) for entry in chunk]
            for entry, image in zip(chunk, pool.map(partial(_decode_one, shape=shape), encoded), strict=True):
                if isinstance(image, str):
                    _complain(f"{shelf.path}: {entry.name}", image, skip_corrupt)
                    skipped.append(entry.name)
                else:
                    images.append(image)
                    labels.append(entry.label)
    if not images:
        raise DataError(f"{shelf.path}: none of the {len(entries)} pictures can be read, {entries[0].name} among them")
    return np.stack(images), np.array(labels, np.int64), skipped


def _read(read: Read, entry: Entry) -> bytes | str:
    """The file, or why it cannot be read."""
    try:
        return read(entry.name)
    except UNREADABLE as error:
        return str(error)


def _chunks(entries: Sequence[Entry]) -> Iterable[list[Entry]]:
    rest = iter(entries)
    return iter(lambda: list(islice(rest, CHUNK)), [])


def _decode_one(data: bytes | str, shape: Callable[[Image.Image], Image.Image]) -> NDArray[np.uint8] | str:
    """The picture, or why it cannot be read."""
    if isinstance(data, str):
        return data
    try:
        with Image.open(BytesIO(data)) as image:
            return np.asarray(shape(image))
    except UnidentifiedImageError:
        return "no picture of a known format" if data else "the file is empty"
    except (*UNREADABLE, ValueError, SyntaxError, struct.error, Image.DecompressionBombError) as error:
        return str(error) or type(error).__name__


def _complain(name: str, reason: str, skip_corrupt: bool) -> None:
    if not skip_corrupt:
        raise DataError(
            f"{name} cannot be read as a picture ({reason});"
            " mend or remove it, or set data.skip_corrupt=true to leave such pictures out"
        )


def squared(image: Image.Image, *, side: int) -> Image.Image:
    """The centre square, `side` pixels wide."""
    image.draft("RGB", (2 * side, 2 * side))  # JPEG: decode no more pixels than are needed
    return ImageOps.fit(image.convert("RGB"), (side, side), Image.Resampling.BICUBIC)
