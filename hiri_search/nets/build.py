"""Build any network, ours or timm's, as a classifier module."""

from __future__ import annotations

from torch import nn

from hiri_search.language import Network, TimmNetwork
from hiri_search.nets import hirivit, timm_networks


def build(network: Network, side: int, *, classes: int = 1000, drop_path: float = 0.0) -> nn.Module:
    """The classifier for square inputs of `side` pixels: (B, 3, side, side) -> (B, classes).

    SpecError where timm has no such network, or none for this side.
    """
    if isinstance(network, TimmNetwork):
        return timm_networks.build_timm(network, side, classes=classes, drop_path=drop_path)
    return hirivit.build_hirivit(network, classes=classes, drop_path=drop_path)
