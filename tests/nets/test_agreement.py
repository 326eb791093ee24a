"""A network gives equal outputs in every mode of execution, and all its parameters learn."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hiri_search.language import parse_net
from tests.nets.variants import CLASSES, images, randomised_net, relative_error, variants

VARIANTS = variants()
SMALL = parse_net("hrstem(hs=8) -> hr(8 e=2) -> cffn(16 e=2) -> t(16 e=2 d=8)")
ROUNDING = 1e-5  # relative, in single precision: sums in another order
BF16_ROUNDING = 0.03  # relative, for products with the 8 bits of bf16
ZERO_GRADIENT = 1e-10  # in double precision; other gradients are above 1e-6


def _gradients(model: nn.Module) -> dict[str, float]:
    """Return the largest gradient of each parameter in training mode, in double precision."""
    weights = torch.randn(6, CLASSES, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    (model(images(6).double()) * weights).sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    return {name: p.grad.abs().max().item() for name, p in model.named_parameters()}


@pytest.mark.parametrize("spec", VARIANTS)
def test_every_parameter_learns_except_biases_before_a_batchnorm(spec: str) -> None:
    model = randomised_net(VARIANTS[spec]).double().train()
    gradients = _gradients(model)
    without_effect = [name for name, gradient in gradients.items() if gradient < ZERO_GRADIENT]
    assert [name for name in without_effect if not name.endswith("bias")] == []
    with torch.no_grad():
        outputs = model(images(6).double())
        for name in without_effect:
            model.get_parameter(name).add_(torch.randn_like(model.get_parameter(name)))
        assert relative_error(model(images(6).double()), outputs) < ZERO_GRADIENT
    assert min(gradients[name] for name in gradients if name not in without_effect) > 1e-6


@torch.no_grad()
@pytest.mark.parametrize("spec", VARIANTS)
def test_the_output_of_an_image_does_not_depend_on_its_batch(spec: str) -> None:
    model, x = randomised_net(VARIANTS[spec]), images(3)
    outputs = model(x)
    assert relative_error(model(x.flip(0)).flip(0), outputs) < ROUNDING
    for index in range(3):
        assert relative_error(model(x[index : index + 1]), outputs[index : index + 1]) < ROUNDING
    assert relative_error(outputs[:1], outputs[1:2]) > 0.1  # else the output ignores the image


@torch.no_grad()
@pytest.mark.parametrize("spec", VARIANTS)
def test_precision_and_memory_format_change_rounding_only(spec: str) -> None:
    model, x = randomised_net(VARIANTS[spec]), images()
    exact = model.double()(x.double())
    single = model.float()(x)
    assert relative_error(single, exact) < ROUNDING
    with torch.autocast("cpu", torch.bfloat16):
        assert relative_error(model(x), exact) < BF16_ROUNDING
    channels_last = model.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    assert relative_error(channels_last, exact) < ROUNDING


@torch.no_grad()
@pytest.mark.slow
def test_a_network_compiled_without_code_generation_agrees() -> None:
    model, x = randomised_net(SMALL), images()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    assert relative_error(compiled(x), model(x)) < ROUNDING


@pytest.mark.slow
@torch.no_grad()
def test_a_compiled_network_agrees() -> None:
    model, x = randomised_net(SMALL), images()
    assert relative_error(torch.compile(model, fullgraph=True)(x), model(x)) < ROUNDING


def test_a_compiled_network_has_the_same_gradients() -> None:
    model = randomised_net(SMALL).train()
    gradients = []
    for forward in (model, torch.compile(model, backend="aot_eager", fullgraph=True)):
        model.zero_grad()
        forward(images(4)).square().sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    scale = max(gradient.abs().max() for gradient in gradients[0])
    for eager, compiled in zip(*gradients, strict=True):
        assert (eager - compiled).abs().max() < ROUNDING * scale
