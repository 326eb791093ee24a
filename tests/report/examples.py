"""Results without a run: a study, the start of its run, and rows of trials that a test makes up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hiri_search.report.tables.results import Results
from hiri_search.study.config.schema import StudyConfig
from hiri_search.study.ledger.events import StudyStarted
from hiri_search.study.ledger.values import CodeVersion, ImageSet

DEFAULTS: dict[str, Any] = {
    "counted": {"side": 448, "classes": 1000},
    "proxy": {"width": 4, "depth": 3, "side": 64},
    "recipe": {"epochs": 5},
}
STARTED: dict[str, Any] = {
    "profile": "laptop",
    "device": "CPU, 2 cores",
    "code": CodeVersion("0.1.0", "d", commit="0123456789abcdef", changed=("a.py",)),
    "command": "hiri-search run <b>",
    "versions": {"python": "3.11.2", "torch": "2.15.0", "ray": None},
}


def example_study(rows: Iterable[str] | Mapping[str, Mapping[str, Any]] = (), **keys: Any) -> StudyConfig:
    """Return an ablation of `rows` (names, or keys of `NetworkRow` by name), or a search if there is a `space`."""
    if "space" not in keys:
        by_name = rows if isinstance(rows, Mapping) else {name: {} for name in rows}
        keys["nets"] = {name: {"spec": f"spec {name}", **row} for name, row in by_name.items()}
    return StudyConfig.model_validate(DEFAULTS | keys)


def example_results(
    study: StudyConfig, trials: Sequence[Mapping[str, Any]] = (), *, skipped: tuple[str, ...] = (), **more: Any
) -> Results:
    """Return the results of one run of `study`; `more` are fields of `StudyStarted` or `Results`."""
    started = {name: more.pop(name) for name in STARTED if name in more}
    images = ImageSet(train=100, val=50, classes=8, fingerprints={}, skipped=skipped)
    return Results(study, StudyStarted(file={}, images=images, **STARTED | started), trials, **more)


def search_trial(number: int, name: str, top1: float, gmacs: float, **facts: Any) -> dict[str, Any]:
    """Return the row of a finished trial of a search."""
    scores = {"top1": top1, "top5": top1, "ema_top1": None, "ema_top5": None, "loss": 1.0}
    row = {"trial": number, "name": name, "key": f"key {name}", "spec": name, "seed": 0, "side": 448}
    row |= {
        "by_part": {},
        "params": 1_000_000,
        "macs": int(gmacs * 1e9),
        "core_macs": 1,
        "trained_spec": name,
        "trained_side": 64,
    }
    return {
        **row,
        "state": "finished",
        "reason": "",
        "epochs": 2,
        **scores,
        "seconds": 1.0,
        "curve": [top1, top1],
        "ema_curve": [],
    } | facts
