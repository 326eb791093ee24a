"""The example blocks: equal to those of timm and torchvision, counted exactly, trained as a whole, in a study."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import yaml
from timm.layers.norm import GroupNorm1
from timm.models._efficientnet_blocks import InvertedResidual as TimmInvertedResidual
from timm.models.convnext import ConvNeXtBlock as TimmConvNeXtBlock
from timm.models.metaformer import MetaFormerBlock
from timm.models.swin_transformer import SwinTransformerBlock
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.mobilenetv2 import InvertedResidual as TorchvisionInvertedResidual

from hiri_search.cost.flops import count, count_module
from hiri_search.language import Net, SpecError, parse, parse_net
from hiri_search.language.stages import KINDS, forget_kinds, make_part
from hiri_search.nets.hirivit import build_hirivit
from hiri_search.study.ledger.ledger import read_events, trials

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
STUDY = yaml.safe_load((EXAMPLES / "stage3.yaml").read_text())


def _example() -> ModuleType:
    """Import the file, and forget its kinds: other tests do not see them."""
    spec = importlib.util.spec_from_file_location("blocks", EXAMPLES / "blocks.py")
    assert spec
    assert spec.loader
    module = sys.modules["blocks"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    del sys.modules["blocks"]
    forget_kinds(["blocks"])
    return module


blocks = _example()
WIDTH, GRID, WINDOW = 16, 8, 4


@pytest.fixture
def kinds(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The example kinds as part of the language."""
    for kind in (blocks.MBConv, blocks.ConvNeXt, blocks.Swin, blocks.PoolFormer):
        monkeypatch.setitem(KINDS, kind.kind, kind)
    yield
    make_part.cache_clear()


STAGES = {
    "mbconv": blocks.MBConv(width=WIDTH, expansion=4, kernel=5),
    "mbconv e=1": blocks.MBConv(width=WIDTH, expansion=1),
    "convnext": blocks.ConvNeXt(width=WIDTH),
    "swin": blocks.Swin(width=WIDTH, head_size=8, window=WINDOW),
    "swin shifted": blocks.Swin(width=WIDTH, head_size=8, window=WINDOW, shift="yes"),
    "pool": blocks.PoolFormer(width=WIDTH),
}


def _timm_swin(shift: int) -> nn.Module:
    return SwinTransformerBlock(WIDTH, (GRID, GRID), num_heads=2, window_size=WINDOW, shift_size=shift)


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
every_block = pytest.mark.parametrize("name", STAGES)


def _built(name: str, *, drop_path: float = 0.0) -> nn.Module:
    """Build a block with parameters large enough that each of them matters."""
    torch.manual_seed(0)
    block: nn.Module = STAGES[name].block(GRID, drop_path=drop_path)
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


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("mbconv(16 k=4)", "k=4 is even; write an odd number, as in k=5"),
        ("swin(48 d=32)", "width 48 is not a multiple of the head size 32"),
        ("swin(32 win=65)", "win=65 is not supported; win must be an integer from 2 to 64"),
    ],
)
@pytest.mark.usefixtures("kinds")
def test_arguments_that_make_no_block_are_refused(spec: str, message: str):
    with pytest.raises(SpecError, match=message):
        parse_net(spec)


@pytest.mark.usefixtures("kinds")
def test_the_grid_of_a_stage_must_suit_its_blocks():
    with pytest.raises(SpecError, match="must be a multiple of 56"):
        parse_net("hr(8 e=2) -> swin(32)").grids(64)
    with pytest.raises(SpecError, match="at least 2x2"):
        blocks.PoolFormer(width=WIDTH).block(1)


@pytest.mark.usefixtures("kinds")
def test_a_stand_in_divides_heads_and_keeps_windows():
    small = parse_net("hr(32 e=2) -> swin(128 win=4)").scaled_down(width=4)
    assert str(small) == "hrstem(hs=8) -> hr(8 e=2) -> swin(32 d=8 win=4)"


@pytest.mark.usefixtures("kinds")
def test_the_networks_of_the_example_study_are_counted_as_by_torchs_own_counter():
    for spec in STUDY["nets"].values():
        net = parse_net(spec, let=STUDY["let"]).scaled_down(depth=9)
        with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
            model = build_hirivit(net, 64).eval()
            model(torch.zeros(1, 3, 64, 64))
        cost = count(net, 64)
        assert 2 * cost.core_macs == counter.get_total_flops()
        assert cost.params == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.usefixtures("kinds")
def test_a_space_holds_example_kinds_beside_those_of_the_paper():
    space = parse("hr(8 e=2) -> (hr | mbconv | t(d=8))(16 e=2|4)*1..2 -> convnext(32 e=2..4)")
    assert space.size == 3 * 2 * 2 * 3
    assert all(isinstance(net, Net) for net, _ in space.walks())


@pytest.mark.slow
@pytest.mark.waits
def test_the_example_study_runs_through_ray(tmp_path: Path):
    quick = ["recipe.epochs=1", "seeds=1", "data={source: drawn, train: 64, val: 64}"]
    command = [sys.executable, "run_study.py", str(EXAMPLES / "stage3.yaml"), "--results", str(tmp_path / "results")]
    command += [word for text in quick for word in ("--set", text)]
    run = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    finished = {trial.network.name for trial in trials(read_events(tmp_path / "results")) if trial.state == "finished"}
    assert finished == set(STUDY["nets"])
