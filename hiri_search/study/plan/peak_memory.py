"""The trial of a study that needs the most memory."""

from __future__ import annotations

from random import Random

from hiri_search.cost.activations import activation_count
from hiri_search.language import uniform
from hiri_search.language.space import SearchSpace
from hiri_search.study.config.networks import Candidate, StudyNetworks, network_of
from hiri_search.study.config.schema import Study
from hiri_search.training.job import Job

SAMPLED_FOR_MEMORY = 40  # networks of a space that are compared


def most_memory(networks: StudyNetworks, space: SearchSpace | None, classes: int) -> Job:
    """Of an ablation's rows, or of some networks of a space: the one whose batch writes the most numbers."""
    study = networks.study
    candidates = networks.trained_rows if space is None else _drawn(study, space)
    one = max(candidates, key=lambda one: one.recipe.batch * _traffic(one, classes))
    assert one.trained is not None
    return Job(
        one.trained.canonical_text, one.trained_side, study.proxy.classes, study.seeds[0], one.recipe, study.data
    )


def _drawn(study: Study, space: SearchSpace) -> list[Candidate]:
    rng = Random(study.search.seed)
    return [network_of(study, *space.walk(uniform(rng))) for _ in range(SAMPLED_FOR_MEMORY)]


def _traffic(one: Candidate, classes: int) -> int:
    assert one.trained is not None
    return activation_count(one.trained, one.trained_side, classes=classes)
