"""Body: a backbone without its classifier, which returns the maps of its last stages."""

from __future__ import annotations

from torch import Tensor, nn


class BackboneBody(nn.Module):
    """The last maps of a model of timm's interface: images (B, 3, H, W) -> maps (B, C, H/s, W/s), finest first.

    `features` is such a model as timm builds it with `features_only=True, feature_cls="getter"`. Odd grids round up.
    """

    def __init__(self, features: nn.Module) -> None:
        super().__init__()
        self.features = features
        info = features.feature_info
        self.channels: tuple[int, ...] = tuple(info.channels())  # type: ignore[operator, union-attr]
        self.strides: tuple[int, ...] = tuple(info.reduction())  # type: ignore[operator, union-attr]

    def forward(self, images: Tensor) -> list[Tensor]:
        return list(self.features(images))


def body_of(network: nn.Module) -> BackboneBody | None:
    """Return the body of a dense network; None of a classifier."""
    return next((each for each in network.modules() if isinstance(each, BackboneBody)), None)


def backbone_in(network: nn.Module) -> tuple[str, nn.Module]:
    """Return the model of timm's interface in a dense network, with the prefix of its values."""
    body = body_of(network)
    assert body is not None
    backbone: nn.Module = body.features.model  # type: ignore[assignment]
    return next(f"{name}." for name, module in network.named_modules() if module is backbone), backbone
