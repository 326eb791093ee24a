"""ImageFolder layout (train/CLASS, val/CLASS) in a directory, .tar or .zip: listing and safe reading."""

from __future__ import annotations

import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from random import Random
from typing import Any

from hiri_search.training.job import SPLITS

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})
LAYOUT = "a folder, .tar or .zip with train/CLASS/*.jpg and val/CLASS/*.jpg"
# What broken files and archives make the standard library raise.
READ_ERRORS = (OSError, EOFError, RuntimeError, tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)


class DataError(ValueError):
    """Images that cannot be trained on: which file or folder, and what is wrong with it."""


@dataclass(frozen=True)
class ImageEntry:
    """One image: where it lies on its shelf, and the index of its class."""

    name: str
    label: int


@dataclass(frozen=True)
class ImageFolder:
    """The images of a folder or archive, by split, still encoded."""

    path: Path
    entries: dict[str, tuple[ImageEntry, ...]]
    classes: tuple[str, ...]
    reading: Callable[[], AbstractContextManager[Read]]

    def pick(self, split: str, count: int | None, *, seed: int) -> Sequence[ImageEntry]:
        """All images of a split, or `count` of them drawn by the seed, in their old order."""
        entries = self.entries[split]
        if count is None or count >= len(entries):
            return entries
        chosen = sorted(Random(seed).sample(range(len(entries)), count))
        return [entries[i] for i in chosen]


def open_image_folder(path: Path, *, classes: int | None = None) -> ImageFolder:
    """The images at `path`, of the first so many classes by name; DataError where the layout is not kept."""
    if not path.exists():
        raise DataError(f"{path} is not there; folder:PATH wants {LAYOUT}")
    names, reading = _list_names(path)
    found = _by_class(path, names)
    _check_layout(path, found)
    known = sorted(found["train"])[:classes]
    if len(known) < max(2, classes or 2):
        wanted = f"proxy.classes={classes} is more; write fewer" if classes else "a training needs 2 or more"
        raise DataError(f"{path} has images of {len(known)} class(es) in train/ ({', '.join(known)}); {wanted}")
    entries = {
        split: tuple(ImageEntry(name, label) for label, one in enumerate(known) for name in found[split][one])
        for split in found
    }
    return ImageFolder(path, entries, tuple(known), reading)


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
    except READ_ERRORS as error:
        reason = str(error).partition("\n")[0].rstrip(":")
        raise DataError(
            f"{path} is no folder, and no archive that can be opened ({reason}); folder:PATH wants {LAYOUT}"
        ) from error


def _by_class(path: Path, names: Iterable[str]) -> dict[str, dict[str, list[str]]]:
    """The images of each class of each split; all may lie one folder deeper, as archives often have it."""
    roots: dict[tuple[str, ...], dict[str, dict[str, list[str]]]] = {}
    for name in names:
        parts = PurePosixPath(name).parts
        depth = next((i for i, part in enumerate(parts[:2]) if part in SPLITS), None)
        if depth is None or parts[0] == "__MACOSX" or (len(parts) == depth + 2 and not name.endswith("/")):
            continue
        inside = parts[depth + 1 :]
        if inside and not inside[0].startswith("."):
            found = roots.setdefault(parts[:depth], {split: {} for split in SPLITS})
            images = found[parts[depth]].setdefault(inside[0], [])
            if len(inside) == 2 and _is_image(name):
                images.append(name)
    filled = [root for root, found in roots.items() if any(map(any, (found[split].values() for split in SPLITS)))]
    if len(filled) > 1:
        several = " and ".join("/".join((*root, "train")) for root in sorted(filled))
        raise DataError(f"{path} holds more than one set of images ({several}); give a folder or archive of one")
    return roots[filled[0]] if filled else next(iter(roots.values()), {split: {} for split in SPLITS})


def _is_image(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _check_layout(path: Path, found: dict[str, dict[str, list[str]]]) -> None:
    for split, classes in found.items():
        if not classes:
            raise DataError(f"{path} has no {split}/ with a folder for each class; folder:PATH wants {LAYOUT}")
    for split, classes in found.items():
        for name in sorted({*found["train"], *found["val"]}):
            if not classes.get(name):
                raise DataError(f"{path}: class {name!r} has no image in {split}/; add some or remove the class")


def encoded_images(shelf: ImageFolder, entries: Iterable[ImageEntry]) -> Iterator[tuple[ImageEntry, bytes | str]]:
    """The files of images, or why one cannot be read: one after the other, as archives want it."""
    with shelf.reading() as read:
        for entry in entries:
            yield entry, _read(read, entry)


def _read(read: Read, entry: ImageEntry) -> bytes | str:
    """The file, or why it cannot be read."""
    try:
        return read(entry.name)
    except READ_ERRORS as error:
        return str(error)


Read = Callable[[str], bytes]

MAX_FILE_BYTES = 256 << 20  # of one image's file, unpacked
MAX_HEADER_BYTES = 1 << 20  # bytes of the words about one member of a tar, which are read whole
EXTENDED_HEADERS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


class CheckedTarInfo(tarfile.TarInfo):
    """One of a tar; the place that tarfile has for what is special about members."""

    def _proc_member(self, tar: tarfile.TarFile) -> Any:
        if self.type in EXTENDED_HEADERS:
            _demand_small(self.size, MAX_HEADER_BYTES)
        return super()._proc_member(tar)  # type: ignore[misc]


def open_tar(path: Path) -> tarfile.TarFile:
    """To be read alone."""
    return tarfile.open(path, tarinfo=CheckedTarInfo)


@contextmanager
def in_folder(path: Path) -> Iterator[Read]:
    """Files below a folder."""

    def read(name: str) -> bytes:
        _demand_small((path / name).stat().st_size)
        return (path / name).read_bytes()

    yield read


@contextmanager
def in_zip(path: Path) -> Iterator[Read]:
    """Members of a zip."""
    with zipfile.ZipFile(path) as archive:

        def read(name: str) -> bytes:
            _demand_small(archive.getinfo(name).file_size)  # no more is unpacked than it says
            return archive.read(name)

        yield read


@contextmanager
def in_tar(path: Path, members: dict[str, tarfile.TarInfo]) -> Iterator[Read]:
    """These members of a tar, plain files all of them: links and devices are not followed."""
    with open_tar(path) as tar:

        def read(name: str) -> bytes:
            _demand_small(members[name].size)
            return tar.extractfile(members[name]).read()  # type: ignore[union-attr]

        yield read


def _demand_small(size: int, most: int = MAX_FILE_BYTES) -> None:
    if size > most:
        raise tarfile.ReadError(f"{size:,} bytes are more than the {most:,} that are read")
