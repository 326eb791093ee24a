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
    """Return the training with the most activations per batch, among the rows of an ablation or samples of a space."""
    study = networks.study
    candidates = networks.trained_rows if space is None else _sample(study, space)
    largest = max(candidates, key=lambda candidate: candidate.recipe.batch * _activations(candidate, classes))
    assert largest.trained is not None
    spec, side = largest.trained.canonical_text, largest.trained_side
    return Job(spec, side, study.proxy.classes, study.seeds[0], largest.recipe, study.data)


def _sample(study: Study, space: SearchSpace) -> list[Candidate]:
    rng = Random(study.search.seed)
    return [network_of(study, *space.walk(uniform(rng))) for _ in range(SAMPLED_FOR_MEMORY)]


def _activations(candidate: Candidate, classes: int) -> int:
    assert candidate.trained is not None
    return activation_count(candidate.trained, candidate.trained_side, classes=classes)
