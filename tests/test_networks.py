"""Networks of timm are checked, and built for a given input side."""

from __future__ import annotations

import pytest
import torch
from timm.layers import DropPath
from torch import nn

from hiri_search.language import SpecError, TimmNetwork, parse_network
from hiri_search.networks import build, build_on_meta, check_timm
from tests.nets.variants import HR_FRONT_NETWORKS


def _timm_network(text: str) -> TimmNetwork:
    network = parse_network(text)
    assert isinstance(network, TimmNetwork)
    return network


MISTAKES = [
    ("timm:pvt_v2_b9", r"no network 'pvt_v2_b9'; did you mean pvt_v2_b"),
    ("timm:qqqqqq", r"no network 'qqqqqq'; .*list_models"),
    ("timm:resnet18 pretrained=true", "pretrained is not supported .*write recipe.pretrained"),
    ("timm:resnet18 checkpoint_path=weights", "checkpoint_path is not supported .*recipe.weights there"),
    ("timm:resnet18 num_classes=10", "num_classes is not supported .*those of the data"),
    ("timm:resnet18 drop_path_rate=0.1", "drop_path_rate is not supported .*recipe.drop_path"),
    ("timm:deit_tiny_patch16_224 img_size=64", "img_size is not supported .*choose the side"),
    ("timm:pvt_v2_b2 features_only=true", "features_only is not supported in"),
]


@pytest.mark.parametrize(("text", "message"), MISTAKES)
def test_a_mistake_is_found_without_building_the_network(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        check_timm(_timm_network(text))


@pytest.mark.parametrize(
    "text", [*HR_FRONT_NETWORKS.values(), "timm:hirivit_small", "timm:swin_tiny_patch4_window7_224"]
)
def test_a_registered_network_passes_the_check(text: str) -> None:
    check_timm(_timm_network(text))


NOT_BUILDABLE = [
    ("timm:pvt_v2_b0 depth=1", 64, "inputs of 64 pixels; write other arguments .*unexpected keyword argument 'depth'"),
    ("timm:pvt_v2_b0 depths=1,1", 64, "write other arguments .*AssertionError"),
    ("timm:pvt_v2_b9", 64, "did you mean"),
]


@pytest.mark.parametrize(("text", "side", "message"), NOT_BUILDABLE)
def test_a_network_that_timm_cannot_build_is_a_spec_error(text: str, side: int, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        build(_timm_network(text), side)


def _drop_rates(model: nn.Module) -> list[float]:
    return [m.drop_prob for m in model.modules() if isinstance(m, DropPath)]


def test_stochastic_depth_is_passed_to_timm() -> None:
    network = _timm_network("timm:pvt_v2_b0 depths=1,1,1,1")
    assert max(_drop_rates(build(network, 64, drop_path=0.3))) == pytest.approx(0.3)
    assert sum(_drop_rates(build(network, 64))) == 0


def test_stochastic_depth_that_timm_does_not_support_is_an_error() -> None:
    network = _timm_network("timm:hrnet_w18_small_hiri")
    with pytest.raises(SpecError, match=r"no stochastic depth; write recipe\.drop_path=0"):
        build(network, 64, drop_path=0.1)
    assert sum(_drop_rates(build(network, 64))) == 0


@pytest.mark.parametrize("name", ["deit_tiny_patch16_224", "cait_xxs24_224", "pvt_v2_b0", "resnet18"])
@pytest.mark.parametrize("side", [64, 96])
def test_a_timm_network_is_built_for_its_side(name: str, side: int) -> None:
    model = build(TimmNetwork(name), side, classes=7).eval()
    with torch.no_grad():
        assert model(torch.zeros(1, 3, side, side)).shape == (1, 7)


@pytest.mark.parametrize("text", ["hr(8 e=2) -> t(8 e=2 d=8 sr=2)", *HR_FRONT_NETWORKS.values()])
def test_weights_of_our_networks_fit_every_side(text: str) -> None:
    network = parse_network(text)
    small, large = (build_on_meta(network, side).state_dict() for side in (64, 128))
    assert {name: value.shape for name, value in small.items()} == {name: value.shape for name, value in large.items()}
