"""How many trials fit on one GPU, by measured memory."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from hiri_search.training.job import Job, Prepared
from hiri_search.training.probe import few, probe

MARGIN = 0.1  # of the card that stays free: fragments, and networks that are a little larger than the probe
MOST = 8  # trainings on one card: more take turns rather than run


def beside(job: Job, prepared: Prepared) -> int:
    """How many trainings like this one fit on the card of this process, which is alone on it; 1 without a card.

    ProbeError where it does not fit even alone.
    """
    if not torch.cuda.is_available():
        return 1
    with TemporaryDirectory(prefix="hiri_search_memory_") as folder:
        probe(*few(job, prepared, Path(folder)))
    free, total = torch.cuda.mem_get_info()  # what torch keeps in reserve, and CUDA itself, are in it
    return fitting(total - free, total)


def fitting(used: int, total: int) -> int:
    """How many that use so many bytes fit on a card of so many."""
    return max(1, min(MOST, int(total * (1 - MARGIN) / used)))
