"""Capacity of the running Ray: the number of trials that its nodes hold, and that share a GPU."""

from __future__ import annotations

import math
import time
from dataclasses import replace

from hiri_search.study.dispatch.resources import TrialResources
from hiri_search.study.dispatch.task import TrialSource
from hiri_search.study.errors import StudyError
from hiri_search.system.files import Say
from hiri_search.training.job import Job, PreparedData
from hiri_search.user_code import UserCode

CAPACITY_SECONDS = 10.0  # seconds between two counts of the trials that fit on a cluster
CHECK_SECONDS = 5.0  # seconds between two looks at the nodes


class ClusterWorkers:
    """The workers that fit on the nodes of a cluster, which may grow and shrink."""

    def __init__(self, resources: TrialResources, say: Say) -> None:
        self.per_gpu = resources.per_gpu
        self._resources, self._say, self._explained = resources, say, False
        self._capacity, self._counted_at = 0, -math.inf

    def capacity(self) -> int:
        """Return the number of trials asked for; without one, as many as fit now and one more.

        The one that does not fit shows an autoscaler that the cluster is too small.
        """
        if not self._resources.count and time.monotonic() - self._counted_at > CAPACITY_SECONDS:
            self._capacity = self._resources.trials(_alive_nodes()) + 1
            self._counted_at = time.monotonic()
        return self._resources.count or self._capacity

    def check(self) -> None:
        """Explain once why no worker starts, if another node could help. StudyError if no node is alive."""
        nodes = _alive_nodes()
        if not nodes:  # for example after another process killed Ray
            raise StudyError("Ray has ended, or another process ended it; the same command goes on with the study")
        if not self._resources.trials(nodes) and not self._explained:
            self._explained = True
            where, what = "no node of the cluster has", "such a node"
            if self._resources.processes > 1:
                where, what = "the nodes of the cluster do not have", f"{self._resources.processes} such places"
            self._say(f"{where} {self._resources.description} for a trial; waiting for {what}")


def resolve_gpus(resources: TrialResources, source: TrialSource, say: Say) -> TrialResources:
    """Replace unspecified GPUs by one if the cluster has GPUs, and `auto` by the measured share."""
    import ray

    has_gpus = "GPU" in ray.cluster_resources()
    if resources.gpus is None:
        return replace(resources, gpus=float(resources.processes * has_gpus))
    if resources.gpus != "auto":
        return resources
    if not has_gpus:
        return replace(resources, gpus=0.0)
    kind = {"accelerator_type": resources.accelerator} if resources.accelerator else {}
    measured = ray.remote(_trials_per_gpu).options(num_gpus=1, **kind)
    fitting = ray.get(measured.remote(source.files.code, *source.most_memory()))
    say(f"{fitting} trials fit on a GPU, by the measured memory of the largest trial")
    return replace(resources, gpus=1 / fitting)


def _trials_per_gpu(code: UserCode, job: Job, prepared: PreparedData) -> int:
    """Return how many trials fit on the GPU of this worker."""
    from hiri_search.training.gpu_memory import trials_per_gpu  # slow import

    code.load()
    return trials_per_gpu(job, prepared)


def _alive_nodes() -> list[dict[str, float]]:
    """Return the resources of each node that is alive."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]
