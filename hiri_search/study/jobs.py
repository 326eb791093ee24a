"""What trains a trial, made from what is written of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hiri_search.language import parse_network
from hiri_search.study.candidates import rows
from hiri_search.study.config import Study
from hiri_search.training.job import Job
from hiri_search.training.recipe import Recipe

Recipes = Mapping[str, Recipe]  # by the name of a row


def recipes(study: Study) -> Recipes:
    """Those of an ablation's rows; a search has that of the study alone."""
    return {row.name: row.recipe for row in rows(study)}


def job_of(asked: Mapping[str, Any], study: Study, known: Recipes) -> Job:
    """The training of a trial, by the facts that it was asked for with. SpecError where its network cannot be read."""
    recipe = known.get(asked["name"], study.recipe)
    if "confirm_epochs" in asked:
        recipe = replace(recipe, epochs=asked["confirm_epochs"])
    spec = parse_network(asked["trained_spec"]).full
    return Job(spec, asked["trained_side"], study.proxy.classes, asked["seed"], recipe, study.data)
