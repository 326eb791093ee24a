"""Datasets that a function of the user returns (`data: python:MODULE:NAME`): called, checked and described."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import ConcatDataset, IterableDataset, Subset

from hiri_search.training.data.image_folder import DataError
from hiri_search.training.job import SPLITS, DataSource
from hiri_search.training.rng import seeded_generators
from hiri_search.user_code import UserCodeError, named_object, said

MAX_IMAGES = 2**31  # of a split
EXPECTED = "return train, (train, val) or (train, val, test), each a torch Dataset, and the names of the classes last"
_LABEL_ATTRIBUTES = ("targets", "labels")  # of the Datasets of torchvision


@dataclass(frozen=True)
class UserDatasets:
    """Map-style Datasets by split, of which `train` is there always; the classes by label, and what identifies both."""

    by_split: dict[str, Any]
    classes: tuple[str, ...]
    identity: str  # a digest of the function's file, its arguments, and the `fingerprint` of it and of the Datasets
    read_labels: dict[str, NDArray[np.int64]] = field(default_factory=dict)  # of Datasets that do not tell theirs


def user_datasets(data: DataSource) -> UserDatasets:
    """Call the function of a source, once for the same arguments in a row. Raises DataError for what it may return."""
    try:
        function = named_object(data.path)
    except UserCodeError as error:
        raise DataError(f"data.source: {error}; a file or module of yours stands under imports:") from error
    return _call(function, data.source, json.dumps(data.arguments or {}, sort_keys=True))


@lru_cache(1)  # a call may load all images; the sides of a study and the trials of a process share it
def _call(function: Callable[..., Any], source: str, arguments: str) -> UserDatasets:
    try:
        with seeded_generators(0):  # a random_split in it is the same in every process
            returned = function(**json.loads(arguments))
    except Exception as error:  # the code is the user's
        raise DataError(f"{source} fails: {said(error)}") from error
    by_split, classes = _by_split(source, returned)
    return UserDatasets(by_split, classes, _identity(source, arguments, function, by_split.values()))


def forget_datasets() -> None:
    """Free what the function returned, where all images are stored."""
    _call.cache_clear()


def _by_split(source: str, returned: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The Datasets by split, and the classes, in what the function returned. Raises DataError for another form."""
    parts = list(returned) if isinstance(returned, tuple | list) else [returned]
    names = tuple(parts.pop()) if len(parts) > 1 and _is_names(parts[-1]) else ()
    if not 1 <= len(parts) <= len(SPLITS):
        raise DataError(f"{source} returns {len(parts)} values; {EXPECTED}")
    by_split = {split: part for split, part in zip(SPLITS, parts, strict=False) if part is not None}
    if "train" not in by_split:
        raise DataError(f"{source} returns None for train; {EXPECTED}")
    for split, dataset in by_split.items():
        _check_dataset(source, split, dataset)
    names = names or _classes(by_split["train"])
    if len(names) < 2:
        remedy = "return a list of two or more names, each a text, last, or set the attribute classes of train"
        raise DataError(f"{source} names {len(names)} classes; {remedy}")
    return by_split, names


def _is_names(value: Any) -> bool:
    return isinstance(value, tuple | list) and all(isinstance(name, str) for name in value)


def _classes(dataset: Any) -> tuple[str, ...]:
    """The attribute `classes` of a Dataset, or of the Dataset that it is a part of; empty if there is none."""
    for part in _inside(dataset):
        with suppress(TypeError):
            # torchvision names a class of ImageNet by a tuple of words.
            names = [", ".join(name) if isinstance(name, tuple) else name for name in getattr(part, "classes", ())]
            if names and _is_names(names):
                return tuple(names)
    return ()


def _inside(dataset: Any) -> Iterator[Any]:
    """A Dataset, the one that it is a part of, and so on."""
    yield dataset
    if isinstance(dataset, Subset):
        yield from _inside(dataset.dataset)
    elif isinstance(dataset, ConcatDataset):
        yield from _inside(dataset.datasets[0])


def _check_dataset(source: str, split: str, dataset: Any) -> None:
    """Raise DataError for what is not a Dataset with images by index."""
    if isinstance(dataset, IterableDataset):
        problem = f"{source}: {split} is an IterableDataset, of which images cannot be read by index"
        raise DataError(f"{problem}; write a Dataset with __len__ and __getitem__")
    plain = isinstance(dataset, str | bytes | dict | np.ndarray)
    if plain or not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        raise DataError(f"{source}: {split} is no torch Dataset but of type {type(dataset).__name__}; {EXPECTED}")
    try:
        count = len(dataset)
    except Exception as error:  # the code is the user's
        raise DataError(f"{source}: len({split}) fails: {said(error)}") from error
    if not 0 < count <= MAX_IMAGES:
        remedy = "return None in its place, or leave it out" if split != "train" else "it needs some"
        remedy = remedy if count < 1 else f"a study reads at most {MAX_IMAGES:,}"
        raise DataError(f"{source}: {split} has {count:,} images; {remedy}")


def known_labels(dataset: Any) -> NDArray[np.int64] | None:
    """The label of each image, as far as a Dataset tells them without reading images (`targets`, `labels`), or None."""
    if isinstance(dataset, Subset):
        labels = known_labels(dataset.dataset)
        return None if labels is None else labels[list(dataset.indices)]
    if isinstance(dataset, ConcatDataset):
        all_labels = [labels for part in dataset.datasets if (labels := known_labels(part)) is not None]
        return np.concatenate(all_labels) if len(all_labels) == len(dataset.datasets) else None
    if getattr(dataset, "target_transform", None) is None:
        for name in _LABEL_ATTRIBUTES:
            with suppress(TypeError, ValueError, RuntimeError):  # something else of this name
                labels = np.asarray(getattr(dataset, name, ()))
                if labels.size == len(dataset) == len(labels) and labels.dtype.kind in "iu":
                    return labels.ravel().astype(np.int64)
    return None


def _identity(source: str, arguments: str, function: Any, datasets: Iterable[Any]) -> str:
    modules = dict.fromkeys((source.split(":")[1], getattr(function, "__module__", None)))
    files = [_digest(getattr(sys.modules.get(str(name)), "__file__", None)) for name in modules]
    try:
        own = [_own_fingerprint(each) for each in (function, *(part for each in datasets for part in _inside(each)))]
    except Exception as error:  # the code is the user's
        raise DataError(f"{source}: its fingerprint fails: {said(error)}") from error
    return hashlib.sha256(json.dumps([source, arguments, files, own]).encode()).hexdigest()


def _digest(file: str | None) -> str:
    return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file and Path(file).is_file() else ""


def _own_fingerprint(value: Any) -> str:
    """The attribute `fingerprint`, or what it returns, if it is a method of an object."""
    own = getattr(value, "fingerprint", "")
    return str(own() if callable(own) and not isinstance(value, type) else own)
