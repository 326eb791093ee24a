"""Networks of timm as text and value: `timm:NAME argument=value ...`."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

from hiri_search.language.errors import SpecError
from hiri_search.language.net import Net
from hiri_search.language.parser import parse_net

PREFIX = "timm:"
LONGEST = 500  # characters
REMEMBERED = 2**13  # networks
NAME = re.compile(r"[a-zA-Z_]\w*")
NUMBER = re.compile(r"-?\d+(\.\d+)?")
WORDS = {"true": True, "false": False}
FORM = "write timm:NAME, or timm:NAME argument=value ..., such as timm:pvt_v2_b2 depths=1,1,2,1"

Scalar = int | float | bool | str
Value = Scalar | tuple[Scalar, ...]


@dataclass(frozen=True)
class Peer:
    """A network of timm, with arguments of its builder there: `timm:pvt_v2_b2 depths=1,1,2,1`.

    Whether timm has it, and takes the arguments and a side, is known where it is built.
    """

    name: str
    arguments: tuple[tuple[str, Value], ...] = ()  # by name

    def __str__(self) -> str:
        return " ".join([PREFIX + self.name, *(f"{name}={_text(value)}" for name, value in self.arguments)])

    @property
    def full(self) -> str:
        """What `key` is made of."""
        return str(self)

    @cached_property
    def key(self) -> str:
        """12 hex digits, as those of a Net: equal for equal texts, the same on every machine."""
        return hashlib.sha256(self.full.encode()).hexdigest()[:12]


Network = Net | Peer


def parse_network(text: str, *, let: Mapping[str, str] | None = None) -> Network:
    """A network of our language, or one of timm's where the text begins with `timm:`; SpecError."""
    if text.strip().startswith(PREFIX):
        return _parse_peer(text.strip())
    known = let or {}
    if not all(isinstance(value, str) for value in known.values()):
        return parse_net(text, let=let)  # which says what is wrong with it
    return _remembered(text, tuple(known.items()))


@lru_cache(REMEMBERED)
def _remembered(text: str, let: tuple[tuple[str, str], ...]) -> Net:
    """A study's rows are read again and again: when it is read, begun, counted, asked for."""
    return parse_net(text, let=dict(let))


def _parse_peer(text: str) -> Peer:
    if len(text) > LONGEST:
        raise SpecError(f"a text of {len(text)} characters; a name of timm's with arguments has at most {LONGEST}")
    name, *arguments = text.removeprefix(PREFIX).split() or [""]
    if not NAME.fullmatch(name):
        raise SpecError(f"{text!r} names no network; {FORM}")
    pairs = dict(_argument(word) for word in arguments)
    if len(pairs) < len(arguments):
        raise SpecError(f"{text!r} has one argument twice; write each once")
    return Peer(name, tuple(sorted(pairs.items())))


def _argument(word: str) -> tuple[str, Value]:
    name, equals, value = word.partition("=")
    if not equals or not NAME.fullmatch(name) or not all(value.split(",")):
        raise SpecError(f"{word!r} is no argument; {FORM}")
    values = tuple(map(_scalar, value.split(",")))
    return name, values if len(values) > 1 else values[0]


def _scalar(text: str) -> Scalar:
    if NUMBER.fullmatch(text):
        return float(text) if "." in text else int(text)
    return WORDS.get(text, text)


def _text(value: Value) -> str:
    if isinstance(value, tuple):
        return ",".join(map(_text, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
