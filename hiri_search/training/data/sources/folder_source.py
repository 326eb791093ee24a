"""The user's folder or archive of images, with its fingerprints."""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hiri_search.system.concurrency import prefetch
from hiri_search.system.file_tree.tree import FileReader
from hiri_search.system.files import Say, expanded
from hiri_search.system.hardware import cores
from hiri_search.training.data.decode_cache import Progress, cached_fingerprint
from hiri_search.training.data.image_decode import (
    DECODER_VERSION,
    decode_image,
    decode_images,
    decode_whole,
    encoded_images,
)
from hiri_search.training.data.image_folder import DataError, ImageEntry, ImageFolder, open_image_folder
from hiri_search.training.data.sources.image_source import LabelledImage
from hiri_search.training.data.splits import held_out, subset
from hiri_search.training.job import DataSource

EntriesBySplit = Mapping[str, Sequence[ImageEntry]]


class FolderSource:
    """The user's images in an image folder or archive (`data: folder:PATH` or `timm:PATH`).

    The files `skipped` are left out, as images that are known to be unreadable.
    """

    transformed = False

    def __init__(self, data: DataSource, classes: int | None, skipped: Sequence[str] = ()) -> None:
        self._arguments = data, classes, skipped
        self.folder = open_image_folder(expanded(data.path), classes=classes, seed=data.seed, use_test=data.test != 0)
        self.classes, self.skip_corrupt = self.folder.classes, data.skip_corrupt
        whole, note = _with_test(self.folder, data)
        self.notes = (*self.folder.notes, *note)
        self.entries = {split: self._chosen(data, split, entries, skipped) for split, entries in whole.items()}
        self.counts = {split: len(entries) for split, entries in self.entries.items()}
        self._read: FileReader | None = None

    def __reduce__(self) -> tuple[type[FolderSource], tuple[object, ...]]:
        """Open the source again in a process that does not inherit the open files."""
        return FolderSource, self._arguments

    def _chosen(
        self, data: DataSource, split: str, entries: Sequence[ImageEntry], skipped: Collection[str]
    ) -> Sequence[ImageEntry]:
        """The images of a split that the study uses, in their order."""
        count = getattr(data, split)
        if isinstance(count, int):  # not a share
            labels = [entry.label for entry in entries]
            indices = subset(split, labels, count, classes=len(self.classes), seed=data.seed)
            entries = [entries[index] for index in indices]
        left_out = frozenset(skipped)
        return [entry for entry in entries if entry.name not in left_out] if left_out else entries

    def stat_fingerprint(self) -> str:
        return stat_fingerprint(self.folder, self.entries)

    def content_fingerprint(self, stat_digest: str, cache_dir: Path, say: Say) -> str:
        compute = partial(content_fingerprint, self.folder, self.entries, say)
        return f"{cached_fingerprint(cache_dir, stat_digest, compute)} {self.skip_corrupt} {DECODER_VERSION}"

    def name(self, split: str, index: int) -> str:
        return self.entries[split][index].name

    def images(self, split: str, stored: int) -> Iterator[LabelledImage]:
        for entry, image in decode_images(self.folder, self.entries[split], stored, skip_corrupt=self.skip_corrupt):
            yield image, entry.label

    def image(self, split: str, index: int, stored: int) -> tuple[NDArray[np.uint8], int]:
        entry = self.entries[split][index]
        return decode_image(self.folder, self._reader(), entry, stored), entry.label

    def whole_image(self, split: str, index: int) -> tuple[Image.Image, int]:
        """One image in its own size, in RGB, with its label."""
        entry = self.entries[split][index]
        return decode_whole(self.folder, self._reader(), entry), entry.label

    def _reader(self) -> FileReader:
        """The file reader: opened at the first use, in the process that uses it, and closed with this object."""
        if self._read is None:
            stack = ExitStack()
            self._read = stack.enter_context(self.folder.tree.open_reader())
            weakref.finalize(self, stack.close)
        return self._read


def _with_test(folder: ImageFolder, data: DataSource) -> tuple[EntriesBySplit, Iterable[str]]:
    """The images of each split, a test held out where the study asks for one, and a sentence that says so."""
    entries, train = folder.entries, folder.entries["train"]
    if "test" in entries and isinstance(data.test, float):
        problem = f"data.test={data.test} is a share to hold out, and {folder.path} has test images of its own"
        raise DataError(f"{problem}; leave it out, or write a number of images")
    if not data.test or "test" in entries:
        return entries, ()
    whole = len(train) + len(entries["val"]) * folder.held_out
    labels = [entry.label for entry in train]
    test = held_out("test", labels, data.test, whole=whole, classes=len(folder.classes), seed=data.seed)
    left = sorted(set(range(len(train))) - set(test))
    note = f"There is no test/: {len(test):,} of the images, chosen with data.seed={data.seed}, were held out for it."
    return entries | {"train": tuple(train[i] for i in left), "test": tuple(train[i] for i in test)}, (note,)


def stat_fingerprint(folder: ImageFolder, entries: EntriesBySplit) -> str:
    """A digest of path, names, labels, sizes, times and decoder; no image is read. A copied folder has another one."""
    ordered = list(chain.from_iterable(entries.values()))
    files = [folder.path / entry.name for entry in ordered] if folder.path.is_dir() else [folder.path]
    names = [f"{entry.label} {entry.name}" for entry in ordered]
    lines = [str(folder.path.resolve()), *names, *map(_size_and_time, files), str(DECODER_VERSION)]
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()


def content_fingerprint(folder: ImageFolder, entries: EntriesBySplit, say: Say) -> str:
    """A digest of the files' bytes and labels, in order: the same for a folder, a copy of it and an archive of it."""
    ordered = list(chain.from_iterable(entries.values()))
    digest, progress = hashlib.sha256(), Progress(len(ordered), say, done="checked")
    for line in prefetch(_content_line, encoded_images(folder, ordered), threads=cores()):
        digest.update(line)
        progress.step()
    return digest.hexdigest()


def _size_and_time(file: Path) -> str:
    try:
        stat = file.stat()
    except OSError:
        return "gone"  # reading the file will report it
    return f"{stat.st_size} {stat.st_mtime_ns}"


def _content_line(encoded: tuple[ImageEntry, bytes | str]) -> bytes:
    """Label and digest of one image file; an unreadable file counts as empty."""
    entry, data = encoded
    return f"{entry.label} {hashlib.sha256(data if isinstance(data, bytes) else b'').hexdigest()}\n".encode()
