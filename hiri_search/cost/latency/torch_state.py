"""Choice of device, and torch's precision, threads and compiler set for a benchmark and restored."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

from hiri_search.cost.latency.config import LatencyConfig, LatencyError
from hiri_search.system.gc_control import gc_disabled
from hiri_search.system.hardware import has_bf16

MAX_COMPILED = 1_000  # networks; beyond its own 8 of one class, torch would quietly stop compiling


def find_device(setting: LatencyConfig) -> torch.device:
    """Where a setting is measured; LatencyError where it cannot be."""
    cuda = torch.cuda.is_available()
    if setting.device == "cuda" and not cuda:
        raise LatencyError("device=cuda, and there is no CUDA device here; leave it out", name="device")
    chosen = cuda and setting.device != "cpu"
    device = torch.device("cuda", torch.cuda.current_device()) if chosen else torch.device("cpu")
    if setting.dtype == "tf32" and device.type == "cpu":
        raise LatencyError("dtype=tf32 is a mode of CUDA devices; write fp32 on the CPU", name="dtype")
    if setting.dtype == "bf16" and not has_bf16(device):
        raise LatencyError(f"dtype=bf16, and this {device.type} has no arithmetic for it; write fp32", name="dtype")
    return device


@contextmanager
def torch_configured(setting: LatencyConfig) -> Iterator[None]:
    """Torch set for the measurement, and afterwards as it was; nothing is collected meanwhile."""
    cudnn = torch.backends.cudnn
    before = torch.get_num_threads(), torch.get_float32_matmul_precision(), cudnn.allow_tf32, cudnn.benchmark
    # Torch's own fp32 lets convolutions use TF32 and matrix products not: that would flatter a 1x1 convolution beside
    # the same FC. Here fp32 means fp32, and tf32 means it for both. Algorithms are tried out, for the sides are fixed.
    tf32 = setting.dtype == "tf32"
    with ExitStack() as stack:
        stack.callback(_set, *before)
        stack.enter_context(torch.inference_mode())
        if setting.compiled:
            stack.enter_context(_compiling())
        _set(setting.threads or before[0], "high" if tf32 else "highest", tf32, True)
        gc.collect()
        stack.enter_context(gc_disabled())
        yield


def _set(threads: int, matmul: str, conv_tf32: bool, tries: bool) -> None:
    torch.set_num_threads(threads)
    with warnings.catch_warnings():  # the newer switches for TF32 do not get on with torch.compile (pytorch#166387)
        warnings.simplefilter("ignore")
        torch.set_float32_matmul_precision(matmul)
        torch.backends.cudnn.allow_tf32 = conv_tf32
    torch.backends.cudnn.benchmark = tries


@contextmanager
def _compiling() -> Iterator[None]:
    """Room for many networks of one class, and an error, not plain passes, where it is not enough."""
    import torch._dynamo

    limits = {"recompile_limit": MAX_COMPILED, "accumulated_recompile_limit": MAX_COMPILED}
    try:
        with torch._dynamo.config.patch({**limits, "fail_on_recompile_limit_hit": True}):
            yield
    finally:
        torch._dynamo.reset()  # lets go of the networks
