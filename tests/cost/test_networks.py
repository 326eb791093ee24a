"""Costs of our networks and timm's, compared with golden, published and independently counted values."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from hiri_search.cost import flops as flops_module
from hiri_search.cost.flops import ZERO, Cost, count, count_module, count_parts
from hiri_search.cost.operators import CountError, count_operators
from hiri_search.language import Net, SpecError, TimmNetwork, parse_network
from hiri_search.nets.eval_mode import one_thread
from hiri_search.networks import build, check_timm

ROOT = Path(__file__).parents[2]
PAPER = ROOT / "hiri_search" / "paper"
TIMM = ROOT.parent / "shared" / "data" / "timm"


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Several threads gain little at batch 1, and wait for each other on a busy machine."""
    with one_thread():
        yield


GOLDEN = read(Path(__file__).parent / "golden_networks.csv")
NETWORKS = read(PAPER / "networks.csv")


LARGE = 1.5e9  # multiply-adds: such networks take seconds each, and their family has a smaller one


def golden(row: dict[str, str]) -> Any:
    """A row as a test parameter, marked slow if its network is large."""
    slow = [pytest.mark.slow] if row["spec"].startswith("timm:") and int(row["macs"]) > LARGE else []
    return pytest.param(row, id=f"{row['spec'][:40]}-{row['side']}", marks=slow)


@pytest.mark.parametrize("row", [*map(golden, GOLDEN)])
def test_networks_have_their_golden_costs(row: dict[str, str]) -> None:
    expected = Cost(int(row["params"]), int(row["macs"]), int(row["core_macs"]))
    assert count(parse_network(row["spec"]), int(row["side"])) == expected


TABLE_9 = {  # side, parameters (M) and GMACs of our reconstruction
    "timm:hrnet_w18": (224, 21.299, 4.318),
    "timm:pvt_v2_b2": (224, 25.363, 4.046),
    "timm:davit_tiny": (224, 28.360, 4.540),
    "timm:hrnet_w18_hiri": (448, 21.342, 4.562),
    "timm:pvt_v2_b2_hiri": (448, 25.436, 4.400),
    "timm:davit_tiny_hiri": (448, 28.436, 4.905),
}


@pytest.mark.parametrize("text", TABLE_9)
def test_the_backbones_of_table_9_have_the_costs_of_the_reconstruction(text: str) -> None:
    side, params_m, gmacs = TABLE_9[text]
    total = count(parse_network(text), side)
    assert (round(total.params / 1e6, 3), round(total.macs / 1e9, 3)) == (params_m, gmacs)


def published() -> dict[tuple[str, int], tuple[float, float]]:
    """Parameters (M) and GMACs published by timm, by network and side."""
    costs = {}
    for path in sorted(TIMM.glob("benchmark-infer-*.csv")):
        for row in read(path):
            if row["infer_gmacs"]:
                costs[row["model"], int(row["infer_img_size"])] = float(row["param_count"]), float(row["infer_gmacs"])
    return costs


def test_timm_networks_have_their_published_costs() -> None:
    """Within 1 %, or half of the last printed digit."""
    if not TIMM.is_dir():
        pytest.skip(f"no file with timm's published costs in {TIMM}")
    published_costs, wrong, compared = published(), [], 0
    for row in GOLDEN:
        name, side = row["spec"].removeprefix("timm:"), int(row["side"])
        if (name, side) not in published_costs:
            continue
        params_m, gmacs = published_costs[name, side]
        compared += 1
        ours = int(row["params"]) / 1e6, int(row["macs"]) / 1e9
        if ours != (pytest.approx(params_m, 0.005, 0.0051), pytest.approx(gmacs, 0.01, 0.0051)):
            wrong.append((name, side, ours, (params_m, gmacs)))
    assert wrong == []
    assert compared > 30


def keys(name: str) -> list[tuple[str, str]]:
    """Network and resolution of each row of a table or figure of the paper, as named in networks.csv."""
    (path,) = PAPER.glob(f"{'figure' if name == '1' else 'table'}{name}_*.csv")
    rows = read(path)
    match name:
        case "7":
            return [(row["row"], row["resolution"]) for row in rows]
        case "8":
            return [(row["mix"], "448") for row in rows]
    return [(row["network"], row["resolution"]) for row in rows]


@pytest.mark.parametrize("name", ["1", "2", "3", "7", "8", "9"])
def test_networks_csv_has_every_row_of_the_paper(name: str) -> None:
    ours = [(row["network"], row["resolution"]) for row in NETWORKS if row["table"] == name]
    assert list(dict.fromkeys(ours)) == keys(name)
    duplicates = {key for key, times in Counter(ours).items() if times > 1}
    assert duplicates == ({("HR-HR-HR-HR-T", "448")} if name == "8" else set())


def test_a_row_without_a_network_has_a_note_with_the_reason() -> None:
    assert all(row["note"] for row in NETWORKS if not row["spec"])


def test_every_spec_of_networks_csv_is_valid() -> None:
    for row in NETWORKS:
        if row["spec"]:
            network = parse_network(row["spec"])
            assert str(network) == row["spec"]
            if isinstance(network, TimmNetwork):
                check_timm(network)
            else:
                network.grids(int(row["resolution"]))


def test_a_text_is_counted_and_built_as_its_network() -> None:
    for text in ("hr(32 e=4) -> t(64 e=2)", "timm:test_resnet"):
        assert count(text, 64, classes=7) == count(parse_network(text), 64, classes=7)
        assert (
            sum(weight.numel() for weight in build(text, 64, classes=7).parameters())
            == count(text, 64, classes=7).params
        )


@pytest.mark.slow
def test_swin_at_448_has_windows_of_7_and_convit_is_published_without_its_attention() -> None:
    """Check the notes of networks.csv by counting."""
    notes = {(row["network"], row["resolution"]): row["note"] for row in NETWORKS}
    small = count(parse_network("timm:swin_base_patch4_window7_224"), 224)
    assert "windows of 7" in notes["Swin-B", "448"]
    assert round(4 * small.macs / 1e9, 1) == 61.9
    model = build(parse_network("timm:convit_base"), 224)
    operators = count_operators(model, (1, 3, 224, 224))
    assert f"{operators['matmul'] / 1e9:.3f} G" in notes["ConViT-B", "224"]
    assert round((operators.total() - operators["matmul"]) / 1e9, 1) == 16.8


def flops(model: nn.Module, side: int) -> int:
    """FLOPs by torch's own counter: 2 per multiply-add."""
    model.eval().requires_grad_(False)  # else the counter hooks the gradient of a parameter that is a module's input
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, side, side))
    return counter.get_total_flops()


TWO_COUNTERS = [  # families with convolutions, windows, einsum, relative positions and channel attention
    ("timm:resnet18", 96),
    ("timm:hrnet_w18_small_hiri front_hidden=4 front_width=8", 64),
    ("timm:pvt_v2_b0", 128),
    ("timm:davit_tiny depths=1,1,1,1", 96),
    ("timm:swin_tiny_patch4_window7_224 depths=1,1,2,1", 96),
    pytest.param("timm:maxvit_pico_rw_256", 256, marks=pytest.mark.slow),  # 10 s
    ("timm:coatnet_nano_rw_224", 224),
    ("timm:convit_tiny", 96),
    ("timm:crossvit_tiny_240", 240),
    ("timm:cait_xxs24_224 depth=3", 96),
    ("timm:twins_svt_small depths=1,1,2,1", 96),
    ("timm:visformer_tiny", 96),
    ("timm:convnextv2_atto", 96),
]


@pytest.mark.parametrize(("text", "side"), TWO_COUNTERS)
def test_core_macs_agree_with_a_second_counter_and_parts_sum_to_the_whole(text: str, side: int) -> None:
    network = parse_network(text)
    model = build(network, side)
    assert 2 * count(network, side).core_macs == flops(model, side)
    assert count(network, side) == count_module(model, (3, side, side))
    assert count(network, side).params == sum(p.numel() for p in model.parameters())
    parts = count_parts(network, side)
    assert all(min(part.params, part.macs, part.core_macs) >= 0 for part in parts.values())
    names = [name for name, _ in model.named_children()]
    assert [name for name in parts if name != "rest"] == [name for name in names if name in parts]


def test_the_parts_of_a_timm_network_are_its_submodules() -> None:
    parts = count_parts(parse_network("timm:vit_tiny_patch16_224"), 224)
    assert list(parts) == ["patch_embed", "blocks", "norm", "head", "rest"]
    positions = 14 * 14
    assert parts["patch_embed"].core_macs == positions * 3 * 16 * 16 * 192
    assert parts["head"] == Cost(193 * 1000, 192 * 1000, 192 * 1000)
    assert parts["rest"] == Cost(192 * (1 + positions + 1), 0, 0)  # class token and position embedding


HEADS = {
    "timm:resnet18": ("fc", 512),
    "timm:pvt_v2_b0": ("head", 256),
    "timm:deit_tiny_patch16_224": ("head", 192),
    "timm:hrnet_w18_small_hiri": ("classifier", 2048),
}


@pytest.mark.parametrize("text", HEADS)
def test_the_number_of_classes_changes_only_the_last_layer(text: str) -> None:
    name, width = HEADS[text]
    fewer, more = (count_parts(parse_network(text), 64, classes=classes) for classes in (10, 11))
    assert {part for part in more if more[part] != fewer[part]} == {name}
    assert more[name] == fewer[name] + Cost(width + 1, width, width)


def test_a_timm_network_is_counted_once_per_side() -> None:
    network = parse_network("timm:pvt_v2_b0 depths=1,1,1,1")
    before = flops_module._timm_parts.cache_info()
    count_parts(network, 64)["patch_embed"] = ZERO  # a change of the returned dict does not change the cache
    first = count(parse_network(str(network)), 64)
    count(network, 96)
    after = flops_module._timm_parts.cache_info()
    assert (after.misses - before.misses, after.hits - before.hits) == (2, 1)
    assert first == count_module(build(network, 64), (3, 64, 64))


def test_a_network_registered_in_timm_costs_the_same_as_its_spec() -> None:
    net = parse_network("hr(32 e=4)*2 -> hr(64 e=4)*2 -> cffn(128 e=6)*2 -> t(320 e=5)*9 -> t(512 e=5)*4")
    assert isinstance(net, Net)
    assert count(parse_network("timm:hirivit_small"), 448) == count(net, 448)


UNFIT = [
    ("timm:maxvit_pico_rw_256", 250),
]


@pytest.mark.parametrize(("text", "side"), UNFIT)
def test_a_side_that_timm_refuses_is_named(text: str, side: int) -> None:
    name = text.split()[0]
    with pytest.raises(SpecError, match=rf"{name}.* takes no inputs of {side} pixels; choose another side .*timm says"):
        count(parse_network(text), side)


def test_an_operator_without_a_handle_is_reported_with_the_network() -> None:
    with pytest.raises(CountError, match=r"timm:sequencer2d_s.*aten::lstm"):
        count(parse_network("timm:sequencer2d_s layers=1,1,1,1"), 224)


class Wrapped(nn.Module):
    def __init__(self, equation: str) -> None:
        super().__init__()
        self.equation = equation

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (1, 3, 8, 8)
        return torch.einsum(self.equation, x, x)


@pytest.mark.parametrize(("equation", "macs"), [("abij,abjk->abik", 3 * 8**3), ("bcij,bdij->bcd", 3 * 3 * 8 * 8)])
def test_an_einsum_costs_one_multiply_add_per_combination_of_its_indices(equation: str, macs: int) -> None:
    assert count_module(Wrapped(equation), (3, 8, 8)).core_macs == macs


def test_an_einsum_with_an_ellipsis_is_an_error() -> None:
    with pytest.raises(CountError, match="einsum"):
        count_module(Wrapped("...ij,...jk->...ik"), (3, 8, 8))


def test_a_convolution_with_padding_given_as_a_word_is_counted() -> None:
    named, numbered = (nn.Conv2d(3, 5, 3, padding=padding) for padding in ("same", 1))
    assert count_module(named, (3, 8, 8)) == count_module(numbered, (3, 8, 8))
    assert count_module(named, (3, 8, 8)).core_macs == 8 * 8 * 3 * 3 * 3 * 5
