"""Job, DataSource, PreparedData, Epoch: the values that cross process boundaries."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field, fields, is_dataclass, replace
from math import sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hiri_search.system.files import expanded
from hiri_search.system.units import MAX_INTEGER
from hiri_search.training.recipe import Recipe, SettingError
from hiri_search.training.score import EMA, TEST, by_column

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

SPLITS = ("train", "val", "test")  # the last is not in every source
_SOURCE_KINDS = ("drawn", "folder", "timm", "python", "coco", "masks")
_ANNOTATED = "coco:PATH or masks:PATH"
CACHES = ("auto", "gpu", "disk", "none")  # where decoded images stay during training


@dataclass(frozen=True)
class DataSource:
    """Image source, written as a kind and a path, and the number of images to use.

    - `drawn`: synthetic images from a seed, without a download; the class is a texture of fine detail. Of `drawn:order`
      it is two textures and which of them is above the other: fine detail, and a relation between places.
    - `folder:PATH`: a folder, .tar or .zip with train/CLASS/*.jpg and val/CLASS/*.jpg, decoded once before the study.
      What is in test/CLASS/*.jpg, if anything, is measured once, after the training.
    - `timm:PATH`: the same files, read during training; for data sets too large to decode in advance.
    - `timm:NAME` or `timm:NAME@ROOT`: a data set by its name in timm, such as torch/cifar10@~/data, hfds/USER/SET or
      tfds/NAME, already downloaded. `proxy.classes` gives its number of classes. timm replaces an unreadable image
      by the next image, and `skip_corrupt` is refused.
    - `python:MODULE:NAME`: torch Datasets that a function of the user returns, called with `arguments`: images are
      decoded once, as those of a folder; tensors are read during training.
    - `coco:PATH` or `coco:PATH#SET`: images with objects, for detection: a folder, .tar or .zip with one JSON file of
      COCO's format for each split. `masks:PATH`: images with the class of each pixel, for segmentation. `drawn` is for
      both too: scenes of several objects.
    """

    # Read by pydantic when it reads a study: unknown keys are errors. This module does not import pydantic.
    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    source: str = "drawn"
    train: int | None = None  # images; None: all (1,500 for drawn)
    val: int | None = None  # images; None: all (400 for drawn)
    # Images, or a share of train/ that is held out where there is no test/; 0: no test; None: all of test/, if any
    test: float | int | None = None
    seed: int = 0  # of drawn images, of a subset (`train` or `val` smaller than the split), and of held-out images
    difficulty: float = 0.5  # of drawn images, from 0 to 1: less contrast, more clutter, closer pairs
    skip_corrupt: bool = False  # skip and report unreadable images; without it they end the study
    arguments: dict[str, Any] | None = field(default=None, hash=False)  # of the function of python:MODULE:NAME
    annotations: str = ""  # filled in by the task: boxes, masks or semantic; empty: the class of each image

    def __post_init__(self) -> None:
        paths = {"drawn": ("", "order")}.get(self.kind, (self.path,) if self.path else ())
        if self.kind not in _SOURCE_KINDS or self.path not in paths or self.source == "drawn:":
            allowed = f"drawn, drawn:order, folder:PATH, timm:PATH, timm:NAME@ROOT, python:MODULE:NAME, {_ANNOTATED}"
            raise SettingError("source", f"source={self.source!r} is not known; write {allowed}")
        self._check_arguments()
        for name in ("train", "val"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise SettingError(name, f"{name}={value} is not possible; it must be at least 1, or left out for all")
        self._check_test()
        if not 0 <= self.difficulty <= 1:
            raise SettingError("difficulty", f"difficulty={self.difficulty} is not possible; it must be from 0 to 1")
        if not 0 <= self.seed <= MAX_INTEGER:
            raise SettingError("seed", f"seed={self.seed} is not possible; it must be 0 or more, and under 2**63")

    def _check_arguments(self) -> None:
        if self.kind == "python" and not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*", self.path):
            raise SettingError("source", f"source={self.source!r} names no function; write python:MODULE:NAME")
        if self.arguments is not None and self.kind != "python":
            problem = f"arguments: source={self.source} takes none"
            raise SettingError("arguments", f"{problem}; remove them, or write python:MODULE:NAME")
        try:
            json.dumps(self.arguments)
        except (TypeError, ValueError) as error:
            raise SettingError("arguments", f"arguments: {error}; write numbers, texts, lists and mappings") from error

    def _check_test(self) -> None:
        if (isinstance(self.test, float) and not 0 < self.test < 1) or (self.test or 0) < 0:
            remedy = "a number of images, a share such as 0.1, 0 for none, or leave it out"
            raise SettingError("test", f"test={self.test} is not possible; write {remedy}")
        if isinstance(self.test, float) and self.kind == "drawn":
            raise SettingError("test", f"test={self.test}: images are drawn for it; write their number")

    @property
    def kind(self) -> str:
        return self.source.partition(":")[0]

    @property
    def path(self) -> str:
        return self.source.partition(":")[2]

    @property
    def is_named(self) -> bool:
        """True for a data set that timm knows by its name: no folder or archive on this machine."""
        return self.kind == "timm" and not expanded(self.path).exists()


@dataclass(frozen=True)
class PreparedData:
    """Images ready for training at one side, and their description."""

    folder: Path  # named by the content fingerprint; without a decoded copy: not on disk, named by the stat fingerprint
    classes: tuple[str, ...]
    train: int  # images
    val: int
    skipped: tuple[str, ...] = ()  # unreadable images that are left out
    notes: tuple[str, ...] = ()  # sentences on other files that are left out, and on images that are held out
    cache: str = "auto"  # one of CACHES
    test: int = 0  # 0: there is no test split
    transformed: bool = False  # tensors of the user's own Datasets, which are read during training as they are

    @property
    def counts(self) -> dict[str, int]:
        """The number of images of each split that there is."""
        return {split: count for split in SPLITS if (count := getattr(self, split))}


IDENTITY_VERSION = 1  # of the hash of a job


@dataclass(frozen=True)
class Job:
    """One training: all settings that determine its outcome, and no others."""

    spec: str  # canonical text of the trained network
    side: int  # pixels
    classes: int | None  # use the first `classes` classes of the data; None: all
    seed: int
    recipe: Recipe
    data: DataSource
    code: str = ""  # digest of the user's own code that the study imports
    metrics: tuple[tuple[str, str], ...] = ()  # name and function (module:name) of each score of the user
    width_divisor: int = 1  # the recipe is for a network whose widths are this many times as large

    @property
    def lr(self) -> float:
        """Peak learning rate: that of the recipe times the square root of `width_divisor`.

        Measured (results/reference/width_scaling.md): the best learning rate of a stand-in grows about so; the rules of
        muP, with the divisor itself and scaled initial weights, trained worse.
        """
        return self.recipe.lr * sqrt(self.width_divisor)

    @property
    def digest(self) -> str:
        """Machine-independent hash of the job; it names the checkpoint."""
        identity = json.dumps({"version": IDENTITY_VERSION, **_identity(self)}, sort_keys=True)
        return hashlib.sha256(identity.encode()).hexdigest()[:16]


def _identity(value: DataclassInstance) -> dict[str, object]:
    """Return the fields that differ from their defaults, so that a new field with a default changes no hash."""
    named: dict[str, object] = {}
    for each in fields(value):
        content = getattr(value, each.name)
        if is_dataclass(content) and not isinstance(content, type):
            named[each.name] = _identity(content)
        elif content != each.default:
            named[each.name] = float(content) if each.type == "float" else content  # 1 and 1.0 are one setting
    return named


@dataclass(frozen=True)
class Epoch:
    """Results of one epoch. Scores are by name; those of averaged weights begin with `ema_`."""

    epoch: int  # counted from 1
    loss: float  # mean training loss
    lr: float  # at the last step
    scores: dict[str, float]  # of the whole validation split
    seconds: float  # of training, validation and, in the last epoch, test
    images_per_second: float  # during training
    seconds_waiting: float  # part of the training time spent waiting for images
    parts: int  # into which each batch was split, because it did not fit into memory
    compile_seconds: float | None  # of the first step; None if this process did not compile in this epoch
    peak_memory_bytes: int | None  # on CUDA, during training
    joules: float | None = None  # energy that the GPU used, for all processes on it; None: not measured
    images_per_joule: float | None = None  # during training, by the energy of the whole GPU: images/s for each watt
    test_scores: dict[str, float] = field(default_factory=dict)  # of the whole test split, after the last epoch only
    # Of detection and segmentation, after the last epoch only: standard errors over the images that judge, by column.
    standard_errors: dict[str, float] = field(default_factory=dict)

    def score(self, name: str) -> float | None:
        """Return a score by the name of its column, such as `ema_NAME` or `test_NAME`; None: not measured."""
        if name.startswith(TEST):
            return self.test_scores.get(name.removeprefix(TEST))
        return self.scores.get(name)

    @property
    def averaged(self) -> Epoch:
        """This epoch with the validation scores of the averaged weights as its own, where they were measured."""
        return replace(self, scores={name: self.scores.get(EMA + name, value) for name, value in self.scores.items()})

    def row(self) -> dict[str, float | int | None]:
        """Return all values by name, the scores by their columns."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        errors = {f"{name}_error": value for name, value in values.pop("standard_errors").items()}
        return values | by_column(values.pop("scores"), values.pop("test_scores")) | errors
