"""A space inside a budget: the networks in the band, all of them, no others, each as likely as any other."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from math import comb
from pathlib import Path
from random import Random
from unittest.mock import patch
from zlib import crc32

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hiri_search.cost import flops
from hiri_search.cost.budget import constrained_space, decision_diagram, feasible_counts
from hiri_search.cost.budget.constrained_space import BudgetError, ConstrainedSpace
from hiri_search.cost.budget.constraints import CostConstraints, Interval, parse_constraints
from hiri_search.cost.flops import Cost, count
from hiri_search.language import Chooser, Net, Space, SpecError, parse, uniform
from hiri_search.nets.eval_mode import one_thread
from hiri_search.nets.pieces import Piece
from hiri_search.study.config.read import read_space

sys.path.insert(0, str(Path(__file__).parents[2] / "language"))
from tests.language.specs import WrittenSpec, small_spaces

ROOT = Path(__file__).parents[3]
COUNTINGS = ["exact", "summed", "rounded", "drawn"]
CHARTED = COUNTINGS[:3]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Pieces as small as these are counted faster by one thread than by several that wait for each other."""
    with one_thread():
        yield


class forced:
    """Within, spaces of any size are counted in one of the ways that the larger ones are."""

    LIMITS = {  # noqa: RUF012
        "exact": {},
        "summed": {(feasible_counts, "MAX_EXACT"): 3},
        "rounded": {
            (feasible_counts, "MAX_EXACT"): 3,
            (feasible_counts, "MAX_LEADS"): 0,
            (feasible_counts, "MAX_BINS"): 12,
        },
        "drawn": {(decision_diagram, "MAX_NODES"): 0},
    }

    def __init__(self, counting: str) -> None:
        self.patches = [patch.object(module, name, value) for (module, name), value in self.LIMITS[counting].items()]

    def __enter__(self) -> None:
        for each in self.patches:
            each.start()

    def __exit__(self, *_: object) -> None:
        for each in self.patches:
            each.stop()


def made(counting: str, space: Space, band: CostConstraints, side: int) -> ConstrainedSpace:
    with forced(counting):
        found = ConstrainedSpace(space, band, side)
    assert found.counting == ("exact" if counting == "summed" else counting)
    return found


def listed(space: Space, side: int) -> dict[Net, Cost]:
    """What the networks cost, for all that fit the side."""
    found = {}
    for net in space:
        try:
            found[net] = count(net, side)
        except SpecError:
            continue
    return found


@cache
def costs(space: Space, side: int) -> dict[Net, Cost]:
    return listed(space, side)


def middle(values: list[int], unit: int, low: float = 0.35, high: float = 0.65) -> Interval:
    """A range whose ends are costs of networks."""
    ordered = sorted(values)
    return Interval(ordered[int(low * (len(values) - 1))] / unit, ordered[int(high * (len(values) - 1))] / unit)


def band_of(space: Space, side: int, metrics: str) -> CostConstraints:
    found = costs(space, side).values()
    gmacs = middle([cost.macs for cost in found], 10**9) if "gmacs" in metrics else None
    mparams = middle([cost.params for cost in found], 10**6, 0, 0.8) if "mparams" in metrics else None
    return CostConstraints(gmacs=gmacs, mparams=mparams)


SPACES = {
    "free": ("(hr | cffn)(32|48 e=2|4)*1..2 -> (hr | t(d=16|32))(64 e=2..4)*1..3", 64),
    "tied": (
        "(hr(32|48) -> (cffn | hr(r=1|2))(64))(e=2..5)*1..2 -> (t(64|128 d=32) -> t(128 d=16|32))(e=2|3)",
        64,
    ),
    "conditional": ("hr(32 e=4)*1|hr(32|64 e=6) -> (hr | cffn(norm=bn|ln) | t(d=16|32|64) -> t)(64 e=4|6)", 64),
    "stems": ("(hrstem(hs=16|32) | convstem(hs=8|16) | vitstem) -> (hr | cffn)(32|64 e=2|4) -> t(64 e=1..4)", 64),
    "lengths": (
        "hr(16 e=2) -> (hr(32) | hr(32) -> cffn(48|32) | (t(32) -> t(32) -> t(64))(d=16))(e=2..4)"
        " -> (hr(64 e=2) | cffn(48|64 e=2|3)*1..2 -> t(64 e=3 sr=1|2))",
        128,
    ),
    "downs": (
        "hr(16 e=2) -> (hr | cffn)(32 e=2|3 down=a|b|conv s=1|2) -> cffn(32 e=2 down=none) -> t(64 e=2|3 norm=mix|ln)",
        64,
    ),
    "six": (
        "hrstem(hs=16|32) -> hr(16 e=2|4) -> hr(16|32 e=2) -> (hr | cffn)(32 e=2|3)"
        " -> cffn(48 e=2) -> (cffn | t)(64 e=2|3)*1..2 -> t(64 e=2)*1..2",
        128,
    ),
}
METRICS = ["gmacs", "mparams", "gmacs mparams"]


@pytest.fixture(params=SPACES)
def case(request: pytest.FixtureRequest) -> tuple[Space, int]:
    text, side = SPACES[request.param]
    return parse(text), side


@pytest.mark.parametrize("metrics", METRICS)
@pytest.mark.parametrize("counting", COUNTINGS)
def test_the_networks_inside_are_those_that_cost_what_the_band_says(
    case: tuple[Space, int], counting: str, metrics: str
) -> None:
    space, side = case
    band = band_of(space, side, metrics)
    expected = [net for net, cost in costs(space, side).items() if band.holds(cost)]
    assert 0 < len(expected) < space.size
    found = made(counting, space, band, side)
    walks = list(found.walks())
    assert [net for net, _ in walks] == expected
    assert all(space.replay(decisions) == net for net, decisions in walks)
    if found.counting == "exact":
        assert found.size == len(expected)
        assert found.share == len(expected) / space.size


def keeping(choose: Chooser, asked: list[tuple[str, tuple[object, ...], tuple[int, ...], int]]) -> Chooser:
    def kept(name: str, options: tuple[object, ...], sizes: tuple[int, ...]) -> int:
        index = choose(name, options, sizes)  # type: ignore[arg-type]
        asked.append((name, options, sizes, index))
        return index

    return kept


@pytest.mark.parametrize("counting", ["exact", "summed"])
def test_sizes_are_the_networks_inside_behind_each_option(case: tuple[Space, int], counting: str) -> None:
    space, side = case
    found, rng = made(counting, space, band_of(space, side, "gmacs mparams"), side), Random(1)
    inner = [decisions for _, decisions in found.walks()]
    for _ in range(10):
        asked: list[tuple[str, tuple[object, ...], tuple[int, ...], int]] = []
        found.decide(keeping(uniform(rng), asked))
        before: dict[str, int] = {}
        for name, options, sizes, index in asked:
            here = [d for d in inner if before.items() <= d.items()]
            assert sizes == tuple(sum(d[name] == option for d in here) for option in range(len(options)))
            before[name] = index


def plainly(space: Space, decisions: dict[str, int]) -> list[tuple[str, tuple[object, ...], int]]:
    """What the space itself asks on the way to these decisions, and their answers."""
    asked: list[tuple[str, tuple[object, ...], tuple[int, ...], int]] = []
    space.decide(keeping(lambda name, options, sizes: decisions[name], asked))
    return [(name, options, index) for name, options, _, index in asked]


def first(name: str, options: tuple[object, ...], sizes: tuple[int, ...]) -> int:
    return next(index for index, size in enumerate(sizes) if size)


def last(name: str, options: tuple[object, ...], sizes: tuple[int, ...]) -> int:
    return max(index for index, size in enumerate(sizes) if size)


def rarest(name: str, options: tuple[object, ...], sizes: tuple[int, ...]) -> int:
    return min((size, index) for index, size in enumerate(sizes) if size)[1]


def whims(rng: Random) -> Chooser:
    """Any option that is not ruled out, each as likely as any other: no walk of this kind is uniform."""
    return lambda name, options, sizes: rng.choice([index for index, size in enumerate(sizes) if size])


@pytest.mark.parametrize("counting", CHARTED)
def test_whoever_takes_options_of_some_size_ends_inside(case: tuple[Space, int], counting: str) -> None:
    space, side = case
    band, rng = band_of(space, side, "gmacs mparams"), Random(2)
    found = made(counting, space, band, side)
    for choose in (first, last, rarest, *[whims(rng)] * 30, *[uniform(rng)] * 30):
        asked: list[tuple[str, tuple[object, ...], tuple[int, ...], int]] = []
        net, decisions = found.walk(keeping(choose, asked))
        assert band.holds(count(net, side))
        assert space.replay(decisions) == net
        assert [(name, options, index) for name, options, _, index in asked] == plainly(space, decisions)


CHI_SQUARE = 182.0  # the 99.9th percentile at 127 degrees of freedom


@pytest.mark.parametrize("counting", COUNTINGS)
def test_samples_are_uniform_over_the_networks_inside(counting: str) -> None:
    space, draws, rng = parse(SPACES["free"][0]), 5_000, Random(20240321)
    found = made(counting, space, band_of(space, 64, "gmacs mparams"), 64)
    expected = set(found)
    seen = Counter(found.sample(rng) for _ in range(draws))
    assert len(expected) == 128
    assert seen.keys() == expected
    mean = draws / len(expected)
    assert sum((number - mean) ** 2 / mean for number in seen.values()) < CHI_SQUARE
    assert (found.acceptance == 1) == (found.counting == "exact")


def test_uniform_over_the_sizes_is_what_samples_are_where_sizes_are_exact() -> None:
    space = parse(SPACES["tied"][0])
    for counting in ("exact", "summed"):
        found = made(counting, space, band_of(space, 64, "gmacs"), 64)
        one, other = Random(3), Random(3)
        assert [found.sample(one) for _ in range(20)] == [found.decide(uniform(other)) for _ in range(20)]


def test_estimates_of_the_size_come_near_it() -> None:
    space = parse(SPACES["free"][0])
    band, rng = band_of(space, 64, "gmacs mparams"), Random(4)
    size = made("exact", space, band, 64).size
    assert 0.5 * size < made("rounded", space, band, 64).size < 2 * size
    found = made("drawn", space, band, 64)
    assert found.size == space.size
    for _ in range(1000):
        found.sample(rng)
    assert 0.8 * size < found.size < 1.2 * size


def fake_cost(piece: Piece, side: int) -> Cost:
    """Costs without any order in them, and small enough to be often equal."""
    number = crc32(repr((piece, side)).encode())
    return Cost(params=number % 7, macs=number // 7 % 50, core_macs=0)


@settings(max_examples=40, deadline=None)
@given(small_spaces(), st.sampled_from([64, 128, 1024]), st.data())
def test_every_space_inside_every_band_is_its_listing_cut(written: WrittenSpec, side: int, data: st.DataObject) -> None:
    space = parse(written.text, let=written.let)
    assume(space.size < 300)
    with patch.object(flops, "piece_cost", fake_cost):
        nets = listed(space, side)
        assume(nets)
        one, other = (data.draw(st.sampled_from(list(nets.values()))) for _ in range(2))
        gmacs = Interval(min(one.macs, other.macs) / 1e9, max(one.macs, other.macs) / 1e9)
        band = CostConstraints(gmacs=gmacs, mparams=Interval(0, max(one.params, other.params) / 1e6))
        expected = [net for net, cost in nets.items() if band.holds(cost)]
        for counting in CHARTED:
            found = made(counting, space, band, side)
            assert list(found) == expected
            assert found.holds(found.sample(Random(5)))
            assert found.counting == "rounded" or found.size == len(expected)


def test_a_real_search_stays_in_its_budget() -> None:
    space, rng = read_space(ROOT / "spaces" / "five_stage.yaml"), Random(6)
    band = parse_constraints({"gmacs": "0.1..0.105", "mparams": "..30"})  # at 64, a 49th of what is counted at 448
    found = ConstrainedSpace(space, band, 64)
    assert found.counting == "exact"
    nets = [found.sample(rng) for _ in range(300)]
    assert all(band.holds(count(net, 64)) for net in nets)
    drawn = [space.decide(uniform(rng)) for _ in range(3000)]
    kept = sum(band.holds(count(net, 64)) for net in drawn) / len(drawn)
    assert abs(kept - found.share) < 4 * (found.share / len(drawn)) ** 0.5


VAST = (
    "(hr|cffn)(32..96/32 e=2..5)*1..3 -> (hr|cffn)(64..128/32 e=2..5)*1..3 -> (hr|cffn|t)(128..320/64 e=2..5)*1..4"
    " -> (cffn|t)(256..448/64 e=2..5)*1..6 -> t(384..576/64 e=2..5)*1..3"
)


def fake_macs(piece: Piece, side: int) -> Cost:
    return Cost(params=0, macs=10**6 + crc32(repr((piece, side)).encode()) % 10**7, core_macs=0)


def test_spaces_too_large_to_be_added_up_are_counted_roughly_and_kept_exactly() -> None:
    space, rng = parse(VAST), Random(7)
    assert space.size > 10**9
    band = parse_constraints({"gmacs": "0.2..0.201"})
    with patch.object(flops, "piece_cost", fake_macs):
        found = ConstrainedSpace(space, band, 448)
        assert found.counting == "rounded"
        nets = [found.sample(rng) for _ in range(200)]
        assert found.acceptance > 0.7
        nets += [found.decide(choose) for choose in (first, last, rarest, *[whims(rng)] * 20)]
        assert all(band.holds(count(net, 448)) for net in nets)


def test_networks_are_counted_without_listing_them() -> None:
    """Of 40 stages each is one of two, at any grid the same two: the sum tells how many are the second."""
    space = parse("cffn(8 e=1) -> " + " -> ".join(["cffn(8 e=1|2 s=1 down=a)"] * 40))
    ends = [count(space.replay({f"{at}.e": int(at <= second) for at in range(2, 42)}), 32).macs for second in (1, 11)]
    found = ConstrainedSpace(space, CostConstraints(gmacs=Interval(ends[0] / 1e9, ends[1] / 1e9)), 32)
    assert found.counting == "exact"
    assert found.size == sum(comb(40, seconds) for seconds in range(11))


def test_sizes_are_whole_numbers_where_floats_would_round() -> None:
    space = parse("cffn(8 e=1) -> " + " -> ".join(["cffn(8 e=1|2|3 s=1 down=a)"] * 38))
    assert ConstrainedSpace(space, parse_constraints({"gmacs": "0.."}), 32).size == 3**38


def test_a_space_with_more_networks_than_can_be_counted_is_drawn_from() -> None:
    space = parse("cffn(8 e=1) -> " + " -> ".join(["cffn(8 e=1|2 s=1 down=a)"] * 70))
    found = ConstrainedSpace(space, parse_constraints({"gmacs": "0.."}), 32)
    assert found.counting == "drawn"
    assert found.holds(found.sample(Random(8)))


@pytest.mark.parametrize("counting", CHARTED)
def test_an_answer_that_leads_out_of_the_budget_is_refused(counting: str) -> None:
    space = parse("hr(32 e=2|4)*1..3")
    cheapest = min(cost.macs for cost in costs(space, 64).values())
    found = made(counting, space, CostConstraints(gmacs=Interval(0, cheapest / 1e9)), 64)
    asked: list[tuple[str, tuple[object, ...], tuple[int, ...], int]] = []
    assert found.decide(keeping(uniform(Random(9)), asked)) == parse("hr(32 e=2)").replay({})
    assert [sizes for _, _, sizes, _ in asked] == [(1, 0), (1, 0, 0)]
    with pytest.raises(BudgetError, match=r"^behind 1\.e=4 is no network of gmacs \.\.0\.0"):
        found.decide(lambda name, options, sizes: 1)


@pytest.mark.parametrize("counting", ["exact", "summed"])
def test_a_band_that_nothing_fits_is_refused_with_what_there_is(counting: str) -> None:
    space = parse("hr(32 e=2|4)*1..3")
    macs = sorted(cost.macs for cost in costs(space, 64).values())
    low, below, above, high = (f"{macs[at] / 1e9:.12g}" for at in (0, 2, 3, -1))
    between = CostConstraints(gmacs=Interval((macs[2] + 1) / 1e9, (macs[3] - 1) / 1e9))
    with pytest.raises(BudgetError) as caught:
        made(counting, space, between, 64)
    assert str(caught.value) == (
        f"no network of the space lies in {between} at side 64\n"
        f"gmacs reaches from {low} to {high}; the nearest: {below} below, {above} above"
    )


def test_what_is_nearest_is_the_cost_of_a_network_where_counts_are_rough() -> None:
    space = parse(SPACES["free"][0])
    macs = sorted({cost.macs for cost in costs(space, 64).values()})
    gaps = [(high - low, low, high) for low, high in pairwise(macs)]
    _, below, above = max(gaps)
    with pytest.raises(BudgetError) as caught:
        made("rounded", space, CostConstraints(gmacs=Interval((below + 1) / 1e9, (above - 1) / 1e9)), 64)
    near = re.search(r"nearest: ([\d.]+) below, ([\d.]+) above", str(caught.value))
    assert near is not None
    said = [round(float(end) * 1e9) for end in near.groups()]
    assert set(said) <= set(macs)
    assert said[0] <= below
    assert said[1] >= above


def test_what_is_nearest_keeps_the_rest_of_the_band() -> None:
    space = parse("hr(32 e=2|4)*1..3")
    found = costs(space, 64).values()
    cheapest, dearest = min(found, key=lambda c: c.macs), max(found, key=lambda c: c.macs)
    gmacs, mparams = dearest.macs / 1e9, cheapest.params / 1e6
    with pytest.raises(BudgetError) as caught:
        ConstrainedSpace(space, CostConstraints(gmacs=Interval(gmacs), mparams=Interval(0, mparams)), 64)
    assert f"the nearest within the rest of the band: {cheapest.macs / 1e9:.12g} below, none above" in str(caught.value)
    assert f"the nearest within the rest of the band: none below, {dearest.params / 1e6:.12g} above" in str(
        caught.value
    )


def test_networks_that_do_not_fit_the_side_are_outside_every_band() -> None:
    space = parse("hr(16 e=2) -> (cffn(32 e=2) | cffn(32 e=3) -> cffn(32 e=2))")
    found = ConstrainedSpace(space, parse_constraints({"gmacs": "0.."}), 8)
    assert [str(net) for net in found] == ["hr(16 e=2) -> cffn(32 e=2)"]
    with pytest.raises(SpecError, match=r"^side 12 does not fit"):
        ConstrainedSpace(space, parse_constraints({"gmacs": "0.."}), 12)


def milliseconds(net: Net) -> float:
    return float(net.stages[0].depth)


@pytest.mark.parametrize("counting", COUNTINGS)
def test_time_is_kept_by_measuring_what_keeps_the_rest(counting: str) -> None:
    space = parse(SPACES["free"][0])
    gmacs = band_of(space, 64, "gmacs").gmacs
    timed: list[Net] = []
    with forced(counting):
        found = ConstrainedSpace(
            space,
            CostConstraints(gmacs=gmacs, ms_per_image=Interval(0, 1)),
            64,
            measure=lambda net: timed.append(net) or milliseconds(net),  # type: ignore[func-returns-value]
        )
    rng = Random(10)
    nets = [found.sample(rng) for _ in range(20)] + [found.decide(whims(rng)) for _ in range(20)]
    assert all(milliseconds(net) == 1 for net in nets)
    assert all(CostConstraints(gmacs=gmacs).holds(count(net, 64)) for net in timed)
    assert found.acceptance < 1


def test_time_needs_something_to_measure_it_with_and_networks_that_keep_it() -> None:
    space, band = parse("hr(32 e=2|4)"), parse_constraints({"ms_per_image": "..1"})
    with pytest.raises(BudgetError, match="needs networks to be timed"):
        ConstrainedSpace(space, band, 64)
    found = ConstrainedSpace(space, band, 64, measure=lambda net: 2.0)
    assert found.size == 2
    with (
        patch.object(constrained_space, "MAX_REJECTIONS", 5),
        pytest.raises(BudgetError, match=r"^5 random networks .* ms_per_image \.\.1"),
    ):
        found.sample(Random(11))
