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
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, create_transform
from torch.utils.data import Dataset

from hiri_search.training import timm_sets
from hiri_search.training.drawn import MOTIFS, draw
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
    counts: dict[str, int]  # pictures of each split, those that turn out unreadable among them
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
    batch: int = 1,
    say: Callable[[str], None] = lambda text: None,
) -> Prepared:
    """Decode everything once, before anything is trained, and leave it under `home` for all trials.

    `classes` takes the first so many of the data's, None all of them.
    Raises DataError, naming the file or folder, for whatever would stop a training later: fewer training pictures
    than `batch`, for one.
    """
    if data.kind == "timm":
        names, counts = timm_sets.look(data, classes)
        _demand_batch(counts["train"], batch)
        return Prepared(home, names, counts["train"], counts["val"])
    supply: Supply = Photos(data, classes) if data.kind == "folder" else Drawn(data, classes)
    _demand_batch(supply.counts["train"], batch)  # before the decoding, which may take minutes
    folder = home / _key(data, side, supply)
    if not (folder / ABOUT).exists():
        say(f"preparing the pictures of {data.source} for side {side}")
        _demand_room(sum(supply.counts.values()) * _stored_side(side) ** 2 * 3, home)
        _write_whole(folder, partial(_fill, supply, side))
    about = json.loads((folder / ABOUT).read_text())
    _demand_batch(about["train"], batch)
    return Prepared(folder, supply.classes, about["train"], about["val"], tuple(about["skipped"]))


def _demand_batch(train: int, batch: int) -> None:
    if train < batch:
        raise DataError(f"recipe.batch={batch} is more than the {train} training pictures; make it smaller")


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
        if (classes or 0) > len(MOTIFS):
            raise DataError(f"proxy.classes={classes}: drawn pictures have at most {len(MOTIFS)} classes; write fewer")
        self.data = data
        self.classes = tuple(f"class {index}" for index in range(classes or DRAWN_CLASSES))
        self.counts = {split: getattr(data, split) or DRAWN_COUNTS[split] for split in SPLITS}
        self.fingerprint = ""

    def split(self, split: str, side: int) -> Decoded:
        # Each split has a seed of its own, so that changing the size of one leaves the other's pictures alone.
        seed = len(SPLITS) * self.data.seed + SPLITS.index(split)
        images, labels = draw(self.counts[split], classes=len(self.classes), side=_stored_side(side), seed=seed)
        return images, labels, []


class Photos:
    """Pictures of the user's, in a folder or an archive."""

    def __init__(self, data: DataSource, classes: int | None) -> None:
        self.shelf = open_shelf(Path(data.path).expanduser(), classes=classes)
        self.picked = {split: self.shelf.pick(split, getattr(data, split), seed=data.seed) for split in SPLITS}
        self.skip_corrupt = data.skip_corrupt
        self.classes, self.fingerprint = self.shelf.classes, self.shelf.fingerprint
        self.counts = {split: len(entries) for split, entries in self.picked.items()}

    def split(self, split: str, side: int) -> Decoded:
        shape = partial(squared, side=_stored_side(side))
        return decode(self.shelf, self.picked[split], shape, skip_corrupt=self.skip_corrupt)


def _demand_room(needed: int, home: Path) -> None:
    there = next(folder for folder in (home.absolute(), *home.absolute().parents) if folder.exists())
    free = shutil.disk_usage(there).free
    if needed > free // 2:
        raise DataError(
            f"the decoded pictures need {needed / 1e9:.1f} GB and the disk has {free / 1e9:.1f} GB free;"
            " take fewer with data.train and data.val, or use timm:PATH, which decodes as it goes"
        )


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
    if data.kind == "timm":
        return timm_sets.open_timm(data, split, prepared.classes, transform)
    return Pictures(prepared.folder, split, transform)


def check_augmentation(recipe: Recipe, side: int) -> None:
    """DataError where timm does not know the policy."""
    try:
        _train_transform(side, recipe)
    except (AssertionError, ValueError, KeyError) as error:
        found = f"recipe.auto_augment: timm knows no policy {recipe.auto_augment!r}"
        raise DataError(f"{found}; write one such as rand-m9-mstd0.5-inc1, or leave it out") from error


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
