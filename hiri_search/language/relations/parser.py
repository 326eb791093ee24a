"""Recursive-descent parser of relations, with types: text -> Expression.

relation   = conjunction , { "or" , conjunction } ;
conjunction = negation , { "and" , negation } ;
negation   = "not" , negation | comparison ;
comparison = sum , { ( "==" | "!=" | "<" | "<=" | ">" | ">=" ) , sum } ;     (* w1 <= w2 <= w3 *)
sum        = product , { ( "+" | "-" ) , product } ;
product    = factor , { ( "*" | "//" | "%" ) , factor } ;
factor     = "-" , factor | NUMBER | NAME | WORD | "(" , relation , ")" ;
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, TypeAlias

from hiri_search.language.errors import SpecError
from hiri_search.language.relations.expression import COMPARISONS, Constant, Expression, Name, apply, names_in
from hiri_search.language.relations.vocabulary import Vocabulary

MAX_RELATION_LENGTH = 200  # characters
_TOKEN = re.compile(
    r"\s*(?:(\d+(?:\.\d+)?)(?![\w.])|([A-Za-z_]\w*(?:\.\d+)?)|(<=|>=|==|!=|//|[-+*%<>()])|(&&|\|\||\S))", re.ASCII
)
_HINTS = {
    "=": "write == to compare",
    "!": "write not, or != for unequal",
    "&&": "write and",
    "&": "write and",
    "||": "write or",
    "|": "write or",
    "/": "write // for a division without remainder",
    "'": "write words without quotes",
    '"': "write words without quotes",
}
_RESERVED = ("and", "or", "not")

_Type: TypeAlias = Literal["number", "word", "truth", "unknown"]


@dataclass(frozen=True)
class _Token:
    kind: str  # number, name, end, or the operator
    text: str
    column: int


@dataclass(frozen=True)
class _Typed:
    """A parsed part of a relation; the text of an unknown name is a Constant."""

    expression: Expression
    type: _Type
    token: _Token  # the first one


def parse_relation(text: str, vocabulary: Vocabulary) -> Expression:
    """Return the relation of a text over the names of a space; SpecError shows the mistake in the text."""
    if not isinstance(text, str) or not text.strip():
        raise SpecError(f"a relation must be text, as in w3 >= w2; found {text!r}")
    if len(text) > MAX_RELATION_LENGTH:
        raise SpecError(f"this relation has {len(text)} characters; the maximum is {MAX_RELATION_LENGTH}", text)
    return _RelationParser(text, vocabulary).parse_all()


class _RelationParser:
    def __init__(self, text: str, vocabulary: Vocabulary) -> None:
        self.text, self.vocabulary, self._at = text, vocabulary, 0
        self._tokens = [*self._read_tokens(), _Token("end", "end of the relation", len(text.rstrip()))]

    def _read_tokens(self) -> list[_Token]:
        tokens = []
        for match in _TOKEN.finditer(self.text):
            number, name, symbol, unknown = match.groups()
            column = match.start(match.lastindex or 0)
            if unknown:
                raise self._error(column, f"unexpected {unknown!r}; {_HINTS.get(unknown, self.vocabulary.form)}")
            kind = "number" if number else "name" if name and name not in _RESERVED else name or symbol
            tokens.append(_Token(kind, number or name or symbol, column))
        return tokens

    def _error(self, place: _Token | int, message: str) -> SpecError:
        return SpecError(message, self.text, place if isinstance(place, int) else place.column)

    def _take(self, *kinds: str) -> _Token | None:
        token = self._tokens[self._at]
        if token.kind not in kinds:
            return None
        self._at += 1
        return token

    def parse_all(self) -> Expression:
        parsed = self._relation()
        if not self._take("end"):
            token = self._tokens[self._at]
            raise self._error(token, f"unexpected {token.text}; expected a comparison, and, or, or the end")
        self._require(parsed, "truth")
        if not any(names_in(parsed.expression)):
            raise self._error(0, f"this relation is the same for every network; {self.vocabulary.form}")
        return parsed.expression

    def _relation(self) -> _Typed:
        return self._chain(self._conjunction, "or")

    def _conjunction(self) -> _Typed:
        return self._chain(self._negation, "and")

    def _chain(self, operand: Callable[[], _Typed], symbol: str) -> _Typed:
        left = operand()
        while self._take(symbol):
            right = operand()
            self._require(left, "truth")
            self._require(right, "truth")
            left = _Typed(apply(symbol, left.expression, right.expression), "truth", left.token)
        return left

    def _negation(self) -> _Typed:
        if token := self._take("not"):
            operand = self._negation()
            self._require(operand, "truth")
            return _Typed(apply("not", operand.expression), "truth", token)
        return self._comparison()

    def _comparison(self) -> _Typed:
        operands, symbols = [self._sum()], []
        while symbol := self._take(*COMPARISONS):
            symbols.append(symbol)
            operands.append(self._sum())
        if not symbols:
            return operands[0]
        parts = [self._compared(s, *pair) for s, pair in zip(symbols, pairwise(operands), strict=True)]
        whole = parts[0]
        for part in parts[1:]:
            whole = apply("and", whole, part)
        return _Typed(whole, "truth", operands[0].token)

    def _compared(self, symbol: _Token, left: _Typed, right: _Typed) -> Expression:
        if symbol.kind in ("==", "!=") and "word" in (left.type, right.type):
            for one, other in ((left, right), (right, left)):
                self._check_word(one, other)
        else:
            self._require(left, "number")
            self._require(right, "number")
        return apply(symbol.kind, left.expression, right.expression)

    def _check_word(self, side: _Typed, other: _Typed) -> None:
        """Raise SpecError unless a side is a name of words, or a word that the name on the other side can have."""
        if side.type == "word":
            return
        if side.type != "unknown" or not isinstance(other.expression, Name):
            self._require(side, "word")
        name = str(other.expression)
        values = self.vocabulary[name].values
        if side.token.text not in values:
            possible = " or ".join(sorted(map(str, values)))
            raise self._error(side.token, f"{name} is never {side.token.text}; in this space it is {possible}")

    def _sum(self) -> _Typed:
        return self._arithmetic(self._product, "+", "-")

    def _product(self) -> _Typed:
        return self._arithmetic(self._factor, "*", "//", "%")

    def _arithmetic(self, operand: Callable[[], _Typed], *symbols: str) -> _Typed:
        left = operand()
        while symbol := self._take(*symbols):
            right = operand()
            self._require(left, "number")
            self._require(right, "number")
            if symbol.kind in ("//", "%") and right.expression == Constant(0):
                raise self._error(right.token, "this divides by 0; write another divisor")
            left = _Typed(apply(symbol.kind, left.expression, right.expression), "number", left.token)
        return left

    def _factor(self) -> _Typed:
        if token := self._take("-"):
            operand = self._factor()
            self._require(operand, "number")
            return _Typed(apply("-", operand.expression), "number", token)
        if token := self._take("("):
            inner = self._relation()
            if not self._take(")"):
                raise self._error(self._tokens[self._at], f"unexpected {self._tokens[self._at].text}; expected )")
            return _Typed(inner.expression, inner.type, inner.token if inner.type == "unknown" else token)
        if token := self._take("number"):
            return _Typed(Constant(float(token.text) if "." in token.text else int(token.text)), "number", token)
        if token := self._take("name"):
            return self._name(token)
        token = self._tokens[self._at]
        raise self._error(token, f"unexpected {token.text}; {self.vocabulary.form}")

    def _name(self, token: _Token) -> _Typed:
        if (known := self.vocabulary.get(token.text)) is None:
            return _Typed(Constant(token.text), "unknown", token)
        return _Typed(Name(token.text, known.stage), "word" if known.is_word else "number", token)

    def _require(self, typed: _Typed, expected: _Type) -> None:
        if typed.type == expected:
            return
        if typed.type == "unknown":
            raise self._error(
                typed.token, f"this space has no {typed.token.text}; {self._suggestion(typed.token.text)}"
            )
        found = {"number": "a number", "word": "a word", "truth": "true or false"}
        message = f"this is {found[typed.type]}, where {found[expected]} must be"
        hints = {"truth": "compare it, as in >= 64", "number": "words are compared by == and !="}
        raise self._error(typed.token, f"{message}; {hints.get(expected, 'compare words with words')}")

    def _suggestion(self, name: str) -> str:
        from difflib import get_close_matches  # imported only for an error, to keep the package's import fast

        close = get_close_matches(name, self.vocabulary, 3, 0.6)
        return f"did you mean {' or '.join(close)}?" if close else self.vocabulary.form
