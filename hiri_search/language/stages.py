"""Kinds of stems, stages and downsamplings: what each is called, and the arguments it takes.

The kinds themselves, those of this package and the user's, are registered from outside: see `hiri_search.kinds`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from functools import cache, lru_cache
from typing import Any, ClassVar, TypeVar, cast

from hiri_search.language.errors import SpecError

STAGE_CACHE_SIZE = 2**14  # stages: the networks of a search share few stages
DEFAULT_STEM = "hrstem"
OUR_KINDS = "hiri_search.kinds"  # the module of the kinds of this package
_LEADING, _TRAILING = ("w", "e", "n"), ("down", "s")  # letters that stand first and last in canonical text
_TOO_LARGE = 10**6  # a spec writes numbers of at most six digits
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_]*", re.ASCII)
_NAME = re.compile(r"[a-z][a-z0-9_]*", re.ASCII)
_RESERVED = ("which", "kind")  # names of decisions, and in relations, that are no arguments


@dataclass(frozen=True)
class Argument:
    """The allowed values of one argument of a spec: integers from `low` to `high`, or one of `words`."""

    letter: str
    low: int = 1
    high: int = 1
    words: Collection[str] = ()
    scales: bool = False  # a stand-in divides the value together with the widths

    def check(self, value: int | str) -> None:
        """Raise SpecError if the value is not allowed."""
        if self.words:
            allowed, expected = value in self.words, f"one of {', '.join(self.words)}"
        else:
            allowed = isinstance(value, int) and not isinstance(value, bool) and self.low <= value <= self.high
            expected = f"an integer from {self.low} to {self.high}"
        if not allowed:
            raise SpecError(f"{self.letter}={value} is not supported; {self.letter} must be {expected}")


@dataclass(frozen=True)
class Rule:
    """A constraint on several arguments of one part; `check` takes their values, and raises SpecError to refuse them.

    Rules belong to the class and not to its constructor, so that a space can check all values of these
    arguments without building parts.
    """

    letters: tuple[str, ...]
    check: Callable[..., None]

    def apply(self, values: Iterable[Any]) -> None:
        """Raise SpecError where the values are refused, or where the check itself has an error."""
        try:
            refused = self.check(*values) is False  # type: ignore[func-returns-value]
        except SpecError:
            raise
        except Exception as error:  # the user's code
            named = f"the rule on {', '.join(self.letters)} raises {type(error).__name__}: {error}"
            raise SpecError(f"{named}; a rule takes the values of its letters, and raises SpecError") from error
        if refused:
            raise SpecError(f"the rule on {', '.join(self.letters)} is False; raise SpecError with what to write")


def number(letter: str, high: int, *, low: int = 1, scales: bool = False, **default: int | None) -> Any:
    """Return the field of an argument with integers from `low` to `high`; without a `default` it must be written.

    `scales`: a stand-in divides the value together with the widths, as the size of attention heads.
    """
    return field(metadata={"argument": Argument(letter, low, high, scales=scales)}, **default)  # type: ignore[call-overload]


def word(letter: str, *words: str, **default: str | None) -> Any:
    """Return the field of an argument that is one of `words`; without a `default` it must be written."""
    if not words:
        raise SpecError(f'{letter} has no words; write them, as in word("{letter}", "a", "b")')
    return field(metadata={"argument": Argument(letter, words=words)}, **default)  # type: ignore[call-overload]


@dataclass(frozen=True, kw_only=True)
class Part:
    """A stem, a stage or a downsampling: its kind, and one dataclass field for each argument."""

    kind: ClassVar[str]  # its name in specs
    has_code: ClassVar[bool] = True  # false: only its arguments are known, and it gives way to a kind with code
    rules: ClassVar[tuple[Rule, ...]] = ()

    def __post_init__(self) -> None:
        values = {letter: getattr(self, name) for letter, name in names(type(self)).items()}
        for letter, argument in arguments(type(self)).items():
            if values[letter] is not None:
                argument.check(values[letter])
        for rule in self.rules:
            rule.apply(values[letter] for letter in rule.letters)


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
    """Return the fields by letter: width, expansion and depth, the kind's own in their order, the downsampling."""
    by_letter = {field.metadata["argument"].letter: field for field in fields(kind)}
    own = [letter for letter in by_letter if letter not in (*_LEADING, *_TRAILING)]
    return {letter: by_letter[letter] for letter in (*_LEADING, *own, *_TRAILING) if letter in by_letter}


@dataclass(frozen=True, kw_only=True)
class Stem(Part):
    """The first part of a network; reduces the side of the image by `STEM_STRIDE`."""

    def module(self, channels: int, width: int, side: int) -> Any:
        """Build the `nn.Module`: (B, channels, side, side) -> (B, width, side / 4, side / 4)."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Downsampling(Part):
    """The step to the grid and width of a stage: a value of the stage's argument `down`."""

    uses_norm: ClassVar[bool] = False  # true: the module depends on the norm of the stage that follows

    def module(self, channels: int, width: int, grid: int, *, stride: int, norm: str) -> Any:
        """Build the `nn.Module`: (B, channels, grid, grid) -> (B, width, grid / stride, grid / stride).

        `norm` is `ln` or `bn`.
        """
        raise NotImplementedError


def _check_stride(down: str | None, stride: int | None) -> None:
    if down == "none" and stride == 2:
        raise SpecError("s=2 is not supported with down=none, which keeps the grid size; leave s out")


KINDS: dict[str, type[Part]] = {}  # registered stages and stems, by their names in specs
DOWNSAMPLINGS: dict[str, type[Part]] = {}  # registered downsamplings, by the values of `down`
_DOWN = Argument("down", words=DOWNSAMPLINGS)


@dataclass(frozen=True, kw_only=True)
class Stage(Part):
    """A downsampling followed by `depth` equal blocks.

    `down` and `stride` may be None before the stage is part of a Net: their defaults depend on its place there.
    """

    rules: ClassVar[tuple[Rule, ...]] = (Rule(("down", "s"), _check_stride),)
    width: int = number("w", 16384, scales=True)
    depth: int = number("n", 512, default=1)
    down: str | None = field(metadata={"argument": _DOWN}, default=None)
    stride: int | None = number("s", 2, default=None)

    @property
    def grid_multiple(self) -> int:
        """The side of the stage's grid must be a multiple of this number."""
        return 1

    def block(self, grid: int, *, drop_path: float = 0.0) -> Any:
        """Build one block as an `nn.Module`: (B, width, grid, grid) -> (B, width, grid, grid).

        `drop_path` is its stochastic depth: the probability that training skips the block for an image.
        """
        raise NotImplementedError


def grid_multiple(stage: Stage) -> int:
    """Return the `grid_multiple` of a stage. Raises SpecError where a kind of the user gives no such number."""
    try:
        multiple = stage.grid_multiple
    except Exception as error:  # the user's code
        raise SpecError(f"grid_multiple of {stage.kind} raises {type(error).__name__}: {error}") from error
    if not isinstance(multiple, int) or multiple < 1:
        found = f"grid_multiple of {stage.kind} is {multiple!r}"
        raise SpecError(f"{found}; write a @property that returns a whole number from 1")
    return multiple


def is_stem(kind: str) -> bool:
    """Return whether a registered kind is a stem."""
    return issubclass(KINDS[kind], Stem)


KindT = TypeVar("KindT", bound=type[Part])
_BUILDERS = {Stem: "module", Downsampling: "module", Stage: "block"}


def register(kind: KindT) -> KindT:
    """Make a stage, a stem or a downsampling part of the language, under its name `kind.kind`; a class decorator.

    Raises SpecError where the class is no frozen dataclass of these, builds nothing, or has a name, an argument or a
    default that the language cannot have. A module that is imported again replaces its own kinds.
    """
    base = next((base for base in _BUILDERS if issubclass(kind, base)), None)
    where = f"{kind.__module__}.{kind.__qualname__}"
    own = kind.__dict__.get("__dataclass_params__")  # not that of the base class
    if base is None or own is None or not own.frozen:
        choices = "Stage, Stem or Downsampling"
        raise SpecError(f"{where} must be a subclass of {choices} under @dataclass(frozen=True, kw_only=True)")
    if getattr(kind, _BUILDERS[base]) is getattr(base, _BUILDERS[base]):
        raise SpecError(f"{where} builds nothing; write its method {_BUILDERS[base]}")
    registry = DOWNSAMPLINGS if base is Downsampling else KINDS
    _check_name(kind, registry, where)
    _check_arguments(kind, base, where)
    _check_values(kind, where)
    registry[kind.kind] = kind
    make_part.cache_clear()
    return kind


def forget_kinds(modules: Collection[str]) -> None:
    """Remove the kinds that these top-level modules have registered."""
    for registry in (KINDS, DOWNSAMPLINGS):
        for name in [name for name, kind in registry.items() if kind.__module__.partition(".")[0] in modules]:
            del registry[name]
    make_part.cache_clear()


def _check_name(kind: type[Part], registry: Mapping[str, type[Part]], where: str) -> None:
    name = kind.__dict__.get("kind")  # not that of another kind, which it extends
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise SpecError(f'{where} has no valid name; write small letters, digits and _, as in kind = "mbconv"')
    letters = {*_RESERVED, *(letter for other in KINDS.values() for letter in names(other))}
    if registry is KINDS and name in letters:  # else two decisions of a space could have one name
        raise SpecError(f"{where}: {name!r} is already the letter of an argument; write another name")
    other = f"{registry[name].__module__}.{registry[name].__qualname__}" if name in registry else where
    if other != where and registry[name].has_code:
        raise SpecError(f"{where}: {name!r} is already the name of {other}; write another name")


def _check_arguments(kind: type[Part], base: type[Part], where: str) -> None:
    for each in fields(kind):
        if not isinstance(each.metadata.get("argument"), Argument):
            raise SpecError(f"{where}.{each.name} is no argument; write number(...) or word(...) as its default")
    letters = [each.metadata["argument"].letter for each in fields(kind)]
    if base is Downsampling and letters:
        raise SpecError(f"{where} has arguments; a downsampling takes none: register one for each setting")
    for letter in letters:
        if letters.count(letter) > 1 or not _NAME.fullmatch(letter) or letter in (*_RESERVED, *KINDS, kind.kind):
            raise SpecError(f"{where}: {letter!r} is not possible as a letter here; write another one")


def _check_values(kind: type[Part], where: str) -> None:
    for letter, argument in arguments(kind).items():
        if not all(isinstance(each, str) and _WORD.fullmatch(each) for each in argument.words):
            raise SpecError(f"{where}: {letter} has words that no spec can write; write letters, digits and _")
        if argument is not _DOWN and not argument.words and not 0 <= argument.low <= argument.high < _TOO_LARGE:
            raise SpecError(f"{where}: {letter} needs words, or numbers from low to high, within 0 to {_TOO_LARGE - 1}")
        if (default := defaults(kind)[letter]) not in (None, MISSING):
            argument.check(default)
    for rule in kind.rules:
        if unknown := [letter for letter in rule.letters if letter not in names(kind)]:
            raise SpecError(f"{where}: a rule names {', '.join(unknown)}; its letters are {', '.join(names(kind))}")


def part_text(kind: str, values: Mapping[str, str]) -> str:
    """Return a part as spec text: the width without its letter, the depth after a star, as in `hr(64 e=4)*2`."""
    written = [v if letter == "w" else f"{letter}={v}" for letter, v in values.items() if letter != "n"]
    return kind + (f"({' '.join(written)})" if written else "") + (f"*{values['n']}" if "n" in values else "")


@lru_cache(STAGE_CACHE_SIZE)
def make_part(kind: str, values: tuple[tuple[str, int | str], ...]) -> Part:
    """Return the stem or stage of this kind with these (letter, value) arguments."""
    field_names = names(KINDS[kind])
    try:
        return KINDS[kind](**{field_names[letter]: value for letter, value in values})
    except SpecError:
        raise
    except Exception as error:  # code of a kind of the user
        raise SpecError(f"{kind} raises {type(error).__name__}: {error}") from error
