"""Weights to begin with: those that timm publishes, and how weights fit a network."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import timm
import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import get_pretrained_cfg
from torch import Tensor, nn

from hiri_search.language import Backbone, DenseNetwork, Net, Network, SpecError, TimmNetwork
from hiri_search.nets.dense.body import backbone_in
from hiri_search.nets.hirivit import build_hirivit
from hiri_search.nets.weights_file import Weights, WeightsError, first_of
from hiri_search.networks import LONGEST_REASON, build_on_meta, is_ours_or_timms, timm_arguments
from hiri_search.user_code import said

_OFFLINE = (
    "connect this machine to the internet once, copy timm's cache of another machine (~/.cache/huggingface), or write"
    " recipe.weights with the path of a file"
)


@dataclass(frozen=True)
class Fitted:
    """Weights by the names of a module, as it takes them."""

    values: dict[str, Tensor]
    classes: int | None  # of their last layer; 0: they have none; None: only a backbone takes them
    remarks: tuple[str, ...] = ()  # what does not begin from them as they are, in phrases


def check_pretrained(network: Network, tag: bool | str) -> str:
    """Return timm's name of the weights with a tag, or of its default ones. SpecError where it publishes none.

    Those of a dense network are of its backbone.
    """
    network = _backbone(network)
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
    name, network = check_pretrained(network, tag), _backbone(network)
    assert isinstance(network, TimmNetwork)
    text = str(TimmNetwork(name, network.arguments))
    try:
        model = _created(name, **dict(network.arguments))
    except Exception as error:  # of timm, huggingface_hub, safetensors or torch: any exception is about these weights
        remedy = _OFFLINE if isinstance(error, OSError) else "write other arguments, or leave pretrained out"
        reason = said(error)[:LONGEST_REASON]
        raise WeightsError(f"pretrained={text}: timm cannot load these weights; {remedy} ({reason})") from error
    return Weights(text, model.state_dict(), pretrained=True, note=_normalisation_note(text, name))


def _backbone(network: Network) -> Backbone:
    return network.backbone if isinstance(network, DenseNetwork) else network


def _normalisation_note(text: str, name: str) -> str:
    cfg = get_pretrained_cfg(name)
    if cfg is None or (tuple(cfg.mean), tuple(cfg.std)) == (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD):
        return ""
    own = f"mean {', '.join(map(str, cfg.mean))} and std {', '.join(map(str, cfg.std))}"
    return f"{text} was trained on images normalised by {own}; here they are normalised by those of ImageNet"


def fitted(weights: Weights, network: Network, side: int, model: nn.Module) -> Fitted:
    """Return weights for the module of a network at a side; a last layer for other classes, or none, is left out.

    Where they do not fit a network of timm as they are, timm adapts them as its own ones: positions for another side,
    names of the authors. A dense network takes weights of its own kind; else its backbone takes those of a classifier
    or of another dense network. Raises WeightsError where weights are those of another network.
    """
    if isinstance(network, DenseNetwork):
        return _fitted_dense(weights, network, side, model)
    own = weights.below_prefix(model.state_dict())
    arguments = timm_arguments(network, side) if isinstance(network, TimmNetwork) else {}
    values, adapted = _fitted_or_adapted(own, network, arguments, model, model)
    return Fitted(values, own.classes(model), (*_left_out(weights, own, own.values), *adapted))


def _fitted_dense(weights: Weights, network: DenseNetwork, side: int, model: nn.Module) -> Fitted:
    own, of_classes = weights.below_prefix(model.state_dict()), _values_of_classes(network, side)
    with suppress(WeightsError):
        values = own.fitting(model, last=of_classes)
        found = (
            (len(own.values[name]) - rest) // slope for name, (slope, rest) in of_classes.items() if name in own.values
        )
        return Fitted(values, next(found, 0), _left_out(weights, own, own.values))
    prefix, backbone = backbone_in(model)
    own = weights.below_prefix(backbone.state_dict())
    arguments = dict(network.backbone.arguments) if isinstance(network.backbone, TimmNetwork) else {}
    values, adapted = _fitted_or_adapted(own, network.backbone, arguments, backbone, _classifier(network.backbone))
    remarks = ("only the backbone begins from it", *_left_out(weights, own, values), *adapted)
    return Fitted({f"{prefix}{name}": value for name, value in values.items()}, None, remarks)


@cache
def _values_of_classes(network: DenseNetwork, side: int) -> Mapping[str, tuple[int, int]]:
    """Return the values whose length depends on the number of classes, by name with slope and intercept."""
    one, two = (build_on_meta(network, side, classes=classes).state_dict() for classes in (1, 2))
    slopes = {name: len(two[name]) - len(value) for name, value in one.items() if value.shape != two[name].shape}
    return {name: (slope, len(one[name]) - slope) for name, slope in slopes.items()}


@cache
def _classifier(network: Backbone) -> nn.Module:
    """Return the classifier on a backbone, without memory for its weights."""
    with torch.device("meta"):
        if isinstance(network, Net):
            return build_hirivit(network)
        model: nn.Module = timm.create_model(network.name, **dict(network.arguments))
    return model


def _left_out(weights: Weights, below: Weights, used: Collection[str]) -> tuple[str, ...]:
    """Return a phrase on the weights that are not among those used of `below`; none where all are."""
    names = {f"{below.prefix}{name}" for name in used}
    rest = [name for name in weights.values if name not in names]
    return (f"left out: {first_of(rest)}",) if rest else ()


def _fitted_or_adapted(
    weights: Weights, network: Backbone, arguments: Mapping[str, Any], model: nn.Module, classifier: nn.Module
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return the values for a module, which is a classifier or a part of it, and a phrase on those that timm adapts."""
    names = model.state_dict().keys()
    own = weights.without(classifier.state_dict().keys() - names)
    try:
        return own.fitting(model), ()
    except WeightsError:
        adapted = _adapted(weights, network, arguments, weights.classes(classifier))
        if adapted is None:
            raise
    adapted = {name: value for name, value in adapted.items() if name in names}
    values = replace(own, values=adapted).fitting(model)
    changed = own.changed(values)
    return values, (f"timm adapts {changed}",) if changed else ()


def _adapted(
    weights: Weights, network: Backbone, arguments: Mapping[str, Any], classes: int
) -> dict[str, Tensor] | None:
    """Return weights as timm adapts them to a network, with their own classes; None where it cannot."""
    if not isinstance(network, TimmNetwork) or not is_ours_or_timms(network):
        return None  # a function of the user's own may ignore the weights
    source = {"state_dict": dict(weights.values), "num_classes": classes, "label_offset": 0, "custom_load": False}
    try:
        return _created(
            network.name, pretrained_cfg_overlay=source, **{**arguments, "num_classes": classes}
        ).state_dict()
    except Exception:  # timm's code with any file of the user
        return None


def _created(name: str, **arguments: Any) -> nn.Module:
    """Create a model of timm with its weights. What these leave out is the same each time."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        model: nn.Module = timm.create_model(name, pretrained=True, **arguments)
    return model
