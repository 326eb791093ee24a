"""Blocks of `examples/blocks.py`: equal to those of timm and torchvision, counted exactly, trained as a whole."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from timm.layers.norm import GroupNorm1
from timm.models._efficientnet_blocks import InvertedResidual as TimmInvertedResidual
from timm.models.convnext import ConvNeXtBlock as TimmConvNeXtBlock
from timm.models.metaformer import MetaFormerBlock
from timm.models.swin_transformer import SwinTransformerBlock
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.mobilenetv2 import InvertedResidual as TorchvisionInvertedResidual

from hiri_search.cost.flops import count_module


def _example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("blocks", Path(__file__).parents[2] / "examples" / "blocks.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


blocks = _example()
WIDTH, GRID, WINDOW = 16, 8, 4
Build = Callable[[float], nn.Module]  # from the stochastic depth


def _swin(shift: int) -> Build:
    attention = lambda: blocks.WindowAttention(WIDTH, GRID, head_size=8, window=WINDOW, shift=shift)
    return lambda drop_path: blocks.SwinBlock(WIDTH, 4, attention(), drop_path)


def _timm_swin(shift: int) -> nn.Module:
    return SwinTransformerBlock(WIDTH, (GRID, GRID), num_heads=2, window_size=WINDOW, shift_size=shift)


BUILDS: dict[str, Build] = {
    "mbconv": lambda drop_path: blocks.InvertedResidual(WIDTH, 4, 5, drop_path),
    "mbconv e=1": lambda drop_path: blocks.InvertedResidual(WIDTH, 1, 3, drop_path),
    "convnext": lambda drop_path: blocks.ConvNeXtBlock(WIDTH, 4, 7, drop_path),
    "swin": _swin(0),
    "swin shifted": _swin(2),
    "pool": lambda drop_path: blocks.PoolFormerBlock(WIDTH, 4, 3, drop_path),
}
REFERENCES: dict[str, Callable[[], nn.Module]] = {
    "mbconv": lambda: TimmInvertedResidual(WIDTH, WIDTH, 5, exp_ratio=4, act_layer=nn.ReLU6),
    "mbconv e=1": lambda: TorchvisionInvertedResidual(WIDTH, WIDTH, 1, 1),
    "convnext": lambda: TimmConvNeXtBlock(WIDTH),
    "swin": lambda: _timm_swin(0),
    "swin shifted": lambda: _timm_swin(2),
    "pool": lambda: MetaFormerBlock(
        WIDTH, mlp_act=nn.GELU, mlp_bias=True, norm_layer=GroupNorm1, layer_scale_init_value=1e-5
    ),
}
POOL_ORDER = ["norm1", "scale1", "norm2", "mlp", "scale2"]  # of parameters in timm; the other blocks have ours
every_block = pytest.mark.parametrize("name", BUILDS)


def _built(name: str, *, drop_path: float = 0.0) -> nn.Module:
    """Build a block with parameters large enough that each of them matters."""
    torch.manual_seed(0)
    block = BUILDS[name](drop_path)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.normal_(0.3, 0.3)
    return block


def _images(number: int) -> Tensor:
    return torch.randn(number, WIDTH, GRID, GRID, generator=torch.Generator().manual_seed(1))


def _copy(block: nn.Module, reference: nn.Module) -> None:
    """Copy the parameters of a block into the reference."""
    ours = dict(block.named_parameters())
    names = sorted(ours, key=lambda name: POOL_ORDER.index(name.partition(".")[0])) if "scale1" in ours else list(ours)
    with torch.no_grad():
        for name, target in zip(names, reference.parameters(), strict=True):
            heads_last = name == "attention.bias"
            target.copy_(ours[name].flatten(1).T if heads_last else ours[name].view_as(target))


@every_block
def test_a_block_computes_the_same_as_that_of_timm_or_torchvision(name: str):
    block, reference, x = _built(name), REFERENCES[name](), _images(2)
    _copy(block, reference)
    is_swin = isinstance(reference, SwinTransformerBlock)
    expected = reference(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2) if is_swin else reference(x)
    torch.testing.assert_close(block(x), expected, rtol=1e-5, atol=1e-5)


@every_block
def test_a_block_is_counted_as_by_torchs_own_counter(name: str):
    block = _built(name).eval()
    cost = count_module(block, (WIDTH, GRID, GRID))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        block(_images(1))
    assert 2 * cost.core_macs == counter.get_total_flops()
    assert cost.params == sum(parameter.numel() for parameter in REFERENCES[name]().parameters())


@every_block
def test_the_gradient_reaches_every_parameter_and_the_input(name: str):
    block, x = _built(name), _images(4).requires_grad_()
    (block(x) * _images(4)).sum().backward()
    without = [key for key, parameter in block.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert without == []
    assert x.grad is not None
    assert x.grad.all()


@every_block
def test_stochastic_depth_skips_the_block_for_some_images_of_a_training(name: str):
    block, x = _built(name, drop_path=0.5), _images(64)
    skipped = lambda: int((block(x) == x).flatten(1).all(1).sum())
    assert 0 < skipped() < 64
    block.eval()
    assert skipped() == 0


def test_only_a_shifted_window_reaches_positions_of_the_next_one():
    def reached(name: str) -> Any:
        x = _images(1).requires_grad_()
        _built(name)(x)[0, :, 3, 3].sum().backward()  # the last position of the first window
        assert x.grad is not None
        return x.grad[0].abs().sum(0) > 0

    expected = {"swin": slice(0, 4), "swin shifted": slice(2, 6)}
    for name, side in expected.items():
        window = torch.zeros(GRID, GRID, dtype=torch.bool)
        window[side, side] = True
        assert torch.equal(reached(name), window)
