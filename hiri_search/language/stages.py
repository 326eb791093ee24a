"""Stem and stage types, and the arguments each one takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from functools import cache
from typing import Any, ClassVar, cast

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
            bounds = f"from {self.low} to {self.high}"
            raise SpecError(f"{self.letter}={value} is not possible; {self.letter} is a whole number {bounds}")


@dataclass(frozen=True)
class Rule:
    """What several arguments of one part must agree on; `check` takes their values and raises SpecError.

    Part of the class, not of its constructor, so that a space can try all values of these letters alone.
    """

    letters: tuple[str, ...]
    check: Callable[..., None]


ORDER = ("w", "e", "n", "d", "sr", "ffn", "r", "norm", "down", "s", "hs")  # as written and as listed


def _number(letter: str, high: int, **default: int | None) -> Any:
    return field(metadata={"argument": Argument(letter, 1, high)}, **default)  # type: ignore[call-overload]


def _word(letter: str, *words: str, **default: str | None) -> Any:
    return field(metadata={"argument": Argument(letter, words=words)}, **default)  # type: ignore[call-overload]


@dataclass(frozen=True, kw_only=True)
class Part:
    """A stem or a stage: a kind, and one dataclass field for each argument it takes."""

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
    """The letters that a kind takes, in the order they are written, each with its field's name."""
    return {letter: field.name for letter, field in _letters(kind).items()}


def arguments(kind: type[Part]) -> Mapping[str, Argument]:
    """The letters that a kind takes, each with the values that may stand behind it."""
    return {letter: field.metadata["argument"] for letter, field in _letters(kind).items()}


def defaults(kind: type[Part]) -> Mapping[str, Any]:
    """The letters that a kind takes, each with its default; dataclasses.MISSING where it must be written."""
    return {letter: field.default for letter, field in _letters(kind).items()}


def _letters(kind: type[Part]) -> Mapping[str, Field[Any]]:
    return _ordered(cast(Any, kind))  # mypy takes a frozen dataclass for unhashable


@cache
def _ordered(kind: type[Part]) -> Mapping[str, Field[Any]]:
    known = {field.metadata["argument"].letter: field for field in fields(kind)}
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


def _check_stride(down: str | None, stride: int | None) -> None:
    if down == "none" and stride == 2:
        raise SpecError("s=2 with down=none is not possible: without a downsampling the grid stays; leave s out")


@dataclass(frozen=True, kw_only=True)
class Stage(Part):
    """`depth` blocks of one shape behind a downsampling; `down`, `stride` are None until placed in a Net."""

    rules: ClassVar[tuple[Rule, ...]] = (Rule(("down", "s"), _check_stride),)
    width: int = _number("w", 16384)
    expansion: int = _number("e", 64)
    depth: int = _number("n", 512, default=1)
    down: str | None = _word("down", "a", "b", "conv", "none", default=None)
    stride: int | None = _number("s", 2, default=None)

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


def _check_heads(width: int, head_size: int) -> None:
    if width % head_size:
        raise SpecError(
            f"a t of width {width} has no whole number of heads of size {head_size};"
            f" write d={_divisor(width, head_size)}, or another width"
        )


def _divisor(width: int, near: int) -> int:
    return min((d for d in range(1, width + 1) if width % d == 0), key=lambda d: abs(d - near))


@dataclass(frozen=True, kw_only=True)
class Transformer(Stage):
    """Transformer blocks: attention with heads of `head_size` channels, then a feed-forward layer."""

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
    def needs(self) -> int:
        return self.spatial_reduction


STEMS: Mapping[str, type[Part]] = {k.kind: k for k in (HrStem, ConvStem, VitStem)}
STAGES: Mapping[str, type[Stage]] = {k.kind: k for k in (Hr, Cffn, Transformer)}
KINDS: Mapping[str, type[Part]] = {**STAGES, **STEMS}


def part_text(kind: str, values: Mapping[str, str]) -> str:
    """A kind with its arguments as the language writes them: the width bare, the depth behind a star."""
    inside = [v if letter == "w" else f"{letter}={v}" for letter, v in values.items() if letter != "n"]
    return kind + (f"({' '.join(inside)})" if inside else "") + (f"*{values['n']}" if "n" in values else "")
