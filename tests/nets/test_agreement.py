"""A network says the same in whatever way it is run, and every parameter of it can learn."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hiri_search.language import parse_net
from tests.nets.variants import CLASSES, error, images, lively_net, variants

VARIANTS = variants()
SMALL = parse_net("hrstem(hs=8) -> hr(8 e=2) -> cffn(16 e=2) -> t(16 e=2 d=8)")
ROUNDING = 1e-5  # relative, in single precision: sums in another order
HALF = 0.03  # relative, where products are taken with the 8 bits of bf16
NOTHING = 1e-10  # beside 1, in double precision


def _gradients(model: nn.Module) -> dict[str, float]:
    """The greatest gradient of each parameter in training, in double precision."""
    weights = torch.randn(6, CLASSES, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    (model(images(6).double()) * weights).sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    return {name: p.grad.abs().max().item() for name, p in model.named_parameters()}


@pytest.mark.parametrize("spec", VARIANTS)
def test_every_parameter_learns_but_biases_that_a_norm_takes_away(spec: str) -> None:
    model = lively_net(VARIANTS[spec]).double().train()
    gradients = _gradients(model)
    idle = [name for name, gradient in gradients.items() if gradient < NOTHING]
    assert [name for name in idle if not name.endswith("bias")] == []
    with torch.no_grad():
        before = model(images(6).double())
        for name in idle:
            model.get_parameter(name).add_(torch.randn_like(model.get_parameter(name)))
        assert error(model(images(6).double()), before) < NOTHING
    assert min(gradients[name] for name in gradients if name not in idle) > 1e-6


@torch.no_grad()
@pytest.mark.parametrize("spec", VARIANTS)
def test_a_image_is_seen_alone_as_among_others(spec: str) -> None:
    model, x = lively_net(VARIANTS[spec]), images(3)
    together = model(x)
    assert error(model(x.flip(0)).flip(0), together) < ROUNDING
    for index in range(3):
        assert error(model(x[index : index + 1]), together[index : index + 1]) < ROUNDING
    assert error(together[:1], together[1:2]) > 0.1  # or it would see nothing at all


@torch.no_grad()
@pytest.mark.parametrize("spec", VARIANTS)
def test_precision_and_memory_format_change_rounding_only(spec: str) -> None:
    model, x = lively_net(VARIANTS[spec]), images()
    exact = model.double()(x.double())
    single = model.float()(x)
    assert error(single, exact) < ROUNDING
    with torch.autocast("cpu", torch.bfloat16):
        assert error(model(x), exact) < HALF
    last = model.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    assert error(last, exact) < ROUNDING


@torch.no_grad()
@pytest.mark.slow
def test_a_compiled_network_agrees() -> None:
    """Through all of the compiler but the code it writes."""
    model, x = lively_net(SMALL), images()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    assert error(compiled(x), model(x)) < ROUNDING


@pytest.mark.slow
@torch.no_grad()
def test_a_network_compiled_to_code_agrees() -> None:
    model, x = lively_net(SMALL), images()
    assert error(torch.compile(model, fullgraph=True)(x), model(x)) < ROUNDING


def test_a_compiled_network_has_the_same_gradients() -> None:
    model = lively_net(SMALL).train()
    found = []
    for run in (model, torch.compile(model, backend="aot_eager", fullgraph=True)):
        model.zero_grad()
        run(images(4)).square().sum().backward()
        found.append([p.grad.clone() for p in model.parameters()])
    scale = max(gradient.abs().max() for gradient in found[0])
    for one, other in zip(*found, strict=True):
        assert (one - other).abs().max() < ROUNDING * scale
