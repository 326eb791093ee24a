"""Bounds of a recipe and of a data source: values at a bound are accepted, values beyond it are rejected."""

import dataclasses
import math

import pytest

from hiri_search.training.job import DataSource, Job
from hiri_search.training.recipe import BOUNDS, Recipe, SettingError

ACCEPTED = [
    *(("epochs", v) for v in (2, 300)),
    *(("batch", v) for v in (2, 1024)),
    *(("lr", v) for v in (1e-9, 10)),
    *((name, v) for name in ("min_lr", "weight_decay", "clip", "mixup", "cutmix", "jitter") for v in (0, 2.5)),
    *(("warmup_epochs", v) for v in (0, 11.9)),
    *((name, v) for name in ("drop_path", "label_smoothing", "ema") for v in (0, 0.999)),
    *((name, v) for name in ("mix_share", "erasing", "flip") for v in (0, 1)),
    *((name, v) for name in ("crop", "min_scale") for v in (1e-6, 1)),
    *(("schedule", v) for v in ("cosine", "linear", "step 8 11", "step 1")),
    *(("workers", v) for v in (0, 8)),
]
REJECTED = [
    *((name, v) for name in ("epochs", "batch", "lr", "crop", "min_scale") for v in (0, -2)),
    *((name, -0.1) for name, (is_valid, _) in BOUNDS.items() if not is_valid(-0.1)),
    *((name, v) for name in ("drop_path", "label_smoothing", "ema") for v in (1, 1.5)),
    *((name, 1.01) for name in ("mix_share", "erasing", "flip", "crop", "min_scale")),
    *(("batch", v) for v in (1, 15)),
    *(("warmup_epochs", v) for v in (12, 13)),
    *((name, v) for name in BOUNDS for v in (math.nan, math.inf)),
]


@pytest.mark.parametrize(("name", "value"), ACCEPTED)
def test_a_value_within_its_bounds_is_accepted(name: str, value: float | str):
    assert getattr(Recipe(**{name: value}), name) == value


@pytest.mark.parametrize(("name", "value"), REJECTED)
def test_a_value_beyond_its_bounds_is_rejected_by_name(name: str, value: float):
    with pytest.raises(SettingError, match=f"^{name}={value} is not possible; it must be ") as error:
        Recipe(**{name: value})
    assert error.value.name == name


@pytest.mark.parametrize("schedule", ["", "step", "steps 8", "step 8, 11", "step -1", "step 1.5", "Cosine", "linear 8"])
def test_an_unknown_schedule_is_refused(schedule: str):
    with pytest.raises(SettingError, match=r"^schedule='.*' is not known; write cosine, linear, or step with epochs"):
        Recipe(schedule=schedule)


@pytest.mark.parametrize("schedule", ["step 0", "step 11 8", "step 8 8", "step 12", "step 8 13"])
def test_the_epochs_of_a_schedule_rise_and_are_less_than_all(schedule: str):
    with pytest.raises(SettingError, match="its epochs must rise, and be less than epochs=12; write others, or cosine"):
        Recipe(epochs=12, schedule=schedule)


def test_every_numeric_setting_has_bounds():
    numbers = {f.name for f in dataclasses.fields(Recipe) if f.type in ("int", "float")}
    assert numbers == set(BOUNDS)


SOURCES = [
    ("drawn", "drawn", ""),
    ("folder:a/b", "folder", "a/b"),
    ("folder:C:/x", "folder", "C:/x"),
    ("timm:torch/cifar10@data", "timm", "torch/cifar10@data"),
]


@pytest.mark.parametrize(("source", "kind", "path"), SOURCES)
def test_a_source_is_a_kind_and_a_path(source: str, kind: str, path: str):
    assert (DataSource(source).kind, DataSource(source).path) == (kind, path)


INVALID = [
    ({"source": "images"}, "source"),
    ({"source": ""}, "source"),
    ({"source": "folder:"}, "source"),
    ({"source": "timm"}, "source"),
    ({"source": "drawn:8"}, "source"),
    ({"train": 0}, "train"),
    ({"val": -1}, "val"),
    ({"seed": -1}, "seed"),
]


@pytest.mark.parametrize(("keys", "name"), INVALID)
def test_an_invalid_source_is_rejected_by_name(keys: dict[str, object], name: str):
    with pytest.raises(SettingError, match=f"^{name}[= ]") as error:
        DataSource(**keys)  # type: ignore[arg-type]
    assert error.value.name == name


def test_every_field_of_a_job_changes_its_digest():
    job = Job("t(64 e=4)", 32, None, 0, Recipe(), DataSource())
    variants = [
        dataclasses.replace(job, spec="t(64 e=5)"),
        dataclasses.replace(job, side=64),
        dataclasses.replace(job, classes=4),
        dataclasses.replace(job, seed=1),
        dataclasses.replace(job, recipe=Recipe(lr=1e-4)),
        dataclasses.replace(job, data=DataSource(seed=1)),
    ]
    assert len({variant.digest for variant in (job, *variants)}) == 1 + len(variants)
    assert dataclasses.replace(job).digest == job.digest
