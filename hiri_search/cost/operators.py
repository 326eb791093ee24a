"""Multiply-adds by operator, counted by fvcore on real modules."""

from __future__ import annotations

import warnings
from collections import Counter, UserDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from math import prod
from typing import Any, ClassVar, TypeAlias

import torch
from torch import nn

from hiri_search.language import SpecError
from hiri_search.nets.eval_mode import eval_mode, one_thread

with warnings.catch_warnings():  # fvcore compiles a loss at import, with a function that torch now deprecates
    warnings.simplefilter("ignore", FutureWarning)
    from fvcore.nn import FlopCountAnalysis
    from fvcore.nn.jit_handles import elementwise_flop_counter

CORE_OPERATORS = frozenset({"conv", "linear", "matmul", "mm", "addmm", "bmm", "einsum", "attention"})

# Operators that papers, and fvcore by its convention, do not count. An operator that is neither counted nor listed here
# is an error, because a silent zero makes counts wrong. Never list an operator that weights channels or positions.
_UNCOUNTED = (
    # elementwise
    "add add_ sub rsub mul mul_ div div_ neg pow square sqrt rsqrt exp cos sin ceil clamp_min addcmul "
    "gelu relu6 leaky_relu_ sigmoid silu silu_ tanh hardtanh hardtanh_ hardsigmoid hardswish hardswish_ "
    "max_pool2d amax ne masked_fill "  # no products and no sums
    "softmax mean sum norm linalg_vector_norm "  # one sum over the elements, without weights
    # data movement
    "pad unflatten reshape_as view_as expand_as repeat repeat_interleave tile clone flip unfold im2col meshgrid "
    "ones ones_like fill_ one_hot "
    "dropout_ feature_dropout"  # nothing in eval mode
)
UNCOUNTED = frozenset(f"aten::{name}" for name in _UNCOUNTED.split())


class CountError(SpecError):
    """An operator has arithmetic, and no handle to count it."""


def count_operators(module: nn.Module, *shapes: tuple[int, ...]) -> Counter[str]:
    """Return the multiply-adds of any module by operator, for inputs of these shapes, the batch included.

    Raises CountError as `count_module` does.
    """
    return operators_by_module(module, *shapes)[""]


def operators_by_module(module: nn.Module, *shapes: tuple[int, ...]) -> dict[str, Counter[str]]:
    """Return multiply-adds by operator, for each submodule by its name and for the whole module by an empty name."""
    with eval_mode(module), torch.no_grad(), one_thread(), _without_fast_path():
        analysis = FlopCountAnalysis(module, tuple(map(torch.zeros, shapes))).ancestor_mode("owner")
        analysis.set_op_handle(**OPERATOR_HANDLES)
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
        operators: dict[str, Counter[str]] = analysis.by_module_and_operator()
        unknown = set(analysis.unsupported_ops()) - UNCOUNTED
    if unknown:
        operators_text = ", ".join(sorted(unknown))
        raise CountError(f"no handle counts {operators_text}; add one to {__name__}.OPERATOR_HANDLES")
    return operators


@contextmanager
def _without_fast_path() -> Iterator[None]:
    """Let torch's own Transformer layers call the operators of a training, not a single one that nothing counts."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _sizes(value: Any) -> list[int]:
    return [int(n) for n in value.type().sizes()]


def _attention_macs(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """QK^T and AV of fused attention, which fvcore ignores: B * heads * Nq * Nk * (dk + dv)."""
    query, key, value = map(_sizes, inputs[:3])
    return Counter({"attention": prod(query[:-1]) * key[-2] * (query[-1] + value[-1])})


def _einsum_macs(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """One multiply-add per combination of the indices of two operands; fvcore's handle rounds to three digits."""
    terms = inputs[0].toIValue().replace(" ", "").partition("->")[0].split(",")
    operands = [_sizes(operand) for operand in inputs[1].node().inputs()]
    if len(terms) != 2 or [len(term) for term in terms] != [len(sizes) for sizes in operands]:
        raise CountError(f"no handle counts an einsum of {','.join(terms)}; write named indices and two operands")
    sizes = dict(zip("".join(terms), chain(*operands), strict=True))
    return Counter({"einsum": prod(sizes.values())})


def _convolution_macs(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """A convolution with padding given as a word; fvcore counts only convolutions with numbers as padding."""
    return Counter({"conv": prod(_sizes(outputs[0])) * prod(_sizes(inputs[1])[1:])})


# Added to fvcore's handles by analogy: one multiply-add per input element of a pooling, as for its adaptive pooling,
# and one per weight of an interpolation, as for its bilinear interpolation.
_PER_INPUT = elementwise_flop_counter(1, 0)
Handle: TypeAlias = Callable[[list[Any], list[Any]], Any]


class _Handles(UserDict[str, Handle]):
    """Handles by operator; after a change of the user no count from before it, and none from the disk, is used."""

    changed = False
    on_change: ClassVar[list[Callable[[], None]]] = []  # forget the counts that are kept in memory

    def __setitem__(self, operator: str, handle: Handle) -> None:
        super().__setitem__(operator, handle)
        self.changed = True
        for forget in self.on_change:
            forget()


OPERATOR_HANDLES = _Handles()
OPERATOR_HANDLES.data |= {
    "aten::scaled_dot_product_attention": _attention_macs,
    "aten::einsum": _einsum_macs,
    "aten::_convolution_mode": _convolution_macs,
    "aten::avg_pool1d": _PER_INPUT,
    "aten::avg_pool2d": _PER_INPUT,
    "aten::col2im": _PER_INPUT,
    "aten::cumsum": _PER_INPUT,
    "aten::upsample_bicubic2d": elementwise_flop_counter(0, 16),
}
