"""A stand-in of a smaller width trains with the recipe of its network: matrices alone are scaled."""

import pytest
import torch

from hiri_search.language import parse_network
from hiri_search.networks import build
from hiri_search.training.data.augment import GREY
from hiri_search.training.width_scaling import parameter_groups, scale_initial_weights

NETWORK = parse_network("hr(32 e=4) -> hr(64 e=4) -> cffn(128 e=4) -> t(256 e=4) -> t(512 e=4)")
SIDE, CLASSES = 64, 10
assert GREY


def _initial(width: int):
    torch.manual_seed(0)
    model = build(NETWORK.scaled_down(width=width), SIDE, classes=CLASSES)
    if width > 1:
        scale_initial_weights(model, width)
    return model


def _logit_scale(width: int) -> float:
    """Root mean square of the logits of random images, with initial weights."""
    model = _initial(width)
    images = torch.randn(16, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    return float(model(images).square().mean().sqrt())
