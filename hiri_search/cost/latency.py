"""How long one forward pass takes, measured."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from hiri_search.language import Net
from hiri_search.nets.hiri import build


@dataclass(frozen=True)
class Latency:
    """Milliseconds for each picture of a batch: the median of several passes, and how far they lie apart."""

    ms: float
    spread: float  # half the distance between the quartiles, over the median
    batch: int
    side: int
    device: str


def measure(nets: Mapping[str, Net], side: int, *, batch: int = 1, repeats: int = 5) -> Iterator[tuple[str, Latency]]:
    """Time networks against each other, fp32, eval mode, channels-last, one after the other in each round.

    All take turns in every round, so that a machine that grows busier slows all of them alike.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    models = {name: _ready(net, device) for name, net in nets.items()}
    image = torch.zeros(batch, 3, side, side, device=device).to(memory_format=torch.channels_last)
    times: dict[str, list[float]] = {name: [] for name in models}
    for number in range(repeats + 1):
        for name, model in models.items():
            seconds = _time(model, image)
            if number > 0:  # the first round warms up
                times[name].append(1000 * seconds / batch)
    for name, measured in times.items():
        yield name, Latency(statistics.median(measured), _spread(measured), batch, side, _name(device))


def _ready(net: Net, device: torch.device) -> nn.Module:
    return build(net).eval().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


@torch.no_grad()
def _time(model: nn.Module, image: torch.Tensor) -> float:
    _wait(image.device)
    started = time.perf_counter()
    model(image)
    _wait(image.device)
    return time.perf_counter() - started


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _spread(measured: list[float]) -> float:
    if len(measured) < 2:
        return 0.0
    low, median, high = statistics.quantiles(measured, n=4, method="inclusive")
    return (high - low) / 2 / median


def _name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"CPU, {threads} thread" + "s" * (threads > 1)
