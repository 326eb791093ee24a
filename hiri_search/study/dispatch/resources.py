"""Resources of a trial: how many side by side, CPUs, share of a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

ROUNDING = 1e-9  # a third of a card is three on it
TIMEOUT = 1800.0  # seconds: time for a long first step that compiles


@dataclass(frozen=True)
class TrialResources:
    """So many, and this for each."""

    count: int  # 0, on a cluster: as many as it has room for, growing or shrinking
    # Of each; under 1: several share a card; None, on a cluster: one where it has any; auto: as many as fit on a card.
    gpus: float | Literal["auto"] | None = 0.0
    cpus: float = 1.0
    accelerator: str | None = None  # that each must have, as Ray calls it: H100
    timeout: float = TIMEOUT  # seconds without a step after which a trial is given up

    @property
    def per_gpu(self) -> int:
        """How many share one card."""
        return int(1 / self.gpu_share + ROUNDING) if 0 < self.gpu_share < 1 else 1

    @property
    def gpu_share(self) -> float:
        """Of a card, where that is known."""
        assert isinstance(self.gpus, float)
        return self.gpus

    @property
    def wanted(self) -> str:
        """By each, in words."""
        cards = f" and {self.gpu_share:g} GPU" if self.gpu_share else ""
        return f"{self.cpus:g} CPU{cards}{f' of kind {self.accelerator}' if self.accelerator else ''}"

    def fit(self, resources: Mapping[str, float]) -> int:
        """How many of these a node has room for, by what Ray says of it."""
        if self.accelerator and f"accelerator_type:{self.accelerator}" not in resources:
            return 0
        by_cpu = int(resources.get("CPU", 0) / self.cpus)
        if not self.gpu_share:
            return by_cpu
        cards = resources.get("GPU", 0)
        return min(by_cpu, int(cards * self.per_gpu if self.gpu_share < 1 else cards / self.gpu_share))
