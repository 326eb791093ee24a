"""LatencyConfig: batch, dtype, compilation, CUDA graphs and stopping rule of a latency benchmark (no torch)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from hiri_search.system.units import MAX_INTEGER

Dtype = Literal["fp32", "tf32", "bf16"]
Device = Literal["cpu", "cuda"]


class LatencyError(ValueError):
    """An impossible LatencyConfig, or a network whose forward pass fails; `name` is the field at fault, if any."""

    def __init__(self, message: str, *, name: str = "") -> None:
        super().__init__(message)
        self.name = name


@dataclass(frozen=True)
class LatencyConfig:
    """Settings of a latency benchmark, which always uses eval mode and channels-last.

    Rounds are repeated until all spreads are within the target, or the time limit is reached.
    """

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - read by pydantic, which is not imported here

    batch: int = 1  # images in a pass
    dtype: Dtype = "fp32"  # bf16: weights and activations; tf32: fp32 with products on CUDA's tensor cores
    compiled: bool = False  # with torch.compile
    fused: bool = False  # BatchNorm folded into neighbouring layers (section 4.4)
    cuda_graphs: bool = False  # CUDA only: a pass is the replay of a captured graph, started by a single call
    device: Device | None = None  # None: CUDA if available
    threads: int | None = None  # on the CPU; None: torch's own number
    seconds: float = 20.0  # time limit of the rounds, per network; a round that has begun is completed
    spread: float = 0.02  # target: half the interquartile range, divided by the median
    min_rounds: int = 8  # minimum number of rounds
    max_rounds: int = 100  # maximum number of rounds
    seed: int = 0  # of the images and of the order within rounds

    def __post_init__(self) -> None:
        self._check("batch", self.batch >= 1, "1 or more")
        self._check("dtype", self.dtype in get_args(Dtype), f"one of {', '.join(get_args(Dtype))}")
        self._check("device", self.device in (None, "cpu", "cuda"), "cpu or cuda, or left out")
        self._check("threads", self.threads is None or 1 <= self.threads <= 1024, "1 to 1,024, or left out")
        self._check("seed", 0 <= self.seed <= MAX_INTEGER, "0 or more, and under 2**63")
        self._check("seconds", math.isfinite(self.seconds) and self.seconds > 0, "more than 0")
        self._check("spread", math.isfinite(self.spread) and self.spread >= 0, "0 or more")
        self._check("min_rounds", self.min_rounds >= 1, "1 or more")
        self._check("max_rounds", self.max_rounds >= self.min_rounds, f"min_rounds={self.min_rounds} or more")

    def _check(self, name: str, valid: bool, expected: str) -> None:
        if not valid:
            raise LatencyError(f"{name}={getattr(self, name)} is not possible; it must be {expected}", name=name)
