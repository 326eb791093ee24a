"""Image sources: synthetic, or the user's folder or archive, with their content fingerprints."""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hiri_search.system.concurrency import prefetch
from hiri_search.system.files import Say
from hiri_search.system.hardware import cores
from hiri_search.training.data.decode_cache import Progress, cached_fingerprint
from hiri_search.training.data.image_decode import decode_image, decode_images
from hiri_search.training.data.image_folder import (
    DataError,
    ImageEntry,
    ImageFolder,
    Read,
    encoded_images,
    open_image_folder,
)
from hiri_search.training.data.synthetic import MOTIFS, draw, draw_beside
from hiri_search.training.job import SPLITS, DataSource

DRAWN_CLASSES = 8
DRAWN_COUNTS = {"train": 1500, "val": 400}
DRAWN_CHUNK = 256  # images that one process draws at a time, in half a second at side 96

# A image (S, S, 3), or None where it is unreadable and left out, and its label.
Made = tuple[NDArray[np.uint8] | None, int]


class ImageSource(Protocol):
    """Images that can be made or decoded, as squares of any side."""

    classes: tuple[str, ...]
    counts: dict[str, int]  # images of each split, those that turn out unreadable among them

    def stat_fingerprint(self) -> str:
        """What is seen of them without reading any."""

    def content_fingerprint(self, seen: str, place: Path, say: Say) -> str:
        """What they are, remembered in `place` under what a glance showed before."""

    def name(self, split: str, index: int) -> str:
        """Of one of them, for the user."""

    def images(self, split: str, stored: int) -> Iterator[Made]:
        """All of `train` or `val`, in order, `stored` pixels wide."""

    def image(self, split: str, index: int, stored: int) -> tuple[NDArray[np.uint8], int]:
        """One of them, the same bytes, and its label."""


class SyntheticSource:
    """Images made from a seed: the default, without a download."""

    def __init__(self, data: DataSource, classes: int | None) -> None:
        if (classes or 0) > len(MOTIFS):
            raise DataError(f"proxy.classes={classes}: drawn images have at most {len(MOTIFS)} classes; write fewer")
        self.classes = tuple(f"class {index}" for index in range(classes or DRAWN_CLASSES))
        self.counts = {split: getattr(data, split) or DRAWN_COUNTS[split] for split in SPLITS}
        self.seed = data.seed
        # Each split has a seed of its own, so that changing the size of one leaves the other's images alone.
        self.seeds = {split: len(SPLITS) * data.seed + number for number, split in enumerate(SPLITS)}

    def stat_fingerprint(self) -> str:
        return f"drawn {self.seed}"

    def content_fingerprint(self, seen: str, place: Path, say: Say) -> str:
        return seen

    def name(self, split: str, index: int) -> str:
        return f"image {index}"

    def images(self, split: str, stored: int) -> Iterator[Made]:
        count, drawing = self.counts[split], partial(self._draw, split, stored)
        alone = count <= DRAWN_CHUNK  # then another process would begin later than this one ends
        chunks = [(first, min(DRAWN_CHUNK, count - first)) for first in range(0, count, DRAWN_CHUNK)]
        drawn = map(drawing, chunks) if alone else prefetch(partial(drawing, beside=True), chunks, threads=cores())
        for index, image in enumerate(chain.from_iterable(drawn)):
            yield image, index % len(self.classes)

    def image(self, split: str, index: int, stored: int) -> tuple[NDArray[np.uint8], int]:
        return self._draw(split, stored, (index, 1))[0], index % len(self.classes)

    def _draw(self, split: str, stored: int, chunk: tuple[int, int], *, beside: bool = False) -> NDArray[np.uint8]:
        first, count = chunk
        do = draw_beside if beside else draw
        return do(count, classes=len(self.classes), side=stored, seed=self.seeds[split], first=first)[0]


class FolderSource:
    """Images of the user's, in a folder or an archive."""

    def __init__(self, data: DataSource, classes: int | None) -> None:
        self.shelf = open_image_folder(Path(data.path).expanduser(), classes=classes)
        self.picked = {split: self.shelf.pick(split, getattr(data, split), seed=data.seed) for split in SPLITS}
        self.skip_corrupt = data.skip_corrupt
        self.classes = self.shelf.classes
        self.counts = {split: len(entries) for split, entries in self.picked.items()}
        self._read: Read | None = None

    def stat_fingerprint(self) -> str:
        return stat_fingerprint(self.shelf, self.picked)

    def content_fingerprint(self, seen: str, place: Path, say: Say) -> str:
        read = partial(content_fingerprint, self.shelf, self.picked, say)
        return f"{cached_fingerprint(place, seen, read)} {self.skip_corrupt}"

    def name(self, split: str, index: int) -> str:
        return self.picked[split][index].name

    def images(self, split: str, stored: int) -> Iterator[Made]:
        for entry, image in decode_images(self.shelf, self.picked[split], stored, skip_corrupt=self.skip_corrupt):
            yield image, entry.label

    def image(self, split: str, index: int, stored: int) -> tuple[NDArray[np.uint8], int]:
        entry = self.picked[split][index]
        return decode_image(self.shelf, self._reader(), entry, stored), entry.label

    def _reader(self) -> Read:
        """Opened at the first use, in the process that uses it, and as long as this object lives."""
        if self._read is None:
            stack = ExitStack()
            self._read = stack.enter_context(self.shelf.reading())
            weakref.finalize(self, stack.close)
        return self._read


Picked = Mapping[str, Sequence[ImageEntry]]  # by split


def stat_fingerprint(shelf: ImageFolder, picked: Picked) -> str:
    """A digest of path, names, sizes and times: changes when images do, or are moved or copied; nothing is read."""
    entries = _in_order(picked)
    files = [shelf.path / entry.name for entry in entries] if shelf.path.is_dir() else [shelf.path]
    names = [f"{entry.label} {entry.name}" for entry in entries]
    lines = [str(shelf.path.resolve()), *names, *map(_state, files)]
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()


def content_fingerprint(shelf: ImageFolder, picked: Picked, say: Say) -> str:
    """Of the bytes and labels of images in their order: the same from a folder, a copy of it, and an archive."""
    entries = _in_order(picked)
    whole, progress = hashlib.sha256(), Progress(len(entries), say, done="looked at")
    for line in prefetch(_line, encoded_images(shelf, entries), threads=cores()):
        whole.update(line)
        progress.step()
    return whole.hexdigest()


def _in_order(picked: Picked) -> list[ImageEntry]:
    return [entry for entries in picked.values() for entry in entries]


def _state(file: Path) -> str:
    try:
        found = file.stat()
    except OSError:
        return "gone"  # will be said where it is read
    return f"{found.st_size} {found.st_mtime_ns}"


def _line(found: tuple[ImageEntry, bytes | str]) -> bytes:
    """Of one image; a file that cannot be read is like one with nothing in it."""
    entry, data = found
    return f"{entry.label} {hashlib.sha256(data if isinstance(data, bytes) else b'').hexdigest()}\n".encode()
