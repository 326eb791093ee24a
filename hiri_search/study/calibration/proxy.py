"""Proxy file: a calibrated setting that studies take by name, with `proxy: FILE.yaml`."""

from __future__ import annotations

from hiri_search.study.config.files.yaml_file import to_yaml
from hiri_search.study.config.schema import StudyConfig
from hiri_search.study.config.sections.calibration import CalibrationNote
from hiri_search.study.ledger.values import to_json

_HEAD = """\
# A setting for short trainings, measured by `hiri-search calibrate`. A study takes it with `proxy: FILE.yaml`.
# What the study writes under proxy:, recipe:, data: and seeds: goes before the keys here, and its report says so.
"""


def proxy_file(study: StudyConfig, seeds: int, note: CalibrationNote) -> str:
    """Return the text of the proxy file of a setting, the ablation `study`, with its first `seeds` seeds."""
    keys = measured_keys(study) | {"seeds": list(study.first_seeds[:seeds])}
    recorded = {name: value for name, value in to_json(note).items() if name != "measured"}
    return _HEAD + to_yaml(keys | {"calibration": recorded})


def measured_keys(study: StudyConfig) -> dict[str, object]:
    """Return the keys of a study that a proxy file holds, with all defaults."""
    dumped = study.model_dump(mode="json", include={"proxy", "recipe", "data", "seeds"})
    dumped["data"] = {name: dumped["data"][name] for name in ("train", "val")}
    return dumped
