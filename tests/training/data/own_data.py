"""Functions of a user that return Datasets, for `data: python:tests.training.data.own_data:NAME`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, Dataset, IterableDataset, Subset, random_split

CLASSES = ["red", "green", "blue"]


def plain(colour: np.ndarray) -> Image.Image:
    return Image.fromarray(colour)


class Colours(Dataset[Any]):
    """Images of random grey with one channel brighter, which is the label."""

    def __init__(
        self, count: int, seed: int, convert: Callable[[np.ndarray], Any] = plain, *, told: bool = True
    ) -> None:
        self.count, self.seed, self.convert = count, seed, convert
        if told:
            self.targets = [index % 3 for index in range(count)]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Any, int]:
        if index >= self.count:
            raise IndexError(index)
        pixels = np.random.default_rng([self.seed, index]).integers(0, 100, (40, 36, 3), np.uint8)
        pixels[..., index % 3] += 100
        return self.convert(pixels), index % 3


def make(train: int = 30, val: int = 12, test: int = 0, told: bool = True) -> tuple[Any, ...]:
    counts = (count for count in (train, val, test) if count)
    return *(Colours(count, seed, told=told) for seed, count in enumerate(counts)), CLASSES


def with_attribute() -> Any:
    train = Colours(30, 0)
    train.classes = CLASSES  # type: ignore[attr-defined]
    return Subset(ConcatDataset([train, train]), range(40)), None, Subset(train, range(9))


def split_at_random() -> Any:
    train, val = random_split(Colours(30, 0), [0.8, 0.2])
    return train, val, CLASSES


def as_arrays() -> Any:
    return Colours(30, 0, np.array), Colours(12, 1, np.array), CLASSES


def labels_in_arrays() -> Any:
    """Labels as arrays of one number, as medmnist has them."""

    class Column(Colours):
        def __getitem__(self, index: int) -> tuple[Any, Any]:
            image, label = super().__getitem__(index)
            return image, np.array([label])

    train = Column(30, 0)
    train.targets = np.array(train.targets)[:, None]  # type: ignore[assignment]
    return train, Colours(12, 1), CLASSES


def as_tensors() -> Any:
    def convert(pixels: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(pixels).permute(2, 0, 1)

    return Colours(30, 0, convert), Colours(12, 1, convert), CLASSES


def _transformed(pixels: np.ndarray, side: int, noise: float) -> torch.Tensor:
    return torch.from_numpy(pixels[:side, :side]).permute(2, 0, 1) / 255 + noise * torch.rand(3, side, side)


def floats(side: int = 16, val_side: int = 16) -> Any:
    """Tensors with a random augmentation."""
    train = Colours(30, 0, lambda pixels: _transformed(pixels, side, 1.0))
    return train, Colours(12, 1, lambda pixels: _transformed(pixels, val_side, 0.1)), CLASSES


def broken(index: int, told: bool = True) -> Any:
    class Broken(Colours):
        def __getitem__(self, number: int) -> tuple[Any, int]:
            if number == index:
                raise OSError("no such slice")
            return super().__getitem__(number)

    return Broken(30, 0, told=told), Colours(12, 1, told=told), CLASSES


def of_modes() -> Any:
    """Grey, transparent, 16-bit and palette images, and arrays of one and two dimensions."""
    wide = Image.fromarray(np.full((20, 20), 256 * 100, np.uint16))
    grey = Image.new("L", (20, 20), 100)
    images = [
        grey,
        grey.convert("RGBA"),
        grey.convert("P"),
        wide,
        np.full((20, 20, 1), 100, np.uint8),
        np.asarray(grey),
    ]
    items = [(image, label) for label, image in enumerate(images)]
    return items, items, [str(label) for label in range(6)]


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter([])


class Endless(Colours):
    def __len__(self) -> int:
        raise NotImplementedError("length unknown")


def from_file(file: str) -> Any:
    return Colours(int(Path(file).read_text()), 0), Colours(12, 1), CLASSES


def fails(path: str) -> Any:
    raise FileNotFoundError(path)


def as_is(kind: str) -> Any:
    """Return forms and items that are refused."""
    colours = Colours(30, 0)
    items: dict[str, Callable[[Any], Any]] = {
        "label 3": lambda image: (image, 3),
        "label text": lambda image: (image, "red"),
        "dict": lambda image: {"image": image},
        "three": lambda image: (image, 0, "name"),
        "array (9,)": lambda image: (np.zeros(9, np.uint8), 0),
        "no pixel": lambda image: (torch.zeros((3, 0, 0), dtype=torch.uint8), 0),
        "array (3, H, W)": lambda image: (np.zeros((3, 20, 20), np.uint8), 0),
        "array of floats": lambda image: (np.zeros((20, 20, 3)), 0),
        "signed": lambda image: (Image.new("I", (20, 20)), 0),
    }
    if kind in items:
        return [items[kind](colours[0][0])] * 30, colours, CLASSES
    return {
        "number": 3,
        "nothing": (),
        "none": (None, colours, CLASSES),
        "four": (colours, colours, colours, colours, CLASSES),
        "no classes": (colours, colours),
        "one class": (colours, colours, ["red"]),
        "stream": (colours, Stream(), CLASSES),
        "empty": (colours, [], CLASSES),
        "text": (colours, "val", CLASSES),
        "no length": (Endless(30, 0), CLASSES),
        "targets out of range": (colours, colours, ["red", "green"]),
        "mixed kinds": (colours, floats()[1], CLASSES),
        "mixed images": ([colours[0], *[floats()[0][0]] * 29], colours, CLASSES),
    }[kind]
