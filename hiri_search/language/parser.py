"""Recursive-descent parser: text -> Space.

net    = path , { "|" , path } ;                        (* alternatives                   *)
path   = stage , { "->" , stage } ;                     (* a sequence of stages           *)
stage  = term , { "(" , arg , { arg } , ")" | "*" , depth } ;
term   = NAME | "(" , net , ")" ;                       (* a kind, a let name or a group  *)
arg    = [ NAME , "=" ] , value ;                       (* without a name: the width      *)
value  = item , { "|" , item } ;                        (* 4|6                            *)
item   = INT , [ ".." , INT , [ "/" , INT ] ] | NAME ;  (* 1..3   64..256/64   bn         *)
depth  = item | "(" , value , ")" ;                     (* *2   *1..3   *(1|2|4)          *)
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from hiri_search.language.ambiguity import check_distinct
from hiri_search.language.automaton import Automaton
from hiri_search.language.errors import SpecError
from hiri_search.language.lexer import MAX_SPEC_LENGTH, Token, tokens
from hiri_search.language.net import Net
from hiri_search.language.space import Space
from hiri_search.language.stages import KINDS
from hiri_search.language.syntax_tree import (
    Choice,
    Group,
    Leaf,
    Options,
    Path,
    SourcePosition,
    Term,
    inline_groups,
    make_group,
    make_path,
    with_argument,
)

_MAX_NESTING = 50  # of groups and lets
_MAX_LEAVES = MAX_SPEC_LENGTH // 4  # canonical text has at least four characters for a leaf, as in `t | `
_MAX_NUMBERS = 20_000  # in one value: more than any argument allows
_LET_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*", re.ASCII)


def parse(text: str, *, let: Mapping[str, str] | None = None) -> Space:
    """Return the space that a spec describes, with each name of `let` replaced by its text.

    An invalid spec raises SpecError, which shows the mistake and says what to write instead. In a valid space
    every combination of a stage's arguments is valid, and every network is written in exactly one way.
    """
    space, automaton = _parse(text, let)
    automaton.check_rules()
    check_distinct(automaton)
    return space


def parse_without_rules(text: str, *, let: Mapping[str, str] | None = None) -> Space:
    """Return a space as `parse` does, in which stages may have invalid combinations: relations must exclude these."""
    space, automaton = _parse(text, let)
    check_distinct(automaton)
    return space


def _parse(text: str, let: Mapping[str, str] | None) -> tuple[Space, Automaton]:
    space = Space(parse_tree(text, let or {}))
    length = len(str(space))
    if length > MAX_SPEC_LENGTH:  # the space could not be parsed again from its own text
        found = f"with all lets expanded, this spec has {length:,} characters"
        raise SpecError(f"{found}; the maximum is {MAX_SPEC_LENGTH:,}", text)
    return space, Automaton(space.root)


def parse_net(text: str, *, let: Mapping[str, str] | None = None) -> Net:
    """Return the only network of a spec; SpecError if the spec describes several networks."""
    space = parse(text, let=let)
    if space.size != 1:
        found = f"expected one network, but this spec describes {space.size:,}"
        raise SpecError(f"{found}; write a search space under `space:`", text)
    return space.replay({})


def parse_tree(text: str, let: Mapping[str, str]) -> Group:
    """Return the syntax tree of a spec in normal form, with lets expanded; checks the grammar only."""
    if not isinstance(text, str):
        raise SpecError(f"a spec must be text, as in hr(64 e=4)*2; found {text!r}")
    return Group(inline_groups(_Parser(text, _Lets(let)).parse_all()))


class _Lets:
    """The texts of `let`, each parsed once, at its first use."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self.texts = texts
        self._parsed: dict[str, tuple[tuple[Path, ...], int]] = {}
        self._open: list[str] = []
        for name, text in texts.items():
            _check_let(name, text)
        for name, text in texts.items():
            self.paths(name, SourcePosition(text, 0, name), 0)

    def paths(self, name: str, source: SourcePosition, depth: int) -> tuple[tuple[Path, ...], int]:
        """Return the alternatives of a let that is used at this position and nesting depth, and their own depth."""
        if name in self._open:
            circle = " -> ".join([*self._open[self._open.index(name) :], name])
            raise source.error(f"{name} contains itself: {circle}")
        if name not in self._parsed:
            self._open.append(name)
            parser = _Parser(self.texts[name], self, name, depth)
            self._parsed[name] = parser.parse_all(), parser.max_depth - depth
            self._open.pop()
        paths, height = self._parsed[name]
        return paths, depth + height


class _Parser:
    """Parser of one text: a spec, or a let that is used at some nesting depth."""

    def __init__(self, text: str, lets: _Lets, let: str = "", depth: int = 0) -> None:
        self._tokens = tokens(text, let)
        self._at = 0
        self._lets = lets
        self._depth = self.max_depth = depth

    @property
    def _token(self) -> Token:
        return self._tokens[self._at]

    def _take(self, *kinds: str) -> Token | None:
        """Return the next token and advance, if the token is of one of these kinds."""
        token = self._token
        if token.kind not in kinds:
            return None
        self._at += 1
        return token

    def _expect(self, expected: str, *kinds: str) -> Token:
        token = self._take(*kinds)
        if token is None:
            raise self._token.source.error(f"unexpected {self._token}; expected {expected}")
        return token

    def parse_all(self) -> tuple[Path, ...]:
        """Return the alternatives that the whole text describes."""
        paths = self._net()
        self._expect("->, | or the end of the spec", "end")
        return paths

    def _net(self) -> tuple[Path, ...]:
        paths = [self._path()]
        while self._take("|"):
            paths.append(self._path())
        return tuple(paths)

    def _path(self) -> Path:
        terms = [self._stage()]
        while self._take("->"):
            terms.append(self._stage())
        return make_path(terms)

    def _stage(self) -> Term:
        term = self._term()
        while opening := self._take("(", "*"):
            for choice in self._arguments() if opening.kind == "(" else [self._depth_argument(opening.source)]:
                term = with_argument(term, choice)
        return term

    def _term(self) -> Term:
        token = self._expect("a stem, a stage, a let name or a group", "name", "(")
        if token.text in KINDS:
            return Leaf(token.text, source=token.source)
        with self._nested(token.source):
            term = make_group(self._let(token) if token.kind == "name" else self._group(), token.source)
        if term.leaves > _MAX_LEAVES:
            raise token.source.error(f"with all lets expanded, this has more than {MAX_SPEC_LENGTH:,} characters")
        return term

    @contextmanager
    def _nested(self, source: SourcePosition) -> Iterator[None]:
        self._depth += 1
        self._check_depth(self._depth, source)
        yield
        self._depth -= 1

    def _check_depth(self, depth: int, source: SourcePosition) -> None:
        self.max_depth = max(self.max_depth, depth)
        if self.max_depth > _MAX_NESTING:
            raise source.error(f"more than {_MAX_NESTING} nested groups")

    def _group(self) -> tuple[Path, ...]:
        paths = self._net()
        self._expect("->, | or )", ")")
        return paths

    def _let(self, token: Token) -> tuple[Path, ...]:
        if token.text not in self._lets.texts:
            raise token.source.error(_unknown_name(token.text, [*KINDS, *self._lets.texts]))
        paths, max_depth = self._lets.paths(token.text, token.source, self._depth)
        self._check_depth(max_depth, token.source)
        return paths

    def _arguments(self) -> Iterator[Choice]:
        yield self._argument("an argument")
        while not self._take(")"):
            yield self._argument("an argument or )")

    def _argument(self, expected: str) -> Choice:
        token = self._token
        if not self._take("name"):
            return Choice("w", self._value(expected), token.source)
        if not self._take("="):
            raise token.source.error(f"'{token.text}' is not assigned to an argument; write it as in norm=bn")
        return Choice(token.text, self._value(f"a value of {token.text}"), token.source)

    def _depth_argument(self, source: SourcePosition) -> Choice:
        if not self._take("("):
            return Choice("n", self._item("a depth"), source)
        options = self._value("a depth")
        self._expect("| or )", ")")
        return Choice("n", options, source)

    def _value(self, expected: str) -> Options:
        items = [(self._token.source, self._item(expected))]
        while self._take("|"):
            items.append((self._token.source, self._item("another value")))
        return merged_options(items)

    def _item(self, expected: str) -> Options:
        token = self._expect(expected, "number", "name")
        if token.kind == "name":
            return (token.text,)
        low = high = _integer(token)
        step = 1
        if self._take(".."):
            high = self._number("the end of the range")
            step = self._number("the step of the range") if self._take("/") else 1
        return integer_range(low, high, step, token.source)

    def _number(self, expected: str) -> int:
        return _integer(self._expect(expected, "number"))


def _integer(token: Token) -> int:
    if len(token.text) > 6:
        raise token.source.error("this number is too large; write at most six digits")
    return int(token.text)


def integer_range(low: int, high: int, step: int, source: SourcePosition) -> Options:
    """Return the numbers of a range; SpecError at `source` where its ends or its step are wrong."""
    if step == 0:
        raise source.error("the step of a range must be at least 1")
    if high < low:
        raise source.error(f"the range {low}..{high} is descending; write {high}..{low}")
    if (high - low) % step:
        end = high - (high - low) % step
        raise source.error(f"the range {low}..{high}/{step} does not end at {high}; write {low}..{end}/{step}")
    if (high - low) // step >= _MAX_NUMBERS:
        raise source.error(f"this range has more than {_MAX_NUMBERS:,} numbers")
    return tuple(range(low, high + 1, step))


def merged_options(items: Sequence[tuple[SourcePosition, Options]]) -> Options:
    """Return the options of all items: numbers in ascending order, words in written order."""
    merged: dict[int | str, None] = {}
    for source, options in items:
        if type(options[0]) is not type(items[0][1][0]):
            raise source.error("numbers and words cannot be mixed in one value")
        if repeated := merged.keys() & set(options):
            raise source.error(f"{min(repeated)} is listed twice; remove one")
        merged.update(dict.fromkeys(options))
        if len(merged) > _MAX_NUMBERS:
            raise source.error(f"this value has more than {_MAX_NUMBERS:,} numbers")
    return tuple(sorted(merged) if isinstance(items[0][1][0], int) else merged)  # type: ignore[return-value]


def _check_let(name: object, text: object) -> None:
    if not isinstance(name, str) or not _LET_NAME.fullmatch(name):
        raise SpecError(f"{name!r} is not a valid let name; write a letter, then letters, digits or _")
    if name in KINDS:
        raise SpecError(f"let {name} would hide the built-in {name}; choose another name")
    if not isinstance(text, str):
        raise SpecError(f"let {name} must be text, as in hr(64 e=4)*2; found {text!r}")


def _unknown_name(name: str, valid: list[str]) -> str:
    from difflib import get_close_matches  # imported only for an error, to keep the package's import fast

    close = get_close_matches(name.lower(), valid, 1, 0.5)
    expected = f"did you mean {close[0]}?" if close else f"expected one of {', '.join(valid)}"
    return f"unknown name {name}; {expected}"
