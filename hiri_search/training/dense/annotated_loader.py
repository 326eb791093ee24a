"""Batches of annotated images on the training device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from hiri_search.training.data.augment import normalise
from hiri_search.training.data.loader import Loader, SeededDataset
from hiri_search.training.data.pixel_stores import Batch, load_batches
from hiri_search.training.dense.decoded_targets import DecodedTargets
from hiri_search.training.dense.sources.annotated_source import DenseTarget
from hiri_search.training.dense.transforms import DenseAugmentation, TrainTransform, letterbox
from hiri_search.training.job import PreparedData
from hiri_search.training.recipe import Recipe
from hiri_search.training.rng import derive


class AnnotatedLoader(Loader):
    """Images (B, 3, side, side), normalised, channels-last, and a list of their targets, from the decode cache.

    Training targets are in pixels of the batch, `semantic` in int64. Those of validation and test are in pixels of the
    original, whose height and width are `size`; `in_original` brings predictions there.
    """

    def __init__(
        self,
        prepared: PreparedData,
        *,
        side: int,
        recipe: Recipe,
        augmentation: DenseAugmentation,
        device: torch.device,
    ) -> None:
        super().__init__(recipe, prepared)
        decoded = {split: DecodedTargets(prepared.folder, split) for split in prepared.counts}
        self.datasets: dict[str, Dataset[Any]] = {split: _Whole(stored, side) for split, stored in decoded.items()}
        self.datasets["train"] = _Augmented(decoded["train"], TrainTransform(side, augmentation))
        self.device = device

    def _train(self, order: torch.Generator, augmentation: torch.Generator) -> Iterator[Batch]:
        # One seed per image of an epoch: its augmentation depends neither on the order nor on the number of workers.
        epoch = int(torch.randint(2**31, (), generator=augmentation))
        indices = [batch.tolist() for batch in self._train_indices(order)]
        seeded = [[(index, derive(epoch, f"image {index}")) for index in batch] for batch in indices]
        return self._batches(SeededDataset(self.datasets["train"]), seeded)

    def _all(self, split: str) -> Iterator[Batch]:
        return self._batches(self.datasets[split], [batch.tolist() for batch in self._all_indices(split)])

    def _batches(self, dataset: Dataset[Any], keys: Sequence[list[Any]]) -> Iterator[Batch]:
        for images, targets in load_batches(dataset, keys, self.recipe.workers, _collated):
            moved = images.to(self.device, non_blocking=True, memory_format=torch.channels_last)
            yield normalise(moved.float()), [self._moved(target) for target in targets]

    def _moved(self, target: DenseTarget) -> DenseTarget:
        return {name: values.to(self.device, non_blocking=True) for name, values in target.items()}


def _collated(items: Sequence[tuple[Tensor, DenseTarget]]) -> Batch:
    images, targets = zip(*items, strict=True)
    return torch.stack(images), list(targets)


@dataclass(frozen=True)
class _Augmented(Dataset[Any]):
    stored: DecodedTargets
    transform: TrainTransform

    def __getitem__(self, index: int) -> tuple[Tensor, DenseTarget]:
        image, target = self.stored[index]
        target.pop("size")
        return self.transform(image, target)


@dataclass(frozen=True)
class _Whole(Dataset[Any]):
    stored: DecodedTargets
    side: int

    def __getitem__(self, index: int) -> tuple[Tensor, DenseTarget]:
        image, target = self.stored[index]
        height, width = target["size"].tolist()
        return letterbox(image, self.side, (height, width)), target
