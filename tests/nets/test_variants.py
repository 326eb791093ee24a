"""Every stem, kind of block, downsampling and argument of the language, as a module."""

from __future__ import annotations

import pytest
import torch

from hiri_search.language import parse_net
from hiri_search.nets.hirivit import build_hirivit

SIDE = 64
VARIANTS = [  # spec, and the shape in front of the head: channels and side
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
    ("hr(8 e=1)*2 -> hr(8 e=1) -> cffn(16 e=1) -> t(16 e=1 d=8)*2 -> t(16 e=1 d=8)", (16, 1)),
]


@pytest.mark.parametrize(("spec", "shape"), VARIANTS)
def test_a_variant_has_its_shape_and_every_parameter_learns(spec: str, shape: tuple[int, int]) -> None:
    width, grid = shape
    model = build_hirivit(parse_net(spec), classes=7)
    images = torch.randn(2, 3, SIDE, SIDE)
    with torch.no_grad():
        assert model.eval().forward_features(images).shape == (2, width, grid, grid)
        assert model(images).shape == (2, 7)
    logits = model.train()(images)
    assert logits.shape == (2, 7)
    (logits * torch.randn(2, 7)).sum().backward()
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # A bias in front of a norm over the batch moves nothing but by rounding, so it need not show.
    assert [name for name in still if not name.endswith("bias")] == []
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize(("spec", "shape"), VARIANTS)
def test_the_memory_format_changes_no_result(spec: str, shape: tuple[int, int]) -> None:
    model = build_hirivit(parse_net(spec), classes=7).eval()
    images = torch.randn(2, 3, SIDE, SIDE)
    with torch.no_grad():
        contiguous = model(images)
        model.to(memory_format=torch.channels_last)
        channels_last = model(images.to(memory_format=torch.channels_last))
    torch.testing.assert_close(channels_last, contiguous, rtol=1e-4, atol=1e-5)


def test_high_resolution_blocks_repeat_what_the_low_branch_found() -> None:
    block = build_hirivit(parse_net("hr(8 e=2)"), classes=7).eval().stages[0].blocks[0]
    for parameter in block.high.parameters():
        parameter.data.zero_()
    with torch.no_grad():
        x = torch.randn(1, 8, 8, 8)
        change = block(x) - x
    for row, column in ((0, 1), (1, 0), (1, 1)):
        torch.testing.assert_close(change[:, :, row::2, column::2], change[:, :, ::2, ::2], atol=1e-6, rtol=0)
    assert change.abs().max() > 1e-4
