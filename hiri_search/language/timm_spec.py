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

TIMM_PREFIX = "timm:"
MAX_TIMM_LENGTH = 500  # characters
_CACHE_SIZE = 2**13  # networks
_NAME = re.compile(r"[a-zA-Z_]\w*")
_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_BOOLEANS = {"true": True, "false": False}
FORM = "write timm:NAME, or timm:NAME argument=value ..., such as timm:pvt_v2_b2 depths=1,1,2,1"

Scalar = int | float | bool | str
ArgumentValue = Scalar | tuple[Scalar, ...]


@dataclass(frozen=True)
class TimmNetwork:
    """A network of timm, with arguments of its builder there: `timm:pvt_v2_b2 depths=1,1,2,1`.

    Whether timm has it, and takes the arguments and a side, is known where it is built.
    """

    name: str
    arguments: tuple[tuple[str, ArgumentValue], ...] = ()  # by name

    def __str__(self) -> str:
        return " ".join([TIMM_PREFIX + self.name, *(f"{name}={_text(value)}" for name, value in self.arguments)])

    @property
    def canonical_text(self) -> str:
        """What `key` is made of."""
        return str(self)

    @cached_property
    def key(self) -> str:
        """12 hex digits, as those of a Net: equal for equal texts, the same on every machine."""
        return hashlib.sha256(self.canonical_text.encode()).hexdigest()[:12]


Network = Net | TimmNetwork


def parse_network(text: str, *, let: Mapping[str, str] | None = None) -> Network:
    """A network of our language, or one of timm's where the text begins with `timm:`; SpecError."""
    if text.strip().startswith(TIMM_PREFIX):
        return _parse_peer(text.strip())
    known = let or {}
    if not all(isinstance(value, str) for value in known.values()):
        return parse_net(text, let=let)  # which says what is wrong with it
    return _remembered(text, tuple(known.items()))


@lru_cache(_CACHE_SIZE)
def _remembered(text: str, let: tuple[tuple[str, str], ...]) -> Net:
    """A study's rows are read again and again: when it is read, begun, counted, asked for."""
    return parse_net(text, let=dict(let))


def _parse_peer(text: str) -> TimmNetwork:
    if len(text) > MAX_TIMM_LENGTH:
        raise SpecError(
            f"a text of {len(text)} characters; a name of timm's with arguments has at most {MAX_TIMM_LENGTH}"
        )
    name, *arguments = text.removeprefix(TIMM_PREFIX).split() or [""]
    if not _NAME.fullmatch(name):
        raise SpecError(f"{text!r} names no network; {FORM}")
    pairs = dict(_argument(word) for word in arguments)
    if len(pairs) < len(arguments):
        raise SpecError(f"{text!r} has one argument twice; write each once")
    return TimmNetwork(name, tuple(sorted(pairs.items())))


def _argument(word: str) -> tuple[str, ArgumentValue]:
    name, equals, value = word.partition("=")
    if not equals or not _NAME.fullmatch(name) or not all(value.split(",")):
        raise SpecError(f"{word!r} is no argument; {FORM}")
    values = tuple(map(_scalar, value.split(",")))
    return name, values if len(values) > 1 else values[0]


def _scalar(text: str) -> Scalar:
    if _NUMBER.fullmatch(text):
        return float(text) if "." in text else int(text)
    return _BOOLEANS.get(text, text)


def _text(value: ArgumentValue) -> str:
    if isinstance(value, tuple):
        return ",".join(map(_text, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
