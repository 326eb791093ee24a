"""Choice of device, and torch's precision, threads and compiler set for a benchmark and restored."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

from hiri_search.cost.latency.config import LatencyConfig, LatencyError
from hiri_search.system.gc_control import gc_disabled
from hiri_search.system.hardware import Machine, find_machine, has_bf16

MAX_COMPILED = 1_000  # networks of one class; beyond its default of 8 torch silently stops compiling


def find_device(config: LatencyConfig) -> torch.device:
    """Return the device of a benchmark; LatencyError where no device supports the configuration."""
    cuda = torch.cuda.is_available()
    if config.device == "cuda" and not cuda:
        raise LatencyError("device=cuda, and there is no CUDA device here; leave it out", name="device")
    on_cuda = cuda and config.device != "cpu"
    device = torch.device("cuda", torch.cuda.current_device()) if on_cuda else torch.device("cpu")
    if config.cuda_graphs and not on_cuda:
        raise LatencyError("cuda_graphs=true, and the device is a CPU; leave it out", name="cuda_graphs")
    if config.dtype == "tf32" and device.type == "cpu":
        raise LatencyError("dtype=tf32 is a mode of CUDA devices; write fp32 on the CPU", name="dtype")
    if config.dtype == "bf16" and not has_bf16(device):
        raise LatencyError(f"dtype=bf16, and this {device.type} device does not support it; write fp32", name="dtype")
    return device


def find_configured_machine(config: LatencyConfig) -> Machine:
    """Return the machine as a benchmark with this configuration sees it; LatencyError as of `find_device`."""
    device = find_device(config)
    with torch_configured(config):
        return find_machine(device)


@contextmanager
def torch_configured(config: LatencyConfig) -> Iterator[None]:
    """Configure torch for a benchmark, without garbage collection, and restore its state afterwards."""
    cudnn = torch.backends.cudnn
    saved = torch.get_num_threads(), torch.get_float32_matmul_precision(), cudnn.allow_tf32, cudnn.benchmark
    # By default, torch uses TF32 for fp32 convolutions but not for fp32 matrix products: a 1x1 convolution would look
    # faster than the same FC. Here fp32 and tf32 hold for both. cuDNN searches algorithms, since the sides are fixed.
    tf32 = config.dtype == "tf32"
    with ExitStack() as stack:
        stack.callback(_set, *saved)
        stack.enter_context(torch.inference_mode())
        if config.compiled:
            stack.enter_context(_compiling())
        _set(config.threads or saved[0], "high" if tf32 else "highest", tf32, True)
        gc.collect()
        stack.enter_context(gc_disabled())
        yield


def _set(threads: int, matmul: str, conv_tf32: bool, search: bool) -> None:
    torch.set_num_threads(threads)
    with warnings.catch_warnings():  # the newer TF32 switches do not work with torch.compile (pytorch#166387)
        warnings.simplefilter("ignore")
        torch.set_float32_matmul_precision(matmul)
        torch.backends.cudnn.allow_tf32 = conv_tf32
    torch.backends.cudnn.benchmark = search


@contextmanager
def _compiling() -> Iterator[None]:
    """Allow many compiled networks of one class, and raise an error instead of running uncompiled beyond that."""
    import torch._dynamo

    limits = {"recompile_limit": MAX_COMPILED, "accumulated_recompile_limit": MAX_COMPILED}
    try:
        with torch._dynamo.config.patch({**limits, "fail_on_recompile_limit_hit": True}):
            yield
    finally:
        torch._dynamo.reset()  # releases the networks
