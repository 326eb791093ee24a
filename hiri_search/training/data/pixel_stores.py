"""Where a split's pixels are: GPU memory, memory-mapped file, or decoded on the fly."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from hiri_search.system.concurrency import prefetch
from hiri_search.training.data.datasets import DecodingDataset
from hiri_search.training.data.image_folder import DataError
from hiri_search.training.data.sources.image_source import ImageSource
from hiri_search.training.job import PreparedData

GPU_MEMORY_SHARE = 0.25  # of the device's free memory that images may take with cache: auto
PREFETCHED_BATCHES = 2

Batch = tuple[Tensor, Any]  # images, and their labels (B,) or annotations


class PixelStore(ABC):
    """The decoded images of one split, as stored squares."""

    @abstractmethod
    def gather(self, batches: Sequence[Tensor]) -> Iterator[Batch]:
        """Yield the images (B, S, S, 3), uint8, and labels of each batch of indices, on the device."""


class GpuStore(PixelStore):
    """All images in GPU memory; each trial has its own copy."""

    def __init__(self, prepared: PreparedData, split: str, device: torch.device) -> None:
        images, labels = _memory_map(prepared, split)
        self.images, self.labels, self.device = images.to(device), labels.to(device), device

    def gather(self, batches: Sequence[Tensor]) -> Iterator[Batch]:
        if not batches:
            return
        for indices in torch.split(torch.cat(list(batches)).to(self.device), len(batches[0])):
            yield self.images[indices], self.labels[indices]


class MmapStore(PixelStore):
    """Images in a memory-mapped file: all trials of a machine share its page cache."""

    def __init__(self, prepared: PreparedData, split: str, device: torch.device) -> None:
        self.images, self.labels = _memory_map(prepared, split)
        self.device = device

    def gather(self, batches: Sequence[Tensor]) -> Iterator[Batch]:
        if self.device.type == "cuda":
            gathered = prefetch(self._gather_batch, batches, threads=1, results=PREFETCHED_BATCHES)
        else:  # a trial on the CPU has one core, which a prefetch thread would only share
            gathered = map(self._gather_batch, batches)
        for images, labels in gathered:
            # torch's allocator reuses pinned memory only after the asynchronous copy from it has ended.
            yield images.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)

    def _gather_batch(self, indices: Tensor) -> Batch:
        shape, pinned = (len(indices), *self.images.shape[1:]), self.device.type == "cuda"
        images = torch.empty(shape, dtype=torch.uint8, pin_memory=pinned)
        torch.index_select(self.images, 0, indices, out=images)
        labels = self.labels[indices]
        return images, labels.pin_memory() if pinned else labels


def _memory_map(prepared: PreparedData, split: str) -> Batch:
    """All images (N, S, S, 3), memory-mapped copy-on-write, and all labels (N,)."""
    images = np.load(prepared.folder / f"{split}_images.npy", mmap_mode="c")
    return torch.from_numpy(images), torch.from_numpy(np.load(prepared.folder / f"{split}_labels.npy"))


class DecodingStore(PixelStore):
    """Images without a cache: decoded at each access, by `workers` processes or by the trial's own."""

    def __init__(self, source: ImageSource, split: str, *, stored: int, workers: int, device: torch.device) -> None:
        self.dataset, self.workers, self.device = DecodingDataset(source, split, stored, _pixels), workers, device

    def gather(self, batches: Sequence[Tensor]) -> Iterator[Batch]:
        for images, labels in load_batches(self.dataset, [indices.tolist() for indices in batches], self.workers):
            yield images.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)


def _pixels(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image))


def load_batches(
    dataset: Dataset[Any], batches: Sequence[list[Any]], workers: int, collate: Callable[[Any], Batch] | None = None
) -> Iterator[Batch]:
    """Load the dataset's items of each batch of keys with a torch DataLoader; `collate` makes a batch of them."""
    pinned = torch.cuda.is_available()
    own = torch.Generator()  # the default generator belongs to the network
    loader = partial(DataLoader, batch_sampler=batches, num_workers=workers, pin_memory=pinned, generator=own)
    return iter(loader(dataset, collate_fn=collate))


def check_gpus(cache: str, gpus: int) -> None:
    """Raise DataError for `cache: gpu` if the machines of a study's trials have no GPU."""
    if cache == "gpu" and not gpus:
        raise DataError("cache: gpu needs a CUDA device, and there is none; write auto or disk")


def fits_gpu(prepared: PreparedData, stored: int, device: torch.device) -> bool:
    """Return True if the images are to be kept in GPU memory; raises DataError if `cache: gpu` does not fit."""
    if device.type != "cuda" or prepared.cache == "disk":
        return False
    needed = (prepared.train + prepared.val) * stored**2 * 3
    free, _ = torch.cuda.mem_get_info(device)
    if prepared.cache == "gpu" and needed > free:
        problem = f"cache: gpu needs {needed / 1e9:.2f} GB for the images and the GPU has {free / 1e9:.2f} GB free"
        raise DataError(f"{problem}; write auto or disk, or take fewer with data.train and data.val")
    return prepared.cache == "gpu" or needed < GPU_MEMORY_SHARE * free
