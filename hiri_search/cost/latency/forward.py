"""Timed forward passes of one network on one device."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hiri_search.cost.latency.config import LatencyConfig, LatencyError
from hiri_search.system.files import Say

TURN_SECONDS = 0.1  # a turn has as many passes as fill this: one pass of 50 microseconds is lost in a clock's error
MAX_PASSES = 10_000
# What a network of whatever make can raise where it meets an input that it cannot take.
REFUSALS = (AssertionError, RuntimeError, ValueError, TypeError, LookupError, AttributeError)

Forward = Callable[[Tensor], object]


@dataclass(frozen=True)
class LoadedModel:
    """A network on its device, and the side of what it is to see."""

    model: nn.Module
    device: torch.device
    side: int
    size: int  # bytes of its weights


@dataclass(frozen=True)
class WarmModel:
    """A network that has made its first passes."""

    forward: Forward
    image: Tensor  # (B, 3, side, side)
    pass_seconds: float  # roughly
    compile_seconds: float | None
    peak_memory_bytes: int | None

    @property
    def passes(self) -> int:
        """In a turn."""
        return max(1, min(MAX_PASSES, math.ceil(TURN_SECONDS / self.pass_seconds)))

    def timed_turn(self) -> float:
        """Milliseconds per image."""
        if self.passes > 1:  # one longer than a turn fills the caches after its neighbour by itself
            self.forward(self.image)
        return 1000 * _seconds(self.forward, self.image, self.passes) / self.passes / len(self.image)


@dataclass(frozen=True)
class DoesNotFit:
    """Why a network has no latency, where that is no mistake: it does not fit into memory."""

    reason: str


def convert(name: str, model: nn.Module, setting: LatencyConfig) -> nn.Module:
    """The network as it would be deployed; `model` itself is changed.

    bf16 is that of weights and images, as in timm's `benchmark.py --precision bfloat16`. Autocast would cast the
    weights again in each pass, and would compute LayerNorm in fp32, but not BatchNorm.
    """
    model = _fused(name, model) if setting.fused else model.eval()
    model = model.to(memory_format=torch.channels_last)
    return model.to(_dtype(setting)) if setting.dtype == "bf16" else model


def _fused(name: str, model: nn.Module) -> nn.Module:
    """In fp32: merged weights are rounded once."""
    from hiri_search.nets.fuse_batchnorm import FuseError, fuse_batchnorm  # torch.fx is slow to import

    try:
        return fuse_batchnorm(model)
    except FuseError as error:
        raise LatencyError(f"{name}: {error}", name="fused") from error


def _dtype(setting: LatencyConfig) -> torch.dtype:
    return torch.bfloat16 if setting.dtype == "bf16" else torch.float32


def size_of(model: nn.Module) -> int:
    """Bytes of parameters and buffers."""
    return sum(t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers()))


def noise(side: int, setting: LatencyConfig, device: torch.device) -> Tensor:
    """Normal noise, as images are once normalised, for zeros are multiplied faster: (B, 3, side, side)."""
    rng = torch.Generator().manual_seed(setting.seed)
    image = torch.randn(setting.batch, 3, side, side, generator=rng)
    return image.to(device, _dtype(setting), memory_format=torch.channels_last)


def first_passes(name: str, loaded: LoadedModel, setting: LatencyConfig, say: Say) -> WarmModel | DoesNotFit:
    """Compile, see that the network takes its input, and learn how long a pass is and what it holds."""
    how = f"batch {setting.batch}, side {loaded.side}, {setting.dtype}" + ", compiled" * setting.compiled
    try:
        ready = _try(loaded, setting)
        if ready.compile_seconds is not None:
            say(f"{name} compiled in {ready.compile_seconds:.0f} s")
        return ready
    except REFUSALS as error:
        if not _is_lack_of_memory(error):
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise LatencyError(f"{name} cannot make a pass at {how}: {reason}") from error
    # Said out here, where the error no longer holds on to what had been computed.
    untimed = DoesNotFit(f"{name} does not fit into memory at {how}; make the batch smaller")
    say(untimed.reason)
    return untimed


def _is_lack_of_memory(error: Exception) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)  # CUDA, CPU


def _try(loaded: LoadedModel, setting: LatencyConfig) -> WarmModel:
    image = noise(loaded.side, setting, loaded.device)
    # Shapes are fixed: else torch would compile a second batch of one class of network for any batch, and slower.
    forward = torch.compile(loaded.model, dynamic=False) if setting.compiled else loaded.model
    first = _seconds(forward, image, 1)
    peak = _peak_bytes(forward, image, loaded.size) if image.is_cuda else None
    return WarmModel(forward, image, _seconds(forward, image, 1), first if setting.compiled else None, peak)


def _seconds(forward: Forward, image: Tensor, passes: int) -> float:
    """What so many passes take together, from where the first begins on the device to where the last one ends."""
    if image.is_cuda:
        return _seconds_between_events(forward, image, passes)
    started = time.perf_counter()
    for _ in range(passes):
        forward(image)
    return time.perf_counter() - started


def _seconds_between_events(forward: Forward, image: Tensor, passes: int) -> float:
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    begin.record()
    for _ in range(passes):
        forward(image)
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) / 1000


def _peak_bytes(forward: Forward, image: Tensor, size: int) -> int:
    """The most that one pass holds at once; the weights of other networks do not count."""
    torch.cuda.reset_peak_memory_stats(image.device)
    before = torch.cuda.memory_allocated(image.device)
    forward(image)
    torch.cuda.synchronize(image.device)
    flowing = torch.cuda.max_memory_allocated(image.device) - before
    return flowing + size + image.numel() * image.element_size()
