"""What is left of a space: exactly the networks not asked for, each with its chance, whatever the budget."""

from collections import Counter
from random import Random

import pytest

from hiri_search.language import Space, parse, uniform
from hiri_search.language.choosers import covering, first, mutated, nearest
from hiri_search.study.search.visited import UnvisitedSpace
from tests.study.search.searches import Light

SPACE = parse("hr(32 e=4|6) -> (hr | cffn | t(d=32|64))(64 e=4)*1..3 -> t(128 e=2..4)")  # 2 x 4 x 3 x 3


SPACES = {"whole": SPACE, "in a budget": Light(SPACE, foresees=True), "known at the end": Light(SPACE, foresees=False)}


def _all_of(space) -> set[str]:
    return {net.key for net in space} if isinstance(space, Space) else {net.key for net, _ in space.inside}


@pytest.mark.parametrize("space", [SPACES["whole"], SPACES["in a budget"]], ids=["whole", "in a budget"])
def test_by_chance_all_are_taken_once_and_then_none_is_left(space):
    unseen, rng, taken = UnvisitedSpace(space), Random(0), []
    while not unseen.exhausted:
        net, decisions = unseen.walk(uniform(rng), rng)
        assert unseen.add(decisions) == (net, decisions)
        taken.append(net.key)
    assert len(taken) == space.size
    assert set(taken) == _all_of(space)


def test_the_first_of_what_is_left_is_the_listing():
    unseen, taken = UnvisitedSpace(SPACE), []
    while not unseen.exhausted:
        net, decisions = unseen.walk(first, Random(0))
        unseen.add(decisions)
        taken.append(net)
    assert taken == list(SPACE)


def test_every_network_that_is_left_is_as_likely_as_any_other():
    unseen, rng = UnvisitedSpace(SPACE), Random(0)
    for _, decisions in list(SPACE.walks())[: SPACE.size - 5]:
        unseen.add(decisions)
    drawn = Counter(unseen.walk(uniform(rng), rng)[0].key for _ in range(2000))
    assert len(drawn) == 5
    assert all(300 < times < 500 for times in drawn.values())


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_a_mutation_is_another_network_of_the_space_one_decision_away(space):
    unseen, rng = UnvisitedSpace(space), Random(0)
    for _ in range(100):
        _, parent = unseen.walk(uniform(rng), rng)
        net, child = unseen.walk(mutated(parent, rng), rng)
        assert net.key in _all_of(space)
        assert SPACE.replay(child) == net
        changed = {name for name in parent.keys() & child.keys() if parent[name] != child[name]}
        appeared = set(child) - set(parent)
        assert appeared <= {"2.t.d"}, "only what is asked behind another choice appears"
        if space is SPACE:
            assert len(changed) == 1


def test_nothing_that_was_asked_for_is_mutated_to():
    unseen, rng = UnvisitedSpace(SPACE), Random(0)
    *rest, (last, _) = SPACE.walks()
    for _, decisions in rest:
        unseen.add(decisions)
    assert unseen.walk(mutated(rest[0][1], rng), rng)[0] == last


@pytest.mark.parametrize(
    ("options", "sizes", "wanted", "taken"),
    [
        ((1, 2, 3, 4), (1, 1, 1, 1), 2, {2}),
        ((1, 2, 3, 4), (5, 0, 0, 5), 2, {3}),
        ((1, 2, 3, 4), (5, 0, 0, 0), 3, {0}),
        (("hr", "cffn", "t"), (1, 0, 3), 1, {0, 2}),
    ],
)
def test_what_is_forbidden_becomes_the_nearest_number_or_another_word(options, sizes, wanted, taken):
    assert {nearest(wanted, options, sizes, Random(seed)) for seed in range(50)} == taken


@pytest.mark.parametrize(
    "spec", [str(SPACE), "hr(32 e=4) -> t(64 e=4)", "hr(32 e=4)*1..9 | (hr | t(d=32|64))(64 e=2..5)"]
)
def test_few_networks_take_every_option(spec: str):
    space = parse(spec)
    every = {item for _, decisions in space.walks() for item in decisions.items()}
    nets = list(covering(space))
    assert {item for _, decisions in nets for item in decisions.items()} == every
    assert 1 <= len(nets) <= len(every) + 1
