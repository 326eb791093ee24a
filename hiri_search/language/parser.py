"""Recursive-descent parser: text -> Space.

net    = path , { "|" , path } ;                        (* alternatives                   *)
path   = stage , { "->" , stage } ;                     (* one after another              *)
stage  = term , { "(" , arg , { arg } , ")" | "*" , depth } ;
term   = NAME | "(" , net , ")" ;                       (* a kind, a let name, a group    *)
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
    attached,
    flattened,
    grouped,
    sequence,
)

MAX_DEPTH = 50  # groups and lets inside each other
MAX_LEAVES = MAX_SPEC_LENGTH // 4  # no text of LONGEST characters has more: a leaf takes three and what joins it one
MAX_NUMBERS = 20_000  # in one value: no argument takes so many
_LET_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*", re.ASCII)


def parse(text: str, *, let: Mapping[str, str] | None = None) -> Space:
    """The space that a spec writes, with the named texts of `let` pasted into it.

    SpecError for anything that is not one: it shows the place and says what to write instead. Every
    combination of arguments that a stage can take is possible, and no network of the space is written twice.
    """
    space = Space(parse_tree(text, let or {}))
    _check_length(space, text)
    check_distinct(Automaton(space.root))
    return space


def parse_net(text: str, *, let: Mapping[str, str] | None = None) -> Net:
    """The one network that a spec writes; SpecError where it writes several."""
    space = parse(text, let=let)
    if space.size != 1:
        found = f"this writes {space.size:,}"
        raise SpecError(f"one network must stand here, but {found}; a study searches them under `space:`", text)
    return space.replay({})


def parse_tree(text: str, let: Mapping[str, str]) -> Group:
    """The tree of a spec in normal form, lets pasted: of right grammar, but not yet checked."""
    if not isinstance(text, str):
        raise SpecError(f"a spec is text, as in hr(64 e=4)*2, and not {text!r}")
    return Group(flattened(_Reader(text, _Lets(let)).whole()))


def _check_length(space: Space, text: str) -> None:
    """Raise SpecError where the space could not be read again from its own text."""
    length = len(str(space))
    if length > MAX_SPEC_LENGTH:
        raise SpecError(
            f"written out, with lets pasted, this has {length:,} characters; {MAX_SPEC_LENGTH:,} is the most", text
        )


class _Lets:
    """The named texts, each read once, when first met."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self.texts = texts
        self._read: dict[str, tuple[tuple[Path, ...], int]] = {}
        self._open: list[str] = []
        for name, text in texts.items():
            _check_let(name, text)
        for name, text in texts.items():
            self.paths(name, SourcePosition(text, 0, name), 0)

    def paths(self, name: str, mark: SourcePosition, depth: int) -> tuple[tuple[Path, ...], int]:
        """What stands in a let that is named at this mark and depth, and the depth it reaches."""
        if name in self._open:
            circle = " -> ".join([*self._open[self._open.index(name) :], name])
            raise mark.error(f"{name} contains itself: {circle}")
        if name not in self._read:
            self._open.append(name)
            reader = _Reader(self.texts[name], self, name, depth)
            self._read[name] = reader.whole(), reader.deepest - depth
            self._open.pop()
        paths, height = self._read[name]
        return paths, depth + height


class _Reader:
    """One text being read: that of a spec, or of a let at some depth inside one."""

    def __init__(self, text: str, lets: _Lets, let: str = "", depth: int = 0) -> None:
        self._tokens = tokens(text, let)
        self._at = 0
        self._lets = lets
        self._depth = self.deepest = depth

    @property
    def _token(self) -> Token:
        return self._tokens[self._at]

    def _take(self, *sorts: str) -> Token | None:
        token = self._token
        if token.kind not in sorts:
            return None
        self._at += 1
        return token

    def _expect(self, what: str, *sorts: str) -> Token:
        token = self._take(*sorts)
        if token is None:
            raise self._token.mark.error(f"{self._token} where {what} must stand")
        return token

    def whole(self) -> tuple[Path, ...]:
        """The alternatives that the whole text writes."""
        paths = self._net()
        self._expect("-> or | or the end", "end")
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
        return sequence(terms)

    def _stage(self) -> Term:
        term = self._term()
        while opening := self._take("(", "*"):
            for given in self._arguments() if opening.kind == "(" else [self._depths(opening.mark)]:
                term = attached(term, given)
        return term

    def _term(self) -> Term:
        token = self._expect("a kind, a let name or a group", "name", "(")
        if token.text in KINDS:
            return Leaf(token.text, mark=token.mark)
        with self._inside(token.mark):
            term = grouped(self._named(token) if token.kind == "name" else self._parenthesised(), token.mark)
        if term.leaves > MAX_LEAVES:
            raise token.mark.error(
                f"with lets pasted this has more than {MAX_SPEC_LENGTH:,} characters, the most there may be"
            )
        return term

    @contextmanager
    def _inside(self, mark: SourcePosition) -> Iterator[None]:
        self._depth += 1
        self._reach(self._depth, mark)
        yield
        self._depth -= 1

    def _reach(self, depth: int, mark: SourcePosition) -> None:
        self.deepest = max(self.deepest, depth)
        if self.deepest > MAX_DEPTH:
            raise mark.error(f"more than {MAX_DEPTH} groups stand inside each other here")

    def _parenthesised(self) -> tuple[Path, ...]:
        paths = self._net()
        self._expect("-> or | or )", ")")
        return paths

    def _named(self, token: Token) -> tuple[Path, ...]:
        if token.text not in self._lets.texts:
            raise token.mark.error(_unknown(token.text, [*KINDS, *self._lets.texts]))
        paths, deepest = self._lets.paths(token.text, token.mark, self._depth)
        self._reach(deepest, token.mark)
        return paths

    def _arguments(self) -> Iterator[Choice]:
        yield self._argument("an argument")
        while not self._take(")"):
            yield self._argument("an argument or )")

    def _argument(self, what: str) -> Choice:
        token = self._token
        if not self._take("name"):
            return Choice("w", self._value(what), token.mark)
        if not self._take("="):
            raise token.mark.error(f"'{token.text}' has no letter and = in front, as norm=bn has")
        return Choice(token.text, self._value(f"a value of {token.text}"), token.mark)

    def _depths(self, mark: SourcePosition) -> Choice:
        if not self._take("("):
            return Choice("n", self._item("a depth"), mark)
        options = self._value("a depth")
        self._expect("| or )", ")")
        return Choice("n", options, mark)

    def _value(self, what: str) -> Options:
        items = [(self._token.mark, self._item(what))]
        while self._take("|"):
            items.append((self._token.mark, self._item("one more value")))
        return _merged(items)

    def _item(self, what: str) -> Options:
        token = self._expect(what, "number", "name")
        if token.kind == "name":
            return (token.text,)
        low = high = _whole(token)
        step = 1
        if self._take(".."):
            high = self._number("the end of the range")
            step = self._number("the step of the range") if self._take("/") else 1
        return _range(low, high, step, token.mark)

    def _number(self, what: str) -> int:
        return _whole(self._expect(what, "number"))


def _whole(token: Token) -> int:
    if len(token.text) > 6:
        raise token.mark.error("this number is too large; no number here has more than six digits")
    return int(token.text)


def _range(low: int, high: int, step: int, mark: SourcePosition) -> Options:
    if step == 0:
        raise mark.error("a range with step 0 goes nowhere")
    if high < low:
        raise mark.error(f"{low}..{high} counts down; write {high}..{low}")
    if (high - low) % step:
        end = high - (high - low) % step
        raise mark.error(f"{low}..{high}/{step} does not meet {high}; write {low}..{end}/{step}")
    if (high - low) // step >= MAX_NUMBERS:
        raise mark.error(f"this range has more than {MAX_NUMBERS:,} numbers")
    return tuple(range(low, high + 1, step))


def _merged(items: Sequence[tuple[SourcePosition, Options]]) -> Options:
    """The options of all items: numbers in order, words as they stand."""
    merged: dict[int | str, None] = {}
    for mark, options in items:
        if type(options[0]) is not type(items[0][1][0]):
            raise mark.error("numbers and words cannot be mixed in one value")
        if twice := merged.keys() & set(options):
            raise mark.error(f"{min(twice)} stands here twice; leave one out")
        merged.update(dict.fromkeys(options))
        if len(merged) > MAX_NUMBERS:
            raise mark.error(f"with these, the value has more than {MAX_NUMBERS:,} numbers")
    return tuple(sorted(merged) if isinstance(items[0][1][0], int) else merged)  # type: ignore[return-value]


def _check_let(name: object, text: object) -> None:
    """Raise SpecError where a let could not be used."""
    if not isinstance(name, str) or not _LET_NAME.fullmatch(name):
        raise SpecError(f"{name!r} is no name for a let; write a letter, then letters, digits or _")
    if name in KINDS:
        raise SpecError(f"the let {name} would hide the kind {name}; choose another name")
    if not isinstance(text, str):
        raise SpecError(f"the let {name} is {text!r}; write text, as in hr(64 e=4)*2")


def _unknown(name: str, known: list[str]) -> str:
    from difflib import get_close_matches  # only here, where time does not matter

    near = get_close_matches(name.lower(), known, 1, 0.5)
    return f"no kind is called {name}; " + (f"did you mean {near[0]}?" if near else f"there is {', '.join(known)}")
