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
from hiri_search.training.job import DataSource

TIMM_SPLITS = {"train": "train", "val": "validation"}  # ours, and timm's word for each
EXPECTED_LAYOUT = (
    "a folder with train/CLASS/*.jpg and val/CLASS/*.jpg, or a name as timm has it, such as torch/cifar10@ROOT"
)
Transform = Callable[[Image.Image], torch.Tensor]


def inspect_timm(data: DataSource, classes: int | None) -> tuple[tuple[str, ...], dict[str, int], str]:
    """The names of the classes, how many images each split has, and what a glance shows of their files.

    DataError for what cannot be trained on. Of a set that timm knows by name no files are seen.
    """
    folder = _folder(data)
    if folder:
        shelf = open_image_folder(folder, classes=classes)
        names, seen = shelf.classes, stat_fingerprint(shelf, shelf.entries)
    else:
        names, seen = _named_classes(data, classes), data.source
    return names, {split: _length(data, split, open_timm(data, split, names)) for split in TIMM_SPLITS}, seen


def open_timm(data: DataSource, split: str, classes: Sequence[str], transform: Transform | None = None) -> Dataset[Any]:
    """The images of a split and their labels; of a folder, only those of these classes."""
    folder = _folder(data)
    dataset = _open_folder(folder, split, classes) if folder else _open_named(data, split)
    dataset.transform = transform and partial(_coloured, transform)
    count = getattr(data, split)
    if count is None or count >= _length(data, split, dataset):
        return dataset  # type: ignore[no-any-return]
    if isinstance(dataset, IterableDataset):
        raise DataError(f"data.{split}={count}: {data.source} is a stream, of which no part can be taken; leave it out")
    return Subset(dataset, sorted(Random(data.seed).sample(range(len(dataset)), count)))


def _folder(data: DataSource) -> Path | None:
    path = Path(data.path).expanduser()
    return path if path.is_dir() else None


def _open_folder(folder: Path, split: str, classes: Sequence[str]) -> Any:
    first = open_image_folder(folder).entries[split][0].name  # the splits may lie one folder deeper
    root = folder.joinpath(*PurePosixPath(first).parts[:-2])
    return create_dataset("", str(root), class_map={name: i for i, name in enumerate(classes)}, search_split=False)


def _open_named(data: DataSource, split: str) -> Any:
    name, _, root = data.path.partition("@")
    folder = str(Path(root).expanduser()) if root else None
    try:
        return create_dataset(name, folder, split=TIMM_SPLITS[split], is_training=split == "train")
    except Exception as error:  # timm's readers raise whatever their libraries raise
        reason = f"{type(error).__name__}: {error}".removesuffix(": ")
        raise DataError(f"timm cannot open {data.path!r} ({reason}); timm: wants {EXPECTED_LAYOUT}") from error


def _named_classes(data: DataSource, classes: int | None) -> tuple[str, ...]:
    names = getattr(_open_named(data, "train"), "classes", None)
    if names and classes not in (None, len(names)):
        found = f"proxy.classes={classes}: {data.source} has {len(names)} classes"
        raise DataError(f"{found}, and timm takes all of them; leave it out")
    if not names and classes is None:
        raise DataError(f"{data.source} does not say how many classes it has; write proxy.classes")
    return tuple(names or (f"class {index}" for index in range(classes or 0)))


def _length(data: DataSource, split: str, dataset: Any) -> int:
    length = len(dataset) if hasattr(dataset, "__len__") else 0
    if not length:
        raise DataError(f"{data.source} does not say how many images its {split} split has; choose another form of it")
    return length


def _coloured(transform: Transform, image: Image.Image) -> torch.Tensor:
    return transform(image.convert("RGB"))
