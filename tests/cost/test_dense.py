"""Costs of dense networks: golden counts, and laws of the parts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from hiri_search.cost.dense import count_body, count_dense, total
from hiri_search.language import DenseNetwork, SpecError, parse_backbone
from hiri_search.language.dense_network import METHODS
from hiri_search.models import SPECS
from hiri_search.networks import build

S, B = SPECS["hirivit_small"], SPECS["hirivit_base"]
SMALL = "hrstem(hs=8) -> hr(16 e=2) -> hr(16 e=2) -> cffn(32 e=2) -> t(32 e=2 d=16) -> t(64 e=2 d=16)"


@pytest.mark.parametrize(
    ("spec", "size", "core", "products"),
    [
        (S, (1200, 1600), 67_378_457_600, 21_717_760_000),
        pytest.param(S, (1024, 1024), 31_002_066_944, 6_308_233_216, marks=pytest.mark.slow),
        pytest.param(S, (1216, 1600), 67_536_396_800, 21_717_760_000, marks=pytest.mark.slow),
        pytest.param(B, (1200, 1600), 131_218_668_800, 40_432_000_000, marks=pytest.mark.slow),
        pytest.param(B, (1216, 1600), 131_715_539_200, 40_432_000_000, marks=pytest.mark.slow),
        pytest.param(B, (1024, 1024), 60_941_074_432, 11_744_051_200, marks=pytest.mark.slow),
    ],
)
def test_backbones_have_their_golden_counts(spec: str, size: tuple[int, int], core: int, products: int):
    cost = total(count_body(parse_backbone(spec), 4, size).values())
    assert (cost.core_macs, cost.product_macs) == (core, products)


@pytest.mark.parametrize(
    ("method", "params", "core"),
    [
        ("retinanet", 41_131_188, 138_703_211_520),
        ("mask_rcnn", 51_052_724, 182_896_613_120),
        ("atss", 38_998_805, 123_104_855_040),
        ("gfl", 39_144_020, 124_562_181_120),
        ("cascade_rcnn", 88_896_126, 661_155_813_120),
        ("sparse_rcnn", 112_995_176, 118_769_126_400),
    ],
)
def test_detectors_have_their_golden_counts(method: str, params: int, core: int):
    cost = total(count_dense(DenseNetwork.of(method, parse_backbone(S)), "1600x1200", classes=80).values())
    assert (cost.params, cost.core_macs) == (params, core)


@pytest.mark.parametrize("spec", [SMALL, "timm:pvt_v2_b0", "timm:swin_tiny_patch4_window7_224 depths=1,1,1,1"])
@pytest.mark.parametrize("method", METHODS)
def test_the_sum_of_the_parts_is_the_whole(method: str, spec: str):
    """The modules that train, counted at once by torch's own counter, whose regions of interest are all of them."""
    network, size = replace(DenseNetwork.of(method, parse_backbone(spec)), width=32), (128, 160)
    costs = count_dense(network, "160x128", classes=5)
    whole: Any = build(network, 128, classes=5).eval()
    assert total(costs.values()).params == sum(each.numel() for each in whole.parameters())
    body = total(costs[name] for name in costs if name.startswith(("stem", "down", "stage", "backbone")))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        maps = _body(whole)(torch.zeros(1, 3, *size))
    assert body.core_macs == counter.get_total_flops() // 2
    for part in whole.parts([tuple(each.shape) for each in maps]):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            part.module.eval()(*map(torch.zeros, part.shapes))
        assert costs[part.name].core_macs == part.times * counter.get_total_flops() // 2


def _body(whole: nn.Module) -> nn.Module:
    pyramid = getattr(whole, "pyramid", getattr(whole, "backbone", whole))
    return pyramid.body  # type: ignore[no-any-return]


def test_a_network_with_too_few_stages_is_refused():
    with pytest.raises(SpecError, match="has 2 stages; this method takes the maps of 3"):
        count_dense(DenseNetwork.of("retinanet", parse_backbone("hr(8 e=2) -> t(16 e=2 d=16)")), 128, classes=5)


def test_a_backbone_that_takes_one_size_only_is_refused():
    with pytest.raises(SpecError, match=r"'timm:vit_tiny_patch16_224' gives no 3 maps|takes no images of"):
        count_dense(DenseNetwork.of("retinanet", parse_backbone("timm:vit_tiny_patch16_224")), 100, classes=5)
