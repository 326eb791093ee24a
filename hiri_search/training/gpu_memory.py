"""How many trials fit on one GPU, by measured memory."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from hiri_search.training.job import Job, PreparedData
from hiri_search.training.probe import probe, shrink_for_probe

MEMORY_MARGIN = 0.1  # of the card that stays free: fragments, and networks that are a little larger than the probe
MAX_TRIALS_PER_GPU = 8  # trainings on one card: more take turns rather than run


def trials_per_gpu(job: Job, prepared: PreparedData) -> int:
    """How many trainings like this one fit on the card of this process, which is alone on it; 1 without a card.

    ProbeError where it does not fit even alone.
    """
    if not torch.cuda.is_available():
        return 1
    with TemporaryDirectory(prefix="hiri_search_memory_") as folder:
        probe(*shrink_for_probe(job, prepared, Path(folder)))
    free, total = torch.cuda.mem_get_info()  # what torch keeps in reserve, and CUDA itself, are in it
    return fitting(total - free, total)


def fitting(used: int, total: int) -> int:
    """How many that use so many bytes fit on a card of so many."""
    return max(1, min(MAX_TRIALS_PER_GPU, int(total * (1 - MEMORY_MARGIN) / used)))
