"""Lexer: a spec split into tokens with their columns."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hiri_search.language.syntax_tree import SourcePosition

MAX_SPEC_LENGTH = 2_000  # characters of a spec
_TOKEN = re.compile(r"\s*(?:([A-Za-z][A-Za-z0-9_]*)|([0-9]+)|(->|\.\.|[()|*=/])|(\S))", re.ASCII)
_HINTS = {
    ",": ": separate arguments with spaces",
    ".": ": write a range as 1..3; all numbers are integers",
    **dict.fromkeys("->→+", ": connect stages with ->; numbers have no sign"),
    **dict.fromkeys("[{", ": write groups and arguments in ( )"),
    **dict.fromkeys("'\"", ": write the spec without quotes"),
}


@dataclass(frozen=True)
class Token:
    """A token of a spec; `kind` is `name`, `number`, `end`, or the text of an operator."""

    kind: str
    text: str
    source: SourcePosition

    def __str__(self) -> str:
        return "end of spec" if self.kind == "end" else f"'{self.text}'"


def tokens(text: str, let: str = "") -> list[Token]:
    """Return all tokens of a spec, the last of kind `end`; raise SpecError at an unknown character."""
    if len(text) > MAX_SPEC_LENGTH:
        raise SourcePosition(text, MAX_SPEC_LENGTH, let).error(
            f"this spec has {len(text):,} characters; the maximum is {MAX_SPEC_LENGTH:,}"
        )
    result = []
    for match in _TOKEN.finditer(text):
        name, number, operator, unknown = match.groups()
        source = SourcePosition(text, match.start(match.lastindex or 0), let)
        if unknown:
            raise source.error(f"unexpected character {unknown!r}{_HINTS.get(unknown, '')}")
        kind = "name" if name else "number" if number else operator
        result.append(Token(kind, match[match.lastindex or 0], source))
    return [*result, Token("end", "", SourcePosition(text, len(text.rstrip()), let))]
