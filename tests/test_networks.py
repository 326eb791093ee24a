"""Networks of timm are checked, and built for a given input side; their weights are timm's own, or those of a file."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from timm.layers import DropPath
from torch import nn

from hiri_search.language import SpecError, TimmNetwork, parse_network
from hiri_search.nets.weights_file import WeightsError, read_weights
from hiri_search.networks import build, build_on_meta, check_timm, fitted, pretrained_weights
from tests.nets.variants import HR_FRONT_NETWORKS
from tests.timm_cache import put, use_cache


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


VIT, RESNET = parse_network("timm:test_vit"), parse_network("timm:test_resnet")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    use_cache(tmp_path, monkeypatch)
    return tmp_path


def test_pretrained_weights_are_those_in_the_cache_of_timm(cache: Path) -> None:
    state, random = put("test_resnet", cache), torch.random.get_rng_state()
    weights = pretrained_weights(RESNET, True)
    assert weights.name == "timm:test_resnet.r160_in1k"
    assert pretrained_weights(RESNET, "r160_in1k").fingerprint == weights.fingerprint
    assert all(torch.equal(state[name], value) for name, value in weights.values.items())
    assert torch.equal(random, torch.random.get_rng_state()), "a training's own random numbers stay"
    put("test_resnet", cache)
    assert pretrained_weights(RESNET, True).fingerprint != weights.fingerprint
    assert "normalised by mean 0.5, 0.5, 0.5 and std 0.5, 0.5, 0.5; here" in weights.note


@pytest.mark.parametrize(("side", "adapted"), [(160, ""), (64, "pos_embed (1x101x64 -> 1x17x64)")])
@pytest.mark.parametrize("pretrained", [True, False], ids=["timm's", "a file"])
def test_positions_are_resized_for_another_side_and_the_rest_is_kept(
    side: int, adapted: str, pretrained: bool, cache: Path
) -> None:
    state = put("test_vit", cache)
    torch.save({"state_dict": state}, cache / "w.pth")
    weights = pretrained_weights(VIT, True) if pretrained else read_weights(str(cache / "w.pth"))
    model = build(VIT, side, classes=4)
    values = fitted(weights, VIT, side, model)
    assert weights.changed(values) == adapted
    assert {name for name in model.state_dict() if name not in values} == {"head.weight", "head.bias"}
    assert {name for name, value in values.items() if not torch.equal(value, state[name])} == {"pos_embed"} & {
        adapted.partition(" ")[0]
    }
    resized = timm.create_model(
        "test_vit", pretrained=True, img_size=side, pretrained_cfg_overlay={"file": str(cache / "w.pth")}
    )
    assert torch.equal(values["pos_embed"], resized.pos_embed)


@pytest.mark.parametrize("text", ["hr(8 e=2) -> t(8 e=2 d=8 sr=2)", *HR_FRONT_NETWORKS.values()])
def test_weights_of_our_networks_fit_every_side(text: str) -> None:
    network = parse_network(text)
    small, large = (build_on_meta(network, side).state_dict() for side in (64, 128))
    assert {name: value.shape for name, value in small.items()} == {name: value.shape for name, value in large.items()}


NO_PRETRAINED = [
    ("hr(32 e=4)", True, SpecError, "timm has no weights for 'hr.*; write recipe: {pretrained: true} in rows of timm"),
    ("timm:hirivit_small", True, SpecError, "has no weights for 'timm:hirivit_small'; leave it out"),
    ("timm:test_vit", "a1_in1k", SpecError, "a1_in1k is no tag of 'timm:test_vit'; write r160_in1k"),
    ("timm:test_vit embed_dim=32", True, WeightsError, "write other arguments.*size mismatch for cls_token"),
    ("timm:test_vit2", True, WeightsError, r"connect this machine .*recipe.weights .*\(LocalEntryNotFoundError"),
]


@pytest.mark.parametrize(("spec", "tag", "error", "message"), NO_PRETRAINED)
def test_weights_that_cannot_be_had(
    spec: str, tag: bool | str, error: type[Exception], message: str, cache: Path
) -> None:
    put("test_vit", cache)
    with pytest.raises(error, match=message):
        pretrained_weights(parse_network(spec), tag)


def test_weights_of_another_network_are_refused_after_timm_has_tried(cache: Path) -> None:
    torch.save(put("test_resnet", cache), cache / "w.pth")
    with pytest.raises(WeightsError, match="another network's weights; missing there: cls_token"):
        fitted(read_weights(str(cache / "w.pth")), VIT, 64, build(VIT, 64))
