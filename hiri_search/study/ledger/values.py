"""Values inside ledger events: a network, its stand-in, the images and the code of a run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from pydantic import ConfigDict, JsonValue, TypeAdapter
from pydantic_core import to_jsonable_python

from hiri_search.system.text import storable
from hiri_search.training.recipe import Recipe

JsonObject: TypeAlias = dict[str, JsonValue]
_JSON: TypeAdapter[JsonObject] = TypeAdapter(JsonObject)
_Value = TypeVar("_Value")


class JsonRecord:
    """A value with typed fields, read from JSON without any conversion."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True)
class StandIn(JsonRecord):
    """The network that is trained for the one that is counted."""

    spec: str
    side: int  # pixels of the square input
    params: int
    macs: int  # multiply-adds of one image
    recipe: JsonObject | None = None  # of a row with its own; None: that of the study
    width_divisor: int = 1  # the recipe is for a network whose widths are this many times as large


@dataclass(frozen=True)
class NetworkFacts(JsonRecord):
    """A network as it is counted, and its stand-in."""

    name: str  # of the row of an ablation; of a search, the spec
    key: str  # hash of the network
    spec: str
    side: int | str  # pixels of the square input at which it is counted; of dense tasks WIDTHxHEIGHT
    params: int
    macs: int  # multiply-adds of one image
    core_macs: int  # those of convolutions and matrix products alone
    by_part: dict[str, tuple[int, int]]  # params and multiply-adds of each part
    stand_in: StandIn | None = None  # None: counted and shown, not trained
    ms_per_image: float | None = None  # measured inference, where a search needs it
    merged_from: str = ""  # the results folder of its study, in a merged ledger
    merged_name: str = ""  # its name in that study, where a merge had to rename it

    @property
    def own_name(self) -> str:
        """The name of the network in the study that it comes from."""
        return self.merged_name or self.name

    @property
    def training(self) -> tuple[str, str]:
        """Key of the network and its own recipe, if any: together what a study trains once with each seed.

        Settings with their defaults are left out: ledgers of earlier versions do not have all of them.
        """
        own = self.stand_in and self.stand_in.recipe
        changed = own and {name: value for name, value in own.items() if value != getattr(Recipe, name, None)}
        return self.key, json.dumps(changed, sort_keys=True) if self.stand_in else ""

    @property
    def trained(self) -> StandIn:
        """The stand-in of a network that is trained."""
        assert self.stand_in, f"{self.name} is not trained"
        return self.stand_in


@dataclass(frozen=True)
class ImageSet(JsonRecord):
    """The images of a study."""

    train: int  # images
    val: int
    classes: int
    fingerprints: dict[str, str]  # content fingerprint by side in pixels
    skipped: tuple[str, ...] = ()  # unreadable images that were left out
    notes: tuple[str, ...] = ()  # sentences on other files that were left out, and on images that were held out
    test: int = 0  # images; 0: there is no test split


@dataclass(frozen=True)
class CodeVersion(JsonRecord):
    """The version of hiri_search that ran."""

    version: str | None
    digest: str  # of its files
    commit: str | None = None  # None: not in git
    changed: tuple[str, ...] = ()  # files with uncommitted changes
    diff: str = ""


@dataclass(frozen=True)
class LedgerSum(JsonRecord):
    """Identity of a ledger: the SHA-256 of its first `lines` lines."""

    lines: int
    sha256: str


def to_json(value: object) -> JsonObject:
    """Return a dataclass as plain JSON values."""
    return _JSON.validate_python(storable(to_jsonable_python(value)))


def from_json(kind: type[_Value], values: JsonObject) -> _Value:
    """Return the dataclass that `to_json` wrote."""
    return TypeAdapter(kind).validate_python(values)


def changed_inputs(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """Return the names that have another fingerprint in `new` than in `old`; a name of one side alone is no change."""
    return [name for name, fingerprint in old.items() if new.get(name, fingerprint) != fingerprint]
