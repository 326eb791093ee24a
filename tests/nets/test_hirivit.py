"""HiriVit follows the conventions of timm."""

from __future__ import annotations

import copy

import pytest
import torch
from timm.layers import DropPath
from timm.optim import param_groups_layer_decay

from hiri_search.language import parse_net
from hiri_search.models import SPECS, paper_net
from hiri_search.nets.hirivit import HiriVit, build_hirivit

SMALL = parse_net("hrstem(hs=8) -> hr(8 e=2)*2 -> hr(8 e=2) -> cffn(16 e=2)*2 -> t(32 e=2 d=16)*3 -> t(32 e=2 d=16)")
SIDE, UNIT = 128, 64


def images(height: int = SIDE, width: int | None = None) -> torch.Tensor:
    return torch.randn(2, 3, height, width or height, generator=torch.Generator().manual_seed(0))


def test_the_classifier_can_be_replaced_and_removed() -> None:
    model = build_hirivit(SMALL, classes=7).eval()
    assert model.get_classifier().out_features == 7
    model.reset_classifier(3)
    assert (model.num_classes, model.get_classifier().out_features) == (3, 3)
    assert model(images()).shape == (2, 3)
    model.reset_classifier(0)
    assert model.num_classes == 0
    assert model(images()).shape == (2, model.head_hidden_size) == (2, 5 * 32)
    model.reset_classifier(4, "")
    assert model(images()).shape == (2, 2, 2, 4)


def test_the_head_returns_the_input_of_the_classifier() -> None:
    model = build_hirivit(SMALL, classes=7).eval()
    features = model.forward_features(images())
    assert features.shape == (2, model.num_features, 2, 2)
    hidden = model.forward_head(features, pre_logits=True)
    assert hidden.shape == (2, 160)
    torch.testing.assert_close(model.get_classifier()(hidden), model(images()))


def test_without_the_pool_every_position_is_classified() -> None:
    pooled = build_hirivit(SMALL, classes=7).eval()
    unpooled = HiriVit(SMALL, num_classes=7, global_pool="").eval()
    unpooled.load_state_dict(pooled.state_dict())
    assert unpooled(images()).shape == (2, 2, 2, 7)
    assert unpooled.forward_head(torch.randn(2, 32, 3, 5), pre_logits=True).shape == (2, 3, 5, 160)
    # On a grid of one position the pool changes nothing.
    torch.testing.assert_close(unpooled(images(UNIT))[:, 0, 0], pooled(images(UNIT)))


def test_an_image_need_not_be_square() -> None:
    model = build_hirivit(SMALL, classes=7).eval()
    assert model.forward_features(images(UNIT, 3 * UNIT)).shape == (2, 32, 1, 3)
    wide, high = (model(x) for x in (images(UNIT, 2 * UNIT), images(2 * UNIT, UNIT)))
    assert wide.shape == high.shape == (2, 7)


def test_an_unknown_pool_is_an_error() -> None:
    with pytest.raises(ValueError, match="global_pool='max' is not possible"):
        HiriVit(SMALL, global_pool="max")


def test_gradient_checkpointing_changes_no_gradient() -> None:
    plain = build_hirivit(SMALL, classes=7).train()
    checkpointing = copy.deepcopy(plain)
    checkpointing.set_grad_checkpointing()
    assert all(stage.grad_checkpointing for stage in checkpointing.stages)
    for model in (plain, checkpointing):
        model(images()).square().sum().backward()
    for actual, expected in zip(checkpointing.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(actual.grad, expected.grad)


def test_stochastic_depth_grows_linearly_from_0() -> None:
    model = build_hirivit(SMALL, drop_path=0.4)
    rates = [
        sorted({m.drop_prob for m in block.modules() if isinstance(m, DropPath)})
        for stage in model.stages
        for block in stage.blocks
    ]
    assert rates == [[pytest.approx(0.4 * index / 8)] for index in range(9)]


def test_stochastic_depth_is_idle_in_eval_mode() -> None:
    model = build_hirivit(SMALL, drop_path=0.9).eval()
    torch.testing.assert_close(model(images()), model(images()), rtol=0, atol=0)


def test_timm_alone_decides_about_weight_decay() -> None:
    assert build_hirivit(SMALL).no_weight_decay() == set()


def test_layer_wise_decay_reaches_every_parameter_in_order() -> None:
    model = build_hirivit(SMALL, classes=7)
    groups = param_groups_layer_decay(model, layer_decay=0.5)
    scale_of = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
    assert set(scale_of) == {id(p) for p in model.parameters()}
    parts = [model.stem, *(block for stage in model.stages for block in stage.blocks), model.head]
    scales = [scale_of[id(next(part.parameters()))] for part in parts]
    assert scales == sorted(scales)
    assert len(set(scales[:-1])) == 10


@pytest.mark.parametrize("name", SPECS)
def test_the_papers_networks_have_small_relatives(name: str) -> None:
    small = build_hirivit(paper_net(name).scaled_down(width=4, depth=3), classes=10).eval()
    with torch.no_grad():
        assert small(images(UNIT)).shape == (2, 10)


def test_a_network_is_built_on_the_meta_device() -> None:
    with torch.device("meta"):
        model = build_hirivit(paper_net("hirivit_small"), drop_path=0.1)
    assert {p.device.type for p in model.parameters()} == {"meta"}
    assert sum(p.numel() for p in model.parameters()) == 34_761_640
