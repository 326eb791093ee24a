"""Where a split's pixels are: GPU memory, memory-mapped file, or decoded on the fly."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from hiri_search.system.concurrency import prefetch
from hiri_search.training.data.datasets import DecodingDataset
from hiri_search.training.data.image_folder import DataError
from hiri_search.training.data.sources import ImageSource
from hiri_search.training.job import PreparedData

GPU_MEMORY_SHARE = 0.25  # of the device's free memory that images may take by themselves
PREFETCHED_BATCHES = 2  # batches gathered before they are asked for

Batch = tuple[Tensor, Tensor]  # images and their labels (B,)


class PixelStore(ABC):
    """The stored squares of one split."""

    @abstractmethod
    def gather(self, picks: Sequence[Tensor]) -> Iterator[Batch]:
        """For each list of indices those images (B, S, S, 3), uint8, and their labels, on the device."""


class GpuStore(PixelStore):
    """All of them on the device, once for each trial."""

    def __init__(self, prepared: PreparedData, split: str, device: torch.device) -> None:
        images, labels = _mapped(prepared, split)
        self.images, self.labels, self.device = images.to(device), labels.to(device), device

    def gather(self, picks: Sequence[Tensor]) -> Iterator[Batch]:
        if not picks:
            return
        for chosen in torch.split(torch.cat(list(picks)).to(self.device), len(picks[0])):
            yield self.images[chosen], self.labels[chosen]


class MmapStore(PixelStore):
    """On disk, in the page cache that all trials of a machine share."""

    def __init__(self, prepared: PreparedData, split: str, device: torch.device) -> None:
        self.images, self.labels = _mapped(prepared, split)
        self.device = device

    def gather(self, picks: Sequence[Tensor]) -> Iterator[Batch]:
        # A trial on the CPU has one core: a thread would only take turns with it.
        beside = self.device.type == "cuda"
        taken = prefetch(self._take, picks, threads=1, results=PREFETCHED_BATCHES) if beside else map(self._take, picks)
        for images, labels in taken:
            # Pinned memory is used again only behind the copy: torch's allocator sees to that.
            yield images.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)

    def _take(self, chosen: Tensor) -> Batch:
        size, pinned = (len(chosen), *self.images.shape[1:]), self.device.type == "cuda"
        images = torch.empty(size, dtype=torch.uint8, pin_memory=pinned)
        torch.index_select(self.images, 0, chosen, out=images)
        labels = self.labels[chosen]
        return images, labels.pin_memory() if pinned else labels


def _mapped(prepared: PreparedData, split: str) -> Batch:
    """All images (N, S, S, 3) and labels (N,); the images as pages of the file, which writing would copy."""
    images = np.load(prepared.folder / f"{split}_images.npy", mmap_mode="c")
    return torch.from_numpy(images), torch.from_numpy(np.load(prepared.folder / f"{split}_labels.npy"))


class DecodingStore(PixelStore):
    """Not kept at all: decoded whenever they are used, by `workers` processes, or by the trial's own."""

    def __init__(self, supply: ImageSource, split: str, *, stored: int, workers: int, device: torch.device) -> None:
        self.dataset, self.workers, self.device = DecodingDataset(supply, split, stored, _pixels), workers, device

    def gather(self, picks: Sequence[Tensor]) -> Iterator[Batch]:
        for images, labels in load(self.dataset, [chosen.tolist() for chosen in picks], self.workers):
            yield images.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)


def _pixels(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image))


def load(dataset: Dataset[Any], batches: Sequence[list[Any]], workers: int) -> Iterator[Batch]:
    """What `dataset` has for each item of each list."""
    return iter(
        DataLoader(
            dataset,
            batch_sampler=batches,
            num_workers=workers,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),  # else it would draw from the network's
        )
    )


def check_gpus(cache: str, gpus: int) -> None:
    """DataError where images should lie on a GPU, and the machines of a study's trials have none."""
    if cache == "gpu" and not gpus:
        raise DataError("cache: gpu wants a CUDA device, and there is none; write auto or disk")


def demand_gpu(device: torch.device) -> None:
    """Where a trial runs, which may be another machine than the study's."""
    check_gpus("gpu", gpus=device.type == "cuda")


def fits_gpu(prepared: PreparedData, stored: int, device: torch.device) -> bool:
    """Whether images are kept on the GPU; DataError where that is demanded and they do not fit."""
    if device.type != "cuda" or prepared.cache == "disk":
        return False
    needed = (prepared.train + prepared.val) * stored**2 * 3
    free, _ = torch.cuda.mem_get_info(device)
    if prepared.cache == "gpu" and needed > free:
        raise DataError(
            f"cache: gpu wants {needed / 1e9:.2f} GB for the images and the GPU has {free / 1e9:.2f} GB free;"
            " write auto or disk, or take fewer with data.train and data.val"
        )
    return prepared.cache == "gpu" or needed < GPU_MEMORY_SHARE * free
