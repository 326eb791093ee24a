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
# Exceptions of the standard library for damaged files and archives.
READ_ERRORS = (OSError, EOFError, RuntimeError, tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)

MAX_FILE_BYTES = 256 << 20  # of one image file, unpacked
MAX_HEADER_BYTES = 1 << 20  # of one extended header of a tar, which tarfile reads as a whole
EXTENDED_HEADERS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)

FileReader = Callable[[str], bytes]  # returns the content of a file, by its name in the image folder
ReaderContext = Callable[[], AbstractContextManager[FileReader]]
NamesByClass = dict[str, dict[str, list[str]]]  # file names by split and class


class DataError(ValueError):
    """Images that cannot be trained on; the message names the file or folder and its fault."""


@dataclass(frozen=True)
class ImageEntry:
    """One image file: its name in the image folder, and the index of its class."""

    name: str
    label: int


@dataclass(frozen=True)
class ImageFolder:
    """The image files of a folder or archive, by split."""

    path: Path
    entries: dict[str, tuple[ImageEntry, ...]]
    classes: tuple[str, ...]
    open_reader: ReaderContext

    def subset(self, split: str, count: int | None, *, seed: int) -> Sequence[ImageEntry]:
        """All images of a split, or `count` of them sampled with the seed, in their original order."""
        entries = self.entries[split]
        if count is None or count >= len(entries):
            return entries
        chosen = sorted(Random(seed).sample(range(len(entries)), count))
        return [entries[i] for i in chosen]


def open_image_folder(path: Path, *, classes: int | None = None) -> ImageFolder:
    """List the images at `path`, of the first `classes` classes by name; raises DataError for another layout."""
    if not path.exists():
        raise DataError(f"{path} does not exist; folder:PATH must be {LAYOUT}")
    if not (path.is_dir() or path.is_file()):  # /dev/zero has no end
        raise DataError(f"{path} is a device or a pipe; folder:PATH must be {LAYOUT}")
    names, open_reader = _list_names(path)
    by_class = _group_by_class(path, names)
    _check_layout(path, by_class)
    chosen = sorted(by_class["train"])[:classes]
    if len(chosen) < max(2, classes or 2):
        remedy = f"proxy.classes={classes} is more; write fewer" if classes else "a training needs 2 or more"
        raise DataError(f"{path} has images of {len(chosen)} class(es) in train/ ({', '.join(chosen)}); {remedy}")
    entries = {
        split: tuple(ImageEntry(file, label) for label, name in enumerate(chosen) for file in files[name])
        for split, files in by_class.items()
    }
    return ImageFolder(path, entries, tuple(chosen), open_reader)


def _list_names(path: Path) -> tuple[list[str], ReaderContext]:
    """All names below `path`, those of folders with a slash at the end, and the reader of the files."""
    if path.is_dir():
        paths = sorted(path.glob("*/*/*")) + sorted(path.glob("*/*")) + sorted(path.glob("*/*/*/*"))
        return [p.relative_to(path).as_posix() + "/" * p.is_dir() for p in paths], partial(_folder_reader, path)
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                return archive.namelist(), partial(_zip_reader, path)
        with _open_tar(path) as tar:
            members = {m.name.removeprefix("./") + "/" * m.isdir(): m for m in tar if m.isfile() or m.isdir()}
            return list(members), partial(_tar_reader, path, members)
    except READ_ERRORS as error:
        reason = str(error).partition("\n")[0].rstrip(":")
        problem = f"{path} is neither a folder nor an archive that can be opened ({reason})"
        raise DataError(f"{problem}; folder:PATH must be {LAYOUT}") from error


def _group_by_class(path: Path, names: Iterable[str]) -> NamesByClass:
    """File names by split and class; train/ and val/ may lie one folder deeper, as in many archives."""
    roots: dict[tuple[str, ...], NamesByClass] = {}
    for name in names:
        parts = PurePosixPath(name).parts
        depth = next((i for i, part in enumerate(parts[:2]) if part in SPLITS), None)
        if depth is None or parts[0] == "__MACOSX" or (len(parts) == depth + 2 and not name.endswith("/")):
            continue
        in_split = parts[depth + 1 :]
        if in_split and not in_split[0].startswith("."):
            by_class = roots.setdefault(parts[:depth], {split: {} for split in SPLITS})
            files = by_class[parts[depth]].setdefault(in_split[0], [])
            if len(in_split) == 2 and _is_image(name):
                files.append(name)
    filled = [root for root, by_class in roots.items() if any(any(files.values()) for files in by_class.values())]
    if len(filled) > 1:
        folders = " and ".join("/".join((*root, "train")) for root in sorted(filled))
        raise DataError(f"{path} holds more than one set of images ({folders}); give a folder or archive of one")
    return roots[filled[0]] if filled else next(iter(roots.values()), {split: {} for split in SPLITS})


def _is_image(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _check_layout(path: Path, by_class: NamesByClass) -> None:
    for split, files in by_class.items():
        if not files:
            raise DataError(f"{path} has no {split}/ with a folder for each class; folder:PATH must be {LAYOUT}")
    all_classes = sorted(set().union(*by_class.values()))
    for split, files in by_class.items():
        for name in all_classes:
            if not files.get(name):
                raise DataError(f"{path}: class {name!r} has no image in {split}/; add some or remove the class")


def encoded_images(folder: ImageFolder, entries: Iterable[ImageEntry]) -> Iterator[tuple[ImageEntry, bytes | str]]:
    """Read image files one after the other, as archives require; a string says why a file cannot be read."""
    with folder.open_reader() as read:
        for entry in entries:
            yield entry, read_encoded(read, entry)


def read_encoded(read: FileReader, entry: ImageEntry) -> bytes | str:
    """The content of an image file, or the reason (a string) why it cannot be read."""
    try:
        return read(entry.name)
    except READ_ERRORS as error:
        return str(error)


class CheckedTarInfo(tarfile.TarInfo):
    """A tar member whose extended headers are limited in size; `_proc_member` is tarfile's hook for special members."""

    def _proc_member(self, tar: tarfile.TarFile) -> Any:
        if self.type in EXTENDED_HEADERS:
            _check_size(self.size, MAX_HEADER_BYTES)
        return super()._proc_member(tar)  # type: ignore[misc]


def _open_tar(path: Path) -> tarfile.TarFile:
    return tarfile.open(path, tarinfo=CheckedTarInfo)


@contextmanager
def _folder_reader(path: Path) -> Iterator[FileReader]:

    def read(name: str) -> bytes:
        _check_size((path / name).stat().st_size)
        return (path / name).read_bytes()

    yield read


@contextmanager
def _zip_reader(path: Path) -> Iterator[FileReader]:
    with zipfile.ZipFile(path) as archive:

        def read(name: str) -> bytes:
            _check_size(archive.getinfo(name).file_size)  # zipfile unpacks no more bytes than this size
            return archive.read(name)

        yield read


@contextmanager
def _tar_reader(path: Path, members: dict[str, tarfile.TarInfo]) -> Iterator[FileReader]:
    """Reads members of a tar. All of them are plain files: links and devices are not followed."""
    with _open_tar(path) as tar:

        def read(name: str) -> bytes:
            _check_size(members[name].size)
            return tar.extractfile(members[name]).read()  # type: ignore[union-attr]

        yield read


def _check_size(size: int, limit: int = MAX_FILE_BYTES) -> None:
    if size > limit:
        raise tarfile.ReadError(f"{size:,} bytes are more than the limit of {limit:,}")
