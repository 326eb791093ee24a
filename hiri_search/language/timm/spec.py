"""TimmNetwork: a network of timm as text (`timm:NAME argument=value ...`) and as a value."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

from hiri_search.language.errors import SpecError
from hiri_search.language.net import Net, text_key
from hiri_search.language.parser import parse_net
from hiri_search.language.stages import KINDS, Part

TIMM_PREFIX = "timm:"
MAX_TIMM_LENGTH = 500  # characters
_CACHE_SIZE = 2**13  # parsed networks
NAME = re.compile(r"[a-zA-Z_]\w*")
_NUMBER = re.compile(r"-?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_BOOLEANS = {"true": True, "false": False}
_PYTHON = {"True": "write true", "False": "write false", "None": "leave the argument out"}  # they would be words
_FORM = "write timm:NAME, or timm:NAME argument=value ..., such as timm:pvt_v2_b2 depths=1,1,2,1"

Scalar = int | float | bool | str
ArgumentValue = Scalar | tuple[Scalar, ...]


@dataclass(frozen=True)
class TimmNetwork:
    """A network of timm, with arguments of its timm builder: `timm:pvt_v2_b2 depths=1,1,2,1`.

    The name, the arguments and the input side are checked against timm only when the network is built.
    """

    name: str
    arguments: tuple[tuple[str, ArgumentValue], ...] = ()  # sorted by name

    def __str__(self) -> str:
        return " ".join([TIMM_PREFIX + self.name, *(f"{name}={_value_text(value)}" for name, value in self.arguments)])

    @property
    def canonical_text(self) -> str:
        """The text of the network; `key` is a hash of this text."""
        return str(self)

    @cached_property
    def key(self) -> str:
        """Key of the canonical text (`text_key`): equal for equal texts."""
        return text_key(self.canonical_text)


Backbone = Net | TimmNetwork


def parse_backbone(text: str, *, let: Mapping[str, str] | None = None) -> Backbone:
    """Return the network of a spec, or the timm network of a text that begins with `timm:`; may raise SpecError."""
    if text.strip().startswith(TIMM_PREFIX):
        return _parse_timm(text.strip())
    texts = let or {}
    if not all(isinstance(value, str) for value in texts.values()):
        return parse_net(text, let=let)  # raises the SpecError for this let
    return _cached_parse(text, tuple(texts.items()), tuple(KINDS.values()))


@lru_cache(_CACHE_SIZE)
def _cached_parse(text: str, let: tuple[tuple[str, str], ...], kinds: tuple[type[Part], ...]) -> Net:
    """Parse a spec once for these registered kinds: a study parses the specs of its rows many times."""
    return parse_net(text, let=dict(let))


def _parse_timm(text: str) -> TimmNetwork:
    if len(text) > MAX_TIMM_LENGTH:
        raise SpecError(f"this timm network has {len(text)} characters; the maximum is {MAX_TIMM_LENGTH}")
    name, *arguments = text.removeprefix(TIMM_PREFIX).split() or [""]
    check_timm_name(name, text, _FORM)
    pairs = dict(_argument(word) for word in arguments)
    if len(pairs) < len(arguments):
        raise SpecError(f"{text!r} sets an argument twice; set each argument once")
    return TimmNetwork(name, tuple(sorted(pairs.items())))


def check_timm_name(name: str, text: str, form: str) -> None:
    """Raise SpecError unless a text names a model of timm in a valid form, without a tag of weights."""
    architecture, dot, tag = name.partition(".")
    if dot and NAME.fullmatch(architecture):
        weights = f"{text!r} names weights of timm ({tag}), which belong to the recipe"
        raise SpecError(f"{weights}; write {TIMM_PREFIX}{architecture}, and recipe.pretrained={tag} to begin from them")
    if not NAME.fullmatch(name):
        raise SpecError(f"{text!r} has no valid model name; {form}")


def _argument(word: str) -> tuple[str, ArgumentValue]:
    name, equals, value = word.partition("=")
    if not equals or not NAME.fullmatch(name) or not all(value.split(",")):
        raise SpecError(f"{word!r} is not a valid argument; {_FORM}")
    values = tuple(map(timm_scalar, value.split(",")))
    return name, values if len(values) > 1 else values[0]


def timm_scalar(text: str) -> Scalar:
    """Return a value as timm takes it: a number, true, false or a word. Raises SpecError for a value of Python."""
    if text in _PYTHON:
        raise SpecError(f"{text} is a word here; {_PYTHON[text]}")
    if _NUMBER.fullmatch(text):
        return int(text) if text.lstrip("-").isdigit() else float(text) + 0.0  # -0.0 is 0.0
    return _BOOLEANS.get(text, text)


def _value_text(value: ArgumentValue) -> str:
    return ",".join(map(scalar_text, value)) if isinstance(value, tuple) else scalar_text(value)


def scalar_text(value: Scalar) -> str:
    """Return a value as it is written."""
    return str(value).lower() if isinstance(value, bool) else str(value)
