"""Images of the user's own Datasets, by split: chosen, held out, and named by their fingerprint."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hiri_search.system.files import Say
from hiri_search.training.data.image_decode import DECODER_VERSION
from hiri_search.training.data.image_folder import HELD_OUT_SHARE, DataError
from hiri_search.training.data.sources.dataset_reader import DatasetReader, Item, as_square
from hiri_search.training.data.sources.image_source import LabelledImage
from hiri_search.training.data.sources.user_datasets import user_datasets
from hiri_search.training.data.splits import held_out, subset
from hiri_search.training.job import SPLITS, DataSource
from hiri_search.training.rng import seeded_generators


class DatasetSource:
    """The Datasets that a function of the user returns (`data: python:MODULE:NAME`), without the images `skipped`.

    Raises DataError for Datasets that cannot be trained on, as far as that shows in the first image of each.
    """

    def __init__(self, data: DataSource, classes: int | None, skipped: Sequence[str] = ()) -> None:
        self._arguments = data, classes, skipped
        self.data, self.datasets = data, user_datasets(data)
        found = len(self.datasets.classes)
        if not 2 <= (classes or 2) <= found:
            remedy = f"write 2 to {found}, or leave it out for all"
            raise DataError(f"proxy.classes={classes}: {data.source} has {found} classes; {remedy}")
        self.classes = self.datasets.classes[:classes]
        readers = {split: DatasetReader(data, split) for split in self.datasets.by_split}
        kinds = {reader.has_tensors for reader in readers.values()}
        if len(kinds) > 1:
            raise DataError(f"{data.source}: the images of some splits are tensors of floats; write one kind for all")
        self.transformed = kinds == {True}
        # The Dataset from which the images of each split come, and their indices in it
        self.chosen = {split: (reader, np.arange(len(reader))) for split, reader in readers.items()}
        self._choose()
        for split, (_, indices) in self.chosen.items():
            if not len(indices):
                raise DataError(f"{data.source}: {split} has no image of the first {len(self.classes)} classes")
        self.chosen = {split: self.chosen[split] for split in SPLITS if split in self.chosen}
        self.notes, self._digest = tuple(self._notes()), self._digest_of(self.datasets.identity)
        if left_out := frozenset(skipped):
            for split in self.chosen:
                names = [self.name(split, position) for position in range(len(self.chosen[split][1]))]
                self._keep(split, [position for position, name in enumerate(names) if name not in left_out])
        self.counts = {split: len(indices) for split, (_, indices) in self.chosen.items()}

    def __reduce__(self) -> tuple[type[DatasetSource], tuple[object, ...]]:
        """Make the Datasets again in a process that does not inherit them."""
        return DatasetSource, self._arguments

    def stat_fingerprint(self) -> str:
        return self._digest

    def content_fingerprint(self, stat_digest: str, cache_dir: Path, say: Say) -> str:
        return stat_digest

    def name(self, split: str, index: int) -> str:
        reader, indices = self.chosen[split]
        return reader.name(indices[index])

    def images(self, split: str, stored: int) -> Iterator[LabelledImage]:
        reader, indices = self.chosen[split]
        any_readable = False
        for item in reader.read_all(indices.tolist(), partial(as_square, stored=stored)):
            any_readable |= not item.unreadable
            yield item.image, item.label
        if not any_readable:
            raise DataError(f"{self.data.source}: none of the {len(indices):,} images of {split} can be read")

    def image(self, split: str, index: int, stored: int) -> tuple[NDArray[np.uint8], int]:
        reader, indices = self.chosen[split]
        item = reader.checked(indices[index], as_square(reader.read(int(indices[index])), stored=stored))
        return item.image, item.label

    def check_side(self, side: int) -> None:
        """Raise DataError if the first tensors of the splits, where they are tensors, do not have this side."""
        for split in self.chosen if self.transformed and not self.data.skip_corrupt else ():
            with seeded_generators(0):
                self.tensor(split, 0, side)

    def tensor(self, split: str, index: int, side: int) -> tuple[Tensor, int]:
        """One image (3, side, side) of floats, as its Dataset gives it, with its label.

        A training image is augmented by its Dataset: it is drawn by the generators that the caller has seeded.
        """
        reader, indices = self.chosen[split]
        item: Item = reader.checked(indices[index], reader.read(int(indices[index]), seeded=split != "train"))
        if item.image.shape != (3, side, side):
            problem = f"{self.data.source}: {self.name(split, index)} is a tensor {tuple(item.image.shape)}"
            expected = f"(3, {side}, {side}), for trainings at side {side}"
            raise DataError(f"{problem}; write {expected}, or PIL images, which are resized")
        return item.image.float(), item.label

    def _choose(self) -> None:
        """Choose the images of each split: of the first classes, held out where a split is missing, and so many."""
        if self.data.test == 0:
            self.chosen.pop("test", None)
        if len(self.classes) < len(self.datasets.classes):
            for split in self.chosen:
                self._keep(split, np.flatnonzero(self._labels(split) < len(self.classes)))
        self._hold_out()
        for split in self.chosen:
            count = getattr(self.data, split)
            if isinstance(count, int) and count < len(self.chosen[split][1]):
                labels = self._labels(split).tolist()
                self._keep(split, subset(split, labels, count, classes=len(self.classes), seed=self.data.seed))

    def _labels(self, split: str) -> NDArray[np.int64]:
        reader, indices = self.chosen[split]
        return reader.labels_of(indices)

    def _keep(self, split: str, positions: Sequence[int] | NDArray[np.int64]) -> None:
        reader, indices = self.chosen[split]
        self.chosen[split] = reader, indices[np.asarray(positions, np.int64)]

    def _hold_out(self) -> None:
        """Move training images to the splits that are missing."""
        test, seed, whole = self.data.test, self.data.seed, len(self.chosen["train"][1])
        if "test" in self.chosen and isinstance(test, float):
            problem = f"data.test={test} is a share to hold out, and {self.data.source} has a test"
            raise DataError(f"{problem}; leave it out, or write a number of images")
        for split, wanted in (("val", HELD_OUT_SHARE), ("test", test)):
            if wanted and split not in self.chosen:
                if self.transformed:
                    problem = f"{self.data.source} gives no {split}, and tensors of train may be augmented"
                    raise DataError(f"{problem}, so that none are held out for it; return it too")
                labels = self._labels("train").tolist()
                out = held_out(split, labels, wanted, whole=whole, classes=len(self.classes), seed=seed)
                reader, train = self.chosen["train"]
                self.chosen |= {split: (reader, train[out]), "train": (reader, np.delete(train, out))}

    def _notes(self) -> Iterator[str]:
        """Yield sentences on images that are held out, on classes without images, and on tensors."""
        for split, (reader, indices) in self.chosen.items():
            if split != reader.split:
                chosen = f"{len(indices):,} of the training images, chosen with data.seed={self.data.seed},"
                yield f"{self.data.source} gives no {split} images: {chosen} were held out."
            known = None if reader.labels is None else len(np.unique(reader.labels[indices]))
            if known is not None and known < len(self.classes):
                yield f"The {split} images are of {known} of the {len(self.classes)} classes."
        if self.transformed:
            yield f"The images of {self.data.source} are tensors: the study neither resizes nor augments them."

    def _digest_of(self, identity: str) -> str:
        parts = [identity, f"{DECODER_VERSION} {self.data.skip_corrupt} {self.transformed}"]
        for reader, indices in self.chosen.values():
            parts.append(f"{reader.split} {hashlib.sha256(indices.astype('<i8').tobytes()).hexdigest()}")
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()
