"""Study: the schema of a study file (pydantic)."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from hiri_search.cost.budget.constraints import CostConstraints, parse_constraints
from hiri_search.cost.latency.config import LatencyConfig
from hiri_search.system.redaction import redacted, secret_in
from hiri_search.training.job import DataSource
from hiri_search.training.recipe import Recipe, SettingError

SamplerName = Literal["surrogate", "evolution", "random", "grid", "tpe", "nsga2", "nsga3", "gp"]
ObjectiveName = Literal["top1", "gmacs", "mparams", "ms_per_image", "memory"]
ZeroCostName = Literal["synflow", "naswot", "zen"]

_ROUNDING = 1e-9  # a third of 3 is 1
CREDENTIALS = "the environment, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
MAX_SEEDS = 100  # more are meant as one seed: `seeds: 2024`


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)  # table: 8 is table: "8"


def _as_mapping(word: str) -> Any:
    """`data: drawn` stands for `data: {source: drawn}`, and so with every short form."""
    return lambda value: {word: value} if isinstance(value, str) else value


def _as_seeds(value: Any) -> Any:
    """`seeds: 3` stands for `seeds: [0, 1, 2]`."""
    if not isinstance(value, int) or isinstance(value, bool):
        return value
    if not 1 <= value <= MAX_SEEDS:
        raise ValueError(f"{value} is no number of seeds; write one from 1 to {MAX_SEEDS}, or a list: [{value}]")
    return tuple(range(value))


class NetworkRow(_Strict):
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


class CountConfig(_Strict):
    """The networks whose cost is reported: at the side and for the classes of the paper."""

    side: int = Field(448, ge=1, le=8192)
    classes: int = Field(1000, ge=1)


class ProxyConfig(_Strict):
    """How the network that is trained stands in for the one that is counted.

    Networks of timm cannot be divided: they are trained as they are, unless their row names a stand-in.
    """

    width: int = Field(1, ge=1)  # widths, head sizes and stem widths are divided by this, numbers of heads kept
    depth: int = Field(1, ge=1)  # depths are divided by this and rounded up
    side: int = Field(448, ge=1, le=8192)  # pixels that it sees, where counted.side is counted
    classes: int | None = Field(None, ge=2)  # the first so many of the data's; None: all


class HalvingConfig(_Strict):
    """Short trainings of many networks of a search, longer ones of those that are worth it."""

    epochs: tuple[int, ...] = Field(min_length=1)  # the rungs: behind each of these epochs a trial pauses
    keep: float = Field(1 / 3, gt=0, lt=1)  # share of those that came to a rung that goes on from it
    brackets: int = Field(1, ge=1)  # in turn trials begin with the first rung, the second, ...; Hyperband has them all

    def kept_share(self, came: int) -> int:
        """How many of so many go on from a rung."""
        return int(came * self.keep + _ROUNDING)

    @model_validator(mode="after")
    def _rising(self) -> HalvingConfig:
        if list(self.epochs) != sorted({epoch for epoch in self.epochs if epoch > 0}):
            raise SettingError("epochs", f"epochs={list(self.epochs)}: rungs rise; write them so, such as [2, 6]")
        if self.brackets > len(self.epochs) + 1:
            raise SettingError("brackets", f"brackets={self.brackets} is more than one for each rung and one without")
        return self


class ConfirmConfig(_Strict):
    """A second look at the best networks of a search: longer, and with several seeds."""

    top: int = Field(5, ge=1)  # networks: the front's, those that lie most alone first, then those behind it
    seeds: Annotated[tuple[int, ...], BeforeValidator(_as_seeds)] = (0, 1, 2)
    epochs: str = "x4"  # so many times those of the search, or a number

    def epochs_for(self, epochs: int) -> int:
        """Of the second look, where the first had so many."""
        return epochs * int(self.epochs[1:]) if self.epochs.startswith("x") else int(self.epochs)

    @model_validator(mode="after")
    def _readable(self) -> ConfirmConfig:
        if not re.fullmatch(r"x?[1-9]\d*", self.epochs, re.ASCII):
            raise SettingError("epochs", f"epochs={self.epochs!r} is not known; write x4 for four times, or a number")
        return self


class SearchConfig(_Strict):
    """How networks are taken from a space."""

    sampler: SamplerName = "surrogate"
    objectives: tuple[ObjectiveName, ...] = Field(("top1", "gmacs"), min_length=1)  # two or more: a front of these
    networks: int = Field(20, ge=1)  # that are asked for, each once
    seed: int = 0
    halving: HalvingConfig | None = None  # None: every network is trained to the end
    zero_cost: tuple[ZeroCostName, ...] = ()  # scores without a training, beside the others; nothing is chosen by them
    reuse: tuple[str, ...] = ()  # results folders of other studies: what was trained there is not trained again

    @model_validator(mode="after")
    def _once(self) -> SearchConfig:
        if len(set(self.objectives)) < len(self.objectives):
            raise SettingError("objectives", "objectives: one stands there twice; write each once")
        return self


class Needs(_Strict):
    """What a machine must have to be given trials."""

    accelerator: str | None = None  # as Ray calls it: H100, A100, L4, ...


class Resources(_Strict):
    """What a trial is given, and how long it may stand still."""

    gpu: Annotated[float, Field(gt=0)] | Literal["auto"] | None = None  # of a card; auto: by measured memory; None: one
    cpu: float | None = Field(None, gt=0)  # cores; None: one, beside a GPU of this machine its share of them
    timeout: float = Field(1800, gt=0)  # seconds without a step after which it is given up and gone on with elsewhere
    needs: Needs = Needs()

    @model_validator(mode="after")
    def _whole_cards(self) -> Resources:
        if isinstance(self.gpu, float) and self.gpu > 1 and self.gpu != int(self.gpu):
            raise SettingError("gpu", f"gpu={self.gpu} is no share of a card; write 1, or less for several on one")
        return self


class Study(_Strict):
    """A study file, with a profile laid over it."""

    title: str = ""
    table: str = ""  # the table of the paper that the rows belong to: "8"
    compare: str = "best"  # what rows are held against: the best; `steps`: the row before, of the same curve; or a row
    let: dict[str, str] = {}
    nets: dict[str, Annotated[NetworkRow, BeforeValidator(_as_mapping("spec"))]] | None = None
    space: str | None = None
    within: dict[str, str] = {}  # the budget that networks of a search keep: {gmacs: 4.5..5.5, mparams: ..36}
    search: SearchConfig = SearchConfig()
    confirm: ConfirmConfig | None = None  # None: no second look
    counted: CountConfig = CountConfig()
    proxy: ProxyConfig = ProxyConfig()
    data: Annotated[DataSource, BeforeValidator(_as_mapping("source"))] = DataSource()
    cache: Literal["auto", "gpu", "disk", "none"] = "auto"  # where decoded images are kept; no digit depends on it
    recipe: Recipe = Recipe()
    seeds: Annotated[tuple[int, ...], BeforeValidator(_as_seeds)] = (0,)
    resources: Resources = Resources()  # no digit depends on it
    checkpoints: Literal["auto", "all", "none"] = "auto"  # which are kept; no digit depends on it
    storage: str | None = Field(None, min_length=1)  # a shared path or a URL: see `mirror`; no digit depends on it
    latency: LatencyConfig | None = None  # how inference of an ablation's rows is timed; None: not at all

    @model_validator(mode="after")
    def _whole(self) -> Study:
        if (self.nets is None) == (self.space is None):
            raise SettingError("space", "a study has either nets: (an ablation) or space: (a search), and not both")
        if self.nets is not None and not self.nets:
            raise SettingError("nets", "nets: holds no network; write `name: spec` lines under it")
        if self.nets is not None and not any(row.train for row in self.nets.values()):
            raise SettingError("nets", "nets: no row is trained; leave `train: false` out of one at least")
        self._check_search()
        self._check_storage()
        self._check_compare()
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise SettingError(
                "seeds", "seeds: one stands there twice, or none; write a number of them, or a list without repeats"
            )
        if (self.data.train or self.recipe.batch) < self.recipe.batch:
            found = f"recipe.batch={self.recipe.batch} is more than data.train={self.data.train}"
            raise SettingError("recipe.batch", f"{found}; make the batch smaller or take more images")
        return self

    def _check_compare(self) -> None:
        known = ("best", "steps", *(self.nets or ()))
        if self.compare not in known:
            raise SettingError("compare", f"compare={self.compare!r} is not known; write one of {', '.join(known)}")

    def _check_search(self) -> None:
        if self.within:
            parse_constraints(self.within)
        for name in ("within", "confirm"):
            if self.space is None and getattr(self, name):
                raise SettingError(name, f"{name}: has a meaning beside space: alone; remove it, or write a space")
        halving = self.search.halving
        if halving and halving.epochs[-1] >= self.recipe.epochs:
            found = f"search.halving.epochs={list(halving.epochs)}"
            raise SettingError(
                "search.halving.epochs", f"{found}: the last rung must be under recipe.epochs={self.recipe.epochs}"
            )
        if halving and len(self.seeds) > 1:
            raise SettingError("seeds", "seeds: with search.halving one is enough; confirm: has seeds of its own")
        if self.confirm and self.confirm.epochs_for(self.recipe.epochs) < self.recipe.epochs:
            raise SettingError("confirm.epochs", f"confirm.epochs={self.confirm.epochs} is less than recipe.epochs")

    def _check_storage(self) -> None:
        if secret := secret_in(self.storage or ""):
            found = f"storage: {redacted(self.storage or '')} holds {secret}"
            raise SettingError("storage", f"{found}; leave it out: credentials are taken from {CREDENTIALS}")

    @property
    def constraints(self) -> CostConstraints | None:
        """What networks of a search may cost; None: anything."""
        return parse_constraints(self.within) if self.within else None


class SpaceFile(_Strict):
    """A file of `spaces/`."""

    title: str = ""
    let: dict[str, str] = {}
    space: str
