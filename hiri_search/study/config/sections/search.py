"""Sections `search:` and `confirm:` of a study."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from hiri_search.study.config.sections.seeds import STRICT, Seed, Seeds
from hiri_search.training.recipe import RecipeValue, SettingError
from hiri_search.training.score import CLASSIFICATION

SamplerName = Literal["surrogate", "evolution", "random", "grid", "tpe", "nsga2", "nsga3", "gp"]
CostName = Literal["gmacs", "mparams", "ms_per_image", "memory"]
ZeroCostName = Literal["synflow", "naswot", "zen"]

_ROUNDING = 1e-9  # so that a third of 3 is 1


class _Strict(BaseModel):
    model_config = STRICT


class HalvingConfig(_Strict):
    """Asynchronous successive halving (ASHA): trials pause at rungs, and only the best are promoted."""

    epochs: tuple[int, ...] = Field(min_length=1)  # rungs: a trial pauses after each of these epochs
    keep: float = Field(default=1 / 3, gt=0, lt=1)  # share of the trials at a rung that is promoted
    brackets: int = Field(default=1, ge=1)  # trial n starts at rung n % brackets; Hyperband: len(epochs) + 1

    def promoted_count(self, reached: int) -> int:
        """Return the number of promotions from a rung that `reached` trials have reached."""
        return int(reached * self.keep + _ROUNDING)

    @model_validator(mode="after")
    def _check_rungs(self) -> HalvingConfig:
        if list(self.epochs) != sorted({epoch for epoch in self.epochs if epoch > 0}):
            raise SettingError("epochs", f"epochs={list(self.epochs)}: rungs must increase; write them as in [2, 6]")
        if self.brackets > (most := len(self.epochs) + 1):
            message = f"brackets={self.brackets}: write at most {most}, one for each rung and one without rungs"
            raise SettingError("brackets", message)
        return self


class ConfirmConfig(_Strict):
    """Confirmation: networks of a search are trained again, longer and with several seeds."""

    top: int = Field(default=5, ge=1)  # number of the best networks, by non-dominated rank, then by crowding distance
    partners: int = Field(
        default=12, ge=0
    )  # number of others, of like cost: with three of the best three bands of five
    seeds: Seeds = (0, 1, 2)
    epochs: str = "x4"  # a multiple of the search's epochs, or a number of epochs

    def epochs_for(self, epochs: int) -> int:
        """Return the epochs of a confirmation, where a trial of the search has `epochs`."""
        return epochs * int(self.epochs[1:]) if self.epochs.startswith("x") else int(self.epochs)

    @model_validator(mode="after")
    def _check_epochs(self) -> ConfirmConfig:
        if not re.fullmatch(r"x?[1-9]\d{0,5}", self.epochs, re.ASCII):
            message = f"epochs={self.epochs[:20]!r} is not valid; write a number, or x4 for four times"
            raise SettingError("epochs", message)
        return self


class StartConfig(_Strict):
    """A network that a search begins with."""

    net: str  # its spec
    values: dict[
        str, RecipeValue
    ] = {}  # of keys with choices in the recipe; a key that is left out has its first value


def _as_start(value: Any) -> Any:
    """Expand the short forms `SPEC` and `{net: SPEC, lr: 1e-3}`."""
    if not isinstance(value, Mapping) or "values" in value:
        return {"net": value} if isinstance(value, str) else value
    return {name: value[name] for name in ("net",) if name in value} | {
        "values": {name: chosen for name, chosen in value.items() if name != "net"}
    }


class SearchConfig(_Strict):
    """Sampler, objectives and size of a search."""

    sampler: SamplerName = "surrogate"
    objectives: tuple[str, ...] = Field(
        default=(CLASSIFICATION.scores[0].name, "gmacs"), min_length=1
    )  # several: a Pareto front
    networks: int = Field(default=20, ge=1)  # number of different networks to train
    seed: Seed = 0
    start: tuple[Annotated[StartConfig, BeforeValidator(_as_start)], ...] = ()  # trained first
    halving: HalvingConfig | None = None  # None: every network is trained to the end
    zero_cost: tuple[ZeroCostName, ...] = ()  # scores of untrained networks; reported, not used by the sampler
    reuse: tuple[str, ...] = ()  # results folders of other studies whose identical trainings are reused

    @model_validator(mode="after")
    def _check_objectives(self) -> SearchConfig:
        if len(set(self.objectives)) < len(self.objectives):
            raise SettingError("objectives", "objectives: an objective is repeated; write each one once")
        return self
