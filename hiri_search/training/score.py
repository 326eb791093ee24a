"""Scores: what a trained network is judged by, and how they are measured from its outputs.

A task names its scores. Whatever shows, ranks or compares trials takes their names, units and directions from here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from hiri_search.user_code import named_object, said

if TYPE_CHECKING:
    from torch import Tensor

EMA, TEST = "ema_", "test_"  # prefixes of names: of the averaged weights; on the test images
_PERCENT = "%"
_CHECKED_IMAGES = 64  # random ones, with which the metrics of the user are tried before a training


@dataclass(frozen=True)
class Score:
    """A number that says how good a trained network is."""

    name: str  # of its column in tables, and of an objective
    label: str  # as in a sentence
    description: str  # one phrase
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
        description = f"{self.description} of the averaged (EMA) weights"
        return replace(self, name=EMA + self.name, label=f"EMA {self.label}", description=description)

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
        is_short = self.label[1:2].isupper()  # mIoU
        return self.label if is_short else f"{self.label[:1].upper()}{self.label[1:]}"

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

    def add(self, outputs: Any, targets: Any) -> None:
        """Take the outputs of the network for a batch, and what they should be."""

    def scores(self) -> dict[str, float]:
        """Return the scores of all batches by name."""

    def standard_errors(self) -> dict[str, float]:
        """Return the standard error over images of each score, where it does not follow from their number."""


@runtime_checkable
class SharedMeter(Meter, Protocol):
    """A meter of a split whose batches several processes measure in turn."""

    def gather(self, gathered: Callable[[Any], list[Any]]) -> None:
        """Take what the other processes have measured; `gathered` returns a value of this one and theirs, by rank."""


@dataclass(frozen=True)
class LearningTask:
    """A task that networks are trained for, with the scores that it measures."""

    scores: tuple[Score, ...]  # by the first one a trial is judged
    meter: Callable[[], Meter]
    ordered: tuple[tuple[str, str], ...] = ()  # pairs of names: the first score is never more than the second


class _Hits:
    """Top-1 and top-5 of logits (B, classes) and labels (B,)."""

    def __init__(self) -> None:
        self._hits: Any = 0  # (5,) images whose class is the likeliest one, the second, ... the fifth
        self._images = 0

    def add(self, outputs: Tensor, targets: Tensor) -> None:
        best = outputs.topk(min(5, outputs.shape[1])).indices  # (B, 5), most likely class first
        self._hits = self._hits + (best == targets[:, None]).sum(0)
        self._images += len(targets)

    def gather(self, gathered: Callable[[Any], list[Any]]) -> None:
        counts = self._hits if self._images == 0 else self._hits.cpu()
        self._hits, self._images = (sum(values) for values in zip(*gathered((counts, self._images)), strict=True))

    def scores(self) -> dict[str, float]:
        within = self._hits.cpu().float().cumsum(0)  # on CUDA, such a sum is not deterministic
        top1, top5 = (100 * within / self._images)[[0, -1]].tolist()
        return {_TOP1.name: top1, _TOP5.name: top5}

    def standard_errors(self) -> dict[str, float]:
        return {}


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
_TOP5 = replace(_TOP1, name="top5", label="top-5", description="top-5 accuracy", chance=None)


class MetricError(RuntimeError):
    """A metric of the user that raised an error, or that returned no finite number."""


class _Metrics:
    """The user's metrics, of all logits (N, classes) and labels (N,) of a split, in float32 on the CPU."""

    def __init__(self, functions: Mapping[str, str]) -> None:
        self._functions = {name: (text, named_object(text)) for name, text in functions.items()}
        self._batches: list[tuple[Tensor, Tensor]] = []

    def add(self, outputs: Tensor, targets: Tensor) -> None:
        if self._functions:
            self._batches.append((outputs.float().cpu(), targets.cpu()))

    def gather(self, gathered: Callable[[Any], list[Any]]) -> None:
        in_turn = zip_longest(*gathered(self._batches))
        self._batches = [batch for batches in in_turn for batch in batches if batch is not None]

    def scores(self) -> dict[str, float]:
        """Return the value of each metric. Raises MetricError."""
        from torch import cat  # slow

        if not self._functions:
            return {}
        logits, labels = map(cat, zip(*self._batches, strict=True))
        return {
            name: _value(f"metric {name} ({text})", function, logits, labels)
            for name, (text, function) in self._functions.items()
        }

    def standard_errors(self) -> dict[str, float]:
        return {}


def _value(metric: str, function: Callable[..., Any], logits: Tensor, labels: Tensor) -> float:
    try:
        returned = function(logits.clone(), labels.clone())
        is_number = not isinstance(returned, str | bytes | bool)
        value = float(returned) if is_number else math.nan
    except (Exception, SystemExit) as error:  # code of the user: whatever it raises is an error of the metric
        raise MetricError(f"{metric} raised {said(error)}") from error
    if not math.isfinite(value):
        raise MetricError(f"{metric} returned {value if is_number else repr(returned)}; return a finite number")
    return value


def check_metrics(functions: Mapping[str, str], classes: int) -> None:
    """Call each metric with random logits of a few images. Raises MetricError."""
    from torch import Generator, randint, randn  # slow

    rng, meter = Generator().manual_seed(0), _Metrics(functions)
    meter.add(randn(_CHECKED_IMAGES, classes, generator=rng), randint(classes, (_CHECKED_IMAGES,), generator=rng))
    meter.scores()


CLASSIFICATION = LearningTask((_TOP1, _TOP5), _Hits, ordered=(("top1", "top5"),))


def open_meters(task: LearningTask, functions: Mapping[str, str]) -> tuple[Meter, ...]:
    """Return meters of the scores of a task, and of the user's metrics (module:name by name)."""
    return task.meter(), _Metrics(functions)


def score_columns(scores: Sequence[Score], *, test: bool) -> tuple[Score, ...]:
    """Return the columns that a table of trials has for scores; `test` says that there are test images."""
    on_val = (*scores, *(score.ema for score in scores))
    return (*on_val, *(score.test for score in on_val if test))


def by_column(scores: Mapping[str, float], test_scores: Mapping[str, float]) -> dict[str, float]:
    """Return the scores on both splits by the names of their columns."""
    return {**scores, **{TEST + name: value for name, value in test_scores.items()}}
