"""Syntax tree of a spec in normal form: leaves (stems and stages), groups of alternatives, and arguments."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod
from typing import TypeAlias

from hiri_search.language.errors import SpecError
from hiri_search.language.stages import KINDS, names, part_text

Option: TypeAlias = int | str
Options: TypeAlias = tuple[int, ...] | tuple[str, ...]  # numbers in ascending order, words in written order


@dataclass(frozen=True)
class SourcePosition:
    """A column of the spec, or of the text of a `let`."""

    text: str
    column: int
    let: str = ""

    def error(self, message: str) -> SpecError:
        """Return a SpecError that shows this position."""
        return SpecError(f"in let {self.let}: {message}" if self.let else message, self.text, self.column)


_NO_SOURCE = SourcePosition("", 0)


@dataclass(frozen=True)
class Choice:
    """An argument as written: its letter and the values to choose from."""

    letter: str
    options: Options
    source: SourcePosition = field(default=_NO_SOURCE, compare=False, repr=False)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Relative number of networks with each option: equal, since all combinations of arguments are networks."""
        return (1,) * len(self.options)

    def __str__(self) -> str:
        text = "|".join(ranges_text(self.options))
        return f"({text})" if self.letter == "n" and "|" in text else text


@dataclass(frozen=True)
class Leaf:
    """A stem or a stage of one kind, with the arguments written directly after it."""

    kind: str
    arguments: tuple[Choice, ...] = ()
    source: SourcePosition = field(default=_NO_SOURCE, compare=False, repr=False)
    leaves = 1

    def __str__(self) -> str:
        return part_text(self.kind, {choice.letter: str(choice) for choice in self.arguments})

    @cached_property
    def letters(self) -> frozenset[str]:
        return frozenset(choice.letter for choice in self.arguments)

    @cached_property
    def size(self) -> int:
        """Number of combinations of the arguments written here."""
        return prod(len(choice.options) for choice in self.arguments)


@dataclass(frozen=True)
class Group:
    """Alternative paths, and arguments that apply to every leaf of these paths."""

    paths: tuple[Path, ...]
    arguments: tuple[Choice, ...] = ()
    source: SourcePosition = field(default=_NO_SOURCE, compare=False, repr=False)

    def __str__(self) -> str:
        return part_text(f"({self.alternatives_text})", {choice.letter: str(choice) for choice in self.arguments})

    @property
    def alternatives_text(self) -> str:
        """The text between the parentheses."""
        return " | ".join(" -> ".join(map(str, path)) for path in self.paths)

    @cached_property
    def leaves(self) -> int:
        return sum(term.leaves for path in self.paths for term in path)

    @cached_property
    def letters(self) -> frozenset[str]:
        """Letters of the arguments of this group and of every term in it."""
        inner = (term.letters for path in self.paths for term in path)
        return frozenset(choice.letter for choice in self.arguments).union(*inner)

    @cached_property
    def size(self) -> int:
        """Number of networks (or parts of networks) that the group describes."""
        return prod(len(choice.options) for choice in self.arguments) * sum(self.sizes)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        return tuple(prod(term.size for term in path) for path in self.paths)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """A label for each path: its kind if it is one stage and no other path is of that kind, else its number."""
        kinds = [path[0].kind if len(path) == 1 and isinstance(path[0], Leaf) else "" for path in self.paths]
        count = Counter(kinds)
        return tuple(k if k and count[k] == 1 else str(number) for number, k in enumerate(kinds, 1))

    @cached_property
    def addresses(self) -> tuple[tuple[str, ...], ...]:
        """For each term of each path, the suffix that it adds to the group's prefix of decision names."""
        if len(self.paths) == 1:
            return (tuple(f"{stage}." for stage in range(1, len(self.paths[0]) + 1)),)
        return tuple(
            (f"{label}.",) if len(path) == 1 else tuple(f"{label}.{at}." for at in range(1, len(path) + 1))
            for label, path in zip(self.labels, self.paths, strict=True)
        )


Term: TypeAlias = Leaf | Group
Path: TypeAlias = tuple[Term, ...]


def make_group(paths: Iterable[Path], source: SourcePosition = _NO_SOURCE) -> Term:
    """Return alternatives in parentheses as a term: a group, or the single term that they consist of."""
    inlined = inline_groups(paths)
    return inlined[0][0] if len(inlined) == len(inlined[0]) == 1 else Group(inlined, source=source)


def inline_groups(paths: Iterable[Path]) -> tuple[Path, ...]:
    """Replace each path that is only a group without arguments by the alternatives of that group."""
    return tuple(inner for path in paths for inner in _alternatives(path))


def _alternatives(path: Path) -> tuple[Path, ...]:
    match path:
        case (Group(paths=paths, arguments=()),):
            return paths
    return (path,)


def make_path(terms: Iterable[Term]) -> Path:
    """Return the path of these terms; groups of one path and without arguments are inlined."""
    return tuple(inner for term in terms for inner in _inline_sequence(term))


def _inline_sequence(term: Term) -> Path:
    match term:
        case Group(paths=(path,), arguments=()):
            return path
    return (term,)


def with_argument(term: Term, choice: Choice) -> Term:
    """Return the term with one more argument for all its leaves; SpecError if some leaf already has it."""
    if choice.letter in term.letters:
        argument = {"w": "the width", "n": "the depth n"}.get(choice.letter, choice.letter)
        raise choice.source.error(f"{argument} is set twice for one stage; remove one")
    order = [*names(KINDS[_first_kind(term)])]
    arguments = sorted((*term.arguments, choice), key=lambda a: (*order, a.letter).index(a.letter))  # unknown: last
    return replace(term, arguments=tuple(arguments))


def _first_kind(term: Term) -> str:
    """Return the kind that orders the arguments of a term: every leaf of a group must have all of them."""
    while isinstance(term, Group):
        term = term.paths[0][0]
    return term.kind


def ranges_text(options: Sequence[int | str]) -> Iterator[str]:
    """Yield the options as spec text: `4..6`, `320..512/64`, or a single number or word."""
    start = 0
    while start < len(options):
        length = _progression_length(options, start)
        low, high = options[start], options[start + length - 1]
        if isinstance(low, int) and isinstance(high, int) and length > 2:
            step = (high - low) // (length - 1)
            yield f"{low}..{high}" + (f"/{step}" if step > 1 else "")
            start += length
        else:
            yield str(low)
            start += 1


def _progression_length(options: Sequence[int | str], start: int) -> int:
    """Number of evenly spaced integers from `start` on (an arithmetic progression)."""
    numbers = [option for option in options[start : start + 2] if isinstance(option, int)]
    if len(numbers) < 2:
        return 1
    step, end = numbers[1] - numbers[0], start + 2
    while end < len(options) and options[end] == numbers[1] + step * (end - start - 1):
        end += 1
    return end - start
