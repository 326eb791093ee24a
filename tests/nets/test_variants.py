"""Every stem, stage type, downsampling and argument of the language, as a module."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hiri_search.language import parse_net
from hiri_search.nets.hirivit import build_hirivit

SIDE = 64
FIVE_STAGES = "hr(8 e=1)*2 -> hr(8 e=1) -> cffn(16 e=1) -> t(16 e=1 d=8)*2 -> t(16 e=1 d=8)"
VARIANTS = [  # spec, and the shape before the head: channels and side
    ("hrstem(hs=8) -> hr(16 e=2)", (16, 16)),
    ("hrstem(hs=12) -> hr(16 e=2)", (16, 16)),
    ("convstem(hs=8) -> hr(16 e=2)", (16, 16)),
    ("vitstem -> hr(16 e=2)", (16, 16)),
    ("hrstem(hs=8) -> hr(16 e=2 r=1)", (16, 16)),
    ("hrstem(hs=8) -> cffn(16 e=2)", (16, 16)),
    ("hrstem(hs=8) -> cffn(16 e=2 norm=ln)", (16, 16)),
    ("hrstem(hs=8) -> t(16 e=2 d=8)", (16, 16)),
    ("hrstem(hs=8) -> t(16 e=2 d=16)", (16, 16)),
    ("hrstem(hs=8) -> t(16 e=2 d=8 norm=ln)", (16, 16)),
    ("hrstem(hs=8) -> t(16 e=2 d=8 norm=bn)", (16, 16)),
    ("hrstem(hs=8) -> t(16 e=2 d=8 ffn=plain)", (16, 16)),
    ("hrstem(hs=8) -> t(16 e=2 d=8 ffn=plain norm=ln)", (16, 16)),
    ("hrstem(hs=8) -> t(16 e=2 d=8 sr=4)", (16, 16)),
    ("hrstem(hs=8) -> hr(8 e=2) -> hr(16 e=2 down=a)", (16, 8)),
    ("hrstem(hs=8) -> hr(8 e=2) -> hr(16 e=2 down=b)", (16, 8)),
    ("hrstem(hs=8) -> hr(8 e=2) -> cffn(16 e=2 down=conv)", (16, 8)),
    ("hrstem(hs=8) -> hr(8 e=2) -> cffn(16 e=2 down=conv norm=ln)", (16, 8)),
    ("hrstem(hs=8) -> hr(8 e=2) -> cffn(8 e=2 down=none)", (8, 16)),
    ("hrstem(hs=8) -> hr(8 e=2) -> hr(16 e=2 down=a s=1)", (16, 16)),
    ("hrstem(hs=8) -> hr(8 e=2) -> hr(16 e=2 down=b s=1)", (16, 16)),
    ("hrstem(hs=8) -> hr(8 e=2) -> hr(16 e=2 down=conv s=1)", (16, 16)),
    (FIVE_STAGES, (16, 1)),
]
ZERO_GRADIENT = 1e-12  # in double precision; other gradients are above 1e-6


def _gradients(spec: str, side: int) -> dict[str, Tensor]:
    """Return the gradient of each parameter in training mode, in double precision."""
    model = build_hirivit(parse_net(spec), classes=7).double().train()
    logits = model(torch.randn(6, 3, side, side, dtype=torch.float64))
    (logits * torch.randn_like(logits)).sum().backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert len(gradients) == len(list(model.parameters()))
    return gradients


def _without_gradient(gradients: dict[str, Tensor]) -> list[str]:
    """Return the weights that do not learn; biases before a BatchNorm have no effect, so biases are left out."""
    weights = {name: gradient.abs().max().item() for name, gradient in gradients.items() if not name.endswith("bias")}
    small = [name for name, gradient in weights.items() if gradient < 1e-6]
    assert all(weights[name] < ZERO_GRADIENT for name in small)
    return small


@pytest.mark.parametrize(("spec", "shape"), VARIANTS)
def test_a_variant_has_its_shape(spec: str, shape: tuple[int, int]) -> None:
    width, grid = shape
    model = build_hirivit(parse_net(spec), classes=7)
    images = torch.randn(2, 3, SIDE, SIDE)
    with torch.no_grad():
        assert model.eval().forward_features(images).shape == (2, width, grid, grid)
        assert model(images).shape == (2, 7)
    assert model.train()(images).shape == (2, 7)


@pytest.mark.parametrize("spec", [spec for spec, _ in VARIANTS])
def test_every_weight_of_a_variant_learns(spec: str) -> None:
    side = 2 * SIDE if spec == FIVE_STAGES else SIDE  # attention over one position has no use for queries and keys
    assert _without_gradient(_gradients(spec, side)) == []


def test_queries_and_keys_do_not_learn_at_a_single_position() -> None:
    """The softmax over one key is 1 whatever query and key are; only the values have an effect."""
    gradients = _gradients(FIVE_STAGES, SIDE)
    assert _without_gradient(gradients) == ["stages.4.blocks.0.attention.q.weight"]
    keys, values = gradients["stages.4.blocks.0.attention.kv.weight"].chunk(2)
    assert keys.abs().max() < ZERO_GRADIENT
    assert values.abs().max() > 1e-6


@pytest.mark.parametrize("spec", [spec for spec, _ in VARIANTS])
def test_the_memory_format_changes_no_result(spec: str) -> None:
    model = build_hirivit(parse_net(spec), classes=7).eval()
    images = torch.randn(2, 3, SIDE, SIDE)
    with torch.no_grad():
        contiguous = model(images)
        model.to(memory_format=torch.channels_last)
        channels_last = model(images.to(memory_format=torch.channels_last))
    torch.testing.assert_close(channels_last, contiguous, rtol=1e-4, atol=1e-5)


def test_high_resolution_blocks_repeat_the_output_of_the_low_branch() -> None:
    block = build_hirivit(parse_net("hr(8 e=2)"), classes=7).eval().stages[0].blocks[0]
    for parameter in block.high.parameters():
        parameter.data.zero_()
    with torch.no_grad():
        x = torch.randn(1, 8, 8, 8)
        change = block(x) - x
    for row, column in ((0, 1), (1, 0), (1, 1)):
        torch.testing.assert_close(change[:, :, row::2, column::2], change[:, :, ::2, ::2], atol=1e-6, rtol=0)
    assert change.abs().max() > 1e-4
