"""The hardware that is there."""

from __future__ import annotations

import gc
import os
import platform

import torch


def found() -> str:
    """In words: `2 x NVIDIA H100` or `CPU, 8 cores (x86_64)`."""
    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}"
    return f"CPU, {cores()} cores ({platform.machine()})"


def gpus() -> int:
    """CUDA devices."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def cores() -> int:
    """CPU cores this process may use, which in a container or a job may be fewer than the machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def release() -> None:
    """Give back the device memory that a training which has ended still holds."""
    if torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()
