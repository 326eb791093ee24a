"""Syntax tree of a spec in normal form: leaves, groups of alternatives, arguments."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod
from typing import TypeAlias

from hiri_search.language.errors import SpecError
from hiri_search.language.stages import ORDER, part_text

Options: TypeAlias = tuple[int, ...] | tuple[str, ...]  # numbers ascending, words as written


@dataclass(frozen=True)
class SourcePosition:
    """Where something is written: a column of the spec, or of the text of a `let`."""

    text: str
    column: int
    let: str = ""

    def error(self, message: str) -> SpecError:
        """The mistake at this place."""
        return SpecError(f"in the let {self.let}: {message}" if self.let else message, self.text, self.column)


NOWHERE = SourcePosition("", 0)


@dataclass(frozen=True)
class Choice:
    """An argument as written: its letter and the values to choose from."""

    letter: str
    options: Options
    mark: SourcePosition = field(default=NOWHERE, compare=False, repr=False)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """How the options share the networks: evenly, since every combination of arguments is one."""
        return (1,) * len(self.options)

    def __str__(self) -> str:
        text = options_text(self.options)
        return f"({text})" if self.letter == "n" and "|" in text else text


@dataclass(frozen=True)
class Leaf:
    """A stem or a stage of one kind, with the arguments written at it."""

    kind: str
    given: tuple[Choice, ...] = ()
    mark: SourcePosition = field(default=NOWHERE, compare=False, repr=False)
    leaves = 1

    def __str__(self) -> str:
        return part_text(self.kind, {g.letter: str(g) for g in self.given})

    @cached_property
    def letters(self) -> frozenset[str]:
        """The arguments named here."""
        return frozenset(g.letter for g in self.given)

    @cached_property
    def size(self) -> int:
        """In how many ways the arguments written here can be chosen."""
        return prod(len(g.options) for g in self.given)


@dataclass(frozen=True)
class Group:
    """Alternative paths, and arguments that apply to everything inside them."""

    paths: tuple[Path, ...]
    given: tuple[Choice, ...] = ()
    mark: SourcePosition = field(default=NOWHERE, compare=False, repr=False)

    def __str__(self) -> str:
        return part_text(f"({self.inside})", {g.letter: str(g) for g in self.given})

    @property
    def inside(self) -> str:
        """The text between the parentheses."""
        return " | ".join(" -> ".join(map(str, path)) for path in self.paths)

    @cached_property
    def leaves(self) -> int:
        """How many leaves stand inside."""
        return sum(term.leaves for path in self.paths for term in path)

    @cached_property
    def letters(self) -> frozenset[str]:
        """The arguments named here or anywhere inside."""
        inner = (term.letters for path in self.paths for term in path)
        return frozenset(g.letter for g in self.given).union(*inner)

    @cached_property
    def size(self) -> int:
        """In how many ways everything here and inside can be chosen."""
        return prod(len(g.options) for g in self.given) * sum(self.sizes)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """The size of each path."""
        return tuple(prod(term.size for term in path) for path in self.paths)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """A word for each path: its kind where it is one stage of a kind no sibling has, else its number."""
        kinds = [path[0].kind if len(path) == 1 and isinstance(path[0], Leaf) else "" for path in self.paths]
        count = Counter(kinds)
        return tuple(k if k and count[k] == 1 else str(number) for number, k in enumerate(kinds, 1))

    @cached_property
    def addresses(self) -> tuple[tuple[str, ...], ...]:
        """For each term of each path, what its decisions' names have behind those of the group."""
        if len(self.paths) == 1:
            return (tuple(f"{stage}." for stage in range(1, len(self.paths[0]) + 1)),)
        return tuple(
            (f"{label}.",) if len(path) == 1 else tuple(f"{label}.{at}." for at in range(1, len(path) + 1))
            for label, path in zip(self.labels, self.paths, strict=True)
        )


Term: TypeAlias = Leaf | Group
Path: TypeAlias = tuple[Term, ...]


def grouped(paths: Iterable[Path], mark: SourcePosition = NOWHERE) -> Term:
    """The term that alternatives in parentheses make: a group only where it is one."""
    flat = flattened(paths)
    return flat[0][0] if len(flat) == len(flat[0]) == 1 else Group(flat, mark=mark)


def flattened(paths: Iterable[Path]) -> tuple[Path, ...]:
    """The same alternatives, those of a bare group that is all of a path taken out of it."""
    return tuple(inner for path in paths for inner in _alternatives(path))


def _alternatives(path: Path) -> tuple[Path, ...]:
    match path:
        case (Group(paths=paths, given=()),):
            return paths
    return (path,)


def sequence(terms: Iterable[Term]) -> Path:
    """The path of these terms, bare groups of a single path taken out of their parentheses."""
    return tuple(inner for term in terms for inner in _stages(term))


def _stages(term: Term) -> Path:
    match term:
        case Group(paths=(path,), given=()):
            return path
    return (term,)


def attached(term: Term, given: Choice) -> Term:
    """The term with one argument more, for everything inside; SpecError where it is named there already."""
    if given.letter in term.letters:
        what = {"w": "the width", "n": "the depth n"}.get(given.letter, given.letter)
        raise given.mark.error(f"{what} is given twice for one stage; leave one out")
    return replace(term, given=tuple(sorted((*term.given, given), key=_rank)))


def _rank(given: Choice) -> int:
    return ORDER.index(given.letter) if given.letter in ORDER else len(ORDER)


def options_text(options: Options) -> str:
    """The options as the language writes them: `4..6`, `320..512/64`, `4|9`, `ln|bn`."""
    return "|".join(_runs(options))


def _runs(options: Sequence[int | str]) -> Iterator[str]:
    at = 0
    while at < len(options):
        length = _run(options, at)
        low, high = options[at], options[at + length - 1]
        if isinstance(low, int) and isinstance(high, int) and length > 2:
            step = (high - low) // (length - 1)
            yield f"{low}..{high}" + (f"/{step}" if step > 1 else "")
            at += length
        else:
            yield str(low)
            at += 1


def _run(options: Sequence[int | str], at: int) -> int:
    """How many of the options from here on are evenly spaced numbers."""
    numbers = [option for option in options[at : at + 2] if isinstance(option, int)]
    if len(numbers) < 2:
        return 1
    step, end = numbers[1] - numbers[0], at + 2
    while end < len(options) and options[end] == numbers[1] + step * (end - at - 1):
        end += 1
    return end - at
