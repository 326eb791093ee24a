"""One network as a value: a stem and its stages, with every default resolved."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from math import lcm
from typing import Any, ClassVar

from hiri_search.language.errors import SpecError


@dataclass(frozen=True)
class Argument:
    """What may stand behind one letter of the language: whole numbers from `low` to `high`, or `words`."""

    letter: str
    low: int = 1
    high: int = 1
    words: tuple[str, ...] = ()

    def check(self, value: int | str) -> None:
        """Raise SpecError where the value is not one this argument can take."""
        if self.words and value not in self.words:
            raise SpecError(f"{self.letter}={value} is not possible; {self.letter} is one of {', '.join(self.words)}")
        if not self.words and not (isinstance(value, int) and self.low <= value <= self.high):
            raise SpecError(
                f"{self.letter}={value} is not possible; {self.letter} is a whole number from {self.low} to {self.high}"
            )


ORDER = ("w", "e", "n", "d", "sr", "ffn", "r", "norm", "down", "s", "hs")  # as written and as listed


def _number(letter: str, high: int, **default: int | None) -> Any:
    return field(metadata={"argument": Argument(letter, 1, high)}, **default)  # type: ignore[call-overload]


def _word(letter: str, *words: str, **default: str | None) -> Any:
    return field(metadata={"argument": Argument(letter, words=words)}, **default)  # type: ignore[call-overload]


@dataclass(frozen=True, kw_only=True)
class Part:
    """A stem or a stage: a kind, and one dataclass field for each argument it takes."""

    kind: ClassVar[str]

    def __post_init__(self) -> None:
        for letter, name in names(type(self)).items():
            value = getattr(self, name)
            if value is not None:
                arguments(type(self))[letter].check(value)


def names(kind: type[Part]) -> dict[str, str]:
    """The letters that a kind takes, in the order they are written, each with its field's name."""
    known = {f.metadata["argument"].letter: f.name for f in fields(kind)}
    return {letter: known[letter] for letter in ORDER if letter in known}


def arguments(kind: type[Part]) -> dict[str, Argument]:
    """The letters that a kind takes, each with the values that may stand behind it."""
    known = {f.metadata["argument"].letter: f.metadata["argument"] for f in fields(kind)}
    return {letter: known[letter] for letter in ORDER if letter in known}


@dataclass(frozen=True, kw_only=True)
class HrStem(Part):
    """The two-branch stem of stride 4 (section 4.2); `hidden` channels at half resolution (inferred)."""

    kind = "hrstem"
    hidden: int = _number("hs", 4096, default=32)


@dataclass(frozen=True, kw_only=True)
class ConvStem(Part):
    """The plain convolutional stem of Table 7's rows 5 to 8."""

    kind = "convstem"
    hidden: int = _number("hs", 4096, default=32)


@dataclass(frozen=True, kw_only=True)
class VitStem(Part):
    """One 7x7 convolution of stride 4 and a LayerNorm (Table 7, rows 1 to 4)."""

    kind = "vitstem"


@dataclass(frozen=True, kw_only=True)
class Stage(Part):
    """`depth` blocks of one shape, behind a downsampling. `down` and `stride` are None until placed in a Net."""

    width: int = _number("w", 16384)
    expansion: int = _number("e", 64)
    depth: int = _number("n", 512, default=1)
    down: str | None = _word("down", "a", "b", "conv", "none", default=None)
    stride: int | None = _number("s", 2, default=None)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.down == "none" and self.stride == 2:
            raise SpecError("s=2 with down=none is not possible: without a downsampling the grid stays; leave s out")

    @property
    def needs(self) -> int:
        """What the stage's grid must divide by."""
        return 1


@dataclass(frozen=True, kw_only=True)
class Hr(Stage):
    """High Resolution blocks (section 4.2); `reduction` is that of the low branch."""

    kind = "hr"
    reduction: int = _number("r", 2, default=2)
    norm: str = _word("norm", "bn", default="bn")

    @property
    def needs(self) -> int:
        return self.reduction


@dataclass(frozen=True, kw_only=True)
class Cffn(Stage):
    """Convolutional feed-forward blocks (Eq. 3)."""

    kind = "cffn"
    norm: str = _word("norm", "bn", "ln", default="bn")


@dataclass(frozen=True, kw_only=True)
class Transformer(Stage):
    """Transformer blocks: attention with heads of `head_size` channels, then a feed-forward layer."""

    kind = "t"
    head_size: int = _number("d", 4096, default=64)
    spatial_reduction: int = _number("sr", 64, default=1)
    ffn: str = _word("ffn", "conv", "plain", default="conv")
    norm: str = _word("norm", "mix", "ln", "bn", default="mix")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % self.head_size:
            raise SpecError(
                f"a t of width {self.width} has no whole number of heads of size {self.head_size};"
                f" write d={_divisor(self.width, self.head_size)}, or another width"
            )

    @property
    def heads(self) -> int:
        return self.width // self.head_size

    @property
    def needs(self) -> int:
        return self.spatial_reduction


def _divisor(width: int, near: int) -> int:
    return min((d for d in range(1, width + 1) if width % d == 0), key=lambda d: abs(d - near))


STEMS: Mapping[str, type[Part]] = {k.kind: k for k in (HrStem, ConvStem, VitStem)}
STAGES: Mapping[str, type[Stage]] = {k.kind: k for k in (Hr, Cffn, Transformer)}
KINDS: Mapping[str, type[Part]] = {**STAGES, **STEMS}
STEM_STRIDE = 4


@dataclass(frozen=True)
class Net:
    """A stem and its stages, written out in full; `Net.of` places what a spec leaves open."""

    stem: Part
    stages: tuple[Stage, ...]

    @staticmethod
    def of(parts: Iterable[Part]) -> Net:
        """The network of these parts, the stem first where it is not the default one.

        The last two stages come down by IRDS-b and all before them by IRDS-a; the first stands behind the stem.
        """
        stem, *stages = parts = list(parts)
        if stem.kind not in STEMS:
            stem, stages = HrStem(), parts
        placed = []
        for index, stage in enumerate(stages):
            assert isinstance(stage, Stage), f"{stage.kind} stands behind another part"
            down = stage.down or default_down(index, len(stages) - 1 - index)
            placed.append(replace(stage, down=down, stride=stage.stride or default_stride(down)))
        return Net(stem, tuple(placed))

    def __post_init__(self) -> None:
        for before, stage in zip((None, *self.stages), self.stages, strict=False):
            check_step(before, stage)

    def __str__(self) -> str:
        return self._text(full=False)

    @property
    def full(self) -> str:
        """The spec with every default written out: what `key` is made of."""
        return self._text(full=True)

    @cached_property
    def key(self) -> str:
        """12 hex digits: equal for equal networks, the same on every machine, changed by a changed default."""
        return hashlib.sha256(self.full.encode()).hexdigest()[:12]

    def _text(self, *, full: bool) -> str:
        default = Net.of(replace(s, down=None, stride=None) for s in self.stages)
        stages = []
        for stage, plain in zip(self.stages, default.stages, strict=True):
            stride = default_stride(stage.down or "")
            stages.append(_part_text(stage, {"down": plain.down, "s": stride}, full=full))
        if full or self.stem != HrStem():
            stages.insert(0, _part_text(self.stem, {}, full=full))
        return " -> ".join(stages)

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
        """The side of each stage's grid for a square input; SpecError, naming the nearest legal sides, if none."""
        unit = self.side_unit
        if side < unit or side % unit:
            below, above = side // unit * unit, (side // unit + 1) * unit
            near = f"{below} or {above}" if below > 0 else f"{above}"
            raise SpecError(f"side {side} does not fit {self}: it must be a multiple of {unit}; the nearest is {near}")
        return tuple(side // stride for stride in self.strides)

    def shrunk(self, *, width: int = 1, depth: int = 1) -> Net:
        """A smaller relative: widths divided exactly, numbers of heads kept, depths divided and rounded up."""
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
    return 1 if down == "none" else 2


def check_step(before: Stage | None, stage: Stage) -> None:
    """Raise SpecError where a stage cannot follow the one before it (None: the stem)."""
    if before is None and stage.down not in (None, "none"):
        raise SpecError(f"the first stage takes no down={stage.down}: the stem stands there; leave it out")
    if before is not None and stage.down == "none" and before.width != stage.width:
        raise SpecError(
            f"down=none keeps the width, but {stage.kind} of width {stage.width} follows width {before.width};"
            " make them equal or choose another down"
        )


def part_text(kind: str, values: Mapping[str, str]) -> str:
    """A kind with its arguments as the language writes them: the width bare, the depth behind a star."""
    inside = [v if letter == "w" else f"{letter}={v}" for letter, v in values.items() if letter != "n"]
    return kind + (f"({' '.join(inside)})" if inside else "") + (f"*{values['n']}" if "n" in values else "")


def _part_text(part: Part, defaults: Mapping[str, int | str | None], *, full: bool) -> str:
    own = {f.metadata["argument"].letter: f.default for f in fields(part)} | dict(defaults)
    values = {letter: getattr(part, name) for letter, name in names(type(part)).items()}
    return part_text(part.kind, {k: str(v) for k, v in values.items() if full or v != own[k]})


def _shrunk(stage: Stage, width: int, depth: int) -> Stage:
    small: dict[str, Any] = {"width": _over(stage.width, width, "w"), "depth": -(-stage.depth // depth)}
    if isinstance(stage, Transformer):
        small["head_size"] = _over(stage.head_size, width, "d")
    return replace(stage, **small)


def _over(value: int, divisor: int, letter: str) -> int:
    if value % divisor:
        raise SpecError(f"{letter}={value} cannot be divided by {divisor}; choose a divisor of all widths and head sizes")
    return value // divisor
