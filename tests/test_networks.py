"""Networks of timm as modules, and the front of Table 9 on three of them."""

from __future__ import annotations

import pytest
import timm
import torch
from timm.layers import DropPath
from torch import nn

from hiri_search.language import SpecError, TimmNetwork, parse_network
from hiri_search.models import HR_FRONT_LAYERS
from hiri_search.networks import build, check_timm

NARROW = "front_hidden=4 front_width=8"
SMALL = {
    "hrnet": f"timm:hrnet_w18_small_hiri {NARROW}",
    "pvt": f"timm:pvt_v2_b2_hiri embed_dims=16,32,80,128 depths=1,1,2,1 num_heads=1,2,5,8 {NARROW}",
    "davit": f"timm:davit_tiny_hiri embed_dims=24,48,96,192 depths=1,1,1,1 num_heads=1,2,4,8 {NARROW}",
}


def peer(text: str) -> TimmNetwork:
    found = parse_network(text)
    assert isinstance(found, TimmNetwork)
    return found


MISTAKES = [
    ("timm:pvt_v2_b9", r"no network 'pvt_v2_b9'; did you mean pvt_v2_b"),
    ("timm:qqqqqq", r"no network 'qqqqqq'; .*list_models"),
    ("timm:resnet18 pretrained=true", "pretrained is not supported .*without weights"),
    ("timm:resnet18 checkpoint_path=weights", "checkpoint_path is not supported .*without weights"),
    ("timm:resnet18 num_classes=10", "num_classes is not supported .*those of the data"),
    ("timm:resnet18 drop_path_rate=0.1", "drop_path_rate is not supported .*recipe.drop_path"),
    ("timm:deit_tiny_patch16_224 img_size=64", "img_size is not supported .*choose the side"),
    ("timm:pvt_v2_b2 features_only=true", "features_only is not supported in"),
]


@pytest.mark.parametrize(("text", "what"), MISTAKES)
def test_what_cannot_be_is_known_before_anything_is_built(text: str, what: str) -> None:
    with pytest.raises(SpecError, match=what):
        check_timm(peer(text))


@pytest.mark.parametrize("text", [*SMALL.values(), "timm:hirivit_small", "timm:swin_tiny_patch4_window7_224"])
def test_what_timm_has_passes(text: str) -> None:
    check_timm(peer(text))


UNBUILT = [
    ("timm:pvt_v2_b0 depth=1", 64, "inputs of 64 pixels; write other arguments .*unexpected keyword argument 'depth'"),
    ("timm:pvt_v2_b0 depths=1,1", 64, "write other arguments .*AssertionError"),
    ("timm:pvt_v2_b9", 64, "did you mean"),
]


@pytest.mark.parametrize(("text", "side", "what"), UNBUILT)
def test_what_timm_does_not_make_is_one_clear_error(text: str, side: int, what: str) -> None:
    with pytest.raises(SpecError, match=what):
        build(peer(text), side)


def rates(model: nn.Module) -> list[float]:
    return [m.drop_prob for m in model.modules() if isinstance(m, DropPath)]


def test_stochastic_depth_is_passed_on() -> None:
    network = peer("timm:pvt_v2_b0 depths=1,1,1,1")
    assert max(rates(build(network, 64, drop_path=0.3))) == pytest.approx(0.3)
    assert sum(rates(build(network, 64))) == 0


def test_a_network_without_stochastic_depth_says_so() -> None:
    network = peer("timm:hrnet_w18_small_hiri")
    with pytest.raises(SpecError, match=r"no stochastic depth; write recipe\.drop_path=0"):
        build(network, 64, drop_path=0.1)
    assert sum(rates(build(network, 64))) == 0


@pytest.mark.parametrize("name", ["deit_tiny_patch16_224", "cait_xxs24_224", "pvt_v2_b0", "resnet18"])
@pytest.mark.parametrize("side", [64, 96])
def test_a_peer_is_built_for_its_side(name: str, side: int) -> None:
    model = build(TimmNetwork(name), side, classes=7).eval()
    with torch.no_grad():
        assert model(torch.zeros(1, 3, side, side)).shape == (1, 7)


def front(name: str) -> bool:
    """Whether a parameter belongs to the front, or to what it replaces."""
    return name.startswith(("conv1.", "bn1.", "conv2.", "bn2.", "patch_embed.proj.", "stem.conv."))


@pytest.mark.parametrize("text", SMALL.values(), ids=SMALL)
def test_a_fronted_network_learns_with_all_it_has(text: str) -> None:
    model = build(peer(text), 128, classes=5).train()
    model(torch.randn(2, 3, 128, 128)).square().sum().backward()
    idle = [name for name, p in model.named_parameters() if p.grad is None or (front(name) and not p.grad.any())]
    assert idle == []


# What the front replaces, and the map that the first stage sees for inputs of 448: as that of the original at 224.
FIRST = {
    "hrnet_w18": ("layer1", (1, 64, 56, 56)),
    "hrnet_w18_small": ("layer1", (1, 64, 56, 56)),
    "pvt_v2_b2": ("stages.0", (1, 56, 56, 64)),
    "davit_tiny": ("stages.0", (1, 96, 56, 56)),
}


def seen(model: nn.Module, stage: str, side: int) -> tuple[int, ...]:
    """The shape of what a stage is given."""
    shapes: list[torch.Size] = []
    model.get_submodule(stage).register_forward_pre_hook(lambda _, inputs: shapes.append(inputs[0].shape))
    with torch.no_grad():
        model.eval()(torch.zeros(1, 3, side, side))
    return tuple(shapes[0])


@pytest.mark.parametrize("name", FIRST)
def test_the_stages_see_what_they_saw_at_half_the_side(name: str) -> None:
    stage, shape = FIRST[name]
    assert seen(timm.create_model(f"{name}_hiri"), stage, 448) == shape
    assert seen(timm.create_model(name), stage, 224) == shape


@pytest.mark.parametrize("name", FIRST)
def test_the_stages_stay_as_they_were(name: str) -> None:
    """All that differs from timm's own network, with its weights' names, is the front."""
    ours, theirs = (timm.create_model(each).state_dict() for each in (f"{name}_hiri", name))
    own = {key: value.shape for key, value in ours.items() if not front(key)}
    assert own == {key: value.shape for key, value in theirs.items() if not front(key)}


@pytest.mark.parametrize("text", SMALL.values(), ids=SMALL)
def test_features_have_the_strides_they_say(text: str) -> None:
    network = peer(text)
    model = timm.create_model(network.name, features_only=True, **dict(network.arguments)).eval()
    with torch.no_grad():
        maps = model(torch.zeros(1, 3, 128, 128))
    info = model.feature_info
    assert [m.shape[1] for m in maps] == info.channels()
    assert [128 // m.shape[2] for m in maps] == info.reduction()
    assert info.reduction()[-4:] == [8, 16, 32, 64]  # twice those of the original


def test_features_of_some_stages() -> None:
    model = timm.create_model("hrnet_w18_small_hiri", features_only=True, out_indices=(0, 2)).eval()
    with torch.no_grad():
        assert [tuple(m.shape[1:]) for m in model(torch.zeros(1, 3, 128, 128))] == [(32, 32, 32), (256, 8, 8)]


@pytest.mark.parametrize("name", HR_FRONT_LAYERS)
def test_timm_finds_the_first_and_the_last_layer(name: str) -> None:
    model = timm.create_model(name, in_chans=1)  # what timm adapts weights by
    first = model.get_submodule(model.pretrained_cfg["first_conv"])
    assert isinstance(first, nn.Conv2d)
    assert first.in_channels == 1
    assert model.get_submodule(model.pretrained_cfg["classifier"]) is model.get_classifier()
    assert timm.data.resolve_data_config({}, model=model)["input_size"] == (3, 448, 448)


def test_there_are_no_weights_to_fetch() -> None:
    with pytest.raises(RuntimeError, match="No pretrained weights exist for pvt_v2_b2_hiri"):
        timm.create_model("pvt_v2_b2_hiri", pretrained=True)
