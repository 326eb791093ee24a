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

from hiri_search.nets.pieces import IMAGE_CHANNELS
from hiri_search.training.data.image_folder import DataError
from hiri_search.training.data.prepare import open_source, stored_side
from hiri_search.training.data.sources import timm_datasets
from hiri_search.training.data.sources.dataset_source import DatasetSource
from hiri_search.training.data.sources.folder_source import FolderSource
from hiri_search.training.data.sources.image_source import ImageSource
from hiri_search.training.job import DataSource, PreparedData
from hiri_search.training.recipe import Recipe

VAL_CROP = 0.875  # share of the shorter side that validation keeps; timm's value


def with_safe_posterize(transform: Any) -> Any:
    """Change a timm transform in place so that posterizing to 0 bits gives a black image; return the transform.

    The strong levels of timm's RandAugment ask for 0 bits (timm 1.0.31, "0 to 4 bits"). Pillow 13 raises ValueError.
    """
    for op in _augment_ops(transform):
        if op.aug_fn is auto_augment.posterize:
            op.aug_fn = _posterize
    return transform


def _augment_ops(part: Any) -> Iterator[Any]:
    """All AugmentOps inside a transform, a policy or a list."""
    if hasattr(part, "aug_fn"):
        yield part
    elif isinstance(part, list | tuple):
        for item in part:
            yield from _augment_ops(item)
    else:
        for name in ("transforms", "ops", "policy"):
            yield from _augment_ops(getattr(part, name, ()))


def _posterize(image: Image.Image, bits: int, **_: Any) -> Image.Image:
    if bits >= 8:
        return image
    return ImageOps.posterize(image, bits) if bits >= 1 else Image.new(image.mode, image.size)


class MmapDataset(Dataset[tuple[torch.Tensor, int]]):
    """Decoded images of a split, memory-mapped from the decode cache and shared by all trials of a machine."""

    def __init__(self, folder: Path, split: str, transform: Callable[[Image.Image], torch.Tensor]) -> None:
        self.images = np.load(folder / f"{split}_images.npy", mmap_mode="r")  # (N, S, S, 3) uint8
        self.labels = np.load(folder / f"{split}_labels.npy")  # (N,) int64
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])


class DecodingDataset(Dataset[tuple[torch.Tensor, int]]):
    """Images of a split without a cache: decoded, or generated, at each access."""

    def __init__(
        self, source: ImageSource, split: str, stored: int, transform: Callable[[Image.Image], torch.Tensor]
    ) -> None:
        self.source, self.split, self.stored, self.transform = source, split, stored, transform

    def __len__(self) -> int:
        return self.source.counts[self.split]

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image, label = self.source.image(self.split, index, self.stored)
        return self.transform(Image.fromarray(image)), label


class WholeImageDataset(Dataset[tuple[torch.Tensor, int]]):
    """Images of a split of a folder or archive, decoded at each access in their own size, as timm does."""

    def __init__(self, source: FolderSource, split: str, transform: Callable[[Image.Image], torch.Tensor]) -> None:
        self.source, self.split, self.transform = source, split, transform

    def __len__(self) -> int:
        return self.source.counts[self.split]

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image, label = self.source.whole_image(self.split, index)
        return self.transform(image), label


class TensorImageDataset(Dataset[tuple[torch.Tensor, int]]):
    """Tensors of a split of the user's own Datasets, as they are."""

    def __init__(self, source: DatasetSource, split: str, side: int) -> None:
        self.source, self.split, self.side = source, split, side

    def __len__(self) -> int:
        return self.source.counts[self.split]

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.source.tensor(self.split, index, self.side)


def open_split(data: DataSource, prepared: PreparedData, split: str, *, side: int, recipe: Recipe) -> Dataset[Any]:
    """Dataset of a split: float tensors (3, side, side) and labels; the training split is augmented,
    but for tensors of the user's own Datasets.
    """
    transform = _train_transform(side, recipe) if split == "train" else _val_transform(side)
    if prepared.transformed:
        return TensorImageDataset(DatasetSource(data, len(prepared.classes), prepared.skipped), split, side)
    if data.kind == "timm":
        if data.is_named:
            return timm_datasets.open_timm(data, split, transform)
        return WholeImageDataset(FolderSource(data, len(prepared.classes), prepared.skipped), split, transform)
    if prepared.cache == "none":
        source = open_source(data, len(prepared.classes), prepared.skipped)
        return DecodingDataset(source, split, stored_side(side), transform)
    return MmapDataset(prepared.folder, split, transform)


def check_augmentation(recipe: Recipe, side: int) -> None:
    """Raise DataError if timm does not know the policy `auto_augment`."""
    try:
        _train_transform(side, recipe)
    except (AssertionError, ValueError, KeyError) as error:
        problem = f"recipe.auto_augment: timm knows no policy {recipe.auto_augment!r}"
        raise DataError(f"{problem}; write one such as rand-m9-mstd0.5-inc1, or leave it out") from error


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


def evaluation_config(side: int) -> dict[str, Any]:
    """Return how images are prepared for validation, in the words of timm's configuration of a model."""
    return {
        "input_size": (IMAGE_CHANNELS, side, side),
        "crop_pct": VAL_CROP,
        "interpolation": "bilinear",
        "mean": IMAGENET_DEFAULT_MEAN,
        "std": IMAGENET_DEFAULT_STD,
    }


def _val_transform(side: int) -> Callable[[Image.Image], torch.Tensor]:
    return create_transform(side, is_training=False, crop_pct=VAL_CROP, interpolation="bilinear")  # type: ignore[no-any-return]
