"""TimmSpace: a space over the arguments of timm's builders, `timm:NAME argument=3,(6|8) ... | timm:NAME ...`.

space    = builder , { "|" , builder } ;                        (* alternatives *)
builder  = "timm:" , NAME , { NAME , "=" , entry , { "," , entry } } ;
entry    = item | "(" , item , { "|" , item } , ")" ;           (* of an argument without commas also item|item *)
item     = INT , ".." , INT , [ "/" , INT ] | NUMBER | WORD ;   (* 1..3   64..256/64   0.5   gelu   true *)
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

from hiri_search.language.errors import SpecError
from hiri_search.language.lexer import MAX_SPEC_LENGTH
from hiri_search.language.parser import integer_range, merged_options
from hiri_search.language.space import Chooser, NetworkSpace, choose_index
from hiri_search.language.syntax_tree import Option, Options, SourcePosition, ranges_text
from hiri_search.language.timm.spec import (
    MAX_TIMM_LENGTH,
    NAME,
    TIMM_PREFIX,
    ArgumentValue,
    Backbone,
    Scalar,
    TimmNetwork,
    check_timm_name,
    scalar_text,
    timm_scalar,
)

_TOKEN = re.compile(r"\s*(?:([^\s(),|=]+)|([(),|=]))")
_RANGE = re.compile(r"(\d{1,6})\.\.(\d{1,6})(?:/(\d{1,6}))?", re.ASCII)
_FORM = "write timm:NAME argument=value ..., with choices such as timm:pvt_v2_b2 depths=3,4,(6|8),3"


@dataclass(frozen=True)
class TimmChoice:
    """One entry of an argument with its options: integers in ascending order, else texts in written order."""

    decision: str  # its name in relations and decisions: `depths.3` for the third entry of a list
    options: Options

    def __str__(self) -> str:
        text = "|".join(ranges_text(self.options))
        return f"({text})" if len(self.options) > 1 else text

    @property
    def longest(self) -> int:
        """The index of the option with the longest text."""
        return max(range(len(self.options)), key=lambda index: len(str(self.options[index])))

    def value(self, index: int) -> Scalar:
        """Return an option as timm takes it: a number, true, false or a word."""
        option = self.options[index]
        return option if isinstance(option, int) else timm_scalar(option)


@dataclass(frozen=True)
class TimmBuilder:
    """A builder of timm and the choices of its arguments, sorted by name."""

    name: str
    arguments: tuple[tuple[str, tuple[TimmChoice, ...]], ...]

    def __str__(self) -> str:
        written = (f"{name}={','.join(map(str, entries))}" for name, entries in self.arguments)
        return " ".join([TIMM_PREFIX + self.name, *written])

    @cached_property
    def choices(self) -> tuple[TimmChoice, ...]:
        """The entries of all arguments, in the order of the decisions."""
        return tuple(entry for _, entries in self.arguments for entry in entries)

    @property
    def size(self) -> int:
        return prod(len(choice.options) for choice in self.choices)

    def network(self, indices: Iterator[int]) -> TimmNetwork:
        """Return the network of these options, one index for each entry."""
        values: dict[str, ArgumentValue] = {}
        for name, entries in self.arguments:
            entry_values = tuple(entry.value(next(indices)) for entry in entries)
            values[name] = entry_values if len(entry_values) > 1 else entry_values[0]
        return TimmNetwork(self.name, tuple(values.items()))

    def indices_of(self, network: TimmNetwork) -> list[int] | None:
        """Return the index of the option of each entry that leads to a network; None where it is another one."""
        given, values = dict(network.arguments), list[Scalar | None]()
        for name, _ in self.arguments:
            value = given.get(name)
            values += value if isinstance(value, tuple) else (value,)
        if len(values) != len(self.choices):
            return None
        places = [
            next((index for index in range(len(choice.options)) if choice.value(index) == value), None)
            for choice, value in zip(self.choices, values, strict=True)
        ]
        indices = [index for index in places if index is not None]
        return indices if len(indices) == len(places) and self.network(iter(indices)) == network else None


@dataclass(frozen=True)
class TimmSpace(NetworkSpace[TimmNetwork]):
    """All combinations of the arguments of one or more builders of timm.

    A combination that timm cannot build is found when the network is built, not here.
    """

    builders: tuple[TimmBuilder, ...]

    def __str__(self) -> str:
        return " | ".join(map(str, self.builders))

    @property
    def size(self) -> int:
        return sum(self.sizes)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """The number of networks of each builder."""
        return tuple(builder.size for builder in self.builders)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of the builders: the options of the decision `which`."""
        return tuple(builder.name for builder in self.builders)

    def decision_name(self, builder: TimmBuilder, choice: TimmChoice) -> str:
        """Return the name of a decision: with the name of the builder if there are several."""
        return choice.decision if len(self.builders) == 1 else f"{builder.name}.{choice.decision}"

    def decide(self, choose: Chooser) -> TimmNetwork:
        builder = self.builders[choose_index("which", self.names, self.sizes, choose)]
        return builder.network(
            choose_index(self.decision_name(builder, choice), choice.options, (1,) * len(choice.options), choose)
            for choice in builder.choices
        )

    def decisions_of(self, network: Backbone) -> dict[str, Option] | None:
        for builder in self.builders:
            if isinstance(network, TimmNetwork) and (indices := builder.indices_of(network)) is not None:
                chosen = zip(builder.choices, indices, strict=True)
                which: dict[str, Option] = {"which": builder.name} if len(self.builders) > 1 else {}
                return which | {
                    self.decision_name(builder, choice): choice.options[index]
                    for choice, index in chosen
                    if len(choice.options) > 1
                }
        return None


def parse_timm_space(text: str) -> TimmSpace:
    """Return the space of a text that begins with `timm:`; may raise SpecError, with the place of the mistake."""
    return _TimmParser(text).parse_all()


class _TimmParser:
    def __init__(self, text: str) -> None:
        if len(text) > MAX_SPEC_LENGTH:
            raise SpecError(f"this space has {len(text):,} characters; the maximum is {MAX_SPEC_LENGTH:,}")
        self.text, self._at = text, 0
        self._tokens = [(m[m.lastindex or 0], m.start(m.lastindex or 0)) for m in _TOKEN.finditer(text)]
        self._tokens.append(("", len(text.rstrip())))

    @property
    def _next(self) -> str:
        return self._tokens[self._at][0]

    @property
    def _source(self) -> SourcePosition:
        return SourcePosition(self.text, self._tokens[self._at][1])

    def _take(self, symbol: str) -> bool:
        found = self._next == symbol
        self._at += found
        return found

    def _unexpected(self, expected: str) -> SpecError:
        found = f"'{self._next}'" if self._next else "end of the space"
        return self._source.error(f"unexpected {found}; expected {expected}")

    def _word(self, expected: str) -> str:
        if self._next in ("", *"(),|="):
            raise self._unexpected(expected)
        self._at += 1
        return self._tokens[self._at - 1][0]

    def parse_all(self) -> TimmSpace:
        builders = {}
        while True:
            source = self._source
            builder = self._builder()
            if builder.name in builders:
                message = f"{builder.name} is an alternative twice; write its choices as alternatives of an argument"
                raise source.error(message)
            builders[builder.name] = builder
            if not self._take("|"):
                break
        if self._next:
            raise self._unexpected("an argument such as depths=3,(4|6), or | timm:NAME")
        space = TimmSpace(tuple(builders.values()))
        if len(str(space)) > MAX_SPEC_LENGTH:
            raise SpecError(
                f"this space has {len(str(space)):,} characters; the maximum is {MAX_SPEC_LENGTH:,}", self.text
            )
        return space

    def _builder(self) -> TimmBuilder:
        begins = self._source
        word = self._word("timm:NAME")
        if not word.startswith(TIMM_PREFIX):
            raise begins.error(f"{word!r} begins no alternative; {_FORM}")
        name = word.removeprefix(TIMM_PREFIX)
        try:
            check_timm_name(name, word, _FORM)
        except SpecError as error:
            raise begins.error(error.message) from None
        arguments: dict[str, tuple[TimmChoice, ...]] = {}
        while self._next not in ("", "|"):
            source = self._source
            argument = self._word("an argument")
            if not NAME.fullmatch(argument):
                raise source.error(f"{argument!r} is no name of an argument; {_FORM}")
            if argument in arguments:
                raise source.error(f"{argument} is set twice; set each argument once")
            if not self._take("="):
                raise self._unexpected(f"a value, as in {argument}=2")
            arguments[argument] = self._entries(argument)
        builder = TimmBuilder(name, tuple(sorted(arguments.items())))
        longest = len(str(builder.network(choice.longest for choice in builder.choices)))
        if longest > MAX_TIMM_LENGTH:
            raise begins.error(f"a network of this space has {longest} characters; the maximum is {MAX_TIMM_LENGTH}")
        return builder

    def _entries(self, argument: str) -> tuple[TimmChoice, ...]:
        entries = [self._entry()]
        while self._take(","):
            entries.append(self._entry())
        if len(entries) == 1:
            return (TimmChoice(argument, self._more(*entries)),)
        if self._is_alternative:
            raise self._source.error("alternatives in a list need parentheses, as in 3,4,(6|8),3")
        return tuple(TimmChoice(f"{argument}.{number}", options[1]) for number, options in enumerate(entries, 1))

    @property
    def _is_alternative(self) -> bool:
        """True before `|` and another value, not before `|` and another builder."""
        return self._next == "|" and not self._tokens[self._at + 1][0].startswith(TIMM_PREFIX)

    def _more(self, first: tuple[SourcePosition, Options]) -> Options:
        """Return the alternatives of an argument without commas, which need no parentheses."""
        items = [first]
        while self._is_alternative:
            self._at += 1
            items.append(self._item())
        if self._next == ",":
            raise self._source.error("alternatives in a list need parentheses, as in 3,4,(6|8),3")
        return _merged(items)

    def _entry(self) -> tuple[SourcePosition, Options]:
        source = self._source
        if not self._take("("):
            return self._item()
        items = [self._item()]
        while self._take("|"):
            items.append(self._item())
        if not self._take(")"):
            raise self._unexpected("| or )")
        return source, _merged(items)

    def _item(self) -> tuple[SourcePosition, Options]:
        source = self._source
        word = self._word("a value")
        if match := _RANGE.fullmatch(word):
            low, high, step = (int(number or 1) for number in match.groups())
            return source, integer_range(low, high, step, source)
        if ".." in word:
            raise source.error(f"{word!r} is no range of integers; write it as 1..3 or 64..256/64")
        try:
            value = timm_scalar(word)
        except SpecError as error:
            raise source.error(error.message) from None
        return source, ((value,) if isinstance(value, int) and not isinstance(value, bool) else (scalar_text(value),))


def _merged(items: Sequence[tuple[SourcePosition, Options]]) -> Options:
    """Return the options of all items; whole numbers beside others, as in 0.5|1, are texts like these."""
    values = [timm_scalar(str(option)) for _, item in items for option in item]
    if any(isinstance(value, float) for value in values):
        _check_numbers(items)
        items = [(source, tuple(map(str, item))) for source, item in items]
    return merged_options(items)


def _check_numbers(items: Sequence[tuple[SourcePosition, Options]]) -> None:
    """Raise SpecError where a number is written in two ways, as in 1|1.0: it would be two networks."""
    seen: dict[Scalar, object] = {}
    for source, options in items:
        for option in options:
            value = timm_scalar(str(option))
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if is_number and str(seen.get(value, option)) != str(option):
                raise source.error(f"{option} is the number {seen[value]}, which is listed already; remove one")
            seen[value] = option
