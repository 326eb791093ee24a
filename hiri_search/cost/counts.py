"""Parameters and multiply-adds of a network, counted by fvcore on the real modules, piece by piece."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from math import prod
from typing import Any

import torch
from fvcore.nn import FlopCountAnalysis
from torch import nn

from hiri_search.language.net import Net
from hiri_search.nets.pieces import Piece, place

CORE = frozenset({"conv", "linear", "matmul", "addmm", "bmm", "einsum", "attention"})

# Operators that papers, and fvcore by its convention, do not count: views, and a few operations for each element. Whatever is neither here nor counted is an error: a silent zero is how counts go wrong.
UNCOUNTED = frozenset(
    f"aten::{name}"
    for name in (
        "add add_ sub mul mul_ div div_ rsub neg pow sqrt rsqrt exp tanh sigmoid gelu relu relu_ silu silu_ "
        "hardtanh hardtanh_ hardswish hardswish_ softmax mean sum pad dropout dropout_ clamp max_pool2d "
        "feature_dropout bernoulli_ expand_as repeat roll clone ones zeros ones_like zeros_like fill_ copy_ "
        "norm linalg_vector_norm clamp_min unflatten"
    ).split()
)


class CountError(RuntimeError):
    """An operator with arithmetic that nobody has said how to count."""


@dataclass(frozen=True)
class Cost:
    """What a network, or a piece of one, costs at batch 1."""

    params: int
    macs: int  # multiply-adds of one forward pass, norms and upsampling as fvcore counts them: papers' "FLOPs"
    core_macs: int  # convolutions, fully connected layers and matrix products only

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.params + other.params, self.macs + other.macs, self.core_macs + other.core_macs)

    def __mul__(self, times: int) -> Cost:
        return Cost(self.params * times, self.macs * times, self.core_macs * times)


ZERO = Cost(0, 0, 0)


def count(net: Net, side: int, *, classes: int = 1000) -> Cost:
    """The cost of a network for square inputs of `side` pixels: the sum over its pieces."""
    return sum(count_parts(net, side, classes=classes).values(), ZERO)


def count_parts(net: Net, side: int, *, classes: int = 1000) -> dict[str, Cost]:
    """The cost by part: stem, stage1, down2, stage2, ... head."""
    return {p.name: _piece_cost(p.piece, p.side) * p.times for p in place(net, side, classes=classes)}


@cache
def _piece_cost(piece: Piece, side: int) -> Cost:
    return count_module(piece.build(), (piece.channels, side, side))


def count_module(module: nn.Module, shape: tuple[int, ...]) -> Cost:
    """The cost of any module for one input of `shape` (C, H, W).

    Raises CountError, naming the operators, where something with arithmetic would be missed.
    """
    operators = _operators(module.eval(), torch.zeros(1, *shape))
    core = sum(number for name, number in operators.items() if name in CORE)
    return Cost(sum(p.numel() for p in module.parameters()), round(operators.total()), round(core))


def _operators(module: nn.Module, image: torch.Tensor) -> Counter[str]:
    """Multiply-adds by operator."""
    analysis = FlopCountAnalysis(module, image)
    analysis.set_op_handle("aten::scaled_dot_product_attention", _attention_macs)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", (FutureWarning, DeprecationWarning, torch.jit.TracerWarning))  # type: ignore[arg-type]
        operators = Counter(analysis.by_operator())
        unknown = set(analysis.unsupported_ops()) - UNCOUNTED
    if unknown:
        raise CountError(f"nobody has said how to count {', '.join(sorted(unknown))}: add a handle or allow it")
    return operators


def _attention_macs(inputs: Iterable[Any], outputs: Iterable[Any]) -> Counter[str]:
    """QK^T and AV of fused attention, which fvcore passes over in silence: B * heads * Nq * Nk * (dk + dv)."""
    query, key, value = ([int(n) for n in v.type().sizes()] for v in list(inputs)[:3])
    return Counter({"attention": prod(query[:-1]) * key[-2] * (query[-1] + value[-1])})
