"""Datasets that timm opens: by name, or a folder read during training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from random import Random
from typing import Any

import torch
from PIL import Image
from timm.data import create_dataset
from torch.utils.data import Dataset, IterableDataset, Subset

from hiri_search.training.data.image_folder import DataError, open_image_folder
from hiri_search.training.data.sources import stat_fingerprint
from hiri_search.training.job import SPLITS, DataSource

TIMM_SPLIT_NAMES = {"train": "train", "val": "validation"}
EXPECTED_SOURCE = (
    "a folder with train/CLASS/*.jpg and val/CLASS/*.jpg, or the name of a timm dataset, such as torch/cifar10@ROOT"
)
Transform = Callable[[Image.Image], torch.Tensor]


def inspect_timm(data: DataSource, classes: int | None) -> tuple[tuple[str, ...], dict[str, int], str]:
    """The class names, the number of images of each split, and a stat fingerprint of the files.

    The fingerprint of a named timm dataset is its name. Raises DataError for data that cannot be trained on.
    """
    path = _folder_path(data)
    if path:
        folder = open_image_folder(path, classes=classes)
        names, stat_digest = folder.classes, stat_fingerprint(folder, folder.entries)
    else:
        names, stat_digest = _named_classes(data, classes), data.source
    return names, {split: _length(data, split, open_timm(data, split, names)) for split in SPLITS}, stat_digest


def open_timm(data: DataSource, split: str, classes: Sequence[str], transform: Transform | None = None) -> Dataset[Any]:
    """Dataset of a split, with labels; `classes` selects the classes of a folder."""
    path = _folder_path(data)
    dataset = _open_folder(path, split, classes) if path else _open_named(data, split)
    dataset.transform = transform and partial(_transform_rgb, transform)
    count = getattr(data, split)
    if count is None or count >= _length(data, split, dataset):
        return dataset  # type: ignore[no-any-return]
    if isinstance(dataset, IterableDataset):
        raise DataError(f"data.{split}={count}: {data.source} is a stream and has no subsets; leave it out")
    return Subset(dataset, sorted(Random(data.seed).sample(range(len(dataset)), count)))


def _folder_path(data: DataSource) -> Path | None:
    path = Path(data.path).expanduser()
    return path if path.is_dir() else None


def _open_folder(path: Path, split: str, classes: Sequence[str]) -> Any:
    first = open_image_folder(path).entries[split][0].name  # the splits may lie one folder deeper
    root = path.joinpath(*PurePosixPath(first).parts[:-2])
    return create_dataset("", str(root), class_map={name: i for i, name in enumerate(classes)}, search_split=False)


def _open_named(data: DataSource, split: str) -> Any:
    name, _, root = data.path.partition("@")
    folder = str(Path(root).expanduser()) if root else None
    try:
        return create_dataset(name, folder, split=TIMM_SPLIT_NAMES[split], is_training=split == "train")
    except Exception as error:  # timm's readers pass on any exception of their libraries
        reason = f"{type(error).__name__}: {error}".removesuffix(": ")
        raise DataError(f"timm cannot open {data.path!r} ({reason}); timm: must name {EXPECTED_SOURCE}") from error


def _named_classes(data: DataSource, classes: int | None) -> tuple[str, ...]:
    names = getattr(_open_named(data, "train"), "classes", None)
    if names and classes not in (None, len(names)):
        problem = f"proxy.classes={classes}: {data.source} has {len(names)} classes"
        raise DataError(f"{problem}, and timm takes all of them; leave it out")
    if not names and classes is None:
        raise DataError(f"{data.source} does not say how many classes it has; write proxy.classes")
    return tuple(names or (f"class {index}" for index in range(classes or 0)))


def _length(data: DataSource, split: str, dataset: Any) -> int:
    length = len(dataset) if hasattr(dataset, "__len__") else 0
    if not length:
        raise DataError(f"{data.source} does not say how many images its {split} split has; choose another form of it")
    return length


def _transform_rgb(transform: Transform, image: Image.Image) -> torch.Tensor:
    return transform(image.convert("RGB"))
