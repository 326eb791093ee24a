"""Networks of the language and of timm: checked, and built as classifiers for a given input side."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

import timm
import torch
from timm.models import get_pretrained_cfg
from torch import nn

import hiri_search.models  # noqa: F401 - `timm:hirivit_small` and the like are registered names
from hiri_search.language import Network, SpecError, TimmNetwork
from hiri_search.nets.hirivit import HiriVit, build_hirivit

_LISTING = "python -c 'import timm, hiri_search.models; print(*timm.list_models())' lists all names"

# Arguments of timm that this package passes itself, or that would not give a classifier to train.
_NO_WEIGHTS = "networks start without weights; leave it out"
RESERVED_ARGUMENTS = {
    "img_size": "it is the side of the inputs; leave it out and choose the side",
    "num_classes": "the classes are those of the data; leave it out",
    "in_chans": "images have 3 channels; leave it out",
    "drop_path_rate": "it belongs to the recipe; write recipe.drop_path there",
    "features_only": "only classifiers are counted and trained; leave it out",
    **dict.fromkeys(
        ["pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir"], _NO_WEIGHTS
    ),
}


def build(network: Network, side: int, *, classes: int = 1000, drop_path: float = 0.0) -> nn.Module:
    """Build the classifier for square inputs of `side` pixels: (B, 3, side, side) -> (B, classes).

    `drop_path` is the stochastic depth of the last block. Raises SpecError where timm has no such network, or cannot
    build it for this side.
    """
    if isinstance(network, TimmNetwork):
        return build_timm(network, side, classes=classes, drop_path=drop_path)
    return build_hirivit(network, side, classes=classes, drop_path=drop_path)


def build_on_meta(network: Network, side: int, *, classes: int = 1000) -> nn.Module:
    """Build the classifier without memory for its weights, for their names and shapes. Raises SpecError."""
    with torch.device("meta"):
        return build(network, side, classes=classes)


def check_timm(network: TimmNetwork) -> None:
    """Raise SpecError where timm has no such network, or where an argument is reserved; builds nothing."""
    if not timm.is_model(network.name):
        matches = get_close_matches(network.name, timm.list_models(), n=3)
        hint = f"did you mean {' or '.join(matches)}?" if matches else _LISTING
        raise SpecError(f"timm {timm.__version__} has no network {network.name!r}; {hint}")
    for name, _ in network.arguments:
        if name in RESERVED_ARGUMENTS:
            raise SpecError(f"{name} is not supported in '{network}': {RESERVED_ARGUMENTS[name]}")


def timm_builder(network: TimmNetwork) -> object:
    """Return the function that builds a network; None where timm has no such name."""
    return timm.model_entrypoint(network.name) if timm.is_model(network.name) else None


def is_ours_or_timms(network: TimmNetwork) -> bool:
    """Return whether the network is defined by timm or by this package, not registered by a third one."""
    module: str = getattr(timm_builder(network), "__module__", "")
    return module.split(".")[0] in ("timm", "hiri_search")


def build_timm(network: TimmNetwork, side: int, *, classes: int = 1000, drop_path: float = 0.0) -> nn.Module:
    """Build timm's classifier, without weights, for square inputs of `side` pixels: (B, 3, side, side) -> (B, classes).

    Raises SpecError where timm cannot build it. The first forward pass shows whether the network takes such inputs:
    the cost count runs one.
    """
    check_timm(network)
    arguments: dict[str, Any] = dict(network.arguments)
    cfg = get_pretrained_cfg(network.name)
    if cfg is not None and cfg.fixed_input_size and side != cfg.input_size[-1]:
        arguments["img_size"] = side
    if drop_path:  # some classes of timm have no such argument
        arguments["drop_path_rate"] = drop_path
    try:
        module: nn.Module = timm.create_model(network.name, num_classes=classes, **arguments)
    except Exception as error:  # foreign code with the user's arguments: any exception is about these
        raise SpecError(_build_error(network, side, error)) from error
    if isinstance(module, HiriVit):
        module.net.grids(side)
    return module


def _build_error(network: TimmNetwork, side: int, error: Exception) -> str:
    reason = f"timm says: {type(error).__name__} {error}".rstrip()
    if "drop_path_rate" in reason:
        return f"'{network}' has no stochastic depth; write recipe.drop_path=0 ({reason})"
    hint = "write other arguments" if network.arguments else "choose another side"
    if not is_ours_or_timms(network):
        about_call = isinstance(error, TypeError) or "NoneType" in reason
        form = "timm passes its function num_classes, pretrained_cfg, cache_dir and more: take **kwargs"
        hint = f"{form}, and return an nn.Module" if about_call else f"{hint}, or correct its code"
    return f"'{network}' cannot be built for inputs of {side} pixels; {hint} ({reason})"
