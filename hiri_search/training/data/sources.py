"""Image sources: synthetic, or the user's folder or archive, with their content fingerprints."""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import ExitStack
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Protocol

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
from hiri_search.training.data.image_folder import (
    DataError,
    ImageEntry,
    ImageFolder,
    open_image_folder,
)
from hiri_search.training.data.synthetic import MOTIFS, generate_images, generate_in_subprocess
from hiri_search.training.job import SPLITS, DataSource

SYNTHETIC_CLASSES = 8
SYNTHETIC_COUNTS = {"train": 1500, "val": 400}
SYNTHETIC_CHUNK = 256  # images that a subprocess generates at a time; half a second at side 96

EntriesBySplit = Mapping[str, Sequence[ImageEntry]]
# An image (S, S, 3), or None for an unreadable image that is skipped, and its label.
LabelledImage = tuple[NDArray[np.uint8] | None, int]


class ImageSource(Protocol):
    """Labelled images, generated or decoded as squares of any side."""

    classes: tuple[str, ...]
    counts: dict[str, int]  # images of each split, including those that turn out to be unreadable
    notes: tuple[str, ...]  # sentences on files that are no images of the source, and on images that are held out

    def stat_fingerprint(self) -> str:
        """A fingerprint that needs no image to be read."""

    def content_fingerprint(self, stat_digest: str, cache_dir: Path, say: Say) -> str:
        """A fingerprint of the images' content, cached in `cache_dir` under the stat fingerprint."""

    def name(self, split: str, index: int) -> str:
        """Name of an image for messages to the user."""

    def images(self, split: str, stored: int) -> Iterator[LabelledImage]:
        """All images of a split, in order, `stored` pixels wide and high."""

    def image(self, split: str, index: int, stored: int) -> tuple[NDArray[np.uint8], int]:
        """One image with its label; the same bytes as from `images`."""


class SyntheticSource:
    """Synthetic images made from a seed (`data: drawn`): the default, which needs no download."""

    def __init__(self, data: DataSource, classes: int | None) -> None:
        if (classes or 0) > len(MOTIFS):
            problem = f"proxy.classes={classes}: synthetic images (source: drawn)"
            raise DataError(f"{problem} have at most {len(MOTIFS)} classes; write fewer")
        self.classes = tuple(f"class {index}" for index in range(classes or SYNTHETIC_CLASSES))
        self.counts = {split: getattr(data, split) or SYNTHETIC_COUNTS[split] for split in SPLITS}
        self.notes = tuple(
            f"The {count} {split} images are of {count} of the {len(self.classes)} classes: data.{split} is too small."
            for split, count in self.counts.items()
            if count < len(self.classes)
        )
        self.seed = data.seed
        # Each split has its own seed: another size of one split does not change the images of the other.
        self.seeds = {split: len(SPLITS) * data.seed + number for number, split in enumerate(SPLITS)}

    def stat_fingerprint(self) -> str:
        return f"drawn {self.seed}"

    def content_fingerprint(self, stat_digest: str, cache_dir: Path, say: Say) -> str:
        return stat_digest

    def name(self, split: str, index: int) -> str:
        return f"image {index}"

    def images(self, split: str, stored: int) -> Iterator[LabelledImage]:
        count, generate = self.counts[split], partial(self._generate, split, stored)
        starts = range(0, count, SYNTHETIC_CHUNK)
        chunks = [(first, min(SYNTHETIC_CHUNK, count - first)) for first in starts]
        single = len(chunks) == 1  # a subprocess would take longer to start
        parallel = partial(generate, in_subprocess=True)
        generated = map(generate, chunks) if single else prefetch(parallel, chunks, threads=cores())
        for index, image in enumerate(chain.from_iterable(generated)):
            yield image, index % len(self.classes)

    def image(self, split: str, index: int, stored: int) -> tuple[NDArray[np.uint8], int]:
        return self._generate(split, stored, (index, 1))[0], index % len(self.classes)

    def _generate(
        self, split: str, stored: int, chunk: tuple[int, int], *, in_subprocess: bool = False
    ) -> NDArray[np.uint8]:
        first, count = chunk
        generate = generate_in_subprocess if in_subprocess else generate_images
        return generate(count, classes=len(self.classes), side=stored, seed=self.seeds[split], first=first)[0]


class FolderSource:
    """The user's images in an image folder or archive (`data: folder:PATH` or `timm:PATH`).

    The files `skipped` are left out, as images that are known to be unreadable.
    """

    def __init__(self, data: DataSource, classes: int | None, skipped: Sequence[str] = ()) -> None:
        self._arguments = data, classes, skipped
        self.folder = open_image_folder(expanded(data.path), classes=classes, seed=data.seed)
        self.entries = {split: self._entries(data, split, frozenset(skipped)) for split in SPLITS}
        self.skip_corrupt = data.skip_corrupt
        self.classes, self.notes = self.folder.classes, self.folder.notes
        self.counts = {split: len(entries) for split, entries in self.entries.items()}
        self._read: FileReader | None = None

    def __reduce__(self) -> tuple[type[FolderSource], tuple[object, ...]]:
        """Open the source again in a process that does not inherit the open files."""
        return FolderSource, self._arguments

    def _entries(self, data: DataSource, split: str, skipped: Set[str]) -> Sequence[ImageEntry]:
        entries = self.folder.subset(split, getattr(data, split), seed=data.seed)
        return [entry for entry in entries if entry.name not in skipped] if skipped else entries

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
