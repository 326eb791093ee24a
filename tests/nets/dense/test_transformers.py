"""UPerNet on a backbone of ours, with the weights of the one that transformers builds: same logits, same loss."""

from __future__ import annotations

import re

import pytest
import timm
import torch
from torch import nn

import hiri_search.models  # noqa: F401  # registers the backbone in timm
from hiri_search.nets.dense.body import BackboneBody
from hiri_search.nets.dense.upernet import UNLABELED, UPerNet

transformers = pytest.importorskip("transformers", reason="the second opinion on UPerNet is that of transformers")

BACKBONE, MAPS, SIDE, CLASSES, WIDTH = "hirivit_small", (1, 2, 3, 4), 128, 5, 16
OURS = (  # patterns of the names of transformers, and what we call these parts
    (r"backbone\._backbone\.stages_", "body.features.model.stages."),
    (r"backbone\._backbone\.", "body.features.model."),
    (r"decode_head\.psp_modules\.(\d)\.1\.", r"head.pools.\1."),
    (r"decode_head\.lateral_convs\.", "head.laterals."),
    (r"decode_head\.fpn_convs\.", "head.outputs."),
    (r"decode_head\.fpn_bottleneck\.", "head.fuse."),
    (r"decode_head\.", "head."),
    (r"auxiliary_head\.convs\.0\.", "auxiliary.0."),
    (r"auxiliary_head\.classifier\.", "auxiliary.2."),
)


def _our_name(name: str) -> str:
    theirs, ours = next(pair for pair in OURS if re.match(pair[0], name))
    renamed = re.sub(theirs, ours, name)
    return renamed if name.startswith("backbone") else renamed.replace(".conv.", ".0.").replace(".batch_norm.", ".1.")


def _upernets() -> tuple[UPerNet, nn.Module]:
    """Return ours and that of transformers, with the same weights."""
    backbone = transformers.TimmBackboneConfig(backbone=BACKBONE, out_indices=MAPS, use_pretrained_backbone=False)
    theirs = transformers.UperNetForSemanticSegmentation(
        transformers.UperNetConfig(
            backbone_config=backbone, hidden_size=WIDTH, auxiliary_channels=WIDTH // 2, num_labels=CLASSES
        )
    )
    features = timm.create_model(BACKBONE, features_only=True, feature_cls="getter", out_indices=MAPS)
    ours = UPerNet(BackboneBody(features), CLASSES, width=WIDTH)
    ours.load_state_dict({_our_name(name): value for name, value in theirs.state_dict().items()})
    return ours, theirs


def test_logits_and_loss_are_those_of_transformers():
    torch.manual_seed(0)
    ours, theirs = _upernets()
    images, semantic = torch.randn(2, 3, SIDE, SIDE), torch.randint(CLASSES, (2, SIDE, SIDE))
    semantic[:, :9] = UNLABELED
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(images), theirs.eval()(images).logits, rtol=1e-5, atol=1e-5)
    for model in (ours.train(), theirs.train()):
        for part in model.modules():
            if "Drop" in type(part).__name__:  # the heads of transformers have no dropout; paths are dropped at random
                part.eval()
    losses = ours(images, [{"semantic": each} for each in semantic])
    assert sum(losses.values()).item() == pytest.approx(theirs(images, labels=semantic).loss.item(), rel=1e-5)
