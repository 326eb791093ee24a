"""BatchNorm folded into neighbouring layers for inference (section 4.4)."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from timm.layers import BatchNormAct2d, DropPath
from timm.models import get_notrace_functions, is_notrace_module
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from hiri_search.nets.depthwise import DepthwiseConv2d

# Exact classes: one that inherits from these may do more with its weight than multiply, as StdConv2d of timm does.
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, DepthwiseConv2d)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, BatchNormAct2d)
IDLE = (nn.Identity, nn.Dropout, DropPath)  # in eval mode
SUMS = (operator.add, operator.iadd, torch.add, "add", "add_")
# What a model of whatever make can raise where it meets a stand-in for its input.
UNTRACEABLE = (TypeError, ValueError, RuntimeError, AttributeError, AssertionError, LookupError)

Layer = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear


class FuseError(ValueError):
    """A model whose layers cannot be found, with the reason and what to do instead."""


@dataclass(frozen=True)
class _Merge:
    """A norm, and the layers that take it over: those whose outputs it sees the sum of, or those that see its own."""

    norm: _BatchNorm
    layers: Sequence[Layer]
    ahead: bool = False  # the norm stands in front of the layers


def fuse_batchnorm(model: nn.Module) -> nn.Module:
    """A copy for inference, in eval mode, without the BatchNorms that a neighbouring layer can take over.

    Those are the ones behind a convolution or FC, behind a sum of such, and in front of FCs and of convolutions
    without padding: in a network of the language, all. The outputs are equal up to rounding, and what is left keeps
    its classes and names. An FC beside a BatchNorm1d is taken to see (N, C).
    FuseError where torch.fx cannot trace the model.
    """
    fused = deepcopy(model).eval()
    for merge in list(_merges(fused, _trace(fused))):  # all found before any is gone
        _apply(merge)
        _put(fused, merge.norm, _rest(merge.norm))
    return fused


class _Tracer(fx.Tracer):
    """Sees convolutions, FCs and norms as wholes, whatever their class, and what timm says cannot be traced."""

    def __init__(self) -> None:
        super().__init__(autowrap_functions=tuple(get_notrace_functions()))

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        whole = isinstance(m, (*CONVOLUTIONS, nn.Linear, _BatchNorm, *IDLE)) or is_notrace_module(m)
        return whole or super().is_leaf_module(m, module_qualified_name)


def _trace(model: nn.Module) -> fx.Graph:
    """The calls of a forward pass; arguments that may be left out are left out."""
    optional = {p.name: p.default for p in signature(model.forward).parameters.values() if p.default is not p.empty}
    try:
        return _Tracer().trace(model, concrete_args=optional)
    except UNTRACEABLE as error:
        raise FuseError(
            f"{type(model).__name__} cannot be fused: torch.fx cannot trace its forward pass ({error});"
            " fuse those of its submodules that can be traced, or use it as it is"
        ) from error


def _merges(model: nn.Module, graph: fx.Graph) -> Iterator[_Merge]:
    finder = _Finder(model, graph)
    for node in graph.nodes:
        norm = finder.norm(node)
        merge = (_behind(finder, node, norm) or _ahead(finder, node, norm)) if norm is not None else None
        if merge is not None:
            yield merge


def _behind(finder: _Finder, node: fx.Node, norm: _BatchNorm) -> _Merge | None:
    """The norm merged into the layers in front of it."""
    layers = finder.sources(node.args[0])
    full = {isinstance(layer, nn.Linear) for layer in layers}
    aligned = full == {False} or (full == {True} and isinstance(norm, nn.BatchNorm1d))
    return _Merge(norm, layers) if aligned and all(_outputs(layer) == norm.num_features for layer in layers) else None


def _ahead(finder: _Finder, node: fx.Node, norm: _BatchNorm) -> _Merge | None:
    """The norm merged into all the layers that see it, where none sees padding: zeros would have to be shifted too."""
    layers = finder.readers(node, last=isinstance(norm, nn.BatchNorm1d))
    bare = isinstance(_rest(norm), nn.Identity)
    return _Merge(norm, layers, ahead=True) if layers and bare and all(map(_unpadded, layers)) else None


class _Finder:
    """Which layers stand beside a norm in a traced model."""

    def __init__(self, model: nn.Module, graph: fx.Graph) -> None:
        self.model = model
        self.uses = Counter(inner for node in graph.nodes for inner in self._touched(node))

    def module(self, node: fx.Node) -> nn.Module | None:
        return self.model.get_submodule(str(node.target)) if node.op == "call_module" else None

    def _touched(self, node: fx.Node) -> Iterator[nn.Module]:
        """The modules that a step of the graph runs, or reads a weight of."""
        if node.op == "get_attr":
            yield self.model.get_submodule(str(node.target).rpartition(".")[0])
        elif (module := self.module(node)) is not None:
            yield from module.modules()

    def alone(self, node: fx.Node, *kinds: type[nn.Module]) -> Any:
        """The module of a node, if it is one of these classes, is used here only, and nobody looks on; else None."""
        module = self.module(node)
        if module is None or type(module) not in kinds or self.uses[module] > 1:
            return None
        watched = module._forward_hooks or module._forward_pre_hooks
        return module if len(node.args) == 1 and not node.kwargs and not watched else None

    def norm(self, node: fx.Node) -> _BatchNorm | None:
        """The norm of a node, if it is the same for every batch."""
        norm: _BatchNorm | None = self.alone(node, *BATCH_NORMS)
        return norm if norm is not None and norm.running_mean is not None else None

    def layer(self, node: fx.Node) -> Layer | None:
        """The convolution or FC of a node, if its weights are free to change."""
        return self.alone(node, *CONVOLUTIONS, nn.Linear)  # type: ignore[no-any-return]

    def sources(self, node: Any) -> list[Layer]:
        """The layers whose sum a node is, if it is one and is seen only once; else none."""
        if not isinstance(node, fx.Node) or len(node.users) != 1:
            return []
        if self.alone(node, *IDLE) is not None:
            return self.sources(node.args[0])
        if node.target in SUMS and len(set(node.args)) == 2 and not node.kwargs:
            return _all(map(self.sources, node.args))
        layer = self.layer(node)
        return [] if layer is None else [layer]

    def readers(self, node: fx.Node, *, last: bool) -> list[Layer]:
        """The layers that see a node's values, if all that see them are layers; else none.

        `last`: its channels stand on the last axis, where FCs look, instead of the second, where convolutions do.
        """
        return _all(self._reader(user, last) for user in node.users if not _asks_shape(user))

    def _reader(self, user: fx.Node, last: bool) -> list[Layer]:
        layer = self.layer(user)
        if layer is not None:
            return [layer] if isinstance(layer, nn.Linear) == last else []
        if self.alone(user, *IDLE) is not None:
            return self.readers(user, last=last)
        return [] if last else self._rows(user)

    def _rows(self, user: fx.Node) -> list[Layer]:
        """The layers that see a map as rows of positions: (B, C, H, W) -> (B, H*W, C), as attention does."""
        rows = user.users if _calls(user, "flatten", 2) else ()
        return _all(self.readers(row, last=True) if _calls(row, "transpose", 1, 2) else [] for row in rows)


def _all(found: Iterable[list[Layer]]) -> list[Layer]:
    """The layers of all the lists; none where one of them is empty."""
    lists = list(found)
    return [layer for layers in lists for layer in layers] if all(lists) else []


def _calls(node: fx.Node, method: str, *arguments: int) -> bool:
    found = (node.op, node.target, node.args[1:], node.kwargs)
    return found == ("call_method", method, arguments, {})


def _asks_shape(node: fx.Node) -> bool:
    return node.target is getattr and "shape" in node.args[1:]


def _outputs(layer: Layer) -> int:
    return layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels


def _unpadded(layer: Layer) -> bool:
    return isinstance(layer, nn.Linear) or (set(layer.padding) == {0} and layer.groups == 1)


def _apply(merge: _Merge) -> None:
    scale, shift = _affine(merge.norm)
    if merge.ahead:
        for layer in merge.layers:
            _scale_inputs(layer, scale, shift)
        return
    for index, layer in enumerate(merge.layers):  # of a sum, one layer brings the shift
        _scale_outputs(layer, scale, shift if index == 0 else torch.zeros_like(shift))


def _affine(norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    """What the norm multiplies by and then adds, (C) each, in double precision."""
    mean, var = norm.running_mean, norm.running_var
    assert mean is not None
    assert var is not None
    scale = (var.double() + norm.eps).rsqrt()
    if norm.affine:
        scale = scale * norm.weight.detach().double()
        return scale, norm.bias.detach().double() - mean.double() * scale
    return scale, -mean.double() * scale


def _scale_outputs(layer: Layer, scale: Tensor, shift: Tensor) -> None:
    weight, bias = _doubles(layer)
    _set(layer, (weight.flatten(1) * scale[:, None]).view_as(weight), bias * scale + shift)


def _scale_inputs(layer: Layer, scale: Tensor, shift: Tensor) -> None:
    weight, bias = _doubles(layer)
    by_input = weight.flatten(2) if weight.dim() > 2 else weight[..., None]  # (out, in, kernel positions)
    scaled = (by_input * scale[:, None]).view_as(weight)
    _set(layer, scaled, bias + torch.einsum("oik,i->o", by_input, shift))


def _doubles(layer: Layer) -> tuple[Tensor, Tensor]:
    """Weight and bias in double precision; zeros where there is no bias."""
    weight = layer.weight.detach().double()
    bias = weight.new_zeros(len(weight)) if layer.bias is None else layer.bias.detach().double()
    return weight, bias


def _set(layer: Layer, weight: Tensor, bias: Tensor) -> None:
    """New parameters, for another layer may share the old ones."""
    before = layer.weight
    layer.weight, layer.bias = (
        nn.Parameter(values.to(before.dtype), before.requires_grad) for values in (weight, bias)
    )


def _rest(norm: _BatchNorm) -> nn.Module:
    """What is left of a norm that others have taken over."""
    return norm.act if isinstance(norm, BatchNormAct2d) else nn.Identity().eval()


def _put(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put a module in the place of another, under each of its names."""
    for parent in model.modules():
        for name in [name for name, child in parent._modules.items() if child is old]:
            setattr(parent, name, new)
