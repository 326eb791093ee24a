"""Pictures of the user's in train/CLASS/ and val/CLASS/, in a folder or in an archive, and how they are decoded."""

from __future__ import annotations

import lzma
import struct
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from io import BytesIO
from pathlib import Path, PurePosixPath
from random import Random

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional

from hiri_search.training.ahead import ahead
from hiri_search.training.archives import Read, in_folder, in_tar, in_zip, open_tar
from hiri_search.training.device import cores

SPLITS = ("train", "val")
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})
APP1, START_OF_SCAN = b"\xe1", b"\xda"  # of the segments of a JPEG
LAYOUT = "a folder, .tar or .zip with train/CLASS/*.jpg and val/CLASS/*.jpg"
# What broken files and archives make the standard library raise.
UNREADABLE = (OSError, EOFError, RuntimeError, tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)


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
    return Shelf(path, entries, tuple(known), reading)


def _list_names(path: Path) -> tuple[list[str], Callable[[], AbstractContextManager[Read]]]:
    """All names below `path`, folders with a slash at the end, and how to read what they stand for."""
    if path.is_dir():
        inside = sorted(path.glob("*/*/*")) + sorted(path.glob("*/*")) + sorted(path.glob("*/*/*/*"))
        return [p.relative_to(path).as_posix() + "/" * p.is_dir() for p in inside], partial(in_folder, path)
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                return archive.namelist(), partial(in_zip, path)
        with open_tar(path) as tar:
            members = {m.name.removeprefix("./") + "/" * m.isdir(): m for m in tar if m.isfile() or m.isdir()}
            return list(members), partial(in_tar, path, members)
    except UNREADABLE as error:
        reason = str(error).partition("\n")[0].rstrip(":")
        raise DataError(
            f"{path} is no folder, and no archive that can be opened ({reason}); folder:PATH wants {LAYOUT}"
        ) from error


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


def encoded(shelf: Shelf, entries: Iterable[Entry]) -> Iterator[tuple[Entry, bytes | str]]:
    """The files of pictures, or why one cannot be read: one after the other, as archives want it."""
    with shelf.reading() as read:
        for entry in entries:
            yield entry, _read(read, entry)


def decode(
    shelf: Shelf, entries: Sequence[Entry], side: int, *, skip_corrupt: bool
) -> Iterator[tuple[Entry, NDArray[np.uint8] | None]]:
    """The pictures (side, side, 3) in order, decoded on all cores; None for those that are unreadable and left out.

    Only a few are in memory at once. DataError where one is unreadable and not to be left out, or where all are.
    """
    readable = False
    # Decoded and resized beside each other, without Python's lock.
    for entry, image in ahead(partial(_decode_entry, side=side), encoded(shelf, entries), threads=cores()):
        if isinstance(image, str):
            _complain(f"{shelf.path}: {entry.name}", image, skip_corrupt)
        else:
            readable = True
        yield entry, None if isinstance(image, str) else image
    if not readable:
        raise DataError(f"{shelf.path}: none of the {len(entries)} pictures can be read, {entries[0].name} among them")


def decode_one(shelf: Shelf, read: Read, entry: Entry, side: int) -> NDArray[np.uint8]:
    """One picture (side, side, 3); DataError where it is unreadable."""
    with warnings.catch_warnings(action="ignore"):  # odd EXIF blocks and palettes
        image = _decode_one(_read(read, entry), side)
    if isinstance(image, str):
        raise _unreadable(f"{shelf.path}: {entry.name}", image)
    return image


def _read(read: Read, entry: Entry) -> bytes | str:
    """The file, or why it cannot be read."""
    try:
        return read(entry.name)
    except UNREADABLE as error:
        return str(error)


def _decode_entry(found: tuple[Entry, bytes | str], side: int) -> tuple[Entry, NDArray[np.uint8] | str]:
    entry, data = found
    return entry, _decode_one(data, side)


def _decode_one(data: bytes | str, side: int) -> NDArray[np.uint8] | str:
    """The picture, or why it cannot be read."""
    if isinstance(data, str):
        return data
    try:
        with Image.open(BytesIO(data)) as image:
            return _square(data, image, side)
    except UnidentifiedImageError:
        return "no picture of a known format" if data else "the file is empty"
    except (*UNREADABLE, ValueError, SyntaxError, struct.error, Image.DecompressionBombError) as error:
        return str(error) or type(error).__name__


def _complain(name: str, reason: str, skip_corrupt: bool) -> None:
    if not skip_corrupt:
        raise _unreadable(name, reason)


def _unreadable(name: str, reason: str) -> DataError:
    return DataError(
        f"{name} cannot be read as a picture ({reason});"
        " mend or remove it, or set data.skip_corrupt=true to leave such pictures out"
    )


def squared(image: Image.Image, *, side: int) -> Image.Image:
    """The centre square, `side` pixels wide."""
    image.draft("RGB", (2 * side, 2 * side))  # JPEG: decode no more pixels than are needed
    return ImageOps.fit(image.convert("RGB"), (side, side), Image.Resampling.BICUBIC)


def _square(data: bytes, image: Image.Image, side: int) -> NDArray[np.uint8]:
    """As `squared`; of usual photographs by faster programs."""
    if image.format != "JPEG" or image.mode != "RGB" or min(image.size) >= 4 * side:  # from there `draft` saves more
        return np.asarray(squared(image, side=side))
    try:
        pixels = _jpeg_decoder()(data)
    except RuntimeError:
        pixels = _by_pillow(data)  # it knows what is wrong, or that it is not much
    return _centre(pixels, side)


@cache
def _jpeg_decoder() -> Callable[[bytes], Tensor]:
    """The fastest that is there and maintained: torchcodec, which need not be installed, or Pillow. Their pixels are
    the same, both of libjpeg-turbo. (torchvision's, as fast as torchcodec's, is on its way out since 0.29.)
    """
    try:
        decode_jpeg = import_module("torchcodec.decoders").decode_jpeg
    except (ImportError, AttributeError, OSError, RuntimeError):  # not there, or not of this torch
        return _by_pillow
    return lambda data: decode_jpeg(_without_exif(data), mode="RGB")


def _without_exif(data: bytes) -> bytes:
    """A JPEG without its APP1 segments: torchcodec turns a picture as EXIF asks, and Pillow and timm never do."""
    kept, begin = [data[:2]], 2
    while data[begin : begin + 1] == b"\xff" and data[begin + 1 : begin + 2] not in (START_OF_SCAN, b"\xff"):
        end = begin + 2 + int.from_bytes(data[begin + 2 : begin + 4])
        if data[begin + 1 : begin + 2] != APP1:
            kept.append(data[begin:end])
        begin = end
    return b"".join([*kept, data[begin:]])


def _by_pillow(data: bytes) -> Tensor:
    with Image.open(BytesIO(data)) as image:
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def _centre(pixels: Tensor, side: int) -> NDArray[np.uint8]:
    """The centre square of pixels (3, H, W), by torch's resizing, faster than Pillow's: (side, side, 3)."""
    height, width = pixels.shape[1:]
    short = min(height, width)
    top, left = (height - short) // 2, (width - short) // 2
    crop = pixels[None, :, top : top + short, left : left + short]
    shown = functional.interpolate(crop, (side, side), mode="bicubic", antialias=True)[0]
    square: NDArray[np.uint8] = shown.permute(1, 2, 0).contiguous().numpy()
    return square
