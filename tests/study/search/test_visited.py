"""UnvisitedSpace: exactly the networks not asked for yet, each equally likely, also under a budget."""

from collections import Counter
from random import Random

import pytest

from hiri_search.language import Space, parse, uniform
from hiri_search.language.choosers import covering, first, mutated, nearest
from hiri_search.study.search.visited import UnvisitedSpace
from tests.study.search.searches import LightSpace

SPACE = parse("hr(32 e=4|6) -> (hr | cffn | t(d=32|64))(64 e=4)*1..3 -> t(128 e=2..4)")  # 2 x 4 x 3 x 3

SPACES = {
    "whole": SPACE,
    "budget": LightSpace(SPACE, exact_sizes=True),
    "budget by rejection": LightSpace(SPACE, exact_sizes=False),
}


def _keys(space) -> set[str]:
    return {net.key for net in space} if isinstance(space, Space) else {net.key for net, _ in space.allowed}


@pytest.mark.parametrize("space", [SPACES["whole"], SPACES["budget"]], ids=["whole", "budget"])
def test_uniform_walks_visit_every_network_once(space):
    unvisited, rng, visited = UnvisitedSpace(space), Random(0), []
    while not unvisited.exhausted:
        net, decisions = unvisited.walk(uniform(rng), rng)
        assert unvisited.add(decisions) == (net, decisions)
        visited.append(net.key)
    assert len(visited) == space.size
    assert set(visited) == _keys(space)


def test_first_walks_follow_the_listing():
    unvisited, visited = UnvisitedSpace(SPACE), []
    while not unvisited.exhausted:
        net, decisions = unvisited.walk(first, Random(0))
        unvisited.add(decisions)
        visited.append(net)
    assert visited == list(SPACE)


def test_every_unvisited_network_is_equally_likely():
    unvisited, rng = UnvisitedSpace(SPACE), Random(0)
    for _, decisions in list(SPACE.walks())[: SPACE.size - 5]:
        unvisited.add(decisions)
    drawn = Counter(unvisited.walk(uniform(rng), rng)[0].key for _ in range(2000))
    assert len(drawn) == 5
    assert all(300 < times < 500 for times in drawn.values())


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_a_mutation_changes_one_decision(space):
    unvisited, rng = UnvisitedSpace(space), Random(0)
    for _ in range(100):
        _, parent = unvisited.walk(uniform(rng), rng)
        net, child = unvisited.walk(mutated(parent, rng), rng)
        assert net.key in _keys(space)
        assert SPACE.replay(child) == net
        changed = {name for name in parent.keys() & child.keys() if parent[name] != child[name]}
        appeared = set(child) - set(parent)
        assert appeared <= {"2.t.d"}, "only conditional decisions appear"
        if space is SPACE:
            assert len(changed) == 1


def test_a_mutation_is_never_a_visited_network():
    unvisited, rng = UnvisitedSpace(SPACE), Random(0)
    *visited, (last, _) = SPACE.walks()
    for _, decisions in visited:
        unvisited.add(decisions)
    assert unvisited.walk(mutated(visited[0][1], rng), rng)[0] == last


@pytest.mark.parametrize(
    ("options", "sizes", "wanted", "allowed"),
    [
        ((1, 2, 3, 4), (1, 1, 1, 1), 2, {2}),
        ((1, 2, 3, 4), (5, 0, 0, 5), 2, {3}),
        ((1, 2, 3, 4), (5, 0, 0, 0), 3, {0}),
        (("hr", "cffn", "t"), (1, 0, 3), 1, {0, 2}),
    ],
)
def test_a_forbidden_option_becomes_the_nearest_number_or_another_name(options, sizes, wanted, allowed):
    assert {nearest(wanted, options, sizes, Random(seed)) for seed in range(50)} == allowed


@pytest.mark.parametrize(
    "spec", [str(SPACE), "hr(32 e=4) -> t(64 e=4)", "hr(32 e=4)*1..9 | (hr | t(d=32|64))(64 e=2..5)"]
)
def test_a_few_covering_networks_take_every_option(spec: str):
    space = parse(spec)
    options = {item for _, decisions in space.walks() for item in decisions.items()}
    nets = list(covering(space))
    assert {item for _, decisions in nets for item in decisions.items()} == options
    assert 1 <= len(nets) <= len(options) + 1
