"""Costs of our networks, exact to the unit."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
import torch
import yaml
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from hiri_search.cost import flops as flops_module
from hiri_search.cost.flops import Cost, count, count_module, count_parts
from hiri_search.cost.operators import CountError
from hiri_search.language import Net, parse, parse_net, sample
from hiri_search.models import SPECS, paper_net
from hiri_search.nets.blocks import Attention
from hiri_search.nets.hirivit import build_hirivit

ROOT = Path(__file__).parents[2]


def golden(name: str) -> list[dict[str, str]]:
    with (Path(__file__).parent / name).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def cost(row: dict[str, str]) -> Cost:
    return Cost(int(row["params"]), int(row["macs"]), int(row["core_macs"]))


@pytest.mark.parametrize("row", golden("golden_counts.csv"), ids=lambda row: f"{row['network']}-{row['side']}")
def test_the_papers_networks_have_their_golden_costs(row: dict[str, str]) -> None:
    assert count(paper_net(row["network"]), int(row["side"])) == cost(row)


PAPER = [  # parameters and MACs of our reconstruction, at 448 exact to the unit
    ("hirivit_small", 34_761_640, 4_961_535_488, 4_985_712_896, "15.961"),
    ("hirivit_base", 54_482_312, 9_852_124_928, 9_894_297_984, "31.518"),
    ("hirivit_large", 94_321_000, 19_806_046_080, 19_873_739_904, "63.385"),
]


@pytest.mark.parametrize(("name", "params", "core", "macs", "at_768"), PAPER)
def test_the_golden_file_agrees_with_the_reconstruction(
    name: str, params: int, core: int, macs: int, at_768: str
) -> None:
    rows = {(row["network"], row["side"]): cost(row) for row in golden("golden_counts.csv")}
    assert rows[name, "448"] == Cost(params, macs, core)
    assert rows[name, "768"].params == params
    assert f"{rows[name, '768'].macs / 1e9:.3f}" == at_768


def test_the_parts_of_s_have_their_golden_costs() -> None:
    parts = count_parts(paper_net("hirivit_small"), 448)
    assert list(parts.items()) == [(row["part"], cost(row)) for row in golden("golden_parts.csv")]


@pytest.mark.parametrize("row", golden("golden_rows.csv"), ids=lambda row: row["row"])
def test_ablations_and_other_sides_have_the_costs_of_the_reconstruction(row: dict[str, str]) -> None:
    total = count(parse_net(row["spec"]), int(row["side"]))
    assert (f"{total.params / 1e6:.3f}", f"{total.macs / 1e9:.3f}") == (row["params_m"], row["gmacs"])


TABLE_8 = {
    "HR-HR-HR-HR-T (literal)": ("30.926", "2.417"),
    "HR-HR-HR-HR-T (as costed)": ("33.218", "4.224"),
    "HR-HR-HR-T-T": ("34.748", "4.743"),
    "HR-HR-T-T-T": ("34.825", "5.351"),
    "HR-HR-CFFN-T-T": ("34.762", "4.986"),
}


def test_the_rows_of_table_8_have_the_costs_of_the_reconstruction() -> None:
    study = yaml.safe_load((ROOT / "studies" / "block_mix.yaml").read_text(encoding="utf-8"))
    specs = {name: row if isinstance(row, str) else row["spec"] for name, row in study["nets"].items()}
    costs = {name: count(parse_net(spec, let=study["let"]), 448) for name, spec in specs.items()}
    assert {name: (f"{c.params / 1e6:.3f}", f"{c.macs / 1e9:.3f}") for name, c in costs.items()} == TABLE_8


def flops(model: nn.Module, side: int) -> int:
    """FLOPs by torch's own counter, on the meta device: 2 per multiply-add; it sees operators below autograd."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(torch.zeros(1, 3, side, side, device="meta"))
    return counter.get_total_flops()


def check_sum(net: Net, side: int) -> None:
    """The sum over the pieces equals a count of the whole, and core_macs agrees with a second counter."""
    with torch.device("meta"):
        model = build_hirivit(net)
    total = count(net, side)
    assert 2 * total.core_macs == flops(model, side)
    model.to_empty(device="cpu")  # saves the time of initialising the weights
    assert total == count_module(model, (3, side, side))
    assert total.params == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", SPECS)
def test_the_pieces_of_the_papers_networks_sum_to_the_whole(name: str) -> None:
    check_sum(paper_net(name), 448 if name == "hirivit_small" else 128)  # the golden files pin the costs at 448


def sampled(space: str, number: int) -> list[Net]:
    content = yaml.safe_load((ROOT / "spaces" / f"{space}.yaml").read_text(encoding="utf-8"))
    parsed, rng = parse(content["space"], let=content["let"]), Random(0)
    return [sample(parsed, rng) for _ in range(number)]


@pytest.mark.parametrize(("space", "number"), [("five_stage", 6), ("six_stage", 4)])
def test_the_pieces_of_sampled_networks_sum_to_the_whole(space: str, number: int) -> None:
    for net in sampled(space, number):
        check_sum(net.scaled_down(depth=2), net.side_unit)  # half the depth for half the time


VARIANTS = [
    "convstem(hs=8) -> cffn(8 e=2 norm=ln)*2 -> t(16 e=2 d=8 sr=2 norm=bn down=conv)*2",
    "vitstem -> t(16 e=2 d=8 ffn=plain norm=ln) -> t(16 e=2 d=8 down=none) -> cffn(24 e=2 norm=ln down=conv)",
    "hrstem(hs=12) -> hr(8 e=2 r=1)*2 -> hr(8 e=2 down=none) -> cffn(16 e=2 down=a s=1) -> t(16 e=2 d=4 s=1)",
]


@pytest.mark.parametrize("spec", VARIANTS)
def test_the_pieces_of_every_kind_sum_to_the_whole(spec: str) -> None:
    net = parse_net(spec)
    check_sum(net, net.side_unit * 2)


@pytest.mark.parametrize("space", ["five_stage", "six_stage"])
def test_a_space_fits_its_side_and_can_be_scaled_down(space: str) -> None:
    side = {"five_stage": 448, "six_stage": 896}[space]
    content = yaml.safe_load((ROOT / "spaces" / f"{space}.yaml").read_text(encoding="utf-8"))
    assert set(content) == {"title", "let", "space"}
    parsed = parse(content["space"], let=content["let"])
    assert 1e5 < parsed.size < 1e9
    for net in sampled(space, 300):
        assert net.grids(side)[-1] == 7
        assert net.scaled_down(width=4, depth=3).side_unit == net.side_unit


class Wrapped(nn.Module):
    """A function as a module."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        return _FUNCTIONS[self.name](x)


_FUNCTIONS = {
    "aten::fft_fft2": lambda x: torch.fft.fft2(x).abs(),
    "aten::cumprod": lambda x: x.cumprod(1),
    "aten::baddbmm": lambda x: torch.baddbmm(x[0], x[0], x[0]),
    "aten::cdist": lambda x: torch.cdist(x, x),
}


@pytest.mark.parametrize("operator", _FUNCTIONS)
def test_an_operator_without_a_handle_is_an_error(operator: str) -> None:
    with pytest.raises(CountError, match=operator):
        count_module(Wrapped(operator), (3, 8, 8))


def test_matrix_products_are_core_in_every_notation() -> None:
    class Products(nn.Module):
        def forward(self, x: Tensor) -> Tensor:  # (1, 3, 8, 8)
            a = x[0, 0]
            return x @ x + torch.mm(a, a) + torch.bmm(x[0], x[0]) + torch.einsum("bcij,bcjk->bcik", x, x)

    total = count_module(Products(), (3, 8, 8))
    assert total.core_macs == total.macs == (3 + 1 + 3 + 3) * 8**3


@pytest.mark.parametrize(("width", "head_size", "reduction"), [(64, 16, 1), (64, 64, 1), (48, 8, 2)])
def test_attention_counts_every_pair_of_query_and_key(width: int, head_size: int, reduction: int) -> None:
    side, heads = 8, width // head_size
    queries, keys = side**2, (side // reduction) ** 2
    products = heads * queries * keys * (head_size + head_size)
    linear = queries * width * width * 2 + keys * width * 2 * width  # q and proj, then kv
    reducing = keys * width * width * reduction**2 if reduction > 1 else 0
    total = count_module(Attention(width, head_size, reduction=reduction), (width, side, side))
    assert total.core_macs == products + linear + reducing


def test_values_wider_than_keys_are_counted_with_their_own_width() -> None:
    class Wide(nn.Module):
        def forward(self, x: Tensor) -> Tensor:  # (1, heads, N, d)
            key, value = x[:, :, :5], torch.cat([x, x, x], 3)[:, :, :5]
            return nn.functional.scaled_dot_product_attention(x, key, value)

    heads, queries, size = 3, 8, 4
    assert count_module(Wide(), (heads, queries, size)).macs == heads * queries * 5 * (size + 3 * size)


@pytest.fixture
def _empty_cache() -> Iterator[None]:
    flops_module._piece_cost.cache_clear()
    yield
    flops_module._piece_cost.cache_clear()


@pytest.mark.usefixtures("_empty_cache")
def test_equal_pieces_are_counted_once() -> None:
    net = parse_net("hrstem(hs=8) -> hr(8 e=2)*3 -> hr(8 e=2 down=none) -> t(16 e=2 d=8)*2")
    first = count(net, 64)
    info = flops_module._piece_cost.cache_info()
    assert (info.misses, info.hits) == (5, 1)  # stem, hr, down, t and head; hr again
    assert count(net, 64) == first
    assert flops_module._piece_cost.cache_info().misses == 5
    count(parse_net("hrstem(hs=8) -> hr(8 e=2)*7 -> t(16 e=2 d=8)*9"), 64)  # other depths
    assert flops_module._piece_cost.cache_info().misses == 5


def test_counting_does_not_change_the_mode_of_a_module() -> None:
    model = build_hirivit(parse_net("hrstem(hs=8) -> hr(8 e=2)"), drop_path=0.5)
    model.stem.eval()
    modes = {name: module.training for name, module in model.named_modules()}
    total = count_module(model, (3, 32, 32))
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert total == count_module(model.eval(), (3, 32, 32))


@pytest.mark.parametrize("classes", [10, 1000])
def test_the_number_of_classes_changes_only_the_last_layer(classes: int) -> None:
    net = parse_net("hrstem(hs=8) -> hr(8 e=2)")
    fewer, more = count(net, 32, classes=classes), count(net, 32, classes=classes + 1)
    assert more.params - fewer.params == 5 * 8 + 1
    assert more.macs - fewer.macs == 5 * 8
