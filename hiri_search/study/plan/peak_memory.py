"""The trial of a study that needs the most memory."""

from __future__ import annotations

from hiri_search.cost.activations import activation_count
from hiri_search.language.space import SearchSpace
from hiri_search.study.config.networks import Candidate, StudyNetworks
from hiri_search.study.search.search_space import sampled_networks
from hiri_search.training.job import Job

SAMPLED_FOR_MEMORY = 40  # networks of a space that are compared


def most_memory(networks: StudyNetworks, space: SearchSpace | None, classes: int) -> Job:
    """Return the training with the most activations per batch, among the rows of an ablation or samples of a space."""

    def activations(candidate: Candidate) -> int:
        assert candidate.trained is not None
        return candidate.recipe.batch * activation_count(candidate.trained, candidate.trained_side, classes=classes)

    sampled = sampled_networks(networks.study, space, SAMPLED_FOR_MEMORY) if space else networks.trained_rows
    return networks.first_job(max(sampled, key=activations))
