"""Datasets that timm opens by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

import torch
from PIL import Image
from timm.data import IterableImageDataset, create_dataset
from torch.utils.data import Dataset, IterableDataset, Subset

from hiri_search.system.files import expanded
from hiri_search.training.data.image_decode import to_rgb
from hiri_search.training.data.image_folder import DataError
from hiri_search.training.data.splits import subset
from hiri_search.training.job import DataSource
from hiri_search.training.parallel.ranks import Ranks

TIMM_SPLIT_NAMES = {"train": "train", "val": "validation"}  # a test of its own only few have, under various names
EXPECTED_SOURCE = (
    "a folder with train/CLASS/*.jpg and val/CLASS/*.jpg, or the name of a timm dataset, such as torch/cifar10@ROOT"
)
# Classes of timm and torchvision that read a folder or an archive; FolderSource reads these.
FOLDER_READERS = frozenset({"ImageFolder", "ReaderImageFolder", "ReaderImageInTar"})
SHARDS = "wds/"  # before the name of a data set in shards of WebDataset
_SHARED_STREAMS = (SHARDS, "hfids/")
Transform = Callable[[Image.Image], torch.Tensor]


def inspect_timm(data: DataSource, classes: int | None) -> tuple[tuple[str, ...], dict[str, int]]:
    """The class names and the number of images of each split. Raises DataError for data that cannot be trained on."""
    if data.skip_corrupt:
        problem = "data.skip_corrupt has no effect on timm, which replaces unreadable images itself"
        raise DataError(f"{problem}; leave it out")
    if data.test:
        problem = f"data.test={data.test}: of {data.source} there are training and validation images alone"
        raise DataError(f"{problem}; leave it out, or write folder:PATH or python:MODULE:NAME")
    names = _named_classes(data, classes)
    datasets: dict[str, Any] = {split: open_timm(data, split) for split in TIMM_SPLIT_NAMES}
    for dataset in datasets.values():
        if data.path.lower().startswith(SHARDS):
            dataset.reader.check()
    return names, {split: _length(data, split, dataset) for split, dataset in datasets.items()}


def open_timm(data: DataSource, split: str, transform: Transform | None = None) -> Dataset[Any]:
    """Dataset of a split, with labels. A subset keeps images of each class, as far as timm knows the labels."""
    dataset = _open_named(data, split)
    dataset.transform = transform and partial(_transform_rgb, transform)
    count = getattr(data, split)
    if count is None or count >= _length(data, split, dataset):
        return dataset  # type: ignore[no-any-return]
    if isinstance(dataset, IterableDataset):
        raise DataError(f"data.{split}={count}: {data.source} is a stream and has no subsets; leave it out")
    labels = list(getattr(dataset, "targets", ()))
    if len(labels) != len(dataset):
        return Subset(dataset, sorted(Random(data.seed).sample(range(len(dataset)), count)))
    return Subset(dataset, subset(split, labels, count, classes=len(set(labels)), seed=data.seed))


def is_stream(data: DataSource) -> bool:
    """Return True for a named dataset that can only be read in its own order."""
    return data.is_named and isinstance(open_timm(data, "train"), IterableDataset)


def can_share(data: DataSource) -> bool:
    """Return True for a source whose images several processes can share, each image measured once in validation."""
    return data.path.lower().startswith(_SHARED_STREAMS) or not is_stream(data)


def _open_named(data: DataSource, split: str) -> Any:
    name, _, root = data.path.partition("@")
    folder = str(expanded(root)) if root else None
    try:
        dataset = _create(name, folder, TIMM_SPLIT_NAMES[split], is_training=split == "train")
    except Exception as error:  # timm's readers pass on any exception of their libraries
        is_path = data.path.startswith(("/", "~", "."))
        reason = "it does not exist" if is_path else f"{type(error).__name__}: {error}".removesuffix(": ")
        raise DataError(f"timm cannot open {data.path!r} ({reason}); timm: must name {EXPECTED_SOURCE}") from error
    if type(getattr(dataset, "reader", dataset)).__name__ in FOLDER_READERS:
        problem = f"{data.source} is a folder, of which timm reads fewer suffixes, and 16 bits as white"
        raise DataError(f"{problem}; write timm:{root}, or folder:{root}")
    return dataset


def _create(name: str, folder: str | None, split: str, *, is_training: bool) -> Any:
    if folder and name.lower().startswith(SHARDS):
        from hiri_search.training.data.sources.shards import ShardReader  # imports webdataset

        reader = ShardReader(root=folder, name=name.partition("/")[2], split=split, is_training=is_training)
        return IterableImageDataset(folder, reader)
    return create_dataset(name, folder, split=split, is_training=is_training)


def _named_classes(data: DataSource, classes: int | None) -> tuple[str, ...]:
    dataset = _open_named(data, "train")
    names = getattr(dataset, "classes", None)
    if not names and classes is None:  # a data set of Hugging Face: its reader knows them
        indices = getattr(getattr(dataset, "reader", None), "class_to_idx", None) or {}
        names = sorted(indices, key=indices.__getitem__)
    if names and classes not in (None, len(names)):
        problem = f"proxy.classes={classes}: {data.source} has {len(names)} classes"
        raise DataError(f"{problem}, and timm takes all of them; leave it out")
    if not names and classes is None:
        raise DataError(f"{data.source} does not say how many classes it has; write proxy.classes, or --classes")
    return tuple(names or (f"class {index}" for index in range(classes or 0)))


def share_out(stream: Any, ranks: Ranks) -> None:
    """Let a stream give the images of one of the processes that train a network together, instead of all images."""
    reader = stream.reader
    if hasattr(reader, "ranks"):
        reader.ranks = ranks
    else:
        reader.dist_rank, reader.dist_num_replicas = ranks.rank, ranks.size


def begin_epoch(stream: Any, batch: int, steps: int, rng: torch.Generator) -> None:
    """Let a stream give so many batches in a new order. Each of its workers yields full batches alone."""
    stream.reader.batch_size, stream.reader.steps = batch, steps
    stream.set_epoch(int(torch.randint(2**31, (), generator=rng)))


def _length(data: DataSource, split: str, dataset: Any) -> int:
    length = len(dataset) if hasattr(dataset, "__len__") else 0
    if not length:
        raise DataError(f"{data.source} does not say how many images its {split} split has; choose another form of it")
    return length


def _transform_rgb(transform: Transform, image: Image.Image) -> torch.Tensor:
    return transform(to_rgb(image))
