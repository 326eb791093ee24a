"""Space: its text, its size, and walks through its decisions."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from random import Random

import pytest
from hypothesis import assume, given, settings

from hiri_search.language import Chooser, Net, Space, SpecError, parse, parse_net, sample
from tests.language.specs import WrittenSpec, small_spaces, spaces

CONDITIONAL = "hr(32 e=4)*1|hr(32|64 e=6) -> (hr | cffn(norm=bn|ln) | t(d=16|32|64) -> t)(64 e=4|6)"


def recording(choose: Chooser, calls: list[tuple[str, tuple[object, ...], int]]) -> Chooser:
    """Return a chooser that also appends each decision, its options and the chosen index to `calls`."""

    def choose_and_record(name: str, options: tuple[object, ...], sizes: tuple[int, ...]) -> int:
        assert len(options) == len(sizes) > 1
        index = choose(name, options, sizes)  # type: ignore[arg-type]
        calls.append((name, options, index))
        return index

    return choose_and_record


def random_chooser(rng: Random) -> Chooser:
    return lambda name, options, sizes: rng.randrange(len(options))


def decision_names(space: Space) -> list[str]:
    """Return the names of the decisions of a walk that always takes the last option."""
    calls: list[tuple[str, tuple[object, ...], int]] = []
    space.decide(recording(lambda name, options, sizes: len(options) - 1, calls))
    return [name for name, _, _ in calls]


@settings(max_examples=60)
@given(spaces())
def test_parsing_the_text_of_a_space_gives_the_space(written: WrittenSpec) -> None:
    space = parse(written.text, let=written.let)
    assert parse(str(space)) == space
    assert str(parse(str(space))) == str(space)


@settings(max_examples=50)
@given(small_spaces())
def test_the_size_is_the_number_of_listed_networks_and_all_differ(written: WrittenSpec) -> None:
    space = parse(written.text, let=written.let)
    assume(space.size < 2_000)
    listed = list(space)
    assert len(listed) == space.size
    assert len({net.key for net in listed}) == len(set(listed)) == space.size
    assert all(parse_net(str(net)) == net for net in listed[:3])


@settings(max_examples=40)
@given(spaces())
def test_a_decision_has_one_name_and_fixed_options_and_can_be_replayed(written: WrittenSpec) -> None:
    space, rng = parse(written.text, let=written.let), Random(0)
    options_of: dict[str, tuple[object, ...]] = {}
    for _ in range(10):
        calls: list[tuple[str, tuple[object, ...], int]] = []
        net, decisions = space.walk(recording(random_chooser(rng), calls))
        assert decisions == {name: options[index] for name, options, index in calls}
        assert len(decisions) == len(calls)
        assert all(options_of.setdefault(name, options) == options for name, options, _ in calls)
        assert space.replay(decisions) == net


def test_walks_lists_networks_with_their_decisions() -> None:
    space = parse(CONDITIONAL)
    assert all(space.replay(decisions) == net for net, decisions in space.walks())
    assert [net for net, _ in space.walks()] == list(space)


@settings(max_examples=40)
@given(small_spaces(), spaces())
def test_the_decisions_of_a_network_are_found(written: WrittenSpec, other: WrittenSpec) -> None:
    space, outside = (parse(each.text, let=each.let) for each in (written, other))
    for net, decisions in islice(space.walks(), 50):
        assert space.decisions_of(parse_net(str(net))) == decisions
    unrelated = sample(outside, Random(0))
    found = space.decisions_of(unrelated)
    assert space.replay(found) == unrelated if found is not None else space.size > 2_000 or unrelated not in list(space)


@pytest.mark.parametrize("option", [None, 5, "4"])
def test_a_replay_needs_every_decision(option: int | str | None) -> None:
    decisions = {"1.w": 32} if option is None else {"1.w": 32, "1.e": option}
    with pytest.raises(SpecError, match=r"1\.e is .*expected 4 or 6"):
        parse("hr(32|64 e=4|6)").replay(decisions)


SIZES = [
    ("hr(32 e=4)", 1),
    ("hr(32|48 e=4)*1..3", 6),
    ("hr(32|48 e=4) -> t(64 e=4..6)", 6),
    ("hr(32|48 e=4) | t(64 e=4..6)", 5),
    ("(hr(32) -> hr(64))(e=4|6)", 2),
    ("hr(32 e=4|6) -> hr(64 e=4|6)", 4),
    ("(hr | cffn | t(d=32|64))(128 e=4)", 4),
    ("((hr | t)(64|128) -> t(64))(e=1..10)*1..2", 80),
    ("(hrstem(hs=16|48) | vitstem) -> hr(32|64 e=4)", 6),
    (CONDITIONAL, 25),
    (" -> ".join(["hr(1..1000 e=1..64)"] * 60), 64_000**60),
]


@pytest.mark.parametrize(("text", "size"), SIZES)
def test_sizes_are_sums_and_products(text: str, size: int) -> None:
    assert parse(text).size == size


def test_an_argument_of_a_group_is_one_decision() -> None:
    tied = list(parse("(hr(32) -> hr(64))(e=4|6)"))
    assert [str(net) for net in tied] == ["hr(32 e=4) -> hr(64 e=4)", "hr(32 e=6) -> hr(64 e=6)"]


def test_each_use_of_a_let_has_its_own_decisions() -> None:
    space = parse("block -> block(n=2)", let={"block": "hr(32 e=4|6)"})
    assert space.size == 4
    assert str(space) == "hr(32 e=4|6) -> hr(32 e=4|6)*2"


def test_the_last_decision_changes_fastest_in_a_list() -> None:
    listed = [str(net) for net in parse("hr(32|48 e=4)*1..2 | cffn(norm=ln|bn 16 e=4)")]
    assert listed == [
        *("hr(32 e=4)", "hr(32 e=4)*2", "hr(48 e=4)", "hr(48 e=4)*2"),
        *("cffn(16 e=4 norm=ln)", "cffn(16 e=4)"),
    ]


def test_listing_is_lazy() -> None:
    assert isinstance(next(iter(parse(" -> ".join(["hr(1..1000 e=1..64)"] * 60)))), Net)


NAMES = [
    ("hr(32 e=4)", []),
    ("hr(32|64 e=4|6)*1..2", ["1.w", "1.e", "1.n"]),
    ("hr(32 e=4) -> cffn(32 e=4|6)", ["2.e"]),
    ("hr(32 e=4|6) | t(64 e=4 d=32|64)", ["which", "t.d"]),
    ("hr(32 e=4) -> (hr | cffn | t(d=32|64))(128|64 e=4)", ["2.w", "2.which", "2.t.d"]),
    ("(hr(32) -> hr(64|128))(e=4|6)*1..2 -> hr(32 e=4)", ["1.e", "1.n", "1.2.w"]),
    ("hr(8 e=4) -> (t(64) | t(64) -> t(64|128 sr=2|4))(e=4|6)", ["2.e", "2.which", "2.2.2.w", "2.2.2.sr"]),
    ("(hr(8) | hr(16) | t(d=32|64 64))(e=4)", ["1.which", "1.t.d"]),
    ("(hr(8|9) | (hr(16) | hr(17|18))(n=2|3))(e=4)", ["1.which", "1.2.n", "1.2.which", "1.2.2.w"]),
    ("(hr(8) | (cffn(16) | t(64|128)))(e=4)", ["1.which", "1.t.w"]),
    ("(hrstem(hs=16|64) | convstem(hs=8|16)) -> hr(8 e=4|5)", ["1.which", "1.convstem.hs", "2.e"]),
]


@pytest.mark.parametrize(("text", "names"), NAMES)
def test_a_decision_is_named_after_its_position_in_the_spec(text: str, names: list[str]) -> None:
    assert decision_names(parse(text)) == names


def test_a_chooser_gets_the_labels_and_sizes_of_alternative_paths() -> None:
    calls = []
    parse("hr(8|9|10 e=4) | hr(16 e=4) | t(64 e=4 d=32|64)").decide(lambda *arguments: calls.append(arguments) or 1)
    assert calls == [("which", ("1", "2", "t"), (3, 1, 2))]


def test_samples_are_uniform_over_networks() -> None:
    space, rng, draws = parse(CONDITIONAL), Random(20240321), 25_000
    counts = Counter(sample(space, rng) for _ in range(draws))
    expected = draws / space.size
    assert counts.keys() == set(space)
    chi_square = sum((count - expected) ** 2 / expected for count in counts.values())
    assert chi_square < 51.18  # the 99.9th percentile at 24 degrees of freedom


class Highest(Random):
    """Returns the largest number of every range, and records the range lengths."""

    def __init__(self) -> None:
        super().__init__()
        self.ranges: list[int] = []

    def randrange(self, start: int, stop: int | None = None, step: int = 1) -> int:
        assert stop is None
        self.ranges.append(start)
        return start - 1


def test_sampling_is_exact_for_sizes_that_floats_would_round() -> None:
    large = " -> ".join(["hr(1..1000 e=1..64)"] * 10)
    rng = Highest()
    assert str(sample(parse(f"{large} | t(64 e=4)"), rng)) == "t(64 e=4)"
    assert rng.ranges == [64_000**10 + 1]
