"""Cost constraints of a search: a range for GMACs, parameters or latency (no torch)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from math import inf
from typing import Protocol

METRICS = {"gmacs": 10**9, "mparams": 10**6, "ms_per_image": 1}  # each with how many of what is counted are one
UNBOUNDED = 2**60  # more than any network costs, and sums of two of them are still numbers of NumPy
_NUMBER = re.compile(r"\d+(\.\d+)?([eE][+-]?\d+)?", re.ASCII)
_FORM = "write the lowest and the highest number, as in 4.5..5.5, or one of them, as in 4.5.. or ..5.5"


class ConstraintError(ValueError):
    """A budget that cannot be read; `name` is the metric at fault, and the message begins with it."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(f"{name}: {message}" if name else message)
        self.name = name


class Counts(Protocol):
    """What a band looks at: a `Cost` has it."""

    @property
    def macs(self) -> int: ...

    @property
    def params(self) -> int: ...


@dataclass(frozen=True)
class Interval:
    """The numbers from `low` to `high`, both ends among them."""

    low: float = 0.0
    high: float = inf

    def __str__(self) -> str:
        low = "" if self.low == 0 and self.high < inf else _shown(self.low)
        return f"{low}..{'' if self.high == inf else _shown(self.high)}"

    def holds(self, value: float) -> bool:
        """Whether a number lies in the range."""
        return self.low <= value <= self.high

    def whole(self, unit: int) -> tuple[int, int]:
        """The lowest and the highest whole number inside, `unit` of them to one of the range."""
        low = (Decimal(repr(self.low)) * unit).to_integral_value(ROUND_CEILING)
        high = (
            Decimal(UNBOUNDED) if self.high == inf else (Decimal(repr(self.high)) * unit).to_integral_value(ROUND_FLOOR)
        )
        return min(int(low), UNBOUNDED), min(int(high), UNBOUNDED)


@dataclass(frozen=True)
class CostConstraints:
    """What a network may cost; None is a metric without a limit."""

    gmacs: Interval | None = None
    mparams: Interval | None = None
    ms_per_image: Interval | None = None

    @property
    def ranges(self) -> dict[str, Interval]:
        """The metrics with a limit, in the order of METRICS."""
        return {name: limit for name in METRICS if (limit := getattr(self, name)) is not None}

    @property
    def counted(self) -> dict[str, tuple[int, int]]:
        """Of the metrics that are sums over the parts of a network: the fewest and the most, in whole numbers."""
        return {name: r.whole(METRICS[name]) for name, r in self.ranges.items() if name != "ms_per_image"}

    def __str__(self) -> str:
        return ", ".join(f"{name} {limit}" for name, limit in self.ranges.items())

    def holds(self, cost: Counts) -> bool:
        """Whether what is counted lies in the band; nothing is said of the time."""
        found = {"gmacs": cost.macs, "mparams": cost.params}
        return all(low <= found[name] <= high for name, (low, high) in self.counted.items())


def parse_constraints(texts: Mapping[str, object]) -> CostConstraints:
    """The band that a study writes, as in {gmacs: 4.5..5.5, mparams: ..36}; BandError where it is none."""
    if not texts:
        raise ConstraintError("", f"a budget without a metric is none; there is {', '.join(METRICS)}")
    for name in texts:
        if name not in METRICS:
            raise ConstraintError(name, f"this is no metric of a budget; there is {', '.join(METRICS)}")
    return CostConstraints(**{name: parse_interval(text, name=name) for name, text in texts.items()})


def parse_interval(text: object, *, name: str = "") -> Interval:
    """The range that a text writes: `4.5..5.5`, `4.5..` or `..5.5`; BandError, naming the metric, where it is none."""
    low, dots, high = (part.strip() for part in str(text).partition(".."))
    if not dots or not (low or high) or any(end and not _NUMBER.fullmatch(end) for end in (low, high)):
        raise ConstraintError(name, f"{text!r} is no range of numbers from 0; {_FORM}")
    found = Interval(float(low or 0), float(high or inf))
    if found.low > found.high:
        raise ConstraintError(name, f"{text} counts down; write {high}..{low}")
    return found


def _shown(number: float) -> str:
    return repr(number).removesuffix(".0")
