"""Net: one network as a value (a stem and its stages, all defaults resolved)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, lru_cache
from itertools import pairwise
from math import lcm
from typing import Any, TypeVar, cast

from hiri_search.language.errors import SpecError
from hiri_search.language.stages import (
    DEFAULT_STEM,
    DOWNSAMPLINGS,
    OUR_KINDS,
    STAGE_CACHE_SIZE,
    Part,
    Stage,
    Stem,
    arguments,
    defaults,
    grid_multiple,
    make_part,
    names,
    part_text,
)

STEM_STRIDE = 4

PartT = TypeVar("PartT", bound=Part)


@dataclass(frozen=True)
class Net:
    """A stem and its stages, with every default resolved; `Net.of` resolves the defaults."""

    stem: Stem
    stages: tuple[Stage, ...]

    @staticmethod
    def of(parts: Iterable[Part]) -> Net:
        """Return the network of these parts, with the default stem if the first part is a stage.

        The first stage follows the stem without downsampling. By default the last two stages use IRDS-b and the
        stages before them IRDS-a.
        """
        stages = list(parts)
        stem = default_stem()
        if stages and isinstance(first := stages[0], Stem):
            stem = first
            del stages[0]
        last = len(stages) - 1
        return Net(stem, tuple(_with_defaults(stage, index, last - index) for index, stage in enumerate(stages)))

    def __post_init__(self) -> None:
        if not self.stages:
            raise SpecError("a network must have at least one stage; write one, as in hr(64 e=4)")
        check_first_stage(down=self.stages[0].down, s=self.stages[0].stride)
        for previous, stage in pairwise(self.stages):
            if stage.down == "none":
                check_same_width(stage.kind, previous.width, stage.width)

    def __str__(self) -> str:
        return self._text(full=False)

    @property
    def canonical_text(self) -> str:
        """The spec with every default written out; `key` is a hash of this text."""
        return self._text(full=True)

    @cached_property
    def key(self) -> str:
        """Key of the canonical text (`text_key`); changes with the language's defaults."""
        return text_key(self.canonical_text)

    def _text(self, *, full: bool) -> str:
        last = len(self.stages) - 1
        parts = [_stage_text(s, default_down(at, last - at), full) for at, s in enumerate(self.stages)]
        if full or self.stem != default_stem():
            parts.insert(0, _part_text(self.stem, full=full))
        return " -> ".join(parts)

    def goes_on_with(self, part: Part, before: Sequence[Part]) -> bool:
        """Return whether a part of a spec, after those `before` it, is the next part of this network."""
        has_stem = isinstance((*before, part)[0], Stem)
        at, last = len(before) - has_stem, len(self.stages) - 1
        if isinstance(part, Stem):
            return not before and part == self.stem
        return at <= last and _with_defaults(part, at, last - at) == self.stages[at]

    def consists_of(self, parts: Sequence[Part]) -> bool:
        """Return whether the parts of a spec are those of this network."""
        stages = sum(isinstance(part, Stage) for part in parts)
        return stages == len(self.stages) and Net.of(parts) == self

    @property
    def is_ours(self) -> bool:
        """True if all its kinds are of this package, none of the user's own."""
        kinds: list[type[Part]] = [
            type(self.stem),
            *map(type, self.stages),
            *(DOWNSAMPLINGS[stage.down or "none"] for stage in self.stages),
        ]
        return all(kind.__module__ == OUR_KINDS for kind in kinds)

    @cached_property
    def strides(self) -> tuple[int, ...]:
        """The input side divided by the side of each stage's grid."""
        total, strides = STEM_STRIDE, []
        for stage in self.stages:
            total *= stage.stride or 1
            strides.append(total)
        return tuple(strides)

    @property
    def side_unit(self) -> int:
        """The valid input sides are the multiples of this number."""
        return lcm(*(stride * grid_multiple(stage) for stride, stage in zip(self.strides, self.stages, strict=True)))

    def side_from(self, side: int) -> int:
        """Return the smallest valid input side that is not below `side`."""
        return -(-side // self.side_unit) * self.side_unit

    def grids(self, side: int) -> tuple[int, ...]:
        """Return the side of each stage's grid for a square input; SpecError names the nearest valid sides."""
        unit = self.side_unit
        if side < unit or side % unit:
            below, above = side // unit * unit, (side // unit + 1) * unit
            nearest = f"{below} or {above}" if below > 0 else f"{max(above, unit)}"
            found = f"side {side} does not fit {self}"
            raise SpecError(f"{found}: it must be a multiple of {unit}; the nearest is {nearest}")
        return tuple(side // stride for stride in self.strides)

    def rounded_grids(self, height: int, width: int) -> tuple[tuple[int, int], ...]:
        """Return height and width of each stage's grid for an input of any size: what strides divides rounds up."""
        return tuple((-(-height // stride), -(-width // stride)) for stride in self.strides)

    def scaled_down(self, *, width: int = 1, depth: int = 1, min_depth: int = 1) -> Net:
        """Return a smaller network: widths divided exactly, depths divided and rounded up.

        A stage keeps `min_depth` blocks, if it has as many: where networks differ in depth, one block hides it.
        Arguments that scale, as the size of attention heads, are divided as the widths are: the number of heads stays.
        """
        depths = (min(stage.depth, max(min_depth, -(-stage.depth // depth))) for stage in self.stages)
        stages = (_scaled(stage, width, depth=left) for stage, left in zip(self.stages, depths, strict=True))
        return Net(_scaled(self.stem, width), tuple(stages))


def text_key(canonical_text: str) -> str:
    """Return the key of a network: the hash of its canonical text, 12 hex digits, equal on every machine."""
    return hashlib.sha256(canonical_text.encode()).hexdigest()[:12]


def default_stem() -> Stem:
    """Return the stem of a network whose spec names none."""
    return cast(Stem, make_part(DEFAULT_STEM, ()))


def default_down(stages_before: int, stages_after: int) -> str:
    """Return the default downsampling of a stage, from the numbers of stages before and after it."""
    if stages_before == 0:
        return "none"
    return "b" if stages_after < 2 else "a"


def default_stride(down: str) -> int:
    """Return the default stride of a downsampling."""
    return 1 if down == "none" else 2


def check_first_stage(*, down: str | None = None, s: int | None = None) -> None:
    """Raise SpecError if a first stage cannot have this downsampling or stride (None: the default)."""
    wrong = f"down={down}" if down not in (None, "none") else f"s={s}" if s == 2 else ""
    if wrong:
        raise SpecError(f"the first stage does not support {wrong}: it follows the stem directly; leave it out")


def check_same_width(kind: str, previous: int, width: int) -> None:
    """Raise SpecError if the width of a stage with down=none differs from the previous stage's width."""
    if previous != width:
        problem = f"down=none keeps the width, but {kind} of width {width} follows width {previous}"
        raise SpecError(f"{problem}; make them equal or choose another down")


@lru_cache(STAGE_CACHE_SIZE)
def _with_defaults(stage: Part, stages_before: int, stages_after: int) -> Stage:
    assert isinstance(stage, Stage), f"{stage.kind} follows another part"
    down = stage.down or default_down(stages_before, stages_after)
    return replace(stage, down=down, stride=stage.stride or default_stride(down))


@lru_cache(STAGE_CACHE_SIZE)
def _stage_text(stage: Stage, down: str, full: bool) -> str:
    return _part_text(stage, full=full, down=down, s=default_stride(stage.down or down))


def _part_text(part: Part, *, full: bool, **resolved: int | str) -> str:
    default_values = {**defaults(type(part)), **resolved}
    values = {letter: getattr(part, name) for letter, name in names(type(part)).items()}
    return part_text(part.kind, {k: str(v) for k, v in values.items() if full or v != default_values[k]})


def _scaled(part: PartT, divisor: int, **other: int) -> PartT:
    """Return the part with its width, and other arguments that scale, divided; and with the values of `other`."""
    scaled = {name: _divide(getattr(part, name), divisor, letter) for letter, name in _scaling(cast(Any, type(part)))}
    return replace(part, **scaled, **other)


@cache
def _scaling(kind: type[Part]) -> tuple[tuple[str, str], ...]:
    """Return letter and name of each argument of a kind that scales."""
    return tuple((letter, name) for letter, name in names(kind).items() if arguments(kind)[letter].scales)


def _divide(value: int, divisor: int, letter: str) -> int:
    if value % divisor:
        raise SpecError(
            f"{letter}={value} cannot be divided by {divisor}; choose a divisor of all widths and head sizes"
        )
    return value // divisor
