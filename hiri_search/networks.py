"""Networks of the language and of timm: checked, and built for a given input side."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from difflib import get_close_matches
from functools import partial
from typing import Any

import timm
import torch
from timm.models import get_pretrained_cfg
from torch import Tensor, nn

import hiri_search.models  # noqa: F401 - `timm:hirivit_small` and the like are registered names
from hiri_search.language import Backbone, DenseNetwork, Net, Network, SpecError, TimmNetwork
from hiri_search.language.dense_network import as_network
from hiri_search.nets.dense.body import BackboneBody, backbone_in
from hiri_search.nets.dense.build import build_method
from hiri_search.nets.hirivit import HiriVit, build_hirivit
from hiri_search.nets.pieces import IMAGE_CHANNELS
from hiri_search.nets.weights_file import WeightsError
from hiri_search.user_code import said

_LISTING = "python -c 'import timm, hiri_search.models; print(*timm.list_models())' lists all names"

# Arguments of timm that this package passes itself, or that would not give a classifier to train.
_NO_WEIGHTS = "it belongs to the recipe; write recipe.pretrained or recipe.weights there"
LONGEST_REASON = 300  # characters of an error of timm: torch names each value that does not fit
_USUAL_INPUT = (IMAGE_CHANNELS, 224, 224)
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


def usual_side(network: TimmNetwork) -> int:
    """Return the input side of timm's configuration, else 224. Raises SpecError where timm has no such network."""
    check_timm(network)
    config = get_pretrained_cfg(network.name)
    return int((config.input_size if config else _USUAL_INPUT)[-1])


def build(network: Network | str, side: int, *, classes: int = 1000, drop_path: float = 0.0) -> nn.Module:
    """Build the classifier of a network, or of its spec, for square inputs: (B, 3, side, side) -> (B, classes).

    A dense network is built with its method, whose outputs and losses are those of torchvision's detectors.
    `drop_path` is the stochastic depth of the last block. Raises SpecError where timm has no such network, or cannot
    build it for this side.
    """
    network = as_network(network)
    if isinstance(network, DenseNetwork):
        body = build_body(network.backbone, network.method.maps, drop_path=drop_path)
        return build_method(network, body, classes, side=side)  # type: ignore[no-any-return]
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


def is_ours_or_timms(network: Network) -> bool:
    """Return whether a network is defined by timm or by this package, without code of a third one."""
    if isinstance(network, DenseNetwork):
        return is_ours_or_timms(network.backbone)
    return network.is_ours if isinstance(network, Net) else package_of(network) in ("timm", "hiri_search")


def package_of(network: TimmNetwork) -> str:
    """Return the package, or the file, whose code builds a network; empty where timm has no such name."""
    module: str = getattr(timm_builder(network), "__module__", "")
    return module.split(".")[0]


def build_timm(network: TimmNetwork, side: int, *, classes: int = 1000, drop_path: float = 0.0) -> nn.Module:
    """Build timm's classifier, without weights, for square inputs of `side` pixels: (B, 3, side, side) -> (B, classes).

    Raises SpecError where timm cannot build it. The first forward pass shows whether the network takes such inputs:
    the cost count runs one.
    """
    check_timm(network)
    arguments = timm_arguments(network, side)
    if drop_path:  # some classes of timm have no such argument
        arguments["drop_path_rate"] = drop_path
    try:
        module: nn.Module = timm.create_model(network.name, num_classes=classes, **arguments)
    except Exception as error:  # foreign code with the user's arguments: any exception is about these
        raise SpecError(_build_error(network, side, error)) from error
    if isinstance(module, HiriVit):
        module.net.grids(side)
    return module


def build_body(network: Backbone, maps: int, *, drop_path: float = 0.0) -> BackboneBody:
    """Build the backbone of a network for images of any size: its last `maps` maps, without its classifier.

    Raises SpecError where timm cannot build it, or where its model gives no maps.
    """
    arguments: dict[str, Any] = {"features_only": True, "feature_cls": "getter", "out_indices": range(-maps, 0)}
    if drop_path:
        arguments["drop_path_rate"] = drop_path
    if not isinstance(network, TimmNetwork):
        _check_stages(network, maps)
        return BackboneBody(timm.create_model("hirivit", spec=network.canonical_text, **arguments))
    check_timm(network)
    cfg = get_pretrained_cfg(network.name)
    create = partial(timm.create_model, network.name, **dict(network.arguments), **arguments)
    try:
        if cfg is not None and cfg.fixed_input_size:
            with suppress(TypeError):  # some networks of a fixed size have no such argument, and take any size
                return BackboneBody(create(strict_img_size=False))
        return BackboneBody(create())
    except Exception as error:  # foreign code with the user's arguments: any exception is about these
        reason = said(error)[:LONGEST_REASON]
        raise SpecError(f"'{network}' gives no {maps} maps for images of any size ({reason})") from error


def _check_stages(network: Net, maps: int) -> None:
    if len(network.stages) < maps:
        raise SpecError(f"{network} has {len(network.stages)} stages; this method takes the maps of {maps}")


def map_shapes(network: Backbone, maps: int, size: tuple[int, int]) -> list[tuple[int, ...]]:
    """Return the shapes (1, C, H, W) of the last maps of a network for an image of `size` (height, width).

    Raises SpecError as `build_body` does, and where the network does not accept such images.
    """
    if not isinstance(network, TimmNetwork) and network.is_ours:
        _check_stages(network, maps)
        placed = zip(network.stages, network.rounded_grids(*size), strict=True)
        shapes: list[tuple[int, ...]] = [(1, stage.width, *grid) for stage, grid in placed]
        return shapes[-maps:]
    with torch.device("meta"), torch.no_grad():
        body = build_body(network, maps).eval()
        try:
            return [tuple(each.shape) for each in body(torch.empty(1, IMAGE_CHANNELS, *size))]
        except Exception as error:  # foreign code at a size that the user chose
            height, width = size
            reason = said(error)[:LONGEST_REASON]
            raise SpecError(f"'{network}' takes no images of {height} x {width} pixels ({reason})") from error


def restored(network: Network, side: int, classes: int, weights: Mapping[str, Tensor]) -> nn.Module:
    """Build a trained network, a classifier by timm, which records how, and load its weights. In eval mode.

    Raises SpecError as `build` does, and WeightsError where weights are missing or do not fit.
    """
    model: nn.Module
    if isinstance(network, TimmNetwork | DenseNetwork):
        model = build(network, side, classes=classes)
    else:
        model = timm.create_model("hirivit", spec=network.canonical_text, num_classes=classes, img_size=side)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        reason = said(error)[:LONGEST_REASON]
        raise WeightsError(
            f"the weights do not fit '{network}' of this version of hiri_search or timm ({reason})"
        ) from error
    return model.eval()


def backbone_for_timm(network: DenseNetwork, model: nn.Module) -> tuple[nn.Module, list[str]]:
    """Return the backbone of a trained dense network as timm builds it, without classes, in eval mode.

    Also returns the names of the values that a dense network has not, which keep their initial values: of a norm or a
    head behind the last stage. These are the same each time.
    """
    backbone = network.backbone
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        if isinstance(backbone, TimmNetwork):
            whole: nn.Module = timm.create_model(backbone.name, num_classes=0, **dict(backbone.arguments))
        else:
            whole = timm.create_model("hirivit", spec=backbone.canonical_text, num_classes=0)
    missing, unexpected = whole.load_state_dict(backbone_in(model)[1].state_dict(), strict=False)
    assert not unexpected
    return whole.eval(), missing


def timm_arguments(network: TimmNetwork, side: int) -> dict[str, Any]:
    """Return the arguments of timm's builder: those of the network, and the side where it has another one."""
    cfg = get_pretrained_cfg(network.name)
    has_other_side = cfg is not None and cfg.fixed_input_size and side != cfg.input_size[-1]
    return dict(network.arguments) | ({"img_size": side} if has_other_side else {})


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
