"""Plan of a calibration: the hours of each setting, from short trainings of a few of its networks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from hiri_search.cost.flops import count
from hiri_search.study.config.networks import resolve
from hiri_search.study.config.schema import StudyConfig
from hiri_search.study.dispatch.resources import TrialResources
from hiri_search.study.ledger.layout import IMAGE_FOLDER, REFERENCE
from hiri_search.study.plan.estimate import estimate_plan
from hiri_search.study.plan.plan import duration
from hiri_search.study.plan.schedule import bit_reversed_order
from hiri_search.system.files import Say
from hiri_search.system.units import HOUR

_TIMED = 5  # networks of a setting
SETTING_COLUMNS = ("setting", "side", "width", "depth", "epochs", "batch", "images", "seeds")
SETTING_PLAN_COLUMNS = (*SETTING_COLUMNS, "trainings", "s each", "hours", "% of reference")


@dataclass(frozen=True)
class SettingPlan:
    """Predicted trainings and times of a setting."""

    setting: str
    study: StudyConfig
    trainings: int
    seconds: float  # of one training, on average
    hours: float  # core-hours of all trainings; GPU-hours with a GPU
    slots: int  # trainings side by side
    unit: str


def plan_settings(
    studies: Mapping[str, StudyConfig], slots: TrialResources | None, folder: Path, say: Say
) -> list[SettingPlan]:
    """Estimate the settings of a calibration, about 20 seconds for each. Nothing is trained to its end or stored."""
    return [_planned(name, study, slots, folder / name / IMAGE_FOLDER, say) for name, study in studies.items()]


def _planned(name: str, study: StudyConfig, slots: TrialResources | None, home: Path, say: Say) -> SettingPlan:
    say(f"timing short trainings of {name}")
    rows, classes = resolve(study).trained_rows, study.counted.classes
    rows.sort(key=lambda row: count(row.network, row.side, classes=classes).macs)
    timed = {rows[index].name for index in islice(bit_reversed_order(len(rows)), _TIMED)}
    nets = {row: network for row, network in (study.nets or {}).items() if row in timed}
    plan = estimate_plan(study.model_copy(update={"nets": nets}), slots, home)
    trainings = len(rows) * len(study.first_seeds)
    seconds, hours = plan.trial_seconds / plan.trials, trainings * plan.device_hours / plan.trials
    return SettingPlan(name, study, trainings, seconds, hours, plan.slots, plan.hours_unit)


def setting_rows(plans: Sequence[SettingPlan]) -> Iterator[tuple[str, ...]]:
    """Yield one row for each setting, with the columns SETTING_PLAN_COLUMNS."""
    longest = plans[-1].hours if plans[-1].setting == REFERENCE else None
    for plan in plans:
        share = f"{plan.hours / longest:.1%}" if longest else ""
        times = (str(plan.trainings), f"{plan.seconds:.1f}", f"{plan.hours:.3g}", share)
        yield (*map(str, setting_cells(plan.setting, plan.study)), *times)


def setting_cells(name: str, study: StudyConfig) -> tuple[str | int, ...]:
    """Return what a setting is, with the columns SETTING_COLUMNS; `all` are the images of a data set used whole."""
    proxy, recipe = study.proxy, study.recipe
    images = "all" if study.data.train is None else study.data.train
    return (name, proxy.side, proxy.width, proxy.depth, recipe.epochs, recipe.batch, images, len(study.first_seeds))


def total_lines(plans: Sequence[SettingPlan]) -> Iterator[str]:
    """Yield the hours in all as text, and how many times the cheapest setting the reference costs."""
    total, unit = sum(plan.hours for plan in plans), plans[0].unit
    wall = sum(plan.hours / plan.slots for plan in plans) * HOUR
    yield f"in all {total:.3g} {unit}, about {duration(wall)} with {plans[0].slots} trainings side by side"
    cheapest = min(plans, key=lambda plan: plan.hours)
    if plans[-1].setting == REFERENCE and cheapest.setting != REFERENCE:
        yield f"the reference costs {plans[-1].hours / cheapest.hours:.1f} times as much as {cheapest.setting}"
