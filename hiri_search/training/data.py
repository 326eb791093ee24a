"""Where pictures come from: drawn here, a folder or archive of the user's, or any data set timm can open."""

from __future__ import annotations

import hashlib
import json
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, create_transform
from torch.utils.data import Dataset

from hiri_search.training import timm_sets
from hiri_search.training.ahead import ahead
from hiri_search.training.cache import Progress, cache_place, make_once, write_array
from hiri_search.training.device import cores
from hiri_search.training.drawn import MOTIFS, draw, draw_beside
from hiri_search.training.job import DataSource
from hiri_search.training.pictures import DataError, Read, decode, decode_one, open_shelf
from hiri_search.training.policies import mended
from hiri_search.training.recipe import Recipe

SPLITS = ("train", "val")
VAL_CROP = 0.875  # share of the shorter side that is looked at in validation, as timm has it
MARGIN = 1.25  # decoded pictures are larger than the net's side, so that crops keep their detail
DRAWN_CLASSES = 8
DRAWN_COUNTS = {"train": 1500, "val": 400}
DRAWN_CHUNK = 256  # pictures that one process draws at a time, in half a second at side 96
CACHES = ("auto", "gpu", "disk", "none")  # where decoded pictures are kept while training
FORMAT = 2  # of what is kept: another number where the same source would give other bytes
ABOUT = "about.json"


@dataclass(frozen=True)
class Prepared:
    """Pictures ready for trainings at one side, and what they are."""

    folder: Path  # named by the content; not there where nothing is kept
    classes: tuple[str, ...]
    train: int  # pictures
    val: int
    skipped: tuple[str, ...] = ()  # unreadable pictures left out
    cache: str = "auto"  # one of CACHES


# A picture (S, S, 3), or None where it is unreadable and left out; its label; its name.
Made = tuple[NDArray[np.uint8] | None, int, str]


class Supply(Protocol):
    """Pictures that can be made or decoded, as squares of any side."""

    classes: tuple[str, ...]
    counts: dict[str, int]  # pictures of each split, those that turn out unreadable among them
    content: str  # what decides the pictures: changes when they do

    def pictures(self, split: str, stored: int) -> Iterator[Made]:
        """All of `train` or `val`, in order, `stored` pixels wide."""

    def picture(self, split: str, index: int, stored: int) -> tuple[NDArray[np.uint8], int]:
        """One of them, the same bytes, and its label."""


def prepare(
    data: DataSource,
    side: int,
    home: Path,
    *,
    classes: int | None = None,
    batch: int = 1,
    cache: str = "auto",
    say: Callable[[str], None] = lambda text: None,
) -> Prepared:
    """Decode everything once, before anything is trained, and leave it for all trials of all studies.

    It lies in `cache_place(home)`, in a folder named by what decides its bytes: the source's path, the names, sizes
    and times of its files, the classes, the choice, the side. `classes` takes the first so many of the data's, None
    all of them. With `cache` none, and from timm, nothing is kept: pictures are decoded whenever they are used.
    Raises DataError, naming the file or folder, for whatever would stop a training later: fewer training pictures
    than `batch`, for one.
    """
    if cache not in CACHES:
        raise DataError(f"cache: {cache} is not known; write {', '.join(CACHES)}")
    if data.kind == "timm":
        names, counts = timm_sets.look(data, classes)
        _demand_batch(counts["train"], batch)
        return Prepared(home, names, counts["train"], counts["val"], cache=cache)
    supply = open_supply(data, classes)
    _demand_batch(supply.counts["train"], batch)  # before the decoding, which may take minutes
    folder = cache_place(home) / _key(supply, side)
    if cache == "none":
        _demand_readable(data)
        return Prepared(folder, supply.classes, supply.counts["train"], supply.counts["val"], cache=cache)
    if not folder.exists():
        say(f"preparing the pictures of {data.source} for side {side}")
    total = sum(supply.counts.values())
    fill = partial(_fill, supply, stored_side(side), Progress(total, say))
    make_once(folder, total * stored_side(side) ** 2 * 3, fill, say)
    about = json.loads((folder / ABOUT).read_text())
    _demand_batch(about["train"], batch)
    return Prepared(folder, supply.classes, about["train"], about["val"], tuple(about["skipped"]), cache)


def open_supply(data: DataSource, classes: int | None) -> Supply:
    """Of drawn pictures, or of a folder or archive; DataError where it cannot be trained on."""
    return Photos(data, classes) if data.kind == "folder" else Drawn(data, classes)


def stored_side(side: int) -> int:
    """Of the squares that pictures are kept as, for a network that sees `side` pixels."""
    return round(side * MARGIN)


def _demand_batch(train: int, batch: int) -> None:
    if train < batch:
        raise DataError(f"recipe.batch={batch} is more than the {train} training pictures; make it smaller")


def _demand_readable(data: DataSource) -> None:
    if data.skip_corrupt:
        raise DataError("data.skip_corrupt: what is unreadable is found by decoding all; with cache: none leave it out")


def _key(supply: Supply, side: int) -> str:
    """The same for the same pictures: a changed file or setting gives another folder."""
    what = f"{FORMAT} {stored_side(side)} {supply.classes} {supply.counts} {supply.content}"
    return hashlib.sha256(what.encode()).hexdigest()[:12]


def _fill(supply: Supply, stored: int, progress: Progress, folder: Path) -> None:
    about: dict[str, Any] = {}
    skipped: list[str] = []
    for split in SPLITS:
        labels: list[int] = []
        # Odd EXIF blocks and palettes are not the study's business. Set here: filters are not of one thread alone.
        with warnings.catch_warnings(action="ignore"):
            kept = _kept(supply.pictures(split, stored), labels, skipped, progress)
            shape = (supply.counts[split], stored, stored, 3)
            about[split] = write_array(folder / f"{split}_images.npy", kept, shape)
        np.save(folder / f"{split}_labels.npy", np.array(labels, np.int64))
    (folder / ABOUT).write_text(json.dumps(about | {"skipped": skipped}))


def _kept(
    made: Iterable[Made], labels: list[int], skipped: list[str], progress: Progress
) -> Iterator[NDArray[np.uint8]]:
    """The pictures that are kept; their labels and the names of the others are added to the lists."""
    for image, label, name in made:
        progress.step()
        if image is None:
            skipped.append(name)
        else:
            labels.append(label)
            yield image


class Drawn:
    """Pictures made from a seed: the default, without a download."""

    def __init__(self, data: DataSource, classes: int | None) -> None:
        if (classes or 0) > len(MOTIFS):
            raise DataError(f"proxy.classes={classes}: drawn pictures have at most {len(MOTIFS)} classes; write fewer")
        self.classes = tuple(f"class {index}" for index in range(classes or DRAWN_CLASSES))
        self.counts = {split: getattr(data, split) or DRAWN_COUNTS[split] for split in SPLITS}
        self.content = f"drawn {data.seed}"
        # Each split has a seed of its own, so that changing the size of one leaves the other's pictures alone.
        self.seeds = {split: len(SPLITS) * data.seed + number for number, split in enumerate(SPLITS)}

    def pictures(self, split: str, stored: int) -> Iterator[Made]:
        count, drawing = self.counts[split], partial(self._draw, split, stored)
        alone = count <= DRAWN_CHUNK  # then another process would begin later than this one ends
        chunks = [(first, min(DRAWN_CHUNK, count - first)) for first in range(0, count, DRAWN_CHUNK)]
        drawn = map(drawing, chunks) if alone else ahead(partial(drawing, beside=True), chunks, threads=cores())
        for index, image in enumerate(chain.from_iterable(drawn)):
            yield image, index % len(self.classes), f"picture {index}"

    def picture(self, split: str, index: int, stored: int) -> tuple[NDArray[np.uint8], int]:
        return self._draw(split, stored, (index, 1))[0], index % len(self.classes)

    def _draw(self, split: str, stored: int, chunk: tuple[int, int], *, beside: bool = False) -> NDArray[np.uint8]:
        first, count = chunk
        do = draw_beside if beside else draw
        return do(count, classes=len(self.classes), side=stored, seed=self.seeds[split], first=first)[0]


class Photos:
    """Pictures of the user's, in a folder or an archive."""

    def __init__(self, data: DataSource, classes: int | None) -> None:
        path = Path(data.path).expanduser()
        self.shelf = open_shelf(path, classes=classes)
        self.picked = {split: self.shelf.pick(split, getattr(data, split), seed=data.seed) for split in SPLITS}
        self.skip_corrupt = data.skip_corrupt
        self.classes = self.shelf.classes
        self.counts = {split: len(entries) for split, entries in self.picked.items()}
        self.content = f"{path.resolve()} {data.seed} {data.skip_corrupt} {self.shelf.fingerprint}"
        self._read: Read | None = None

    def pictures(self, split: str, stored: int) -> Iterator[Made]:
        for entry, image in decode(self.shelf, self.picked[split], stored, skip_corrupt=self.skip_corrupt):
            yield image, entry.label, entry.name

    def picture(self, split: str, index: int, stored: int) -> tuple[NDArray[np.uint8], int]:
        entry = self.picked[split][index]
        return decode_one(self.shelf, self._reader(), entry, stored), entry.label

    def _reader(self) -> Read:
        """Opened at the first use, in the process that uses it, and as long as this object lives."""
        if self._read is None:
            stack = ExitStack()
            self._read = stack.enter_context(self.shelf.reading())
            weakref.finalize(self, stack.close)
        return self._read


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


class Fresh(Dataset[tuple[torch.Tensor, int]]):
    """Pictures of a split that are kept nowhere: decoded, or drawn, whenever they are asked for."""

    def __init__(
        self, supply: Supply, split: str, stored: int, transform: Callable[[Image.Image], torch.Tensor]
    ) -> None:
        self.supply, self.split, self.stored, self.transform = supply, split, stored, transform

    def __len__(self) -> int:
        return self.supply.counts[self.split]

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image, label = self.supply.picture(self.split, index, self.stored)
        return self.transform(Image.fromarray(image)), label


def open_split(data: DataSource, prepared: Prepared, split: str, *, side: int, recipe: Recipe) -> Dataset[Any]:
    """The pictures of a split as (3, side, side) float tensors with their labels, augmented for training."""
    transform = _train_transform(side, recipe) if split == "train" else _val_transform(side)
    if data.kind == "timm":
        return timm_sets.open_timm(data, split, prepared.classes, transform)
    if prepared.cache == "none":
        return Fresh(open_supply(data, len(prepared.classes)), split, stored_side(side), transform)
    return Pictures(prepared.folder, split, transform)


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
    return mended(transform)  # type: ignore[no-any-return]


def _val_transform(side: int) -> Callable[[Image.Image], torch.Tensor]:
    return create_transform(side, is_training=False, crop_pct=VAL_CROP, interpolation="bilinear")  # type: ignore[no-any-return]
