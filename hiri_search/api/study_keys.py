"""The keys of a study as Python values, for `Study(...)`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any, TypeAlias, TypedDict

from pydantic import BaseModel

from hiri_search.cost.latency.config import LatencyConfig
from hiri_search.study.config.schema import CountConfig, NetworkRow, ProxyConfig
from hiri_search.study.config.sections.loggers import LogConfig
from hiri_search.study.config.sections.resources import Resources
from hiri_search.study.config.sections.search import ConfirmConfig, SearchConfig
from hiri_search.training.job import DataSource
from hiri_search.training.recipe import Recipe

Keys: TypeAlias = Mapping[str, Any]  # as in a study file


class StudyKeys(TypedDict, total=False):
    """The keys of a study file: docs/study_files.md. A section is an object of its class, or a mapping of its keys."""

    base: str
    title: str
    task: str
    method: str
    imports: Sequence[str]
    table: str
    compare: str
    let: Mapping[str, str]
    nets: Mapping[str, str | NetworkRow | Keys]
    space: str
    metrics: Keys
    score: str
    callbacks: Keys
    log: str | LogConfig | Keys | Sequence[str | Keys]
    where: str | Sequence[str]
    within: Mapping[str, str]
    search: SearchConfig | Keys
    confirm: ConfirmConfig | Keys
    calibrate: Keys
    counted: CountConfig | Keys
    proxy: str | ProxyConfig | Keys
    data: str | DataSource | Keys
    cache: str
    recipe: str | Recipe | Keys
    seeds: int | str | Sequence[int] | Keys
    resources: Resources | Keys
    checkpoints: str
    storage: str
    latency: LatencyConfig | Keys
    profiles: Mapping[str, Keys]


def plain_values(value: Any) -> Any:
    """Return a value of `StudyKeys` as a study file would hold it: mappings, lists, texts and numbers.

    Of an object of a section, these are the keys that differ from their defaults.
    """
    if isinstance(value, BaseModel):
        value = {name: getattr(value, name) for name in value.model_fields_set}
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [(field.name, field.default) for field in dataclasses.fields(value)]
        value = {name: getattr(value, name) for name, default in fields if getattr(value, name) != default}
    if isinstance(value, Mapping):
        return {str(name): plain_values(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_values(item) for item in value]
    if hasattr(value, "item"):  # a number of numpy or torch
        return value.item()
    return str(value) if isinstance(value, PurePath) else value
