"""The energy that a card has taken, where it tells."""

from __future__ import annotations

import torch

MILLI = 1e-3


def joules(device: torch.device) -> float | None:
    """Of the whole card since its driver was loaded, whoever used it: trials that share it count each other's.

    Told by NVIDIA's library (NVML) from Volta on, by way of the package nvidia-ml-py; None without one of these.
    """
    if device.type != "cuda":
        return None
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        card = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(card)) * MILLI
    except pynvml.NVMLError:  # an older card, or a part of one
        return None


def between(before: float | None, after: float | None) -> float | None:
    """What was taken meanwhile; None where it is not known, or the counter began anew."""
    return after - before if before is not None and after is not None and after >= before else None
