"""A study as a value: what it holds, and what it means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from hiri_search.language import Net, Space, parse, parse_net
from hiri_search.training.job import DataSource
from hiri_search.training.recipe import Recipe, SettingError

MOST_SEEDS = 100  # more are meant as one seed: `seeds: 2024`


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)  # table: 8 is table: "8"


def _as_mapping(word: str) -> Any:
    """`data: drawn` stands for `data: {source: drawn}`, and so with every short form."""
    return lambda value: {word: value} if isinstance(value, str) else value


def _as_seeds(value: Any) -> Any:
    """`seeds: 3` stands for `seeds: [0, 1, 2]`."""
    if not isinstance(value, int) or isinstance(value, bool):
        return value
    if not 1 <= value <= MOST_SEEDS:
        raise ValueError(f"{value} is no number of seeds; write one from 1 to {MOST_SEEDS}, or a list: [{value}]")
    return tuple(range(value))


class Row(_Strict):
    """A named network of an ablation."""

    spec: str
    paper: str | None = None  # what the paper's table calls it, where that is not its name here
    note: str = ""  # said in the report beside it


class Counted(_Strict):
    """The network whose cost is reported: at the side and for the classes of the paper."""

    side: int = Field(448, ge=1, le=8192)
    classes: int = Field(1000, ge=1)


class Proxy(_Strict):
    """How the network that is trained stands in for the one that is counted."""

    width: int = Field(1, ge=1)  # widths, head sizes and stem widths are divided by this, numbers of heads kept
    depth: int = Field(1, ge=1)  # depths are divided by this and rounded up
    side: int = Field(448, ge=1, le=8192)  # pixels that it sees
    classes: int | None = Field(None, ge=2)  # the first so many of the data's; None: all


class Search(_Strict):
    """How networks are taken from a space."""

    sampler: Literal["grid", "random"] = "random"
    networks: int = Field(20, ge=1)
    seed: int = 0


class Latency(_Strict):
    """How inference is timed, on the device of the study, for the counted network at its side."""

    batch: int = Field(1, ge=1)
    repeats: int = Field(5, ge=1)


class Study(_Strict):
    """A study file, with a profile laid over it."""

    title: str = ""
    table: str = ""  # the table of the paper that the rows belong to: "8"
    let: dict[str, str] = {}
    nets: dict[str, Annotated[Row, BeforeValidator(_as_mapping("spec"))]] | None = None
    space: str | None = None
    search: Search = Search()
    counted: Counted = Counted()
    proxy: Proxy = Proxy()
    data: Annotated[DataSource, BeforeValidator(_as_mapping("source"))] = DataSource()
    recipe: Recipe = Recipe()
    seeds: Annotated[tuple[int, ...], BeforeValidator(_as_seeds)] = (0,)
    latency: Latency | None = None  # None: not measured

    @model_validator(mode="after")
    def _whole(self) -> Study:
        if (self.nets is None) == (self.space is None):
            raise SettingError("space", "a study has either nets: (an ablation) or space: (a search), and not both")
        if self.nets is not None and not self.nets:
            raise SettingError("nets", "nets: holds no network; write `name: spec` lines under it")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise SettingError(
                "seeds", "seeds: one stands there twice, or none; write a number of them, or a list without repeats"
            )
        if (self.data.train or self.recipe.batch) < self.recipe.batch:
            found = f"recipe.batch={self.recipe.batch} is more than data.train={self.data.train}"
            raise SettingError("recipe.batch", f"{found}; make the batch smaller or take more pictures")
        return self


class SpaceFile(_Strict):
    """A file of `spaces/`."""

    title: str = ""
    let: dict[str, str] = {}
    space: str


def space_of(study: Study) -> Space:
    """What a search walks."""
    assert study.space is not None
    return parse(study.space, let=study.let)


def networks_of(study: Study) -> dict[str, Net]:
    """The networks of an ablation by name."""
    return {name: parse_net(row.spec, let=study.let) for name, row in (study.nets or {}).items()}


def stand_in(net: Net, proxy: Proxy) -> Net:
    """The network that is trained for one that is counted; SpecError where it cannot be made."""
    small = net.shrunk(width=proxy.width, depth=proxy.depth)
    small.grids(proxy.side)
    return small


def check_fits(net: Net, study: Study) -> None:
    """SpecError where a network cannot be counted at the study's side, or no stand-in of it trained."""
    net.grids(study.counted.side)
    stand_in(net, study.proxy)


def meaning(study: Study) -> dict[str, Any]:
    """What decides the results of a study, in plain values: two studies that mean the same give the same."""
    plain = study.model_dump(mode="json", exclude={"title", "table", "let", "nets", "space", "latency"})
    if study.space is not None:
        return plain | {"space": str(space_of(study))}
    return plain | {"nets": {name: str(net) for name, net in networks_of(study).items()}}


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """`recipe.epochs: 12 -> 14`, for each value of two meanings that differs."""
    before, after = _flat(old), _flat(new)
    names = [*before, *(name for name in after if name not in before)]
    absent = "(absent)"
    return [
        f"{name}: {before.get(name, absent)} -> {after.get(name, absent)}"
        for name in names
        if before.get(name, absent) != after.get(name, absent)
    ]


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {name: value}
    return {k: v for key, inner in value.items() for k, v in _flat(inner, f"{name}.{key}".lstrip(".")).items()}
