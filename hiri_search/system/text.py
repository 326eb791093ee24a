"""Texts from outside (names, paths, messages) as texts that every file can hold and every terminal can show."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

# Control characters, line and paragraph separators, changes of the writing direction, and lone surrogates: Python's
# form of the bytes of a file name or an argument that are not UTF-8.
_INVISIBLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_NAMED = 3  # names in a sentence


def storable(value: Any) -> Any:
    r"""Return JSON values with lone surrogates as visible escapes, `\udce9`: UTF-8 and JSON readers refuse them."""
    match value:
        case str():
            return value.encode(errors="backslashreplace").decode()
        case dict():
            return {storable(name): storable(item) for name, item in value.items()}
        case list():
            return [storable(item) for item in value]
    return value


def with_joined_surrogates(text: str) -> str:
    """Return the text with each pair of surrogates as the one character that it stands for."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def not_storable(value: Any, key: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield each text in JSON values that has a lone surrogate, names of keys included, and its key."""
    match value:
        case str() if value != storable(value):
            yield key, value
        case dict():
            for name, item in value.items():
                yield from not_storable(name, (*key, str(name)))
                yield from not_storable(item, (*key, str(name)))
        case list() | tuple():
            for index, item in enumerate(value):
                yield from not_storable(item, (*key, str(index)))


def printable(text: str) -> str:
    r"""Return the text on one line, with visible escapes, such as `\n`, of all that a reader would not see."""
    return _INVISIBLE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def printable_lines(text: str) -> str:
    """Return the text as `printable` does, but with its line breaks."""
    return "\n".join(map(printable, text.split("\n")))


def first_names(names: Sequence[str]) -> str:
    """Return the first of some names, for a sentence."""
    return printable(", ".join([*names[:_NAMED], *(["..."] if len(names) > _NAMED else [])]))
