"""Budgets together with relations, and budgets of spaces over timm's builders: the networks of a filtered listing."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from random import Random
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import tests.grouped  # noqa: F401 - registers a network with timm
from hiri_search.cost import flops
from hiri_search.cost.budget import constrained_space, decision_diagram
from hiri_search.cost.budget.constrained_space import BudgetError, ConstrainedSpace
from hiri_search.cost.budget.constraints import CostConstraints, Interval, parse_constraints
from hiri_search.cost.flops import Cost, count
from hiri_search.language import Network, RelatedSpace, SpecError, TimmNetwork, parse, parse_space, uniform
from hiri_search.language.relations.related_space import check_relations
from tests.cost.budget.test_constrained_space import all_walks, fake_cost, list_costs
from tests.language.relations.test_relations import related
from tests.language.specs import WrittenSpec

SPACE = (
    "hr(32|48 e=2|4)*1..2 -> (hr | t(d=16|32))(32|64|96 e=2|3) -> (cffn(64 e=2) | t(64 e=3) -> t(64|128 e=2 d=32))*1..2"
)
WHERE = ["w2 >= w1", "n1 + n3 <= 3", "kind2 == hr or w2 % d2 == 0"]


def test_a_budget_and_relations_are_both_kept_exactly() -> None:
    space, unbounded = parse_space(SPACE, where=WHERE), parse_constraints({"gmacs": "0.."})
    assert isinstance(space, RelatedSpace)
    by_net = {net: count(net, 128) for net in space}
    macs = sorted(cost.macs for cost in by_net.values())
    constraints = CostConstraints(Interval(macs[len(macs) // 3] / 1e9, macs[2 * len(macs) // 3] / 1e9))
    expected = [net for net, cost in by_net.items() if constraints.satisfied_by(cost)]
    feasible = ConstrainedSpace(space, constraints, 128)
    assert feasible.counting == "exact"
    assert [net for net, _ in all_walks(feasible)] == expected
    assert feasible.size == len(expected)
    assert feasible.summary.startswith(f"{len(expected):,} networks are within")
    assert feasible.summary.endswith("of these")
    assert ConstrainedSpace(space, unbounded, 128).size == space.size
    with patch.object(decision_diagram, "MAX_NODES", 0):
        rejecting = ConstrainedSpace(space, constraints, 128)
    assert rejecting.counting == "rejection"
    assert {rejecting.walk(uniform(rng))[0] for rng in map(Random, range(30))} <= set(expected)
    assert f" random networks are within {rejecting.constraints}, and" in rejecting.summary


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(related(), st.sampled_from([64, 128, 1024]), st.data())
def test_any_related_space_under_any_budget_equals_its_filtered_listing(
    case: tuple[WrittenSpec, list[str]], side: int, data: st.DataObject
) -> None:
    written, relations = case
    assume(parse(written.text, let=written.let).size < 300)
    space = parse_space(written.text, let=written.let, where=relations)
    assert isinstance(space, RelatedSpace)
    with patch.object(flops, "piece_cost", fake_cost):
        nets = {net: cost for net, cost in list_costs(space.space, side).items() if space.satisfied(net)}  # type: ignore[arg-type]
        assume(nets)
        left, right = (data.draw(st.sampled_from(list(nets.values()))) for _ in range(2))
        gmacs = Interval(min(left.macs, right.macs) / 1e9, max(left.macs, right.macs) / 1e9)
        constraints = CostConstraints(gmacs=gmacs, mparams=Interval(0, max(left.params, right.params) / 1e6))
        expected = [net for net, cost in nets.items() if constraints.satisfied_by(cost)]
        feasible = ConstrainedSpace(space, constraints, side)
        assert [net for net, _ in all_walks(feasible)] == expected
        assert feasible.size == len(expected)


def test_relations_and_a_budget_that_exclude_each_other_are_an_error() -> None:
    space = parse_space("hr(32|64 e=4) -> hr(32|64 e=4)", where=["w1 < w2"])
    with pytest.raises(
        BudgetError, match=r"no network of the space that satisfies `where` is within mparams \.\.0\.001"
    ):
        ConstrainedSpace(space, parse_constraints({"mparams": "..0.001"}), 64)
    with pytest.raises(SpecError, match="must be a multiple of 32"):
        ConstrainedSpace(
            parse_space("hr(32 e=4) -> hr(32|64 e=4) -> hr(64 e=2)", where=["w2 > 32"]),
            parse_constraints({"gmacs": "0.."}),
            60,
        )


def test_combinations_that_relations_exclude_cost_nothing() -> None:
    space = parse_space("hr(32 e=4) -> t(64..128/16 e=4 d=16|32|48)", where=["w2 % d2 == 0"])
    feasible = ConstrainedSpace(space, parse_constraints({"mparams": "0.."}), 64)
    assert (feasible.counting, feasible.size) == ("exact", space.size)
    assert [net for net, _ in all_walks(feasible)] == list(space)


# ---- timm

TIMM = "timm:grouped_of_tests width=6..12/2 groups=1|2|3 depth=1..3"


@cache
def _timm_costs() -> dict[Network, Cost]:
    """The costs of the networks that can be built, in order."""
    return list_costs(parse_space(TIMM), 32)  # type: ignore[arg-type]


@pytest.fixture(params=[(), ("depth * groups <= 4", "width > 6 or groups == 1")], ids=["", "related"])
def related_timm(request: pytest.FixtureRequest) -> Iterator[tuple[Any, list[Network]]]:
    space = parse_space(TIMM, where=request.param)
    pending = space.pending if isinstance(space, RelatedSpace) else None

    def satisfied(net: Network) -> bool:
        try:
            check_relations(pending, net)
        except SpecError:
            return False
        return True

    return space, [net for net in _timm_costs() if satisfied(net)]


def test_a_budget_of_a_timm_space_is_counted_network_by_network(related_timm: tuple[Any, list[Network]]) -> None:
    space, buildable = related_timm
    macs = sorted(_timm_costs()[net].macs for net in buildable)
    assert len(buildable) < space.size
    constraints = CostConstraints(Interval(macs[len(macs) // 4] / 1e9, macs[3 * len(macs) // 4] / 1e9))
    expected = [net for net in buildable if constraints.satisfied_by(_timm_costs()[net])]
    feasible = ConstrainedSpace(space, constraints, 32)
    assert feasible.counting == "exact"
    walks = list(all_walks(feasible))
    assert [net for net, _ in walks] == expected
    assert all(space.replay(decisions) == net for net, decisions in walks)
    assert feasible.size == len(expected)
    assert f"; {space.size - len(buildable)} cannot be built" in feasible.summary
    with pytest.raises(
        BudgetError, match=r"is within gmacs 1\.\. at side 32\ngmacs ranges from .*nearest: .* below, none"
    ):
        ConstrainedSpace(space, parse_constraints({"gmacs": "1.."}), 32)


def test_a_large_timm_space_is_sampled_by_rejection(related_timm: tuple[Any, list[Network]]) -> None:
    space, buildable = related_timm
    constraints = CostConstraints(mparams=Interval(0, 0.009))
    with patch.multiple(constrained_space, MAX_COUNTED=10, ACCEPTANCE_SAMPLE=50):
        feasible = ConstrainedSpace(space, constraints, 32)
        summary = feasible.summary
    assert (feasible.counting, feasible.size) == ("rejection", space.size)
    expected = {net for net in buildable if constraints.satisfied_by(_timm_costs()[net])}
    assert {feasible.walk(uniform(rng))[0] for rng in map(Random, range(100))} <= expected
    assert "of 50 random networks are within mparams" in summary


def test_a_timm_space_of_which_nothing_can_be_built_is_an_error() -> None:
    with pytest.raises(SpecError, match="cannot be built for inputs of 32 pixels; write other arguments"):
        ConstrainedSpace(
            parse_space("timm:grouped_of_tests width=6|8 groups=5"), parse_constraints({"gmacs": "0.."}), 32
        )


def test_the_count_of_many_networks_reports_its_progress() -> None:
    lines: list[str] = []
    with patch.object(constrained_space, "_SAY_SECONDS", 0.0):
        ConstrainedSpace(parse_space(TIMM), parse_constraints({"gmacs": "0.."}), 32, say=lines.append)
    assert lines[7].endswith("of the 36 networks of the space counted")
    assert isinstance(next(iter(_timm_costs())), TimmNetwork)
