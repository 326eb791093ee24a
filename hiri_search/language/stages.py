"""Stem and stage types, and the arguments each one takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from functools import cache, lru_cache
from typing import Any, ClassVar, cast

from hiri_search.language.errors import SpecError


@dataclass(frozen=True)
class Argument:
    """The allowed values of one argument of a spec: integers from `low` to `high`, or one of `words`."""

    letter: str
    low: int = 1
    high: int = 1
    words: tuple[str, ...] = ()

    def check(self, value: int | str) -> None:
        """Raise SpecError if the value is not allowed."""
        if self.words:
            allowed, expected = value in self.words, f"one of {', '.join(self.words)}"
        else:
            allowed = isinstance(value, int) and self.low <= value <= self.high
            expected = f"an integer from {self.low} to {self.high}"
        if not allowed:
            raise SpecError(f"{self.letter}={value} is not supported; {self.letter} must be {expected}")


@dataclass(frozen=True)
class Rule:
    """A constraint on several arguments of one part; `check` takes their values and raises SpecError.

    Rules belong to the class and not to its constructor, so that a space can check all values of these
    arguments without building parts.
    """

    letters: tuple[str, ...]
    check: Callable[..., None]


STAGE_CACHE_SIZE = 2**14  # stages: the networks of a search share few stages
ORDER = ("w", "e", "n", "d", "sr", "ffn", "r", "norm", "down", "s", "hs")  # of the arguments in canonical text


def _number(letter: str, high: int, **default: int | None) -> Any:
    return field(metadata={"argument": Argument(letter, 1, high)}, **default)  # type: ignore[call-overload]


def _word(letter: str, *words: str, **default: str | None) -> Any:
    return field(metadata={"argument": Argument(letter, words=words)}, **default)  # type: ignore[call-overload]


@dataclass(frozen=True, kw_only=True)
class Part:
    """A stem or a stage: its kind, and one dataclass field for each argument."""

    kind: ClassVar[str]
    rules: ClassVar[tuple[Rule, ...]] = ()

    def __post_init__(self) -> None:
        values = {letter: getattr(self, name) for letter, name in names(type(self)).items()}
        for letter, argument in arguments(type(self)).items():
            if values[letter] is not None:
                argument.check(values[letter])
        for rule in self.rules:
            rule.check(*(values[letter] for letter in rule.letters))


def names(kind: type[Part]) -> Mapping[str, str]:
    """Return the field name of each argument of a kind, by letter, in canonical order."""
    return {letter: field.name for letter, field in _fields(kind).items()}


def arguments(kind: type[Part]) -> Mapping[str, Argument]:
    """Return the allowed values of each argument of a kind, by letter."""
    return {letter: field.metadata["argument"] for letter, field in _fields(kind).items()}


def defaults(kind: type[Part]) -> Mapping[str, Any]:
    """Return the default of each argument of a kind, by letter; dataclasses.MISSING marks a required argument."""
    return {letter: field.default for letter, field in _fields(kind).items()}


def _fields(kind: type[Part]) -> Mapping[str, Field[Any]]:
    return _cached_fields(cast(Any, kind))  # the cast: mypy treats a frozen dataclass as not hashable


@cache
def _cached_fields(kind: type[Part]) -> Mapping[str, Field[Any]]:
    by_letter = {field.metadata["argument"].letter: field for field in fields(kind)}
    return {letter: by_letter[letter] for letter in ORDER if letter in by_letter}


@dataclass(frozen=True, kw_only=True)
class HrStem(Part):
    """The two-branch stem with stride 4 (section 4.2), with `hidden` channels at half resolution (inferred)."""

    kind = "hrstem"
    hidden: int = _number("hs", 4096, default=32)


@dataclass(frozen=True, kw_only=True)
class ConvStem(Part):
    """The plain convolutional stem (Table 7, rows 5 to 8)."""

    kind = "convstem"
    hidden: int = _number("hs", 4096, default=32)


@dataclass(frozen=True, kw_only=True)
class VitStem(Part):
    """The stem of a 7x7 convolution with stride 4 and a LayerNorm (Table 7, rows 1 to 4)."""

    kind = "vitstem"


def _check_stride(down: str | None, stride: int | None) -> None:
    if down == "none" and stride == 2:
        raise SpecError("s=2 is not supported with down=none, which keeps the grid size; leave s out")


@dataclass(frozen=True, kw_only=True)
class Stage(Part):
    """A downsampling followed by `depth` equal blocks.

    `down` and `stride` may be None before the stage is part of a Net: their defaults depend on its place there.
    """

    rules: ClassVar[tuple[Rule, ...]] = (Rule(("down", "s"), _check_stride),)
    width: int = _number("w", 16384)
    expansion: int = _number("e", 64)
    depth: int = _number("n", 512, default=1)
    down: str | None = _word("down", "a", "b", "conv", "none", default=None)
    stride: int | None = _number("s", 2, default=None)

    @property
    def grid_multiple(self) -> int:
        """The side of the stage's grid must be a multiple of this number."""
        return 1


@dataclass(frozen=True, kw_only=True)
class Hr(Stage):
    """High Resolution blocks (section 4.2); `reduction` is the spatial reduction of the low-resolution branch."""

    kind = "hr"
    reduction: int = _number("r", 2, default=2)
    norm: str = _word("norm", "bn", default="bn")

    @property
    def grid_multiple(self) -> int:
        return self.reduction


@dataclass(frozen=True, kw_only=True)
class Cffn(Stage):
    """Convolutional feed-forward blocks (Eq. 3)."""

    kind = "cffn"
    norm: str = _word("norm", "bn", "ln", default="bn")


def _check_heads(width: int, head_size: int) -> None:
    if width % head_size:
        divisor = min((d for d in range(1, width + 1) if width % d == 0), key=lambda d: abs(d - head_size))
        problem = f"width {width} is not a multiple of the head size {head_size}"
        raise SpecError(f"{problem}; write d={divisor}, or another width")


@dataclass(frozen=True, kw_only=True)
class Transformer(Stage):
    """Transformer blocks: attention with heads of `head_size` channels, followed by a feed-forward layer."""

    kind = "t"
    rules = (*Stage.rules, Rule(("w", "d"), _check_heads))
    head_size: int = _number("d", 4096, default=64)
    spatial_reduction: int = _number("sr", 64, default=1)
    ffn: str = _word("ffn", "conv", "plain", default="conv")
    norm: str = _word("norm", "mix", "ln", "bn", default="mix")

    @property
    def heads(self) -> int:
        return self.width // self.head_size

    @property
    def grid_multiple(self) -> int:
        return self.spatial_reduction


STEMS: Mapping[str, type[Part]] = {k.kind: k for k in (HrStem, ConvStem, VitStem)}
STAGES: Mapping[str, type[Stage]] = {k.kind: k for k in (Hr, Cffn, Transformer)}
KINDS: Mapping[str, type[Part]] = {**STAGES, **STEMS}


def part_text(kind: str, values: Mapping[str, str]) -> str:
    """Return a part as spec text: the width without its letter, the depth after a star, as in `hr(64 e=4)*2`."""
    written = [v if letter == "w" else f"{letter}={v}" for letter, v in values.items() if letter != "n"]
    return kind + (f"({' '.join(written)})" if written else "") + (f"*{values['n']}" if "n" in values else "")


@lru_cache(STAGE_CACHE_SIZE)
def make_part(kind: str, values: tuple[tuple[str, int | str], ...]) -> Part:
    """Return the stem or stage of this kind with these (letter, value) arguments."""
    field_names = names(KINDS[kind])
    return KINDS[kind](**{field_names[letter]: value for letter, value in values})
