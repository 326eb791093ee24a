"""Seeds of a study: a list, or the first ones and a rule that adds more where they decide most."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from hiri_search.system.units import MAX_INTEGER
from hiri_search.training.recipe import SettingError

STRICT = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)  # of the sections of a study
MAX_SEEDS = 100  # a larger number is probably meant as one seed: `seeds: 2024`
AUTO = "auto"  # short for a rule with its defaults


def _as_seeds(value: Any) -> Any:
    """Expand the short form `seeds: 3` to `seeds: [0, 1, 2]`."""
    if not isinstance(value, int) or isinstance(value, bool):
        return value
    if not 1 <= value <= MAX_SEEDS:
        as_list = f", or a list: [{value}]" if value >= 0 else ""
        raise ValueError(f"{value} is not a valid number of seeds; write 1 to {MAX_SEEDS}{as_list}")
    return tuple(range(value))


def _check_seeds(seeds: tuple[int, ...]) -> tuple[int, ...]:
    """ValueError for an empty list and for a repeated seed: one training would be counted as two."""
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError("empty, or a seed is repeated; write a number of seeds, or a list without repeats")
    return seeds


Seed = Annotated[int, Field(strict=True, ge=0, le=MAX_INTEGER)]
Seeds = Annotated[tuple[Seed, ...], BeforeValidator(_as_seeds), AfterValidator(_check_seeds)]


class AutoSeeds(BaseModel):
    """Every row is trained with the first seeds; then a rule adds seeds to the pairs that they may decide.

    The next seeds are those after the largest of `first`. A pair is decided where its difference is shown.
    """

    model_config = STRICT

    first: Seeds = (0, 1, 2)
    most: int = Field(default=12, le=MAX_SEEDS)  # seeds of a row
    minutes: float | None = Field(
        default=None, gt=0
    )  # of all runs; no seed is added that would end later; None: no limit

    @model_validator(mode="after")
    def _check_numbers(self) -> AutoSeeds:
        if len(self.first) < 2:
            raise SettingError("first", f"first={len(self.first)} has no spread; write 2 or more")
        if self.most <= len(self.first):
            raise SettingError("most", f"most={self.most} adds no seed to the first {len(self.first)}; write more")
        if max(self.first) + self.most > MAX_INTEGER:
            raise SettingError("first", f"first={list(self.first)}: the seeds after it are too large; write less")
        return self

    @property
    def all_seeds(self) -> tuple[int, ...]:
        """The seeds that a row may have, in their order."""
        more = range(max(self.first) + 1, max(self.first) + 1 + self.most - len(self.first))
        return (*self.first, *more)


def _kind(value: Any) -> str:
    return AUTO if isinstance(value, Mapping | AutoSeeds) else "list"


def _as_rule(value: Any) -> Any:
    return {} if value == AUTO else value


StudySeeds = Annotated[
    Annotated[Seeds, Tag("list")] | Annotated[AutoSeeds, Tag(AUTO)], Discriminator(_kind), BeforeValidator(_as_rule)
]


def check_rule(seeds: tuple[int, ...] | AutoSeeds, *, compare: str, is_search: bool) -> None:
    """Raise SettingError where a rule adds seeds to a study whose pairs of rows are not known before the trainings."""
    if not isinstance(seeds, AutoSeeds):
        return
    if is_search:
        raise SettingError("seeds", "seeds: auto is for an ablation; write seeds: 1, and several under confirm:")
    if compare == "best":
        fault = "seeds: auto adds seeds to pairs of rows that are known before the training"
        raise SettingError("seeds", f"{fault}; write compare: and the row that the others are compared with, or steps")
