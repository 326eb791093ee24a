"""Lexer: a spec cut into tokens that know their column."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hiri_search.language.syntax_tree import SourcePosition

MAX_SPEC_LENGTH = 2_000  # characters of a spec
_TOKEN = re.compile(r"\s*(?:([A-Za-z][A-Za-z0-9_]*)|([0-9]+)|(->|\.\.|[()|*=/])|(\S))", re.ASCII)
_HINTS = {
    ",": ": arguments are separated by spaces",
    ".": ": a range is written 1..3, and all numbers are whole",
    "-": ": one stage behind another is written ->",
    ">": ": one stage behind another is written ->",
    "→": ": one stage behind another is written ->",
    "+": ": one stage behind another is written ->",
    "[": ": groups and arguments stand in ( )",
    "{": ": groups and arguments stand in ( )",
    "'": ": nothing needs quotes",
    '"': ": nothing needs quotes",
}


@dataclass(frozen=True)
class Token:
    """A piece of a spec: of the sort `name`, `number` or `end`, or of its own sort where it is a sign."""

    kind: str
    text: str
    mark: SourcePosition

    def __str__(self) -> str:
        return "the text ends" if self.kind == "end" else f"'{self.text}' stands"


def tokens(text: str, let: str = "") -> list[Token]:
    """All tokens of a spec, the last one its end; SpecError for a character without meaning."""
    if len(text) > MAX_SPEC_LENGTH:
        raise SourcePosition(text, MAX_SPEC_LENGTH, let).error(
            f"{len(text):,} characters are too many; {MAX_SPEC_LENGTH:,} is the most"
        )
    found = []
    for match in _TOKEN.finditer(text):
        name, number, sign, other = match.groups()
        mark = SourcePosition(text, match.start(match.lastindex or 0), let)
        if other:
            raise mark.error(f"{other!r} has no meaning here{_HINTS.get(other, '')}")
        sort = "name" if name else "number" if number else sign
        found.append(Token(sort, match[match.lastindex or 0], mark))
    return [*found, Token("end", "", SourcePosition(text, len(text.rstrip()), let))]
