"""Kinds of a user's own are checked before anything is trained."""

import re
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from hiri_search.cost import flops, operators
from hiri_search.cost.flops import count, count_parts
from hiri_search.cost.kind_check import check_dense_kinds, check_kinds, check_trained
from hiri_search.language import DenseNetwork, SpecError, TimmNetwork, parse_net, parse_network
from hiri_search.networks import build
from hiri_search.user_code import import_user_code
from tests.own_code import MIX, NETWORK, own_kinds, write_blocks

KIND = """
@register
@dataclass(frozen=True, kw_only=True)
class Own({base}):
    kind = "own"
    def {method}:
{body}
"""
STAGE, STEM, DOWN = (
    ("Stage", "block(self, grid, *, drop_path=0.0)", "hr(8 e=2) -> own(16)"),
    ("Stem", "module(self, channels, width, side)", "own -> hr(8 e=2)"),
    ("Downsampling", "module(self, channels, width, grid, *, stride, norm)", "hr(8 e=2) -> hr(16 e=2 down=own)"),
)
SELF_CONV = "nn.Conv2d(self.width, self.width, 1)"
BROKEN = {
    "half the grid": (
        STAGE,
        "return nn.Conv2d(self.width, self.width, 3, 2, 1)",
        "returns (2, 16, 4, 4) for an input of",
    ),
    "no batch": (STAGE, "return nn.Flatten(0, 1)", "it must return (2, 16, 8, 8)"),
    "a tuple": (
        STAGE,
        "class M(nn.Module):\n  forward = lambda self, x: (x, x)\nreturn M()",
        "returns tuple for an input",
    ),
    "no module": (STAGE, "return torch.relu", "own builds builtin_function_or_method"),
    "another stride": (STEM, "return nn.Conv2d(channels, width, 2, 2)", "it must return (2, 8, 16, 16)"),
    "no stride": (DOWN, "return nn.Conv2d(channels, width, 1)", "it must return (2, 16, 8, 8)"),
    "dead": (
        STAGE,
        "m = nn.ModuleDict({'a': nn.Conv2d(8, 8, 1), 'b': nn.Conv2d(16, 16, 1)})\nm.forward = m['b'].forward\nreturn m",
        "the gradient does not reach a.weight, a.bias; use every parameter in forward, or remove it",
    ),
    "cut off": (
        STAGE,
        f"m = {SELF_CONV}\nm.register_forward_hook(lambda m, i, o: o.detach())\nreturn m",
        "the gradient does not reach weight, bias",
    ),
    "uncounted": (
        STAGE,
        "m = nn.Identity()\nm.forward = lambda x: torch.cdist(x.flatten(2), x.flatten(2)).sum() + x\nreturn m",
        "cannot be counted: no handle counts aten::cdist",
    ),
    "eval mode": (
        STAGE,
        f"m = {SELF_CONV}\nm.register_forward_hook(lambda m, i, o: o if m.training else o[:, :, 1:])\nreturn m",
        "returns (1, 16, 7, 8) for an input of (1, 16, 8, 8); it must return (1, 16, 8, 8)",
    ),
    "half": (STAGE, f"m = {SELF_CONV}\nm.register_forward_hook(lambda m, i, o: o.half())\nreturn m", "torch.float16"),
    "not finite": (STAGE, f"m = {SELF_CONV}\nm.register_forward_hook(lambda m, i, o: o / 0)\nreturn m", "not finite"),
    "in place": (
        STAGE,
        f"m = {SELF_CONV}\nm.register_forward_hook(lambda m, i, o: i[0].add_(o))\nreturn m",
        "RuntimeError: one of the variables needed for gradient computation has been modified",
    ),
    "lazy": (STAGE, "return nn.LazyConv2d(16, 1)", "lazy modules are not supported; write the number"),
    "scripted": (STAGE, f"return nn.Sequential(torch.jit.script({SELF_CONV}))", "ScriptModule"),
    "an exit": (STAGE, "raise SystemExit(3)", "SystemExit: 3"),
    "an error": (STAGE, "raise ValueError('the grid is too small')", "ValueError: the grid is too small"),
    "no drop path": (("Stage", "block(self, grid)", STAGE[2]), f"return {SELF_CONV}", "TypeError"),
}


@pytest.fixture(autouse=True)
def _own_kinds() -> Iterator[None]:
    with own_kinds():
        yield


def _import(folder: Path, text: str) -> None:
    write_blocks(folder, text)
    import_user_code(["my_blocks.py"], folder)


def _kind(part: tuple[str, str, str], body: str) -> str:
    """Return the code of a kind whose method has this body."""
    base, method, _ = part
    return KIND.format(base=base, method=method, body="\n".join(f"        {line}" for line in body.splitlines()))


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_kind_is_one_sentence(name: str, tmp_path: Path):
    part, body, message = BROKEN[name]
    _import(tmp_path, _kind(part, body))
    before = torch.get_rng_state()
    with pytest.raises(SpecError) as caught:
        check_kinds(parse_net(part[2]), 64)
    text = str(caught.value)
    assert message in text
    assert "own" in text
    assert "\n" not in text
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (f"return {SELF_CONV}", ""),
        (BROKEN["dead"][1], "the gradient does not reach a.weight, a.bias"),
        (
            "m = nn.Identity()\nm.forward = lambda x: x + torch.zeros(16, grid, grid)\nreturn m",
            "takes no images of 60 x 100 pixels (RuntimeError: ",
        ),
    ],
    ids=["sound", "dead", "one size"],
)
def test_a_kind_under_a_method_takes_maps_of_any_size(body: str, message: str, tmp_path: Path):
    _import(tmp_path, _kind(STAGE, body))
    network = parse_network("retinanet(w=16):hr(8 e=2) -> hr(8 e=2) -> own(16) -> hr(16 e=2)")
    assert isinstance(network, DenseNetwork)
    with pytest.raises(SpecError, match=re.escape(message)) if message else nullcontext():
        check_dense_kinds(network, "100x60")


def test_a_sound_kind_is_counted_exactly_and_built_on_its_grid(tmp_path: Path):
    _import(tmp_path, MIX)
    net = parse_net("hr(16 e=2) -> mix(16 k=5)*2 -> mix(32 g=4 form=full)")
    check_kinds(net, 64)
    module = build(net, 64, classes=10).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(torch.zeros(1, 3, 64, 64))
    cost = count(net, 64, classes=10)
    assert counter.get_total_flops() == 2 * cost.core_macs
    assert cost.params == sum(weight.numel() for weight in module.parameters())
    assert count_parts(net, 64)["stage2"].core_macs == 2 * 16 * 25 * 8 * 8


def test_an_own_kind_knows_its_grid_and_initialises_itself(tmp_path: Path):
    body = """
        class Bias(nn.Module):
            def __init__(self, width):
                super().__init__()
                self.table, self.fc = nn.Parameter(torch.ones(width, grid, grid)), nn.Conv2d(width, width, 1)
            def init_weights(self):
                nn.init.constant_(self.fc.weight, 0.5)
            def forward(self, x):
                return self.fc(x) + self.table
        return Bias(self.width)
"""
    _import(tmp_path, KIND.format(base=STAGE[0], method=STAGE[1], body=body))
    net = parse_net("own(8) -> own(16)")
    check_kinds(net, 64)
    assert [tuple(build(net, 64).stages[at].blocks[0].table.shape) for at in (0, 1)] == [(8, 16, 16), (16, 8, 8)]  # type: ignore
    assert (build(net, 64).stages[1].blocks[0].fc.weight == 0.5).all()  # type: ignore


def test_layers_of_torch_with_a_fast_path_are_counted(tmp_path: Path):
    body = """        class Attention(nn.Module):
            def __init__(self, width):
                super().__init__()
                self.layer = nn.MultiheadAttention(width, 2, batch_first=True)
            def forward(self, x):
                y = x.flatten(2).transpose(1, 2)
                return x + self.layer(y, y, y, need_weights=False)[0].transpose(1, 2).reshape(x.shape)
        return Attention(self.width)
"""
    _import(tmp_path, KIND.format(base=STAGE[0], method=STAGE[1], body=body))
    net = parse_net("own(8)")
    check_kinds(net, 64)
    positions, products = 16 * 16, 2 * (16 * 16) ** 2 * 8
    assert count_parts(net, 64)["stage1"].core_macs == positions * 4 * 8 * 8 + products


def test_a_handle_of_the_user_changes_no_count_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HIRI_SEARCH_CACHE", str(tmp_path))
    net, handles = parse_net("cffn(8 e=2)"), operators._Handles()
    handles.data |= operators.OPERATOR_HANDLES
    flops._piece_cost.cache_clear()
    before = count(net, 32)
    with monkeypatch.context() as patch:
        for module in (flops, operators):
            patch.setattr(module, "OPERATOR_HANDLES", handles)
        handles["aten::gelu"] = operators._PER_INPUT
        assert count(net, 32).macs > before.macs
    flops._piece_cost.cache_clear()
    assert count(net, 32) == before


WRONG_NETWORKS = {
    "classes": (
        "return MyNetwork(arguments['num_classes'] + 3)",
        "'timm:my_network': it returns (2, 7) for an input of (2, 3, 32, 32)",
    ),
    "nothing": ("return None", "cache_dir and more: take **kwargs, and return an nn.Module"),
    "an error": (
        "return unknown",
        "'timm:my_network': cannot be built for inputs of 32 pixels; choose another side, or correct its code",
    ),
    "no method": ("return MyNetwork(**arguments)", "'timm:my_network': it has no method set_grad_checkpointing; write"),
    "no rate": (
        "return MyNetwork(**arguments)",
        "'timm:my_network': has no stochastic depth; write recipe.drop_path=0",
    ),
}


@pytest.mark.parametrize("name", WRONG_NETWORKS)
@pytest.mark.filterwarnings("ignore:Overwriting")
def test_a_broken_network_of_the_user_is_one_sentence(name: str, tmp_path: Path):
    built, message = WRONG_NETWORKS[name]
    _import(tmp_path, NETWORK.replace("return MyNetwork(**arguments)", built))
    network = parse_network("timm:my_network")
    assert isinstance(network, TimmNetwork)
    with pytest.raises(SpecError) as caught:
        check_trained(
            network, 32, classes=4, drop_path=0.1 if name == "no rate" else 0, checkpointing=name == "no method"
        )
    assert message in str(caught.value)
