"""Images and labels of one Dataset of the user: read by index, converted, and checked."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from hiri_search.system.hardware import cores
from hiri_search.training.data.image_decode import DECODE_ERRORS, center_square
from hiri_search.training.data.image_folder import DataError
from hiri_search.training.data.sources.user_datasets import known_labels, user_datasets
from hiri_search.training.job import DataSource
from hiri_search.training.rng import seeded_generators
from hiri_search.user_code import said

_CHUNK = 32  # images that a process hands over at a time
_MANY = 2000  # images from which on several processes read them
_IMAGES = "a PIL image, an array (H, W, 3) or a tensor (3, H, W) of uint8, or a tensor (3, side, side) of floats"
_CHANNELS = ((), (3,), (4,))  # grey, RGB and RGBA


@dataclass(frozen=True)
class Item:
    """An image of a Dataset and its label, or the reason why there is none."""

    image: Any = None  # a PIL image; a square (S, S, 3); or a Tensor of floats, ready for a network
    label: int = 0
    unreadable: str = ""
    refused: str = ""  # a fault of the Dataset rather than of one image


class DatasetReader:
    """The Dataset of one split that a function of the user returns."""

    def __init__(self, data: DataSource, split: str) -> None:
        self._arguments = data, split
        self.source, self.split, self.skip_corrupt = data.source, split, data.skip_corrupt
        self.datasets = user_datasets(data)
        self.dataset, self.classes = self.datasets.by_split[split], len(self.datasets.classes)
        self.labels = known_labels(self.dataset)
        if self.labels is not None:
            for index in np.flatnonzero((self.labels < 0) | (self.labels >= self.classes))[:1].tolist():
                raise DataError(
                    f"{self.source}: {self.name(index)}: {self._label_fault(index, int(self.labels[index]))}"
                )

    def __reduce__(self) -> tuple[type[DatasetReader], tuple[object, ...]]:
        """Make the Dataset again in a process that does not inherit it."""
        return DatasetReader, self._arguments

    def __len__(self) -> int:
        return len(self.dataset)

    def name(self, index: int) -> str:
        return f"{self.split}[{index}]"

    @cached_property
    def has_tensors(self) -> bool:
        """True if the images are tensors of floats. Raises DataError if the first image cannot be trained on."""
        for index in range(len(self)):
            item = self._read(index)
            if not (item.unreadable and self.skip_corrupt):
                return isinstance(self.checked(index, item).image, Tensor)
        raise DataError(f"{self.source}: none of the {len(self):,} images of {self.split} can be read")

    def read(self, index: int, *, seeded: bool = True) -> Item:
        """The item at an index; never raises for what it holds.

        With `seeded`, what the user's code draws depends on the index alone, and no generator of the process changes.
        """
        item = self._read(index, seeded=seeded)
        if item.image is not None and isinstance(item.image, Tensor) is not self.has_tensors:
            return Item(refused="some images are tensors of floats, and others are not; write one kind")
        return item

    def checked(self, index: int, item: Item) -> Item:
        """Return the item of an index. Raises DataError if it cannot be trained on."""
        name = f"{self.source}: {self.name(index)}"
        if item.refused:
            raise DataError(f"{name}: {item.refused}")
        if item.unreadable:
            remedy = "repair it, or set data.skip_corrupt=true to leave such images out"
            raise DataError(f"{name} cannot be read ({item.unreadable}); {remedy}")
        return item

    def read_all(self, indices: Sequence[int], change: Callable[[Item], Item]) -> Iterator[Item]:
        """The changed items in order, read by several processes if they are many; checked, but for skipped images."""
        items = _ChangedItems(self, change)
        chunks = [list(indices[first : first + _CHUNK]) for first in range(0, len(indices), _CHUNK)]
        read: Iterator[list[Item]] = ([items[index] for index in chunk] for chunk in chunks)
        if len(indices) >= _MANY:
            own = torch.Generator()  # the default generator belongs to the network
            read = iter(DataLoader(items, batch_sampler=chunks, num_workers=cores(), collate_fn=list, generator=own))
        for chunk in chunks:
            for index, item in zip(chunk, next(read), strict=True):
                yield item if item.unreadable and self.skip_corrupt else self.checked(index, item)

    def labels_of(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """The labels of some images; all images are read, once, where the Dataset does not tell its labels.

        An image that cannot be read counts for the first class, until it is left out.
        """
        if self.labels is not None:
            return self.labels[indices]
        read = self.datasets.read_labels
        if self.split not in read:
            items = self.read_all(range(len(self)), _without_image)
            read[self.split] = np.array([item.label for item in items], np.int64)
        return read[self.split][indices]

    def _read(self, index: int, *, seeded: bool = True) -> Item:
        try:
            with seeded_generators(index) if seeded else nullcontext():
                content = self.dataset[index]
        except MemoryError:  # which says nothing about the image
            raise
        except Exception as error:  # the code is the user's
            return Item(unreadable=said(error))
        if not isinstance(content, tuple | list) or len(content) != 2:
            length = f" of length {len(content)}" if isinstance(content, tuple | list) else ""
            return Item(refused=f"an item is (image, label), and this is of type {type(content).__name__}{length}")
        try:
            label = operator.index(content[1].item() if hasattr(content[1], "item") else content[1])
        except (TypeError, ValueError, RuntimeError):  # of numpy and torch, for several numbers
            return Item(refused=f"the label {content[1]!r} is no integer")
        fault = self._label_fault(index, label)
        return Item(refused=fault) if fault else _converted(content[0], label)

    def _label_fault(self, index: int, label: int) -> str:
        if not 0 <= label < self.classes:
            return f"label {label} is none of the {self.classes} classes, which have 0 to {self.classes - 1}"
        if self.labels is not None and self.labels[index] != label:
            return f"its label is {label}, and {self.labels[index]} in the labels of the Dataset; write the same"
        return ""


def _converted(image: Any, label: int) -> Item:
    """An item with its image as a PIL image or as a tensor of floats."""
    if isinstance(image, Image.Image):
        return Item(image, label)
    if isinstance(image, Tensor) and image.is_floating_point():
        return Item(image.detach().cpu().as_subclass(Tensor), label)
    pixels = image.cpu().permute(1, 2, 0).numpy() if isinstance(image, Tensor) and image.ndim == 3 else image
    if isinstance(pixels, np.ndarray) and pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    is_array = isinstance(pixels, np.ndarray) and pixels.dtype == np.uint8
    if is_array and pixels.size and pixels.ndim > 1 and pixels.shape[2:] in _CHANNELS:
        return Item(Image.fromarray(np.ascontiguousarray(pixels)), label)
    shape = f" {tuple(image.shape)} of {image.dtype}" if hasattr(image, "shape") and hasattr(image, "dtype") else ""
    return Item(refused=f"its image is of type {type(image).__name__}{shape}; write {_IMAGES}")


def as_square(item: Item, *, stored: int) -> Item:
    """The item with its image as a square (stored, stored, 3); a tensor, which is not stored, as an empty one."""
    if not isinstance(item.image, Image.Image):
        return item if item.image is None else replace(item, image=np.empty((0, 0, 3), np.uint8))
    try:
        return replace(item, image=np.asarray(center_square(item.image, side=stored)))
    except DECODE_ERRORS as error:
        return Item(label=item.label, unreadable=str(error) or type(error).__name__)


def _without_image(item: Item) -> Item:
    return replace(item, image=None)


@dataclass(frozen=True)
class _ChangedItems(Dataset[Item]):
    """The items of a reader, changed in the process that reads them."""

    reader: DatasetReader
    change: Callable[[Item], Item]

    def __getitem__(self, index: int) -> Item:
        return self.change(self.reader.read(index))
