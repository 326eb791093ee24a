"""torch Datasets of decoded or freshly decoded images, with timm's transforms."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, auto_augment, create_transform
from torch.utils.data import Dataset

from hiri_search.training.data import timm_datasets
from hiri_search.training.data.image_folder import DataError
from hiri_search.training.data.prepare import open_source, stored_side
from hiri_search.training.data.sources import ImageSource
from hiri_search.training.job import DataSource, PreparedData
from hiri_search.training.recipe import Recipe


def with_safe_posterize(transform: Any) -> Any:
    """The same transform, changed in place, whose posterizing may leave no bit: Pillow 13 raises ValueError there.

    The strong levels of timm's RandAugment ask for that (timm 1.0.31; "0 to 4 bits"), and mean a black image.
    """
    for op in _ops(transform):
        if op.aug_fn is auto_augment.posterize:
            op.aug_fn = _posterized
    return transform


def _ops(part: Any) -> Iterator[Any]:
    """All steps of the policies inside."""
    if hasattr(part, "aug_fn"):
        yield part
    elif isinstance(part, list | tuple):
        for one in part:
            yield from _ops(one)
    else:
        for name in ("transforms", "ops", "policy"):
            yield from _ops(getattr(part, name, ()))


def _posterized(image: Image.Image, bits: int, **_: Any) -> Image.Image:
    if bits >= 8:
        return image
    return ImageOps.posterize(image, bits) if bits >= 1 else Image.new(image.mode, image.size)


VAL_CROP = 0.875  # share of the shorter side that is looked at in validation, as timm has it


class MmapDataset(Dataset[tuple[torch.Tensor, int]]):
    """Decoded images on disk, mapped into memory and shared by all trials of a machine."""

    def __init__(self, folder: Path, split: str, transform: Callable[[Image.Image], torch.Tensor]) -> None:
        self.images = np.load(folder / f"{split}_images.npy", mmap_mode="r")  # (N, S, S, 3) uint8
        self.labels = np.load(folder / f"{split}_labels.npy")  # (N,) int64
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])


class DecodingDataset(Dataset[tuple[torch.Tensor, int]]):
    """Images of a split that are kept nowhere: decoded, or drawn, whenever they are asked for."""

    def __init__(
        self, supply: ImageSource, split: str, stored: int, transform: Callable[[Image.Image], torch.Tensor]
    ) -> None:
        self.supply, self.split, self.stored, self.transform = supply, split, stored, transform

    def __len__(self) -> int:
        return self.supply.counts[self.split]

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image, label = self.supply.image(self.split, index, self.stored)
        return self.transform(Image.fromarray(image)), label


def open_split(data: DataSource, prepared: PreparedData, split: str, *, side: int, recipe: Recipe) -> Dataset[Any]:
    """The images of a split as (3, side, side) float tensors with their labels, augmented for training."""
    transform = _train_transform(side, recipe) if split == "train" else _val_transform(side)
    if data.kind == "timm":
        return timm_datasets.open_timm(data, split, prepared.classes, transform)
    if prepared.cache == "none":
        return DecodingDataset(open_source(data, len(prepared.classes)), split, stored_side(side), transform)
    return MmapDataset(prepared.folder, split, transform)


def check_augmentation(recipe: Recipe, side: int) -> None:
    """DataError where timm does not know the policy."""
    try:
        _train_transform(side, recipe)
    except (AssertionError, ValueError, KeyError) as error:
        found = f"recipe.auto_augment: timm knows no policy {recipe.auto_augment!r}"
        raise DataError(f"{found}; write one such as rand-m9-mstd0.5-inc1, or leave it out") from error


def _train_transform(side: int, recipe: Recipe) -> Callable[[Image.Image], torch.Tensor]:
    transform = create_transform(
        side,
        is_training=True,
        scale=(recipe.crop, 1.0),
        hflip=recipe.flip,
        color_jitter=recipe.jitter,
        auto_augment=recipe.auto_augment or None,
        interpolation="bilinear",
        re_prob=recipe.erasing,
        re_mode="pixel",
        mean=IMAGENET_DEFAULT_MEAN,
        std=IMAGENET_DEFAULT_STD,
    )
    return with_safe_posterize(transform)  # type: ignore[no-any-return]


def _val_transform(side: int) -> Callable[[Image.Image], torch.Tensor]:
    return create_transform(side, is_training=False, crop_pct=VAL_CROP, interpolation="bilinear")  # type: ignore[no-any-return]
