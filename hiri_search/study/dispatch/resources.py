"""Resources of a trial: how many side by side, CPUs, share of a GPU."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

ROUNDING = 1e-9  # tolerance of a quotient: three trials of a third of a GPU fill the GPU
TIMEOUT = 1800.0  # seconds: long enough for a first step that compiles


@dataclass(frozen=True)
class TrialResources:
    """Number of trials side by side, and the resources of each."""

    count: int  # 0, on a cluster: as many as fit, also while nodes come and go
    # GPUs of each trial. Below 1: several trials share a GPU. None, on a cluster: one if the cluster has GPUs.
    # auto: as many trials share a GPU as fit into its memory.
    gpus: float | Literal["auto"] | None = 0.0
    cpus: float = 1.0  # of each trial, as the GPUs: its processes share them
    accelerator: str | None = None  # required GPU type in Ray's spelling, such as H100
    timeout: float = TIMEOUT  # seconds without a training step after which the worker is killed
    processes: int = 1  # that train one network together, each with a GPU of its own

    @property
    def per_gpu(self) -> int:
        """Number of trials that share one GPU."""
        return int(1 / self.gpu_share + ROUNDING) if 0 < self.gpu_share < 1 else 1

    @property
    def gpu_share(self) -> float:
        """GPUs of each trial, once the number is resolved."""
        assert isinstance(self.gpus, float)
        return self.gpus

    @property
    def description(self) -> str:
        """Resources of one trial, in words."""
        gpus = f" and {self.gpu_share:g} GPU" if self.gpu_share else ""
        return f"{self.cpus:g} CPU{gpus}{f' of type {self.accelerator}' if self.accelerator else ''}"

    @property
    def of_process(self) -> TrialResources:
        """Resources of one process of a trial."""
        gpus = self.gpus / self.processes if isinstance(self.gpus, float) else self.gpus
        return replace(self, processes=1, gpus=gpus, cpus=self.cpus / self.processes)

    def trials(self, nodes: Iterable[Mapping[str, float]]) -> int:
        """Return how many trials fit on nodes with these Ray resources; the processes of one may be on several."""
        return sum(map(self.of_process.capacity, nodes)) // self.processes

    def capacity(self, node: Mapping[str, float]) -> int:
        """Return how many trials of one process fit on a node with these Ray resources."""
        if self.accelerator and f"accelerator_type:{self.accelerator}" not in node:
            return 0
        by_cpu = int(node.get("CPU", 0) / self.cpus)
        if not self.gpu_share:
            return by_cpu
        gpus = node.get("GPU", 0)
        return min(by_cpu, int(gpus * self.per_gpu if self.gpu_share < 1 else gpus / self.gpu_share))
