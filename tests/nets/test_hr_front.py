"""The high-resolution front on three backbones of timm (Table 9)."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from hiri_search.language import TimmNetwork, parse_network
from hiri_search.networks import build
from tests.nets.variants import HR_FRONT_NETWORKS

# The first stage of each backbone, and the shape of its input: with the front at side 448, without it at side 224.
FIRST_STAGES = {
    "hrnet_w18": ("layer1", (1, 64, 56, 56)),
    "hrnet_w18_small": ("layer1", (1, 64, 56, 56)),
    "pvt_v2_b2": ("stages.0", (1, 56, 56, 64)),
    "davit_tiny": ("stages.0", (1, 96, 56, 56)),
}


def _in_front(name: str) -> bool:
    """Return whether a parameter belongs to the front, or to the layers that it replaces."""
    return name.startswith(("conv1.", "bn1.", "conv2.", "bn2.", "patch_embed.proj.", "stem.conv."))


@pytest.mark.parametrize("text", HR_FRONT_NETWORKS.values(), ids=HR_FRONT_NETWORKS)
def test_every_parameter_of_the_front_learns(text: str) -> None:
    model = build(parse_network(text), 128, classes=5).train()
    model(torch.randn(2, 3, 128, 128)).square().sum().backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    assert [name for name, grad in gradients.items() if grad is None or (_in_front(name) and not grad.any())] == []


def _input_shape(model: nn.Module, stage: str, side: int) -> tuple[int, ...]:
    """Return the shape of a stage's input."""
    shapes: list[torch.Size] = []
    model.get_submodule(stage).register_forward_pre_hook(lambda _, inputs: shapes.append(inputs[0].shape))
    with torch.no_grad():
        model.eval()(torch.zeros(1, 3, side, side, device="meta"))
    return tuple(shapes[0])


@pytest.mark.parametrize("name", FIRST_STAGES)
def test_the_first_stage_has_the_same_input_as_without_the_front_at_half_the_side(name: str) -> None:
    stage, shape = FIRST_STAGES[name]
    with torch.device("meta"):  # only shapes matter
        with_front, without = timm.create_model(f"{name}_hiri"), timm.create_model(name)
    assert _input_shape(with_front, stage, 448) == shape
    assert _input_shape(without, stage, 224) == shape


@pytest.mark.parametrize("name", FIRST_STAGES)
def test_the_other_weights_have_timms_names_and_shapes(name: str) -> None:
    with torch.device("meta"):
        with_front, without = (timm.create_model(model).state_dict() for model in (f"{name}_hiri", name))
    shapes = {key: value.shape for key, value in with_front.items() if not _in_front(key)}
    assert shapes == {key: value.shape for key, value in without.items() if not _in_front(key)}


@pytest.mark.parametrize("text", HR_FRONT_NETWORKS.values(), ids=HR_FRONT_NETWORKS)
def test_features_have_the_strides_of_their_description(text: str) -> None:
    network = parse_network(text)
    assert isinstance(network, TimmNetwork)
    model = timm.create_model(network.name, features_only=True, **dict(network.arguments)).eval()
    with torch.no_grad():
        maps = model(torch.zeros(1, 3, 128, 128))
    info = model.feature_info
    assert [m.shape[1] for m in maps] == info.channels()
    assert [128 // m.shape[2] for m in maps] == info.reduction()
    assert info.reduction()[-4:] == [8, 16, 32, 64]  # twice the strides without the front


def test_features_of_some_stages() -> None:
    model = timm.create_model("hrnet_w18_small_hiri", features_only=True, out_indices=(0, 2)).eval()
    with torch.no_grad():
        assert [tuple(m.shape[1:]) for m in model(torch.zeros(1, 3, 128, 128))] == [(32, 32, 32), (256, 8, 8)]
