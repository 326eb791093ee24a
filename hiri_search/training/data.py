"""Where pictures come from: drawn here, a folder or archive of the user's, or any data set timm can open."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, create_dataset, create_transform
from torch.utils.data import Dataset

from hiri_search.training.drawn import draw
from hiri_search.training.job import DataSource
from hiri_search.training.pictures import DataError, decode, open_shelf, squared
from hiri_search.training.recipe import Recipe

SPLITS = ("train", "val")
VAL_CROP = 0.875  # share of the shorter side that is looked at in validation, as timm has it
MARGIN = 1.25  # decoded pictures are larger than the net's side, so that crops keep their detail
DRAWN_CLASSES = 8
DRAWN_COUNTS = {"train": 1500, "val": 400}
ABOUT = "about.json"


@dataclass(frozen=True)
class Prepared:
    """Pictures ready for trainings at one side, and what they are."""

    folder: Path
    classes: tuple[str, ...]
    train: int  # pictures
    val: int
    skipped: tuple[str, ...] = ()  # unreadable pictures left out


class Supply(Protocol):
    """Pictures that can be made or decoded before the training."""

    classes: tuple[str, ...]
    fingerprint: str  # changes when the pictures do

    def split(self, split: str, side: int) -> Decoded:
        """The pictures of `train` or `val` for a net of this side."""


# The pictures of one split (N, S, S, 3), their labels (N,), and the names of those left out as unreadable.
Decoded = tuple[NDArray[np.uint8], NDArray[np.int64], list[str]]


def prepare(
    data: DataSource,
    side: int,
    home: Path,
    *,
    classes: int | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Prepared:
    """Decode everything once, before anything is trained, and leave it under `home` for all trials.

    `classes` takes the first so many of the data's, None all of them.
    Raises DataError, naming the file or folder, for whatever would stop a training later.
    """
    if data.kind == "timm":
        return _check_timm(data, home, classes)
    supply: Supply = Photos(data, classes) if data.kind == "folder" else Drawn(data, classes)
    folder = home / _key(data, side, supply)
    if not (folder / ABOUT).exists():
        say(f"preparing the pictures of {data.source} for side {side}")
        _write_whole(folder, partial(_fill, supply, side))
    about = json.loads((folder / ABOUT).read_text())
    return Prepared(folder, supply.classes, about["train"], about["val"], tuple(about["skipped"]))


def _key(data: DataSource, side: int, supply: Supply) -> str:
    """The same for the same pictures: a changed file or setting gives another folder."""
    what = f"{data} {side} {supply.classes} {supply.fingerprint}"
    return hashlib.sha256(what.encode()).hexdigest()[:12]


def _write_whole(folder: Path, fill: Callable[[Path], None]) -> None:
    """Fill a folder beside, then rename it: a run killed here leaves nothing half done behind."""
    unfinished = folder.with_name(folder.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    fill(unfinished)
    unfinished.rename(folder)


def _fill(supply: Supply, side: int, folder: Path) -> None:
    about: dict[str, Any] = {"skipped": []}
    for split in SPLITS:
        images, labels, skipped = supply.split(split, side)
        np.save(folder / f"{split}_images.npy", images)
        np.save(folder / f"{split}_labels.npy", labels)
        about[split] = len(labels)
        about["skipped"] += skipped
    (folder / ABOUT).write_text(json.dumps(about))


def _stored_side(side: int) -> int:
    return round(side * MARGIN)


class Drawn:
    """Pictures made from a seed: the default, without a download."""

    def __init__(self, data: DataSource, classes: int | None) -> None:
        self.data = data
        self.classes = tuple(f"class {index}" for index in range(classes or DRAWN_CLASSES))
        self.fingerprint = ""

    def split(self, split: str, side: int) -> Decoded:
        # Each split has a seed of its own, so that changing the size of one leaves the other's pictures alone.
        seed = len(SPLITS) * self.data.seed + SPLITS.index(split)
        count = getattr(self.data, split) or DRAWN_COUNTS[split]
        images, labels = draw(count, classes=len(self.classes), side=_stored_side(side), seed=seed)
        return images, labels, []


class Photos:
    """Pictures of the user's, in a folder or an archive."""

    def __init__(self, data: DataSource, classes: int | None) -> None:
        self.data = data
        self.shelf = open_shelf(Path(data.path).expanduser(), classes=classes)
        self.classes, self.fingerprint = self.shelf.classes, self.shelf.fingerprint

    def split(self, split: str, side: int) -> Decoded:
        entries = self.shelf.pick(split, getattr(self.data, split), seed=self.data.seed)
        stored = _stored_side(side)
        _demand_room(len(entries) * stored * stored * 3)
        return decode(self.shelf, entries, partial(squared, side=stored), skip_corrupt=self.data.skip_corrupt)


def _demand_room(needed: int) -> None:
    free = shutil.disk_usage(".").free
    if needed > free // 2:
        raise DataError(
            f"the decoded pictures need {needed / 1e9:.1f} GB and the disk has {free / 1e9:.1f} GB free;"
            " take fewer with data.train and data.val, or use timm:NAME, which decodes as it goes"
        )


def _check_timm(data: DataSource, home: Path, classes: int | None) -> Prepared:
    sizes = {split: len(_open_timm(data, split)) for split in SPLITS}
    if classes is None:
        raise DataError(f"{data.source} does not say how many classes it has; write proxy.classes")
    return Prepared(home, tuple(f"class {i}" for i in range(classes)), sizes["train"], sizes["val"])


def _open_timm(data: DataSource, split: str) -> Any:
    name, _, root = data.path.partition("@")
    folder, reader = (name, "") if Path(name).is_dir() else (root or None, name)
    wanted = "train" if split == "train" else "validation"
    try:
        return create_dataset(reader, folder, split=wanted, is_training=split == "train")
    except Exception as error:  # timm's readers raise whatever their libraries raise
        raise DataError(f"timm cannot open {data.path!r} ({type(error).__name__}: {error})") from error


class Pictures(Dataset[tuple[torch.Tensor, int]]):
    """Decoded pictures on disk, mapped into memory and shared by all trials of a machine."""

    def __init__(self, folder: Path, split: str, transform: Callable[[Image.Image], torch.Tensor]) -> None:
        self.images = np.load(folder / f"{split}_images.npy", mmap_mode="r")  # (N, S, S, 3) uint8
        self.labels = np.load(folder / f"{split}_labels.npy")  # (N,) int64
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])


def open_split(data: DataSource, prepared: Prepared, split: str, *, side: int, recipe: Recipe) -> Dataset[Any]:
    """The pictures of a split as (3, side, side) float tensors with their labels, augmented for training."""
    transform = _train_transform(side, recipe) if split == "train" else _val_transform(side)
    if data.kind != "timm":
        return Pictures(prepared.folder, split, transform)
    dataset = _open_timm(data, split)
    dataset.transform = transform
    return dataset  # type: ignore[no-any-return]


def _train_transform(side: int, recipe: Recipe) -> Callable[[Image.Image], torch.Tensor]:
    return create_transform(  # type: ignore[no-any-return]
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


def _val_transform(side: int) -> Callable[[Image.Image], torch.Tensor]:
    return create_transform(side, is_training=False, crop_pct=VAL_CROP, interpolation="bilinear")  # type: ignore[no-any-return]
