"""Number of trials that fit on one GPU, by measured memory."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from hiri_search.training.job import Job, PreparedData
from hiri_search.training.probe import probe, shrink_for_probe

_MEMORY_MARGIN = 0.1  # share of the GPU memory left free: fragmentation, and networks a little larger than the probe
_MAX_TRIALS_PER_GPU = 8  # with more processes, time slicing on the GPU gains nothing


def trials_per_gpu(job: Job, prepared: PreparedData) -> int:
    """Return how many trainings like this job fit on this process's GPU, which must be idle; 1 without a GPU.

    Raise ProbeError if a single training does not fit.
    """
    if not torch.cuda.is_available():
        return 1
    with TemporaryDirectory(prefix="hiri_search_memory_") as folder:
        probe(*shrink_for_probe(job, prepared, Path(folder)))
    free, total = torch.cuda.mem_get_info()  # `total - free` includes torch's reserved memory and the CUDA context
    fitting = int(total * (1 - _MEMORY_MARGIN) / (total - free))
    return max(1, min(_MAX_TRIALS_PER_GPU, fitting))
