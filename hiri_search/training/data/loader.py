"""Data loader: batches on the training device, from the cache or decoded on the fly."""

from __future__ import annotations

import random
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from hiri_search.training.data.augment import augment, center_crop_params, sample_params
from hiri_search.training.data.datasets import VAL_CROP, open_split
from hiri_search.training.data.pixel_stores import (
    Batch,
    DecodingStore,
    GpuStore,
    MmapStore,
    PixelStore,
    demand_gpu,
    fits_gpu,
    load,
)
from hiri_search.training.data.prepare import open_source, stored_side
from hiri_search.training.job import SPLITS, DataSource, PreparedData
from hiri_search.training.recipe import Recipe


class Loader(ABC):
    """The images of one training: images (B, 3, side, side), normalised, channels-last, and labels, on its device."""

    def __init__(self, recipe: Recipe, prepared: PreparedData) -> None:
        self.recipe, self.prepared = recipe, prepared
        self.seconds_waiting = 0.0  # in the last `train`: until its batches came, what is computed for them included

    def __len__(self) -> int:
        """Batches of one epoch; images that fill none are left out of it."""
        return self.prepared.train // self.recipe.batch

    def train(self, order: torch.Generator, augmentation: torch.Generator) -> Iterator[Batch]:
        """One epoch: which images when is drawn from `order` alone, what is done to them from `augmentation`."""
        self.seconds_waiting = 0.0
        batches = iter(self._train(order, augmentation))
        while True:
            started = time.perf_counter()
            batch = next(batches, None)
            self.seconds_waiting += time.perf_counter() - started
            if batch is None:
                return
            yield batch

    @abstractmethod
    def val(self) -> Iterator[Batch]:
        """The whole validation split, in order, in batches of twice the size."""

    @abstractmethod
    def _train(self, order: torch.Generator, augmentation: torch.Generator) -> Iterator[Batch]: ...

    def _picks(self, order: torch.Generator) -> list[Tensor]:
        whole = len(self) * self.recipe.batch
        picks = torch.randperm(self.prepared.train, generator=order)[:whole]
        return list(torch.split(picks, self.recipe.batch))

    def _in_order(self) -> list[Tensor]:
        return list(torch.split(torch.arange(self.prepared.val), 2 * self.recipe.batch))


def open_loader(data: DataSource, prepared: PreparedData, *, side: int, recipe: Recipe, device: torch.device) -> Loader:
    """The way that `prepared.cache` names; `auto`: on the GPU where that leaves plenty of room, else from the disk.

    What networks see is the same to the last digit of the CPU in each of them. Policies of `auto_augment`, and what
    timm opens, go through timm's transforms instead, one image after the other; there `gpu` is as `disk`.
    DataError where `gpu` is not possible.
    """
    if prepared.cache == "gpu":
        demand_gpu(device)
    if data.kind == "timm" or recipe.auto_augment:
        return TimmTransformLoader(data, prepared, side=side, recipe=recipe, device=device)
    if prepared.cache == "none":
        supply = open_source(data, len(prepared.classes))
        decoding = partial(DecodingStore, supply, stored=stored_side(side), workers=recipe.workers, device=device)
        return BatchedLoader(decoding("train"), decoding("val"), prepared, side=side, recipe=recipe)
    kept = GpuStore if fits_gpu(prepared, stored_side(side), device) else MmapStore
    train, val = (kept(prepared, split, device) for split in SPLITS)
    return BatchedLoader(train, val, prepared, side=side, recipe=recipe)


class BatchedLoader(Loader):
    """Stored squares of the whole split, cropped, flipped, coloured and erased a batch at a time on the device."""

    def __init__(
        self, train: PixelStore, val: PixelStore, prepared: PreparedData, *, side: int, recipe: Recipe
    ) -> None:
        super().__init__(recipe, prepared)
        self.stores, self.side, self.stored = {"train": train, "val": val}, side, stored_side(side)

    def _train(self, order: torch.Generator, augmentation: torch.Generator) -> Iterator[Batch]:
        for images, labels in self.stores["train"].gather(self._picks(order)):
            looks = sample_params(len(images), self.stored, self.side, self.recipe, augmentation)
            yield augment(images, looks, self.side), labels

    def val(self) -> Iterator[Batch]:
        for images, labels in self.stores["val"].gather(self._in_order()):
            yield augment(images, center_crop_params(len(images), self.stored, VAL_CROP), self.side), labels


# ---- one by one: timm's transforms


class TimmTransformLoader(Loader):
    """Images as Pillow has them, through timm's transforms for training and for validation."""

    def __init__(
        self, data: DataSource, prepared: PreparedData, *, side: int, recipe: Recipe, device: torch.device
    ) -> None:
        super().__init__(recipe, prepared)
        opened = partial(open_split, data, prepared, side=side, recipe=recipe)
        self.datasets = {split: opened(split) for split in SPLITS}
        self.device = device

    def _train(self, order: torch.Generator, augmentation: torch.Generator) -> Iterator[Batch]:
        dataset = self.datasets["train"]
        if isinstance(dataset, IterableDataset):
            return self._placed(self._stream(dataset, self.recipe.batch, augmentation, drop_last=True))
        # A seed for each image: neither the number of workers nor what else draws here is seen in it.
        picks = self._picks(order)
        seeds = torch.randint(2**31, (len(picks), self.recipe.batch), generator=augmentation)
        batches = [
            list(zip(*pair, strict=True)) for pair in zip(map(Tensor.tolist, picks), seeds.tolist(), strict=True)
        ]
        return self._placed(load(_Seeded(dataset), batches, self.recipe.workers))

    def val(self) -> Iterator[Batch]:
        dataset = self.datasets["val"]
        if isinstance(dataset, IterableDataset):
            return self._placed(self._stream(dataset, 2 * self.recipe.batch, torch.Generator(), drop_last=False))
        picks = [chosen.tolist() for chosen in self._in_order()]
        return self._placed(load(dataset, picks, self.recipe.workers))

    def _stream(self, dataset: Dataset[Any], batch: int, rng: torch.Generator, *, drop_last: bool) -> Iterator[Batch]:
        """In an order of its own. Workers are seeded from `rng`; without workers Python and numpy draw as they are."""
        workers = self.recipe.workers
        pinned = torch.cuda.is_available()
        loader = partial(DataLoader, num_workers=workers, pin_memory=pinned, generator=rng)
        return iter(loader(dataset, batch_size=batch, drop_last=drop_last))

    def _placed(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        place = partial(Tensor.to, device=self.device, non_blocking=True)
        return ((place(images, memory_format=torch.channels_last), place(labels)) for images, labels in batches)


@dataclass(frozen=True)
class _Seeded(Dataset[Any]):
    """Items by their index and the seed of what is drawn for them."""

    dataset: Any

    def __getitem__(self, item: tuple[int, int]) -> Any:
        index, seed = item
        with _drawing_from(seed):
            return self.dataset[index]


@contextmanager
def _drawing_from(seed: int) -> Iterator[None]:
    """timm's transforms draw from the states of Python, numpy and torch; afterwards these are as before."""
    python, numbers = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        try:
            random.seed(seed)
            np.random.seed(seed)
            torch.default_generator.manual_seed(seed)
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numbers)
