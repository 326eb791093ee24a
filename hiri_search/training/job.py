"""Job, DataSource, PreparedData, Epoch: the values that cross process boundaries."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from hiri_search.training.recipe import Recipe, SettingError

SPLITS = ("train", "val")
SOURCE_KINDS = ("drawn", "folder", "timm")
CACHES = ("auto", "gpu", "disk", "none")  # where decoded images are kept while training


@dataclass(frozen=True)
class DataSource:
    """One word and a path, and how much of it is used.

    - `drawn`: images made from a seed, without a download.
    - `folder:PATH`: a folder, .tar or .zip with train/CLASS/*.jpg and val/CLASS/*.jpg, decoded once before the study.
    - `timm:PATH`: a folder of the same layout that is read while training, for images too many to be decoded first.
    - `timm:NAME` or `timm:NAME@ROOT`: what timm calls by that name, such as torch/cifar10@~/data, hfds/USER/SET or
      tfds/NAME, downloaded before; `proxy.classes` says how many classes it has. An unreadable image is
      replaced by its neighbour, as timm does.
    """

    # Unknown keys are refused where a study is read; this floor does not know pydantic.
    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    source: str = "drawn"
    train: int | None = None  # images; None: all there are (1,500 for drawn)
    val: int | None = None  # images; None: all there are (400 for drawn)
    seed: int = 0  # of drawn images, and of the choice where not all are taken
    skip_corrupt: bool = False  # leave unreadable images out, counted and said, where they would end the study

    def __post_init__(self) -> None:
        if self.kind not in SOURCE_KINDS or (self.kind == "drawn") == bool(self.path):
            known = "write drawn, folder:PATH, timm:PATH or timm:NAME@ROOT"
            raise SettingError("source", f"source={self.source!r} is not known; {known}")
        for name in ("train", "val"):
            value = getattr(self, name)
            if value is not None and value < 1:
                found = f"{name}={value} is not possible"
                raise SettingError(name, f"{found}; it must be at least 1, or left out for all")
        if self.seed < 0:
            raise SettingError("seed", f"seed={self.seed} is not possible; it must be 0 or more")
        if self.skip_corrupt and self.kind == "timm":
            raise SettingError(
                "skip_corrupt",
                "skip_corrupt has no meaning for timm, which replaces such images by itself; leave it out",
            )

    @property
    def kind(self) -> str:
        return self.source.partition(":")[0]

    @property
    def path(self) -> str:
        return self.source.partition(":")[2]


@dataclass(frozen=True)
class PreparedData:
    """Images ready for trainings at one side, and what they are."""

    folder: Path  # named by the content; where nothing is kept, not there, and named by what a glance shows
    classes: tuple[str, ...]
    train: int  # images
    val: int
    skipped: tuple[str, ...] = ()  # unreadable images left out
    cache: str = "auto"  # one of CACHES


@dataclass(frozen=True)
class Job:
    """One training: everything that decides its outcome, and nothing else."""

    spec: str  # the network that is trained, written out in full
    side: int  # pixels
    classes: int | None  # the first so many of the data; None: all of them
    seed: int
    recipe: Recipe
    data: DataSource

    @property
    def digest(self) -> str:
        """The same for the same job on every machine: names its checkpoint."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Epoch:
    """What one epoch came to; accuracies are in percent of the whole validation split."""

    epoch: int  # counted from 1
    loss: float  # mean training loss
    lr: float  # at the last step
    top1: float
    top5: float
    ema_top1: float | None
    ema_top5: float | None
    seconds: float  # training and validation
    images_per_second: float  # in training
    seconds_waiting: float  # of those in training: for images
    parts: int  # that each batch was computed in, because the whole did not fit into memory
    compile_seconds: float | None  # of the first step, where this process compiled in this epoch
    peak_memory_bytes: int | None  # on CUDA, in training
    joules: float | None = None  # that the card took meanwhile, for all that ran on it; None: it does not tell
