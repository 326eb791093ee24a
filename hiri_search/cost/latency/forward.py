"""Timed forward passes of one network on one device."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from hiri_search.cost.latency.config import LatencyConfig, LatencyError
from hiri_search.system.files import Say

SAMPLE_SECONDS = 0.1  # passes in a row that give one time: a single pass can be shorter than the clock's error
MAX_PASSES = 10_000
# Errors that the code of a network may raise for an input that it does not accept.
INPUT_ERRORS = (AssertionError, RuntimeError, ValueError, TypeError, LookupError, AttributeError)

Forward = Callable[[Tensor], object]
GraphPool: TypeAlias = Any  # what torch.cuda.graph_pool_handle returns


@dataclass(frozen=True)
class LoadedModel:
    """A network on its device, and the side of its input."""

    model: nn.Module
    device: torch.device
    side: int
    size: int  # bytes of parameters and buffers


@dataclass(frozen=True)
class WarmModel:
    """A network after its first passes, ready to be timed."""

    forward: Forward
    image: Tensor  # (B, 3, side, side)
    pass_seconds: float  # estimate
    compile_seconds: float | None
    peak_memory_bytes: int | None

    @property
    def passes(self) -> int:
        """Number of passes in a row that give one time."""
        return max(1, min(MAX_PASSES, math.ceil(SAMPLE_SECONDS / self.pass_seconds)))

    def sample_ms(self) -> float:
        """Run `passes` passes and return milliseconds per image."""
        if self.passes > 1:  # refill the caches after another network; a single long pass does so by itself
            self.forward(self.image)
        return 1000 * _seconds(self.forward, self.image, self.passes) / self.passes / len(self.image)


@dataclass(frozen=True)
class DoesNotFit:
    """The result for a network that does not fit into memory."""

    reason: str


def convert(name: str, model: nn.Module, config: LatencyConfig) -> nn.Module:
    """Convert a network, in place, for inference.

    bf16 converts weights and images, as timm's `benchmark.py --precision bfloat16` does. Autocast would cast the
    weights again in every pass, and would compute LayerNorm in fp32, but not BatchNorm.
    """
    model.eval()
    if config.fused:  # in fp32, so that folded weights are rounded only once
        from hiri_search.nets.fuse_batchnorm import FuseError, fuse_batchnorm  # torch.fx is slow to import

        try:
            model = fuse_batchnorm(model)
        except FuseError as error:
            raise LatencyError(f"{name}: {error}", name="fused") from error
    model = model.to(memory_format=torch.channels_last)
    return model.to(_dtype(config)) if config.dtype == "bf16" else model


def _dtype(config: LatencyConfig) -> torch.dtype:
    return torch.bfloat16 if config.dtype == "bf16" else torch.float32


def weight_bytes(model: nn.Module) -> int:
    """Bytes of parameters and buffers."""
    return sum(t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers()))


def noise_images(side: int, config: LatencyConfig, device: torch.device) -> Tensor:
    """Return normal noise, like normalised images, (B, 3, side, side): some devices multiply zeros faster."""
    rng = torch.Generator().manual_seed(config.seed)
    image = torch.randn(config.batch, 3, side, side, generator=rng)
    return image.to(device, _dtype(config), memory_format=torch.channels_last)


def first_passes(
    name: str, loaded: LoadedModel, config: LatencyConfig, say: Say, pool: GraphPool | None = None
) -> WarmModel | DoesNotFit:
    """Compile the network, check that it accepts its input, and measure a pass's time and peak memory.

    CUDA graphs of one `pool` share the memory of what they compute: no output is read.
    """
    settings = f"batch {config.batch}, side {loaded.side}, {config.dtype}" + ", compiled" * config.compiled
    settings += ", as a CUDA graph" * config.cuda_graphs
    try:
        warm = _run_first_passes(loaded, config, pool)
        if warm.compile_seconds is not None:
            say(f"{name} compiled in {warm.compile_seconds:.0f} s")
        return warm
    except INPUT_ERRORS as error:
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):  # CUDA, CPU
            reason = str(error).partition("\n")[0] or type(error).__name__
            message = f"the forward pass of {name} fails at {settings}: {reason}; choose another side"
            raise LatencyError(message) from error
    # Outside the except block, where the error no longer keeps the computed tensors alive.
    failure = DoesNotFit(f"{name} does not fit into memory at {settings}; make the batch smaller")
    say(failure.reason)
    return failure


def _run_first_passes(loaded: LoadedModel, config: LatencyConfig, pool: GraphPool | None) -> WarmModel:
    image = noise_images(loaded.side, config, loaded.device)
    # With dynamic shapes, torch would compile the second batch size of a class for any size, which is slower.
    forward = torch.compile(loaded.model, dynamic=False) if config.compiled else loaded.model
    first = _seconds(forward, image, 1)
    peak = _peak_bytes(forward, image, loaded.size) if image.is_cuda else None
    if config.cuda_graphs:
        forward = _captured(forward, image, pool)
    return WarmModel(forward, image, _seconds(forward, image, 1), first if config.compiled else None, peak)


def _captured(forward: Forward, image: Tensor, pool: GraphPool | None) -> Forward:
    """Capture a pass as a CUDA graph, and return its replay, which always reads this image.

    Without a graph the CPU starts every kernel by itself, which can take longer than the kernels of a small batch.
    """
    current, own = torch.cuda.current_stream(image.device), torch.cuda.Stream(image.device)  # type: ignore[no-untyped-call]
    own.wait_stream(current)
    with torch.cuda.stream(own):  # libraries initialise at their first call, which cannot be captured
        forward(image)
    current.wait_stream(own)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool):
        forward(image)
    return lambda _: graph.replay()


def _seconds(forward: Forward, image: Tensor, passes: int) -> float:
    """Total time of the passes on the device, from the start of the first to the end of the last."""
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
    """Peak memory of one pass, without the weights of other networks."""
    torch.cuda.reset_peak_memory_stats(image.device)
    allocated = torch.cuda.memory_allocated(image.device)
    forward(image)
    torch.cuda.synchronize(image.device)
    activations = torch.cuda.max_memory_allocated(image.device) - allocated
    return activations + size + image.numel() * image.element_size()
