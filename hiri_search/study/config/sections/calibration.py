"""Calibration in a study file: the networks, the reference setting and the cheaper settings that are measured by it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from hiri_search.stats.order_verdict import OrderVerdict
from hiri_search.study.ledger.layout import REFERENCE
from hiri_search.system.units import MAX_INTEGER
from hiri_search.training.recipe import SettingError

_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,60}", re.ASCII)  # of a setting: it names a folder
_TAKEN = (REFERENCE, "report", "images", "checkpoints")
_NUMBERS = ("train", "val")  # keys of `data` that a setting may change: another source would be another question


@dataclass(frozen=True)
class SettingConfig:
    """Keys that a setting changes in the study; they are laid over it as a profile is."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012  # as in `DataSource`

    proxy: Any = None
    recipe: Any = None
    data: Any = None
    seeds: Any = None

    def __post_init__(self) -> None:
        if self.data is not None and not (isinstance(self.data, dict) and set(self.data) <= set(_NUMBERS)):
            remedy = "write data: {train: 500, val: 1000}; other keys of data are those of the study"
            raise SettingError("data", f"data: a setting changes only the numbers of images; {remedy}")


@dataclass(frozen=True)
class CalibrateConfig:
    """The section `calibrate:` of a study, for the command of that name."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    reference: SettingConfig  # the long training that the settings shall predict
    settings: dict[str, SettingConfig]
    networks: int = 15  # sampled from the space of the study; an ablation has its rows instead
    bands: int = 3  # of cost, with equally many networks each
    seed: int = 0  # of the draw
    let: dict[str, str] = field(default_factory=dict)  # names for parts of the specs of `nets`
    nets: dict[str, Any] = field(default_factory=dict)  # rows beside the drawn networks, as those of an ablation

    def __post_init__(self) -> None:
        for name, message in self._faults():
            raise SettingError(name, message)

    def _faults(self) -> Iterator[tuple[str, str]]:
        if not self.settings:
            yield "settings", "settings: is empty; write `name: {...}` lines with the keys that a setting changes"
        for name in self.settings:
            if not _NAME.fullmatch(name) or name in _TAKEN:
                remedy = f"write letters, digits, -, _ and ., but none of {', '.join(_TAKEN)}"
                yield f"settings.{name}", f"settings: {name!r} cannot be the name of a folder of results; {remedy}"
        if self.bands < 1 or self.networks < self.bands or self.networks % self.bands:
            problem = f"networks={self.networks} cannot be shared out equally over bands={self.bands}"
            yield "networks", f"{problem}; write a multiple, such as networks: {5 * max(1, self.bands)}"
        if not 0 <= self.seed <= MAX_INTEGER:
            yield "seed", f"seed={self.seed} is not possible; it must be 0 or more, and under 2**63"


@dataclass(frozen=True)
class ImageNumbers:
    """Numbers of images; None: all."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    train: int | None = None
    val: int | None = None


@dataclass(frozen=True)
class CalibrationNote:
    """The finding of a calibration about the setting of a proxy file: how well it predicts the reference."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    setting: str  # its name in the calibration
    reference: str  # the long training, in words
    data: str  # source of the images
    verdict: OrderVerdict  # by the bar
    tau_beyond_cost: float
    low: float  # ends of its 90 % interval
    high: float
    pairs: int  # of networks of like cost
    networks: int  # in these pairs
    hours: float  # of all trainings of the setting
    reference_hours: float
    date: str  # year-month-day of the last training
    measured: dict[str, Any] = field(default_factory=dict)  # the keys of the setting; filled in from the proxy file
