"""A fused model gives the outputs of the model, without its BatchNorms."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import timm
import torch
import torch.nn.functional as F
from timm.layers import BatchNormAct2d, StdConv2d
from torch import Tensor, nn

from hiri_search.cost.flops import count_module
from hiri_search.language import parse_net
from hiri_search.models import SPECS, paper_net
from hiri_search.nets.fuse_batchnorm import FuseError, fuse_batchnorm
from hiri_search.nets.hirivit import HiriVit
from tests.nets.variants import batch_norms, images, randomised, randomised_net, relative_error, variants

VARIANTS = variants()
SMALL = paper_net("hirivit_small").scaled_down(width=8, depth=9)
EQUAL = 1e-5  # relative, in single precision


@torch.no_grad()
def check(model: nn.Module, x: Tensor, *, left: int = 0) -> nn.Module:
    """Fuse, compare outputs, and check that `left` BatchNorms remain."""
    fused = fuse_batchnorm(model)
    assert relative_error(fused(x), model.eval()(x)) < EQUAL
    assert len(batch_norms(fused)) == left
    return fused


@pytest.mark.parametrize("spec", VARIANTS)
def test_every_variant_of_the_language_is_fused_completely(spec: str) -> None:
    check(randomised_net(VARIANTS[spec]), images())


@pytest.mark.parametrize("name", SPECS)
def test_the_papers_networks_are_fused_completely(name: str) -> None:
    model = randomised_net(paper_net(name).scaled_down(width=8, depth=9))
    assert len(batch_norms(model)) > 15
    fused = check(model, images(height=64))
    with torch.no_grad():
        for shape in ((128, 128), (64, 192)):
            assert relative_error(fused(images(1, *shape)), model(images(1, *shape))) < EQUAL


def test_outputs_differ_by_rounding_only() -> None:
    model = randomised_net(SMALL).double()
    x = images(height=64).double()
    with torch.no_grad():
        assert relative_error(fuse_batchnorm(model)(x), model(x)) < 1e-13


def test_a_classifier_of_every_position_is_fused() -> None:
    check(randomised(HiriVit(SMALL, num_classes=7, global_pool="")), images(height=128))


def test_the_result_is_a_copy_in_eval_mode() -> None:
    model = randomised_net(SMALL).train()
    state = {name: values.clone() for name, values in model.state_dict().items()}
    fused = fuse_batchnorm(model)
    assert model.training
    assert not any(module.training for module in fused.modules())
    assert all(torch.equal(state[name], values) for name, values in model.state_dict().items())
    assert len(state) == len(model.state_dict())


def test_parameter_names_stay_and_biases_are_added() -> None:
    model = randomised_net(SMALL)
    fused = fuse_batchnorm(model)
    names, old_names = set(fused.state_dict()), set(model.state_dict())
    assert {name.rpartition(".")[2] for name in names - old_names} == {"bias"}
    assert {name.rpartition(".")[0] for name in old_names - names} == set(batch_norms(model))
    assert type(fused) is HiriVit
    fused.reset_classifier(3)
    assert fused(images(height=64)).shape == (2, 3)


def test_fusing_removes_the_costs_of_the_norms() -> None:
    model = randomised_net(SMALL)
    fused = fuse_batchnorm(model)
    before, after = (count_module(m, (3, 64, 64)) for m in (model, fused))
    assert after.core_macs == before.core_macs
    assert after.macs < before.macs
    removed = sum(p.numel() for name in batch_norms(model) for p in model.get_submodule(name).parameters())
    added = sum(v.numel() for name, v in fused.state_dict().items() if name not in model.state_dict())
    assert after.params == before.params - removed + added


def test_fusing_a_fused_model_changes_nothing() -> None:
    once = fuse_batchnorm(randomised_net(SMALL))
    twice = fuse_batchnorm(once)
    assert all(torch.equal(once.state_dict()[name], values) for name, values in twice.state_dict().items())


@pytest.mark.parametrize("name", ["resnet50", "hrnet_w18_small"])
def test_models_of_timm_are_fused_completely(name: str) -> None:
    check(randomised(timm.create_model(name, num_classes=7)), images(height=32))


def test_a_feature_extractor_is_fused() -> None:
    model = randomised(timm.create_model("hirivit", spec=str(SMALL), features_only=True).eval())
    fused = fuse_batchnorm(model)
    assert batch_norms(fused) == []
    assert fused.feature_info.reduction() == [4, 8, 16, 32, 64]
    with torch.no_grad():
        for actual, expected in zip(fused(images(height=64)), model(images(height=64)), strict=True):
            assert relative_error(actual, expected) < EQUAL


class Steps(nn.Module):
    """Some layers with a given forward pass."""

    def __init__(self, forward: Callable[[Steps, Tensor], Tensor], **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer)
        self.steps = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.steps(self, x)


def conv(kernel: int = 3, padding: int = 1, *, groups: int = 1, kind: type[nn.Conv2d] = nn.Conv2d) -> nn.Conv2d:
    return kind(4, 4, kernel, padding=padding, groups=groups)


def bn(**keywords: bool) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(4, **keywords)


def fc() -> nn.Linear:
    return nn.Linear(4, 4)


CHAINS = {
    "after a convolution": (conv(), bn()),
    "after a grouped convolution": (conv(groups=2), bn()),
    "without affine parameters": (conv(), bn(affine=False)),
    "with an activation": (conv(), BatchNormAct2d(4)),
    "with identity layers between": (conv(), nn.Identity(), nn.Dropout(0.5), bn()),
    "before a pointwise convolution": (bn(), conv(1, 0)),
    "before a convolution without padding": (bn(), nn.Conv2d(4, 6, 2, 2, bias=False)),
    "before and after": (bn(), conv(1, 0), bn()),
    "before and after, with identity layers": (bn(), nn.Dropout(0.5), conv(1, 0), bn(), nn.ReLU(), conv(), bn()),
    "on (N, C) features": (nn.Flatten(2), nn.AdaptiveAvgPool1d(1), nn.Flatten(), fc(), nn.BatchNorm1d(4)),
    "before an FC": (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(4), fc()),
}


@pytest.mark.parametrize("chain", CHAINS)
def test_a_norm_is_merged(chain: str) -> None:
    check(randomised(nn.Sequential(*CHAINS[chain])), torch.randn(3, 4, 8, 8))


SUMS = {
    "of two": Steps(lambda m, x: m.norm(m.a(x) + m.b(x)), a=conv(), b=conv(1, 0), norm=bn()),
    "of three": Steps(
        lambda m, x: m.norm(m.a(x) + m.b(x) + torch.add(m.a(x) * 0, m.c(x))), a=conv(), b=conv(), c=conv(), norm=bn()
    ),
    "in place": Steps(lambda m, x: m.norm(m.a(x).add_(m.b(x))), a=conv(), b=conv(groups=4), norm=bn()),
}


def test_a_norm_is_merged_into_a_sum() -> None:
    check(randomised(SUMS["of two"]), torch.randn(3, 4, 8, 8))
    check(randomised(SUMS["in place"]), torch.randn(3, 4, 8, 8))


def test_a_norm_is_merged_into_all_its_readers() -> None:
    model = Steps(
        lambda m, x: m.a(y := m.norm(x)) + m.b(y).mean(1, keepdim=True), a=conv(1, 0), b=conv(1, 0), norm=bn()
    )
    check(randomised(model), torch.randn(3, 4, 8, 8))


def _with_hook() -> nn.Module:
    model = nn.Sequential(conv(), bn())
    model[0].register_forward_hook(lambda module, inputs, output: output + 1)
    return model


NOT_MERGED = {
    "after the input": nn.Sequential(bn(), nn.ReLU()),
    "before a convolution with padding": nn.Sequential(bn(), conv()),
    "with an activation, before a convolution": nn.Sequential(BatchNormAct2d(4), conv(1, 0)),
    "after an activation": nn.Sequential(conv(), nn.ReLU(), bn()),
    "after a subclass of convolution": nn.Sequential(conv(kind=StdConv2d), bn()),
    "after a convolution with other readers": Steps(lambda m, x: m.norm(y := m.a(x)) + y, a=conv(), norm=bn()),
    "after a convolution used twice": Steps(lambda m, x: m.norm(m.a(m.a(x))), a=conv(), norm=bn()),
    "used twice": Steps(lambda m, x: m.norm(m.b(m.norm(m.a(x)))), a=conv(), b=conv(), norm=bn()),
    "after a convolution whose weight is read": Steps(
        lambda m, x: m.norm(m.a(x)) + F.conv2d(x, m.a.weight, padding=1), a=conv(), norm=bn()
    ),
    "after a sum with the input": Steps(lambda m, x: m.norm(m.a(x) + x), a=conv(), norm=bn()),
    "after a sum of one value with itself": Steps(lambda m, x: m.norm((y := m.a(x)) + y), a=conv(), norm=bn()),
    "after a sum of three, one used twice": SUMS["of three"],
    "after a weighted sum": Steps(
        lambda m, x: m.norm(torch.add(m.a(x), m.b(x), alpha=2)), a=conv(), b=conv(), norm=bn()
    ),
    "read by other operations than layers": Steps(lambda m, x: m.a(y := m.norm(x)) + y, a=conv(1, 0), norm=bn()),
    "over rows, before an FC over columns": Steps(lambda m, x: m.fc(m.norm(x[..., :4])), fc=fc(), norm=bn()),
    "over rows, after an FC over columns": Steps(lambda m, x: m.norm(m.fc(x[..., :4])), fc=fc(), norm=bn()),
    "transposed but not into tokens": Steps(lambda m, x: m.fc(m.norm(x[..., :4]).transpose(1, 2)), fc=fc(), norm=bn()),
    "flattened but not into tokens": Steps(
        lambda m, x: m.fc(m.norm(x[..., :2, :2]).flatten(2).abs()), fc=fc(), norm=bn()
    ),
    "changed before the transposition": Steps(
        lambda m, x: m.fc(m.norm(x[..., :4]).abs().transpose(1, 2)), fc=fc(), norm=bn()
    ),
    "before a grouped convolution": nn.Sequential(bn(), conv(1, 0, groups=2)),
    "with batch statistics": nn.Sequential(conv(), bn(track_running_stats=False)),
    "after a convolution with a hook": _with_hook(),
}


@pytest.mark.parametrize("place", NOT_MERGED)
def test_a_norm_that_cannot_be_merged_stays(place: str) -> None:
    check(randomised(NOT_MERGED[place]), torch.randn(3, 4, 8, 8), left=1)


def test_a_shared_weight_does_not_change_in_the_other_layer() -> None:
    model = Steps(lambda m, x: m.b(m.norm(m.a(x))), a=conv(), b=conv(), norm=bn())
    model.b.weight = model.a.weight
    check(randomised(model), torch.randn(3, 4, 8, 8))


def test_a_norm_is_replaced_under_each_of_its_names() -> None:
    norm = bn()
    check(randomised(Steps(lambda m, x: m.again(m.a(x)), a=conv(), norm=norm, again=norm)), torch.randn(3, 4, 8, 8))


def test_a_model_that_cannot_be_traced_is_an_error_with_advice() -> None:
    model = Steps(lambda m, x: m.a(x) if x.sum() > 0 else x, a=conv())
    with pytest.raises(FuseError, match=r"Steps cannot be fused: torch.fx cannot trace .*; fuse those of its submod"):
        fuse_batchnorm(model)


def test_a_network_on_the_meta_device_is_fused() -> None:
    with torch.device("meta"):
        model = HiriVit(parse_net(SPECS["hirivit_large"]))
    assert batch_norms(fuse_batchnorm(model)) == []
