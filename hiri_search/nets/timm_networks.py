"""Networks of timm: checked and built for a given input side."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

import timm
from timm.models import get_pretrained_cfg
from torch import nn

from hiri_search.language import SpecError, TimmNetwork

LISTING = "python -c 'import timm; print(*timm.list_models())' lists what it has"

# Arguments of timm's that are given here, or that would make something else than a classifier to be trained.
_WEIGHTS = "networks start here without weights; leave it out"
RESERVED_ARGUMENTS = {
    "img_size": "it is the side of the inputs; leave it out and choose the side",
    "num_classes": "the classes are those of the data; leave it out",
    "in_chans": "images have 3 channels; leave it out",
    "drop_path_rate": "it belongs to the recipe; write recipe.drop_path there",
    "features_only": "only classifiers are counted and trained; leave it out",
    **dict.fromkeys(
        ["pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir"], _WEIGHTS
    ),
}


def check_timm(peer: TimmNetwork) -> None:
    """Raise SpecError where timm has no such network, or where an argument is not for its text; builds nothing."""
    if not timm.is_model(peer.name):
        near = get_close_matches(peer.name, timm.list_models(), n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else LISTING
        raise SpecError(f"timm {timm.__version__} has no network {peer.name!r}; {hint}")
    for name, _ in peer.arguments:
        if name in RESERVED_ARGUMENTS:
            raise SpecError(f"{name} has no place in '{peer}': {RESERVED_ARGUMENTS[name]}")


def is_ours_or_timms(peer: TimmNetwork) -> bool:
    """Whether the network is made by what this version of ours, and of timm, holds: others may register some, too."""
    room: str = timm.model_entrypoint(peer.name).__module__ if timm.is_model(peer.name) else ""
    return room.split(".")[0] in ("timm", "hiri_search")


def build_timm(peer: TimmNetwork, side: int, *, classes: int = 1000, drop_path: float = 0.0) -> nn.Module:
    """The classifier, without weights, for square inputs of `side` pixels: (B, 3, side, side) -> (B, classes).

    SpecError where timm does not make it. That it then takes such inputs is known where it is counted.
    """
    check_timm(peer)
    arguments = {**dict(peer.arguments), **_size(peer.name, side)}
    if drop_path:  # some of timm's classes have no such argument
        arguments["drop_path_rate"] = drop_path
    try:
        return timm.create_model(peer.name, num_classes=classes, **arguments)  # type: ignore[no-any-return]
    except Exception as error:  # another's code with a user's arguments: whatever it raises is about these
        raise SpecError(_complaint(peer, side, error)) from error


def _size(name: str, side: int) -> dict[str, Any]:
    """The argument that networks made for one side have to be given for any other."""
    cfg = get_pretrained_cfg(name)
    fixed = cfg is not None and cfg.fixed_input_size and side != cfg.input_size[-1]
    return {"img_size": side} if fixed else {}


def _complaint(peer: TimmNetwork, side: int, error: Exception) -> str:
    said = f"timm says: {type(error).__name__} {error}".rstrip()
    if "drop_path_rate" in said:
        return f"'{peer}' has no stochastic depth; write recipe.drop_path=0 ({said})"
    hint = "write other arguments" if peer.arguments else "choose another side"
    return f"'{peer}' cannot be built for inputs of {side} pixels; {hint} ({said})"
