"""Net: one network as a value, a stem and its stages with every default resolved."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from math import lcm
from typing import Any

from hiri_search.language.errors import SpecError
from hiri_search.language.stages import (
    KINDS,
    ORDER,
    STAGES,
    STEMS,
    Argument,
    Cffn,
    ConvStem,
    Hr,
    HrStem,
    Part,
    Rule,
    Stage,
    Transformer,
    VitStem,
    arguments,
    defaults,
    names,
    part_text,
)

__all__ = [
    "KINDS",
    "ORDER",
    "STAGES",
    "STEMS",
    "STEM_STRIDE",
    "Argument",
    "Cffn",
    "ConvStem",
    "Hr",
    "HrStem",
    "Net",
    "Part",
    "Rule",
    "Stage",
    "Transformer",
    "VitStem",
    "arguments",
    "check_step",
    "default_down",
    "default_stride",
    "names",
    "part_text",
]

STEM_STRIDE = 4
_CACHE_SIZE = 2**14  # stages: a search meets the same few in ever new networks


@dataclass(frozen=True)
class Net:
    """A stem and its stages, written out in full; `Net.of` places what a spec leaves open."""

    stem: Part
    stages: tuple[Stage, ...]

    @staticmethod
    def of(parts: Iterable[Part]) -> Net:
        """The network of these parts, the stem first where it is not the default one.

        The last two stages come down by IRDS-b, all before them by IRDS-a; the first stands behind the stem.
        """
        stages = list(parts)
        stem = stages.pop(0) if stages and stages[0].kind in STEMS else HrStem()
        last = len(stages) - 1
        return Net(stem, tuple(_placed(stage, index, last - index) for index, stage in enumerate(stages)))

    def __post_init__(self) -> None:
        if not self.stages:
            raise SpecError("a network has at least one stage; write one, as in hr(64 e=4)")
        before: Stage | None = None
        for stage in self.stages:
            check_step(before, stage)
            before = stage

    def __str__(self) -> str:
        return self._text(full=False)

    @property
    def canonical_text(self) -> str:
        """The spec with every default written out: what `key` is made of."""
        return self._text(full=True)

    @cached_property
    def key(self) -> str:
        """12 hex digits: equal for equal networks, the same on every machine, another where a default is."""
        return hashlib.sha256(self.canonical_text.encode()).hexdigest()[:12]

    def _text(self, *, full: bool) -> str:
        last = len(self.stages) - 1
        parts = [_stage_text(s, default_down(at, last - at), full) for at, s in enumerate(self.stages)]
        if full or self.stem != HrStem():
            parts.insert(0, _part_text(self.stem, full=full))
        return " -> ".join(parts)

    @cached_property
    def strides(self) -> tuple[int, ...]:
        """The input side over the grid of each stage."""
        total, strides = STEM_STRIDE, []
        for stage in self.stages:
            total *= stage.stride or 1
            strides.append(total)
        return tuple(strides)

    @property
    def side_unit(self) -> int:
        """Legal input sides are the multiples of this."""
        return lcm(*(stride * stage.needs for stride, stage in zip(self.strides, self.stages, strict=True)))

    def grids(self, side: int) -> tuple[int, ...]:
        """The side of each stage's grid for a square input; SpecError, naming the nearest legal sides."""
        unit = self.side_unit
        if side < unit or side % unit:
            below, above = side // unit * unit, (side // unit + 1) * unit
            near = f"{below} or {above}" if below > 0 else f"{max(above, unit)}"
            raise SpecError(f"side {side} does not fit {self}: it must be a multiple of {unit}; the nearest is {near}")
        return tuple(side // stride for stride in self.strides)

    def scaled_down(self, *, width: int = 1, depth: int = 1) -> Net:
        """A smaller relative: widths divided exactly, numbers of heads kept, depths divided, rounded up."""
        stem = self.stem
        if isinstance(stem, HrStem | ConvStem):
            stem = replace(stem, hidden=_over(stem.hidden, width, "hs"))
        return Net(stem, tuple(_shrunk(stage, width, depth) for stage in self.stages))


def default_down(before: int, behind: int) -> str:
    """The downsampling of a stage that says none, from the numbers of stages before and behind it."""
    if before == 0:
        return "none"
    return "b" if behind < 2 else "a"


def default_stride(down: str) -> int:
    """The stride of a downsampling that says none."""
    return 1 if down == "none" else 2


def check_step(before: Stage | None, stage: Stage) -> None:
    """Raise SpecError where a stage cannot follow the one before it (None: the stem)."""
    if before is None:
        check_first(down=stage.down, s=stage.stride)
    elif stage.down == "none":
        check_kept(stage.kind, before.width, stage.width)


def check_first(*, down: str | None = None, s: int | None = None) -> None:
    """Raise SpecError where a first stage cannot have this downsampling or stride (None: left out)."""
    wrong = f"down={down}" if down not in (None, "none") else f"s={s}" if s == 2 else ""
    if wrong:
        raise SpecError(f"the first stage takes no {wrong}: the stem stands there; leave it out")


def check_kept(kind: str, before: int, width: int) -> None:
    """Raise SpecError where a stage with down=none would have to change the width."""
    if before != width:
        raise SpecError(
            f"down=none keeps the width, but {kind} of width {width} follows width {before};"
            " make them equal or choose another down"
        )


@lru_cache(_CACHE_SIZE)
def _placed(stage: Part, before: int, behind: int) -> Stage:
    assert isinstance(stage, Stage), f"{stage.kind} stands behind another part"
    down = stage.down or default_down(before, behind)
    return replace(stage, down=down, stride=stage.stride or default_stride(down))


@lru_cache(_CACHE_SIZE)
def _stage_text(stage: Stage, down: str, full: bool) -> str:
    return _part_text(stage, full=full, down=down, s=default_stride(stage.down or down))


def _part_text(part: Part, *, full: bool, **placed: int | str) -> str:
    plain = {**defaults(type(part)), **placed}
    values = {letter: getattr(part, name) for letter, name in names(type(part)).items()}
    return part_text(part.kind, {k: str(v) for k, v in values.items() if full or v != plain[k]})


def _shrunk(stage: Stage, width: int, depth: int) -> Stage:
    small: dict[str, Any] = {"width": _over(stage.width, width, "w"), "depth": -(-stage.depth // depth)}
    if isinstance(stage, Transformer):
        small["head_size"] = _over(stage.head_size, width, "d")
    return replace(stage, **small)


def _over(value: int, divisor: int, letter: str) -> int:
    if value % divisor:
        raise SpecError(
            f"{letter}={value} cannot be divided by {divisor}; choose a divisor of all widths and head sizes"
        )
    return value // divisor
