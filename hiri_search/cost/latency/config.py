"""LatencyConfig: batch, dtype, compile, fuse and stopping rule of a latency benchmark (no torch)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

Dtype = Literal["fp32", "tf32", "bf16"]
Device = Literal["cpu", "cuda"]


class LatencyError(ValueError):
    """A setting that cannot be, or a network that cannot make a pass; `name` is the field of Setting at fault."""

    def __init__(self, message: str, *, name: str = "") -> None:
        super().__init__(message)
        self.name = name


@dataclass(frozen=True)
class LatencyConfig:
    """How a pass is timed, always in eval mode and channels-last.

    The repeating ends when all spreads are at the target or the time is used up.
    """

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - this floor does not know pydantic

    batch: int = 1  # images of a pass
    dtype: Dtype = "fp32"  # bf16: weights and all; tf32: fp32 whose products go through CUDA's tensor cores
    compiled: bool = False  # by torch.compile
    fused: bool = False  # BatchNorm merged into its neighbours (section 4.4)
    device: Device | None = None  # None: CUDA where there is one
    threads: int | None = None  # on the CPU; None: as torch has it
    seconds: float = 20.0  # limit for each network's share of the repeating
    spread: float = 0.02  # target: half the distance between the quartiles, over the median
    least: int = 8  # rounds before a small spread is believed
    most: int = 100  # rounds
    seed: int = 0  # of the images and of the order in each round

    def __post_init__(self) -> None:
        self._check("batch", self.batch >= 1, "1 or more")
        self._check("dtype", self.dtype in get_args(Dtype), f"one of {', '.join(get_args(Dtype))}")
        self._check("device", self.device in (None, "cpu", "cuda"), "cpu or cuda, or left out")
        self._check("threads", self.threads is None or self.threads >= 1, "1 or more, or left out")
        self._check("seconds", math.isfinite(self.seconds) and self.seconds > 0, "more than 0")
        self._check("spread", math.isfinite(self.spread) and self.spread >= 0, "0 or more")
        self._check("least", self.least >= 1, "1 or more")
        self._check("most", self.most >= self.least, f"least={self.least} or more")

    def _check(self, name: str, holds: bool, wanted: str) -> None:
        if not holds:
            raise LatencyError(f"{name}={getattr(self, name)} is not possible; it must be {wanted}", name=name)
