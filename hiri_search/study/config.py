"""A study as a value."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from hiri_search.cost.setting import Setting
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

    spec: str  # of our language, or `timm:NAME argument=value ...`
    side: int | None = Field(None, ge=1, le=8192)  # at which it is counted and timed; None: counted.side
    stand_in: str | None = None  # the network that is trained in its place; None: what proxy makes of it
    stand_in_side: int | None = Field(None, ge=1, le=8192)  # None: proxy.side, brought to the side of this row
    train: bool = True  # false: counted and shown, not trained
    recipe: Recipe | None = None  # None: the study's; in a file, keys laid over it
    curve: str = ""  # points of one curve are joined in figures
    paper: str | None = None  # what the paper's table calls it, where that is not its name here
    note: str = ""  # said in the report beside it


class Counted(_Strict):
    """The networks whose cost is reported: at the side and for the classes of the paper."""

    side: int = Field(448, ge=1, le=8192)
    classes: int = Field(1000, ge=1)


class Proxy(_Strict):
    """How the network that is trained stands in for the one that is counted.

    Networks of timm cannot be divided: they are trained as they are, unless their row names a stand-in.
    """

    width: int = Field(1, ge=1)  # widths, head sizes and stem widths are divided by this, numbers of heads kept
    depth: int = Field(1, ge=1)  # depths are divided by this and rounded up
    side: int = Field(448, ge=1, le=8192)  # pixels that it sees, where counted.side is counted
    classes: int | None = Field(None, ge=2)  # the first so many of the data's; None: all


class Search(_Strict):
    """How networks are taken from a space."""

    sampler: Literal["grid", "random"] = "random"
    networks: int = Field(20, ge=1)
    seed: int = 0


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
    cache: Literal["auto", "gpu", "disk", "none"] = "auto"  # where decoded pictures are kept; no digit depends on it
    recipe: Recipe = Recipe()
    seeds: Annotated[tuple[int, ...], BeforeValidator(_as_seeds)] = (0,)
    latency: Setting | None = None  # how inference of an ablation's rows is timed; None: not at all

    @model_validator(mode="after")
    def _whole(self) -> Study:
        if (self.nets is None) == (self.space is None):
            raise SettingError("space", "a study has either nets: (an ablation) or space: (a search), and not both")
        if self.nets is not None and not self.nets:
            raise SettingError("nets", "nets: holds no network; write `name: spec` lines under it")
        if self.nets is not None and not any(row.train for row in self.nets.values()):
            raise SettingError("nets", "nets: no row is trained; leave `train: false` out of one at least")
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
