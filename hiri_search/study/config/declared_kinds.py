"""Kinds of the user as data: a ledger is read, and its specs parsed, without running the code that it was made with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, fields, make_dataclass
from typing import Any, ClassVar, Literal, TypeAlias

from hiri_search.language.errors import SpecError
from hiri_search.language.stages import (
    DOWNSAMPLINGS,
    KINDS,
    Argument,
    Downsampling,
    Part,
    Stage,
    Stem,
    number,
    register,
    word,
)
from hiri_search.user_code import UserCode

KindType: TypeAlias = Literal["stage", "stem", "downsampling"]
_BASES: Mapping[KindType, type[Part]] = {"stage": Stage, "stem": Stem, "downsampling": Downsampling}


@dataclass(frozen=True)
class ArgumentRecord:
    """An argument of a kind that its base does not have."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - read by pydantic, which this module does not import

    letter: str
    name: str
    low: int = 1
    high: int = 1
    words: tuple[str, ...] = ()
    scales: bool = False
    required: bool = False
    default: int | str | None = None

    def field(self) -> tuple[str, object, Any]:
        """Return the argument as a field of a dataclass."""
        default: dict[str, Any] = {} if self.required else {"default": self.default}
        if self.words:
            return self.name, str, word(self.letter, *self.words, **default)
        return self.name, int, number(self.letter, self.high, low=self.low, scales=self.scales, **default)


@dataclass(frozen=True)
class KindRecord:
    """A stage, stem or downsampling without its code."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    type: KindType
    arguments: tuple[ArgumentRecord, ...] = ()


class _Declared:
    """A kind that is known by its record only."""

    has_code = False
    record: ClassVar[KindRecord]

    def block(self, *args: object, **kwargs: object) -> Any:
        kind = getattr(self, "kind", "")
        raise SpecError(f"{kind} cannot be built: the code that registers it is not imported, only its ledger is read")

    module = block


def describe_kinds(code: UserCode) -> dict[str, KindRecord]:
    """Return the kinds that a study's code has registered, by name."""
    modules = {name.removesuffix(".py") for name in code.digests}
    kinds = [*KINDS.values(), *DOWNSAMPLINGS.values()]
    return {kind.kind: _record(kind) for kind in kinds if kind.__module__.partition(".")[0] in modules}


def _record(kind: type[Part]) -> KindRecord:
    name, base = next((name, base) for name, base in _BASES.items() if issubclass(kind, base))
    inherited = {each.name: each for each in fields(base)}
    own = [each for each in fields(kind) if not _same(each, inherited.get(each.name))]
    return KindRecord(type=name, arguments=tuple(map(_argument_record, own)))


def _same(field: Field[Any], inherited: Field[Any] | None) -> bool:
    return inherited is not None and (field.metadata, field.default) == (inherited.metadata, inherited.default)


def _argument_record(field: Field[Any]) -> ArgumentRecord:
    argument: Argument = field.metadata["argument"]
    default: Any = None if field.default is MISSING else field.default
    return ArgumentRecord(
        letter=argument.letter,
        name=field.name,
        low=argument.low,
        high=argument.high,
        words=tuple(argument.words),
        scales=argument.scales,
        required=field.default is MISSING,
        default=default,
    )


def declare(kinds: Mapping[str, KindRecord]) -> None:
    """Register kinds by their records, where their code is not imported."""
    for name, record in kinds.items():
        registry = DOWNSAMPLINGS if record.type == "downsampling" else KINDS
        known = registry.get(name)
        if known is None or (issubclass(known, _Declared) and known.record != record):
            own = {"kind": name, "record": record, "__module__": __name__}
            bases, arguments = (_Declared, _BASES[record.type]), [argument.field() for argument in record.arguments]
            register(make_dataclass(name, arguments, bases=bases, namespace=own, frozen=True, kw_only=True))
