"""Cost constraints of a search: a range for GMACs, parameters or latency (no torch)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hiri_search.cost.flops import Cost

METRICS = {"gmacs": 10**9, "mparams": 10**6, "ms_per_image": 1}  # each with its unit
UNBOUNDED = 2**60  # more than any network costs, and the sum of two still fits into an int64
_NUMBER = re.compile(r"\d+(\.\d+)?([eE][+-]?\d+)?", re.ASCII)
_FORM = "write the lowest and the highest number, as in 4.5..5.5, or one of them, as in 4.5.. or ..5.5"


class ConstraintError(ValueError):
    """Constraints that cannot be parsed; `name` is the metric at fault, and the message begins with it."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(f"{name}: {message}" if name else message)
        self.name = name


@dataclass(frozen=True)
class Interval:
    """The numbers from `low` to `high`, both ends included."""

    low: float = 0.0
    high: float = inf

    def __str__(self) -> str:
        low = "" if self.low == 0 and self.high < inf else _number_text(self.low)
        return f"{low}..{'' if self.high == inf else _number_text(self.high)}"

    def contains(self, value: float) -> bool:
        """True if the number lies in the interval."""
        return self.low <= value <= self.high

    def integer_bounds(self, unit: int) -> tuple[int, int]:
        """The lowest and the highest integer in the interval, after multiplication by `unit`."""
        low = (Decimal(repr(self.low)) * unit).to_integral_value(ROUND_CEILING)
        high = (Decimal(repr(self.high)) * unit).to_integral_value(ROUND_FLOOR)
        return int(min(low, Decimal(UNBOUNDED))), int(min(high, Decimal(UNBOUNDED)))


@dataclass(frozen=True)
class CostConstraints:
    """Allowed costs of a network; None for a metric without a limit."""

    gmacs: Interval | None = None
    mparams: Interval | None = None
    ms_per_image: Interval | None = None

    @property
    def intervals(self) -> dict[str, Interval]:
        """The limited metrics, in the order of METRICS."""
        return {name: interval for name in METRICS if (interval := getattr(self, name)) is not None}

    @property
    def integer_bounds(self) -> dict[str, tuple[int, int]]:
        """The lowest and the highest allowed count of each limited metric that is counted, not measured."""
        intervals = self.intervals.items()
        return {name: limit.integer_bounds(METRICS[name]) for name, limit in intervals if name != "ms_per_image"}

    def __str__(self) -> str:
        return ", ".join(f"{name} {interval}" for name, interval in self.intervals.items())

    def satisfied_by(self, cost: Cost) -> bool:
        """True if the counted costs are allowed; latency is not checked."""
        values = {"gmacs": cost.macs, "mparams": cost.params}
        return all(low <= values[name] <= high for name, (low, high) in self.integer_bounds.items())


def parse_constraints(texts: Mapping[str, object]) -> CostConstraints:
    """Parse the constraints of a study, as in {gmacs: 4.5..5.5, mparams: ..36}; may raise ConstraintError."""
    metrics = f"write one or more of {', '.join(METRICS)}"
    if not texts:
        raise ConstraintError("", f"a budget needs a metric; {metrics}")
    for name in texts:
        if name not in METRICS:
            raise ConstraintError(name, f"this is not a metric of a budget; {metrics}")
    return CostConstraints(**{name: parse_interval(text, name=name) for name, text in texts.items()})


def parse_interval(text: object, *, name: str = "") -> Interval:
    """Parse `4.5..5.5`, `4.5..` or `..5.5`; may raise ConstraintError, which begins with the metric `name`."""
    low, dots, high = (part.strip() for part in str(text).partition(".."))
    if not dots or not (low or high) or any(end and not _NUMBER.fullmatch(end) for end in (low, high)):
        raise ConstraintError(name, f"{text!r} is not a range of numbers from 0; {_FORM}")
    interval = Interval(float(low or 0), float(high or inf))
    if interval.low > interval.high:
        raise ConstraintError(name, f"{text} counts down; write {high}..{low}")
    return interval


def _number_text(number: float) -> str:
    return repr(number).removesuffix(".0")
