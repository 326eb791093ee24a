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

# Exact classes: a subclass may transform its weight, as StdConv2d of timm does.
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, DepthwiseConv2d)
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, BatchNormAct2d)
_EVAL_IDENTITIES = (nn.Identity, nn.Dropout, DropPath)
_SUMS = (operator.add, operator.iadd, torch.add, "add", "add_")
# Exceptions of arbitrary models when torch.fx passes a proxy as input.
_TRACE_ERRORS = (TypeError, ValueError, RuntimeError, AttributeError, AssertionError, LookupError)

Layer = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear


class FuseError(ValueError):
    """A model that torch.fx cannot trace, with the reason and what to do instead."""


@dataclass(frozen=True)
class _Merge:
    """A norm and the layers that absorb it: its input is the sum of their outputs, or they all read its output."""

    norm: _BatchNorm
    layers: Sequence[Layer]
    norm_first: bool = False  # the layers read the output of the norm


def fuse_batchnorm(model: nn.Module) -> nn.Module:
    """Return a copy for inference, in eval mode, without the BatchNorms that neighbouring layers can absorb.

    A BatchNorm is absorbed after a convolution or FC, after a sum of these, and before FCs and convolutions without
    padding: in a network of the language, every one. Outputs are equal up to rounding; the other modules keep their
    classes and names. Assumes that an FC next to a BatchNorm1d works on (N, C).
    Raises FuseError where torch.fx cannot trace the model.
    """
    fused = deepcopy(model).eval()
    finder = _Finder(fused, _trace(fused))
    merges = [_into_previous(finder, node, norm) or _into_next(finder, node, norm) for node, norm in finder.norms()]
    for merge in filter(None, merges):  # the search has ended before the first norm goes
        _apply(merge)
        _replace(fused, merge.norm, _remainder(merge.norm))
    return fused


class _Tracer(fx.Tracer):
    """Traces convolutions, FCs and norms of any subclass as leaves, and the modules that timm marks as untraceable."""

    def __init__(self) -> None:
        super().__init__(autowrap_functions=tuple(get_notrace_functions()))

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        leaf = isinstance(m, (*_CONVOLUTIONS, nn.Linear, _BatchNorm, *_EVAL_IDENTITIES)) or is_notrace_module(m)
        return leaf or super().is_leaf_module(m, module_qualified_name)


def _trace(model: nn.Module) -> fx.Graph:
    """Trace a forward pass with the defaults of its optional arguments."""
    optional = {p.name: p.default for p in signature(model.forward).parameters.values() if p.default is not p.empty}
    try:
        return _Tracer().trace(model, concrete_args=optional)
    except _TRACE_ERRORS as error:
        problem = f"{type(model).__name__} cannot be fused: torch.fx cannot trace its forward pass ({error})"
        raise FuseError(f"{problem}; fuse those of its submodules that can be traced, or use it unfused") from error


def _into_previous(finder: _Finder, node: fx.Node, norm: _BatchNorm) -> _Merge | None:
    layers = finder.producers(node.args[0])
    linear = {isinstance(layer, nn.Linear) for layer in layers}
    same_axis = linear == {False} or (linear == {True} and isinstance(norm, nn.BatchNorm1d))
    same_width = all(len(layer.weight) == norm.num_features for layer in layers)
    return _Merge(norm, layers) if same_axis and same_width else None


def _into_next(finder: _Finder, node: fx.Node, norm: _BatchNorm) -> _Merge | None:
    """Merge a norm into all layers that read it, where none pads: its shift would be missing in the padding."""
    layers = finder.readers(node, last=isinstance(norm, nn.BatchNorm1d))
    no_activation = isinstance(_remainder(norm), nn.Identity)
    return _Merge(norm, layers, norm_first=True) if layers and no_activation and all(map(_unpadded, layers)) else None


class _Finder:
    """Finds the layers next to a norm in a traced model."""

    def __init__(self, model: nn.Module, graph: fx.Graph) -> None:
        self.model, self.graph = model, graph
        self.uses = Counter(module for node in graph.nodes for module in self._used_modules(node))

    def module(self, node: fx.Node) -> nn.Module | None:
        return self.model.get_submodule(str(node.target)) if node.op == "call_module" else None

    def _used_modules(self, node: fx.Node) -> Iterator[nn.Module]:
        """Yield the modules that a node calls, or whose weight it reads."""
        if node.op == "get_attr":
            yield self.model.get_submodule(str(node.target).rpartition(".")[0])
        elif (module := self.module(node)) is not None:
            yield from module.modules()

    def used_once(self, node: fx.Node, *classes: type[nn.Module]) -> Any:
        """Return the node's module if it has one of the classes, no other use and no hooks; else None."""
        module = self.module(node)
        if module is None or type(module) not in classes or self.uses[module] > 1:
            return None
        hooks = module._forward_hooks or module._forward_pre_hooks
        return module if len(node.args) == 1 and not node.kwargs and not hooks else None

    def norms(self) -> Iterator[tuple[fx.Node, _BatchNorm]]:
        """Yield the norms with running statistics, each with its node."""
        for node in self.graph.nodes:
            norm: _BatchNorm | None = self.used_once(node, *_BATCH_NORMS)
            if norm is not None and norm.running_mean is not None:
                yield node, norm

    def layer(self, node: fx.Node) -> Layer | None:
        """Return the convolution or FC of a node if its weights may change; else None."""
        return self.used_once(node, *_CONVOLUTIONS, nn.Linear)  # type: ignore[no-any-return]

    def producers(self, node: Any) -> list[Layer]:
        """Return the layers whose sum is this node's value, if it has one reader and is such a sum; else none."""
        if not isinstance(node, fx.Node) or len(node.users) != 1:
            return []
        if self.used_once(node, *_EVAL_IDENTITIES) is not None:
            return self.producers(node.args[0])
        if node.target in _SUMS and len(set(node.args)) == 2 and not node.kwargs:
            return _joined(map(self.producers, node.args))
        layer = self.layer(node)
        return [] if layer is None else [layer]

    def readers(self, node: fx.Node, *, last: bool) -> list[Layer]:
        """Return the layers that read a node's value, if all its readers are layers; else none.

        `last`: channels are on the last axis, as for FCs, not on the second, as for convolutions.
        """
        return _joined(self._reader(user, last) for user in node.users if not _reads_shape(user))

    def _reader(self, user: fx.Node, last: bool) -> list[Layer]:
        layer = self.layer(user)
        if layer is not None:
            return [layer] if isinstance(layer, nn.Linear) == last else []
        if self.used_once(user, *_EVAL_IDENTITIES) is not None:
            return self.readers(user, last=last)
        return [] if last else self._token_readers(user)

    def _token_readers(self, user: fx.Node) -> list[Layer]:
        """Return the layers that read a map as tokens: (B, C, H, W) -> (B, H*W, C), as in attention."""
        flat = user.users if _calls(user, "flatten", 2) else ()
        return _joined(self.readers(node, last=True) if _calls(node, "transpose", 1, 2) else [] for node in flat)


def _joined(groups: Iterable[list[Layer]]) -> list[Layer]:
    """Return the layers of all groups; none where a group is empty."""
    lists = list(groups)
    return [layer for layers in lists for layer in layers] if all(lists) else []


def _calls(node: fx.Node, method: str, *arguments: int) -> bool:
    call = (node.op, node.target, node.args[1:], node.kwargs)
    return call == ("call_method", method, arguments, {})


def _reads_shape(node: fx.Node) -> bool:
    return node.target is getattr and "shape" in node.args[1:]


def _unpadded(layer: Layer) -> bool:
    return isinstance(layer, nn.Linear) or (set(layer.padding) == {0} and layer.groups == 1)


def _apply(merge: _Merge) -> None:
    """Give the layers new parameters, computed in double precision; other layers may share the old ones."""
    scale, shift = _affine(merge.norm)
    for index, layer in enumerate(merge.layers):
        old, weight = layer.weight, layer.weight.detach().double()
        bias = weight.new_zeros(len(weight)) if layer.bias is None else layer.bias.detach().double()
        if merge.norm_first:
            by_input = weight.flatten(2) if weight.dim() > 2 else weight[..., None]  # (out, in, kernel positions)
            weight = (by_input * scale[:, None]).view_as(weight)
            bias = bias + torch.einsum("oik,i->o", by_input, shift)
        else:
            weight = (weight.flatten(1) * scale[:, None]).view_as(weight)
            bias = bias * scale + (shift if index == 0 else 0)  # one layer of a sum adds the shift
        layer.weight, layer.bias = (nn.Parameter(new.to(old.dtype), old.requires_grad) for new in (weight, bias))


def _affine(norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    """Return scale and shift of the norm, (C) each, in double precision: y = scale * x + shift."""
    mean, var = norm.running_mean, norm.running_var
    assert mean is not None
    assert var is not None
    scale = (var.double() + norm.eps).rsqrt()
    if norm.affine:
        scale = scale * norm.weight.detach().double()
        return scale, norm.bias.detach().double() - mean.double() * scale
    return scale, -mean.double() * scale


def _remainder(norm: _BatchNorm) -> nn.Module:
    """Return the module that replaces an absorbed norm: its activation, or an identity."""
    return norm.act if isinstance(norm, BatchNormAct2d) else nn.Identity().eval()


def _replace(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Replace a module under each of its names."""
    for parent in model.modules():
        for name in [name for name, child in parent._modules.items() if child is old]:
            setattr(parent, name, new)
