"""Data loader: batches on the training device, from the cache or decoded on the fly."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from hiri_search.training.data.augment import augment, center_crop_params, sample_params
from hiri_search.training.data.datasets import VAL_CROP, open_split
from hiri_search.training.data.image_folder import DataError
from hiri_search.training.data.pixel_stores import (
    Batch,
    DecodingStore,
    GpuStore,
    MmapStore,
    PixelStore,
    check_gpus,
    fits_gpu,
    load_batches,
)
from hiri_search.training.data.prepare import open_source, stored_side
from hiri_search.training.data.sources import timm_datasets
from hiri_search.training.job import DataSource, PreparedData
from hiri_search.training.parallel.ranks import ONE_PROCESS, Ranks
from hiri_search.training.recipe import Recipe
from hiri_search.training.rng import seeded_generators


class Loader(ABC):
    """Batches of one training on its device: images (B, 3, side, side), normalised, channels-last, and labels.

    One of several `ranks` gets its rows of each training batch, with the augmentation that they have in the whole
    batch, and its share of the batches of the other splits. Of a stream it gets its share of the images, and as many
    batches as the others in training.
    """

    def __init__(self, recipe: Recipe, prepared: PreparedData, ranks: Ranks = ONE_PROCESS) -> None:
        self.recipe, self.prepared, self.ranks = recipe, prepared, ranks
        self.seconds_waiting = 0.0  # for the batches of the last `train`, including their augmentation

    def __len__(self) -> int:
        """Batches of one epoch; images that do not fill a batch are dropped."""
        return self.prepared.train // self.recipe.batch

    def train(self, order: torch.Generator, augmentation: torch.Generator) -> Iterator[Batch]:
        """One training epoch: `order` alone shuffles the images, `augmentation` alone decides their augmentation."""
        self.seconds_waiting = 0.0
        batches = iter(self._train(order, augmentation))
        while True:
            started = time.perf_counter()
            batch = next(batches, None)
            self.seconds_waiting += time.perf_counter() - started
            if batch is None:
                return
            yield batch

    def val(self) -> Iterator[Batch]:
        """The whole validation split, in order, in batches of twice the training's size; of `ranks`, each in turn."""
        return self._all("val")

    def test(self) -> Iterator[Batch]:
        """The whole test split, as `val`; only where `prepared.test` is not 0."""
        return self._all("test")

    @abstractmethod
    def _all(self, split: str) -> Iterator[Batch]: ...

    @abstractmethod
    def _train(self, order: torch.Generator, augmentation: torch.Generator) -> Iterator[Batch]: ...

    @cached_property
    def _rows(self) -> Tensor:
        """The rows of a training batch that this process trains on."""
        return self.ranks.batch_indices(self.recipe.batch)

    def _train_indices(self, order: torch.Generator) -> list[Tensor]:
        used = len(self) * self.recipe.batch
        indices = torch.randperm(self.prepared.train, generator=order)[:used]
        return [batch[self._rows] for batch in torch.split(indices, self.recipe.batch)]

    def _all_indices(self, split: str) -> list[Tensor]:
        batches = torch.split(torch.arange(self.prepared.counts[split]), 2 * len(self._rows))
        return list(batches[self.ranks.rank :: self.ranks.size])


def open_loader(
    data: DataSource,
    prepared: PreparedData,
    *,
    side: int,
    recipe: Recipe,
    device: torch.device,
    ranks: Ranks = ONE_PROCESS,
) -> Loader:
    """The loader for `prepared.cache`; with `auto` images are in GPU memory if they leave plenty free, else on disk.

    On the CPU all batched loaders give bitwise the same images. A policy of `auto_augment` and data opened by timm take
    timm's transforms, image by image; there `gpu` means `disk`. Raises DataError if `gpu` is not possible.
    """
    check_gpus(prepared.cache, gpus=device.type == "cuda")  # the trial's machine may be another one than the study's
    if data.kind == "timm" or recipe.auto_augment or prepared.transformed:
        return TimmTransformLoader(data, prepared, side=side, recipe=recipe, device=device, ranks=ranks)
    if prepared.cache == "none":
        source = open_source(data, len(prepared.classes), prepared.skipped)
        open_store = partial(DecodingStore, source, stored=stored_side(side), workers=recipe.workers, device=device)
        decoding = {split: open_store(split) for split in prepared.counts}
        return BatchedLoader(decoding, prepared, side=side, recipe=recipe, ranks=ranks)
    store = GpuStore if fits_gpu(prepared, stored_side(side), device) else MmapStore
    # The test images are read once in a training: GPU memory is for those that each epoch reads.
    stores = {split: (MmapStore if split == "test" else store)(prepared, split, device) for split in prepared.counts}
    return BatchedLoader(stores, prepared, side=side, recipe=recipe, ranks=ranks)


class BatchedLoader(Loader):
    """Stored images of each split, augmented batch by batch on the device."""

    def __init__(
        self,
        stores: Mapping[str, PixelStore],
        prepared: PreparedData,
        *,
        side: int,
        recipe: Recipe,
        ranks: Ranks = ONE_PROCESS,
    ) -> None:
        super().__init__(recipe, prepared, ranks)
        self.stores, self.side, self.stored = stores, side, stored_side(side)

    def _train(self, order: torch.Generator, augmentation: torch.Generator) -> Iterator[Batch]:
        for images, labels in self.stores["train"].gather(self._train_indices(order)):
            params = sample_params(self.recipe.batch, self.stored, self.side, self.recipe, augmentation)
            yield augment(images, params.of(self._rows), self.side), labels

    def _all(self, split: str) -> Iterator[Batch]:
        for images, labels in self.stores[split].gather(self._all_indices(split)):
            yield augment(images, center_crop_params(len(images), self.stored, VAL_CROP), self.side), labels


class TimmTransformLoader(Loader):
    """Images decoded by Pillow, with timm's transforms for training and validation."""

    def __init__(
        self,
        data: DataSource,
        prepared: PreparedData,
        *,
        side: int,
        recipe: Recipe,
        device: torch.device,
        ranks: Ranks = ONE_PROCESS,
    ) -> None:
        super().__init__(recipe, prepared, ranks)
        open_one = partial(open_split, data, prepared, side=side, recipe=recipe)
        self.datasets = {split: open_one(split) for split in prepared.counts}
        for dataset in self.datasets.values():
            if isinstance(dataset, IterableDataset):
                timm_datasets.share_out(dataset, ranks)
        self.source, self.device = data.source, device

    def _train(self, order: torch.Generator, augmentation: torch.Generator) -> Iterator[Batch]:
        dataset = self.datasets["train"]
        if isinstance(dataset, IterableDataset):
            return self._to_device(self._train_stream(dataset, augmentation))
        # One seed per image: the images depend neither on the number of workers nor on other random draws.
        indices = self._train_indices(order)
        seeds = torch.randint(2**31, (len(indices), self.recipe.batch), generator=augmentation)[:, self._rows]
        batches = [
            list(zip(*pair, strict=True)) for pair in zip(map(Tensor.tolist, indices), seeds.tolist(), strict=True)
        ]
        return self._to_device(load_batches(SeededDataset(dataset), batches, self.recipe.workers))

    def _all(self, split: str) -> Iterator[Batch]:
        dataset = self.datasets[split]
        if isinstance(dataset, IterableDataset):
            batch, workers = 2 * len(self._rows), self.recipe.workers
            return self._to_device(self._stream(dataset, batch, workers, torch.Generator(), drop_last=False))
        batches = [indices.tolist() for indices in self._all_indices(split)]
        return self._to_device(load_batches(dataset, batches, self.recipe.workers))

    def _train_stream(self, dataset: Dataset[Any], augmentation: torch.Generator) -> Iterator[Batch]:
        """The batches of an epoch: as many in each of the processes, which would otherwise wait for each other."""
        batch, missing = len(self._rows), len(self)
        timm_datasets.begin_epoch(dataset, batch, len(self), augmentation)
        seeds = torch.randint(2**31, (self.ranks.size,), generator=augmentation).tolist()
        own = torch.Generator().manual_seed(seeds[self.ranks.rank])
        stream = self._stream(dataset, batch, max(1, self.recipe.workers), own, drop_last=True)
        for images in islice(stream, len(self)):
            missing -= 1
            yield images
        if missing:
            problem = f"{self.source} has no images for {missing} of the {len(self)} steps of an epoch"
            raise DataError(f"{problem}: too many of them cannot be read; write them again")

    def _stream(
        self, dataset: Dataset[Any], batch: int, workers: int, rng: torch.Generator, *, drop_last: bool
    ) -> Iterator[Batch]:
        """Batches of a stream, in its own order: `rng` seeds its worker processes.

        A training has one at least: a reader in this process would go on from epoch to epoch, which a training that
        is resumed cannot repeat.
        """
        loader = partial(DataLoader, num_workers=workers, pin_memory=torch.cuda.is_available())
        return iter(loader(dataset, batch_size=batch, drop_last=drop_last, generator=rng))

    def _to_device(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        move = partial(Tensor.to, device=self.device, non_blocking=True)
        return ((move(images, memory_format=torch.channels_last), move(labels)) for images, labels in batches)


@dataclass(frozen=True)
class SeededDataset(Dataset[Any]):
    """Items by index and seed; the seed decides the item's augmentation."""

    dataset: Any

    def __getitem__(self, item: tuple[int, int]) -> Any:
        index, seed = item
        with seeded_generators(seed):
            return self.dataset[index]
