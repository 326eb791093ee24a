"""Scores: what a trained network is judged by, and how they are measured from its outputs.

A task names its scores. Whatever shows, ranks or compares trials takes their names, units and directions from here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor

EMA, TEST = "ema_", "test_"  # prefixes of names: of the averaged weights; on the test images
_PERCENT = "%"


@dataclass(frozen=True)
class Score:
    """A number that says how good a trained network is."""

    name: str  # of its column in tables, and of an objective
    label: str  # as in a sentence
    meaning: str  # one phrase
    unit: str = ""
    up: bool = True  # a larger score is better
    digits: int = 2  # decimals that are shown
    low: float = -math.inf  # least and largest possible score
    high: float = math.inf
    of_images: bool = False  # the percentage of the images that something holds for
    worthwhile: float | None = None  # smallest difference of interest; None: not known
    chance: Callable[[int], float] | None = None  # score of a guess among so many classes; None: not known
    split: str = "val"  # the images that it is measured on: val or test

    @property
    def ema(self) -> Score:
        """This score of the averaged (EMA) weights."""
        meaning = f"{self.meaning} of the averaged (EMA) weights"
        return replace(self, name=EMA + self.name, label=f"EMA {self.label}", meaning=meaning)

    @property
    def test(self) -> Score:
        """This score on the test images."""
        return replace(self, name=TEST + self.name, label=f"test {self.label}", split="test")

    @property
    def images(self) -> str:
        """The images that it is measured on, in words."""
        return f"{'test' if self.split == 'test' else 'validation'} images"

    @property
    def title(self) -> str:
        """The label as the beginning of a sentence."""
        return f"{self.label[:1].upper()}{self.label[1:]}"

    @property
    def head(self) -> str:
        """The label as the head of a column: `Top-1 %`."""
        return f"{self.title} {self.unit}".rstrip()

    @property
    def axis(self) -> str:
        """The label of an axis: `Top-1 (%)`."""
        return f"{self.title} ({self.unit})" if self.unit else self.title

    @property
    def difference_unit(self) -> str:
        """The unit of a difference of two scores."""
        return "points" if self.unit == _PERCENT else self.unit

    def text(self, value: float) -> str:
        """Return a value with its unit."""
        return f"{value:.{self.digits}f} {self.unit}".rstrip()

    @property
    def loss_sign(self) -> int:
        """The factor that makes a loss of it, of which less is better."""
        return -1 if self.up else 1


class Meter(Protocol):
    """Measures scores over the batches of a split."""

    def add(self, outputs: Tensor, targets: Tensor) -> None:
        """Take the outputs of the network for a batch, and what they should be."""

    def scores(self) -> dict[str, float]:
        """Return the scores of all batches by name."""


@dataclass(frozen=True)
class Task:
    """What networks are trained for: the scores that it measures."""

    scores: tuple[Score, ...]  # by the first one a trial is judged
    meter: Callable[[], Meter]
    ordered: tuple[tuple[str, str], ...] = ()  # pairs of names: the first score is never more than the second


class _Hits:
    """Top-1 and top-5 of logits (B, classes) and labels (B,)."""

    def __init__(self) -> None:
        self._hits: Any = 0.0  # (5,) images whose class is among the likeliest one, two, ... five
        self._images = 0

    def add(self, outputs: Tensor, targets: Tensor) -> None:
        best = outputs.topk(min(5, outputs.shape[1])).indices  # (B, 5), most likely class first
        self._hits = self._hits + (best == targets[:, None]).float().cumsum(1).sum(0)
        self._images += len(targets)

    def scores(self) -> dict[str, float]:
        top1, *_, top5 = (100 * self._hits / self._images).tolist()
        return {_TOP1.name: top1, _TOP5.name: top5}


_TOP1 = Score(
    "top1",
    "top-1",
    "top-1 accuracy",
    _PERCENT,
    low=0,
    high=100,
    of_images=True,
    worthwhile=0.5,
    chance=lambda classes: 100 / classes,
)
_TOP5 = replace(_TOP1, name="top5", label="top-5", meaning="top-5 accuracy", chance=None)

CLASSIFICATION = Task((_TOP1, _TOP5), _Hits, ordered=(("top1", "top5"),))


def score_columns(scores: Sequence[Score], *, test: bool) -> tuple[Score, ...]:
    """Return the columns that a table of trials has for scores; `test` says that there are test images."""
    on_val = (*scores, *(score.ema for score in scores))
    return (*on_val, *(score.test for score in on_val if test))


def by_column(scores: Mapping[str, float], test_scores: Mapping[str, float]) -> dict[str, float]:
    """Return the scores on both splits by the names of their columns."""
    return {**scores, **{TEST + name: value for name, value in test_scores.items()}}
