"""RetinaNet and Mask R-CNN with the weights of those that torchvision builds: same losses, same detections."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN as OriginalMaskRCNN
from torchvision.models.detection import RetinaNet as OriginalRetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

from hiri_search.nets.dense.detectors.mask_rcnn import MaskRCNN
from hiri_search.nets.dense.detectors.retinanet import RetinaNet
from tests.nets.dense.small import CLASSES, SmallBody, drawn_images

SIDE, WIDTH = 128, 256  # torchvision fixes the width of the heads
PLAIN = {"min_size": SIDE, "max_size": SIDE, "image_mean": [0.0] * 3, "image_std": [1.0] * 3}  # images as they are


class Backbone(nn.Module):
    """A small body with the pyramid that torchvision builds."""

    def __init__(self, maps: int, extra: nn.Module) -> None:
        super().__init__()
        self.body, self.out_channels = SmallBody(maps), WIDTH
        self.fpn = FeaturePyramidNetwork(list(self.body.channels), WIDTH, extra)

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        levels: OrderedDict[str, Tensor] = self.fpn(OrderedDict((str(n), m) for n, m in enumerate(self.body(images))))
        return levels


def retinanets() -> tuple[nn.Module, nn.Module, int]:
    """Return ours, torchvision's, and the number that its labels are ahead of ours."""
    extra = LastLevelP6P7(64, WIDTH)
    sizes = tuple(tuple(int(4 * s * 2 ** (n / 3)) for n in range(3)) for s in (8, 16, 32, 64, 128))
    original = OriginalRetinaNet(
        Backbone(3, extra), CLASSES, anchor_generator=AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * 5), **PLAIN
    )
    nn.init.normal_(original.head.classification_head.cls_logits.bias)  # so that there are detections
    ours = RetinaNet(SmallBody(3), CLASSES)
    renamed = {"p6": "convs.0", "p7": "convs.1"}
    ours.load_state_dict({_renamed(name, renamed): value for name, value in original.state_dict().items()})
    return ours, original, 0


def mask_rcnns() -> tuple[nn.Module, nn.Module, int]:
    """The last layer of torchvision's masks has a channel for the background, which is never used."""
    names, sizes = ["0", "1", "2", "3"], tuple((8 * stride,) for stride in (4, 8, 16, 32, 64))
    original = OriginalMaskRCNN(
        Backbone(4, LastLevelMaxPool()),
        1 + CLASSES,
        rpn_anchor_generator=AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * 5),
        box_roi_pool=MultiScaleRoIAlign(names, 7, 2),
        mask_roi_pool=MultiScaleRoIAlign(names, 14, 2),
        **PLAIN,
    )
    ours = MaskRCNN(SmallBody(4), CLASSES)
    last = "roi_heads.mask_predictor.mask_fcn_logits."
    ours.load_state_dict(
        {name: value[1:] if name.startswith(last) else value for name, value in original.state_dict().items()}
    )
    return ours, original, 1


def _renamed(name: str, renamed: dict[str, str]) -> str:
    return ".".join(renamed.get(part, part) for part in name.split("."))


@pytest.mark.parametrize("build", [retinanets, pytest.param(mask_rcnns, marks=pytest.mark.slow)])
def test_losses_and_detections_are_those_of_torchvision(build: Callable[[], tuple[nn.Module, nn.Module, int]]):
    torch.manual_seed(0)
    ours, original, ahead = build()
    original.transform.eval()  # in training it takes a random number, though there is one size only
    images, targets = drawn_images(2, side=SIDE)
    theirs: list[dict[str, Any]] = [{**each, "labels": each["labels"] + ahead} for each in targets]
    losses = []
    for model, wanted in ((ours, targets), (original, theirs)):
        torch.manual_seed(1)  # of the samples of proposals
        losses.append({name: loss.item() for name, loss in model(images, wanted).items()})
        model.eval()
    assert losses[0] == pytest.approx(losses[1], rel=1e-5, abs=1e-7)
    with torch.no_grad():
        for found, expected in zip(ours(images), original(list(images)), strict=True):
            assert len(found["boxes"]) > 0
            torch.testing.assert_close(found, {**expected, "labels": expected["labels"] - ahead}, rtol=1e-5, atol=1e-4)
