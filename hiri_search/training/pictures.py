"""Pictures of the user's in train/CLASS/ and val/CLASS/, in a folder or in an archive, and how they are decoded."""

from __future__ import annotations

import hashlib
import tarfile
import warnings
import zipfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from pathlib import Path, PurePosixPath
from random import Random

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})
LAYOUT = "a folder, .tar or .zip with train/CLASS/*.jpg and val/CLASS/*.jpg"
THREADS, CHUNK = 4, 256


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

    entries: dict[str, tuple[Entry, ...]]
    classes: tuple[str, ...]
    fingerprint: str  # changes when a file does
    read: Callable[[str], bytes]

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
    names, read = _list_names(path)
    found = _by_class(names)
    _check_layout(path, found)
    known = sorted(found["train"])[:classes]
    if len(known) < 2:
        raise DataError(f"{path}/train has {len(known)} class; a training needs at least 2")
    entries = {
        split: tuple(Entry(name, label) for label, one in enumerate(known) for name in found[split][one])
        for split in found
    }
    return Shelf(entries, tuple(known), _fingerprint(path, names), read)


def _list_names(path: Path) -> tuple[list[str], Callable[[str], bytes]]:
    """All names below `path`, folders with a slash at the end, and how to read one."""
    if path.is_dir():
        inside = sorted(path.glob("*/*/*")) + sorted(path.glob("*/*")) + sorted(path.glob("*/*/*/*"))
        names = [p.relative_to(path).as_posix() + "/" * p.is_dir() for p in inside]
        return names, lambda name: (path / name).read_bytes()
    try:
        if zipfile.is_zipfile(path):
            archive = zipfile.ZipFile(path)
            return archive.namelist(), archive.read
        tar = tarfile.open(path)  # noqa: SIM115 - read from until the pictures are decoded
        members = {m.name.removeprefix("./") + "/" * m.isdir(): m for m in tar if m.isfile() or m.isdir()}
    except (tarfile.TarError, zipfile.BadZipFile, OSError, EOFError) as error:
        raise DataError(f"{path} cannot be opened ({error}); folder:PATH wants {LAYOUT}") from error
    return list(members), lambda name: tar.extractfile(members[name]).read()  # type: ignore[union-attr]


def _by_class(names: Iterable[str]) -> dict[str, dict[str, list[str]]]:
    """The pictures of each class of each split; all may lie one folder deeper, as archives often have it."""
    found: dict[str, dict[str, list[str]]] = {"train": {}, "val": {}}
    for name in names:
        parts = PurePosixPath(name).parts
        depth = next((i for i, part in enumerate(parts[:2]) if part in found), None)
        if depth is None or (len(parts) == depth + 2 and not name.endswith("/")):
            continue
        inside = parts[depth + 1 :]
        if inside and not inside[0].startswith("."):
            pictures = found[parts[depth]].setdefault(inside[0], [])
            if len(inside) == 2 and _is_picture(name):
                pictures.append(name)
    return found


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
    with ThreadPoolExecutor(THREADS) as pool:
        for chunk in _chunks(entries):  # not all at once: encoded pictures may be larger than memory
            encoded = [shelf.read(entry.name) for entry in chunk]
            for entry, image in zip(chunk, pool.map(lambda data: _decode_one(data, shape), encoded), strict=True):
                if isinstance(image, str):
                    _complain(entry.name, image, skip_corrupt)
                    skipped.append(entry.name)
                else:
                    images.append(image)
                    labels.append(entry.label)
    if not images:
        raise DataError(f"none of the {len(entries)} pictures can be read, {entries[0].name} among them")
    return np.stack(images), np.array(labels, np.int64), skipped


def _chunks(entries: Sequence[Entry]) -> Iterable[list[Entry]]:
    rest = iter(entries)
    return iter(lambda: list(islice(rest, CHUNK)), [])


def _decode_one(data: bytes, shape: Callable[[Image.Image], Image.Image]) -> NDArray[np.uint8] | str:
    """The picture, or why it cannot be read."""
    try:
        with warnings.catch_warnings(), Image.open(BytesIO(data)) as image:
            warnings.simplefilter("ignore")  # odd EXIF blocks and palettes are not the study's business
            return np.asarray(shape(image))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return str(error).replace(" <_io.BytesIO object", "").partition(" at 0x")[0] or type(error).__name__


def _complain(name: str, reason: str, skip_corrupt: bool) -> None:
    if not skip_corrupt:
        raise DataError(
            f"{name} cannot be read as a picture ({reason});"
            " mend or remove it, or set data.skip_corrupt=true to leave such pictures out"
        )


def squared(image: Image.Image, *, side: int) -> Image.Image:
    """The centre square, `side` pixels wide."""
    image.draft("RGB", (2 * side, 2 * side))  # JPEG: decode no more pixels than are needed
    image = image.convert("RGB")
    scale = side / min(image.size)
    width, height = (max(side, round(n * scale)) for n in image.size)
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - side) // 2, (height - side) // 2
    return image.crop((left, top, left + side, top + side))
