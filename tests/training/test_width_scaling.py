"""A stand-in of a smaller width trains with the recipe of its network: matrices alone are scaled."""

import pytest
import torch
from timm.optim import param_groups_weight_decay

from hiri_search.language import parse_network
from hiri_search.nets.hirivit import HiriVit, build_hirivit
from hiri_search.training.width_scaling import parameter_groups, scale_initial_weights

NETWORK = parse_network("hr(32 e=4) -> hr(64 e=4) -> cffn(128 e=6) -> t(320 e=5)*2 -> t(512 e=5)")
SIDE, DIVISOR, DECAY = 64, 8, 0.05


def _initial(divisor: int) -> HiriVit:
    torch.manual_seed(0)
    model = build_hirivit(NETWORK.scaled_down(width=divisor), SIDE, classes=10)
    scale_initial_weights(model, divisor)
    return model


def _logit_scale(model: HiriVit) -> float:
    images = torch.randn(16, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return float(model(images).std())


def test_the_initial_logits_of_a_stand_in_have_the_scale_of_those_of_its_network():
    network, stand_in = (_logit_scale(_initial(divisor)) for divisor in (1, DIVISOR))
    assert stand_in == pytest.approx(network, rel=0.3)


def test_learning_rate_and_weight_decay_of_matrices_alone_are_scaled():
    model = _initial(DIVISOR)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = [*parameter_groups(model, DECAY, DIVISOR)]
    scaled = {names[id(each)] for group in groups if group.get("lr_scale") == DIVISOR for each in group["params"]}
    assert {"head.fc.weight", "stages.3.blocks.0.attention.q.weight", "stages.0.blocks.0.fc1.weight"} < scaled
    assert not any(
        name.endswith(("bias", "norm.weight", "high.weight")) or name.startswith("stem.conv1") for name in scaled
    )
    assert {(group.get("lr_scale", 1), group["weight_decay"]) for group in groups} == {
        (1, 0.0),
        (1, DECAY),
        (DIVISOR, DECAY / DIVISOR),
    }
    assert "lr_scale" not in groups[0]  # the learning rate of the first group is the recorded one


def test_every_parameter_is_in_one_group():
    model = _initial(DIVISOR)
    ours, theirs = (
        sorted(id(each) for group in groups for each in group["params"])
        for groups in (parameter_groups(model, DECAY, DIVISOR), param_groups_weight_decay(model, DECAY))
    )
    assert ours == theirs
