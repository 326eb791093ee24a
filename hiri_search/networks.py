"""Networks of the language and of timm: checked, built as classifiers for a given input side, and their weights."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from difflib import get_close_matches
from functools import partial
from typing import Any

import timm
import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import get_pretrained_cfg
from torch import Tensor, nn

import hiri_search.models  # noqa: F401 - `timm:hirivit_small` and the like are registered names
from hiri_search.language import Backbone, DenseNetwork, Net, Network, SpecError, TimmNetwork
from hiri_search.nets.dense.body import BackboneBody
from hiri_search.nets.dense.build import build_method
from hiri_search.nets.hirivit import HiriVit, build_hirivit
from hiri_search.nets.pieces import IMAGE_CHANNELS
from hiri_search.nets.weights_file import Weights, WeightsError
from hiri_search.user_code import said

_LISTING = "python -c 'import timm, hiri_search.models; print(*timm.list_models())' lists all names"

# Arguments of timm that this package passes itself, or that would not give a classifier to train.
_NO_WEIGHTS = "it belongs to the recipe; write recipe.pretrained or recipe.weights there"
_OFFLINE = (
    "connect this machine to the internet once, copy timm's cache of another machine (~/.cache/huggingface), or write"
    " recipe.weights with the path of a file"
)
_USUAL_INPUT = (IMAGE_CHANNELS, 224, 224)
_MAX_REASON = 300  # characters of an error of timm: torch names each value that does not fit
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


def build(network: Network, side: int, *, classes: int = 1000, drop_path: float = 0.0) -> nn.Module:
    """Build the classifier for square inputs of `side` pixels: (B, 3, side, side) -> (B, classes).

    A dense network is built with its method, whose outputs and losses are those of torchvision's detectors.
    `drop_path` is the stochastic depth of the last block. Raises SpecError where timm has no such network, or cannot
    build it for this side.
    """
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
    arguments = _arguments(network, side)
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
        if len(network.stages) < maps:
            raise SpecError(f"{network} has {len(network.stages)} stages; this method takes the maps of {maps}")
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
        reason = said(error)[:_MAX_REASON]
        raise SpecError(f"'{network}' gives no {maps} maps for images of any size ({reason})") from error


def map_shapes(network: Backbone, maps: int, size: tuple[int, int]) -> list[tuple[int, ...]]:
    """Return the shapes (1, C, H, W) of the last maps of a network for an image of `size` (height, width).

    Raises SpecError as `build_body` does, and where the network does not accept such images.
    """
    with torch.device("meta"), torch.no_grad():
        body = build_body(network, maps).eval()
        try:
            return [tuple(each.shape) for each in body(torch.empty(1, IMAGE_CHANNELS, *size))]
        except Exception as error:  # foreign code at a size that the user chose
            height, width = size
            reason = said(error)[:_MAX_REASON]
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
        reason = said(error)[:_MAX_REASON]
        raise WeightsError(
            f"the weights do not fit '{network}' of this version of hiri_search or timm ({reason})"
        ) from error
    return model.eval()


def _arguments(network: TimmNetwork, side: int) -> dict[str, Any]:
    """Return the arguments of timm's builder: those of the network, and the side where it has another one."""
    cfg = get_pretrained_cfg(network.name)
    has_other_side = cfg is not None and cfg.fixed_input_size and side != cfg.input_size[-1]
    return dict(network.arguments) | ({"img_size": side} if has_other_side else {})


def check_pretrained(network: Network, tag: bool | str) -> str:
    """Return timm's name of the weights with a tag, or of its default ones. SpecError where it publishes none."""
    if not isinstance(network, TimmNetwork):
        remedy = "write recipe: {pretrained: true} in rows of timm alone, or recipe.weights"
        raise SpecError(f"timm has no weights for '{network}'; {remedy}")
    tags = [name.partition(".")[2] for name in timm.list_pretrained(f"{network.name}.*")]
    cfg = get_pretrained_cfg(network.name)
    default = cfg.tag if cfg is not None and cfg.tag in tags else None
    if tag is True and default is not None:
        return f"{network.name}.{default}"
    if tag in tags:
        return f"{network.name}.{tag}"
    if not tags:
        raise SpecError(f"timm {timm.__version__} has no weights for '{network}'; leave it out")
    raise SpecError(f"{str(tag).lower()} is no tag of '{network}'; write {' or '.join(tags)}")


def pretrained_weights(network: Network, tag: bool | str) -> Weights:
    """Return the weights that timm publishes for a network. timm downloads them once, and keeps them in its cache.

    Raises SpecError as `check_pretrained` does, and WeightsError where they cannot be had, or do not fit the network.
    """
    name = check_pretrained(network, tag)
    assert isinstance(network, TimmNetwork)
    text = str(TimmNetwork(name, network.arguments))
    try:
        model = _created(name, **dict(network.arguments))
    except Exception as error:  # of timm, huggingface_hub, safetensors or torch: any exception is about these weights
        remedy = _OFFLINE if isinstance(error, OSError) else "write other arguments, or leave pretrained out"
        reason = said(error)[:_MAX_REASON]
        raise WeightsError(f"pretrained={text}: timm cannot load these weights; {remedy} ({reason})") from error
    return Weights(text, model.state_dict(), pretrained=True, note=_normalisation_note(text, name))


def _normalisation_note(text: str, name: str) -> str:
    cfg = get_pretrained_cfg(name)
    if cfg is None or (tuple(cfg.mean), tuple(cfg.std)) == (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD):
        return ""
    own = f"mean {', '.join(map(str, cfg.mean))} and std {', '.join(map(str, cfg.std))}"
    return f"{text} was trained on images normalised by {own}; here they are normalised by those of ImageNet"


def fitted(weights: Weights, network: Network, side: int, model: nn.Module) -> dict[str, Tensor]:
    """Return weights for the module of a network at a side; a last layer for other classes, or none, is left out.

    Where they do not fit a network of timm as they are, timm adapts them as its own ones: positions for another side,
    names of the authors. Raises WeightsError where weights are those of another network.
    """
    try:
        return weights.fitting(model)
    except WeightsError:
        adapted = _adapted(weights, network, side, weights.classes(model))
        if adapted is None:
            raise
        return replace(weights, values=adapted).fitting(model)


def _adapted(weights: Weights, network: Network, side: int, classes: int) -> dict[str, Tensor] | None:
    """Return weights as timm adapts them to a network, with their own classes; None where it cannot."""
    if not isinstance(network, TimmNetwork) or not is_ours_or_timms(network):
        return None  # a function of the user's own may ignore the weights
    source = {"state_dict": dict(weights.values), "num_classes": classes, "label_offset": 0, "custom_load": False}
    arguments = _arguments(network, side) | {"num_classes": classes}
    try:
        return _created(network.name, pretrained_cfg_overlay=source, **arguments).state_dict()
    except Exception:  # timm's code with any file of the user
        return None


def _created(name: str, **arguments: Any) -> nn.Module:
    """Create a model of timm with its weights. What these leave out is the same each time."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        model: nn.Module = timm.create_model(name, pretrained=True, **arguments)
    return model


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
