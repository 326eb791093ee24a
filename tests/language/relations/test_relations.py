"""Relations: their text and mistakes, and spaces that hold exactly the networks that satisfy them."""

from __future__ import annotations

import operator
from collections import Counter
from contextlib import suppress
from functools import cache
from random import Random
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from hiri_search.language import Net, Network, RelatedSpace, SpecError, parse, parse_space, uniform
from hiri_search.language.choosers import covering, mutated
from hiri_search.language.net import default_down
from hiri_search.language.relations import counts, related_space
from hiri_search.language.relations.expression import Constant, Expression, Name
from hiri_search.language.relations.parser import MAX_RELATION_LENGTH, parse_relation
from hiri_search.language.relations.vocabulary import ArgumentValues, Vocabulary, vocabulary_of
from hiri_search.language.stages import names
from tests.language.specs import WrittenSpec, small_spaces

SPACE = (
    "(hrstem(hs=16|32) | vitstem) -> hr(32|64 e=2|4)*1..2 -> (hr | t(d=16|32))(32|64|96 e=2|3)"
    " -> (cffn(64 e=2) | t(64 e=3) -> t(64|128 e=2 d=32))*1..2"
)

# ---- text

VOCABULARY = Vocabulary(
    {
        "w1": ArgumentValues(frozenset({32, 64}), 1),
        "e2": ArgumentValues(frozenset({2}), 2),
        "kind1": ArgumentValues(frozenset({"hr", "t"}), 1),
    },
    "x",
)
_NUMBERS = st.recursive(
    st.sampled_from(["w1", "e2", "3", "0", "2.5"]),
    lambda inner: (
        st.builds("({} {} {})".format, inner, st.sampled_from("+-*%"), inner)
        | st.builds("{} // {}".format, st.sampled_from(["w1", "7"]), inner)
        | inner.map("-{}".format)
    ),
    max_leaves=4,
)
_COMPARISONS = st.builds("{} {} {}".format, _NUMBERS, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), _NUMBERS)
RELATIONS = st.recursive(
    _COMPARISONS | st.sampled_from(["kind1 == hr", "t != kind1", "32 < w1 <= e2 * 9"]),
    lambda inner: (
        st.builds("({}) {} {}".format, inner, st.sampled_from(["and", "or"]), inner) | inner.map("not ({})".format)
    ),
    max_leaves=4,
)


@settings(max_examples=150)
@given(RELATIONS)
def test_parsing_the_text_of_a_relation_gives_the_relation(text: str) -> None:
    assume(len(text) <= MAX_RELATION_LENGTH and ("w1" in text or "e2" in text))
    try:
        relation = parse_relation(text, VOCABULARY)
    except SpecError as error:
        assume("the same for every network" not in error.message and "divides by 0" not in error.message)
        raise
    assert parse_relation(str(relation), VOCABULARY) == relation


def test_the_normal_text_has_no_needless_parentheses() -> None:
    texts = {
        "((w1)>=(e2*2))and(not((kind1)==(hr)))": "w1 >= e2 * 2 and not kind1 == hr",
        "w1<=e2<=4": "w1 <= e2 and e2 <= 4",
    }
    assert {text: str(parse_relation(text, VOCABULARY)) for text in texts} == texts


@settings(max_examples=100)
@given(
    st.text(max_size=12)
    | st.lists(st.sampled_from([*"()+-*%<>=!&|", "//", "w1", "kind1", "hr", "3", "and", "not", " "])).map("".join)
)
def test_any_text_is_a_relation_or_a_spec_error(text: str) -> None:
    with suppress(SpecError):
        parse_relation(text, VOCABULARY)


MISTAKES = {
    "w2 >= w9": ("this space has no w9; write an argument and the number of its stage", 6),
    "wd2 >= w1": ("this space has no wd2; did you mean w2", 0),
    "w2 = w1": ("unexpected '='; write == to compare", 3),
    "w2 >= w1 & e1 > 2": ("unexpected '&'; write and", 9),
    "w2 / w1 == 2": ("unexpected '/'; write //", 3),
    "kind2 == 'hr'": ('unexpected "\'"; write words without quotes', 9),
    "kind2 == tt": ("kind2 is never tt; in this space it is hr or t", 9),
    "kind2 > hr": ("this is a word, where a number must be", 0),
    "kind2 == 3": ("this is a number, where a word must be", 9),
    "w2": ("this is a number, where true or false must be; compare it, as in >= 64", 0),
    "w2 >= (w1": ("unexpected end of the relation; expected )", 9),
    "w2 >= w1 w1": ("unexpected w1; expected a comparison, and, or, or the end", 9),
    "w2 % (1 - 1) == 0": ("this divides by 0", 5),
    "1 < 2": ("this relation is the same for every network", 0),
    "": ("a relation must be text, as in w3 >= w2", 0),
    "w1 + " * 60 + "1 > 2": ("this relation has 305 characters; the maximum is 200", 0),
}


@pytest.mark.parametrize(("text", "expected"), MISTAKES.items())
def test_a_mistake_is_shown_at_its_place(text: str, expected: tuple[str, int]) -> None:
    with pytest.raises(SpecError) as wrong:
        parse_space(SPACE, where=[text])
    assert expected[0] in wrong.value.message
    assert wrong.value.column == expected[1]


# ---- networks that satisfy relations

OPERATORS: dict[str, Any] = {
    **{"==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge},
    **{"+": operator.add, "-": operator.sub, "*": operator.mul, "//": operator.floordiv, "%": operator.mod},
}


def arguments_of(net: Net) -> dict[str, object]:
    """Return the arguments of a network by their names in relations."""
    values: dict[str, object] = {}
    for number, part in enumerate((net.stem, *net.stages)):
        values |= {f"{letter}{number}": getattr(part, name) for letter, name in names(type(part)).items()}
        values[f"kind{number}"] = part.kind
    return values


def evaluated(expression: Expression, values: dict[str, object]) -> Any:
    """Evaluate a relation on a whole network; None where it depends on an argument that is not there."""
    if isinstance(expression, Constant | Name):
        return expression.value if isinstance(expression, Constant) else values.get(expression.text)
    operands = [evaluated(operand, values) for operand in expression.operands]
    match expression.operator:
        case "and" | "or" as word:
            decided = word == "or"
            return decided if decided in operands else None if None in operands else not decided
        case "not":
            return None if operands[0] is None else not operands[0]
        case "-" if len(operands) == 1:
            return None if operands[0] is None else -operands[0]
    if None in operands or (expression.operator in ("//", "%") and operands[1] == 0):
        return None
    return OPERATORS[expression.operator](*operands)


def satisfying(space: RelatedSpace) -> list[Network]:
    """Return the networks of the space that break no relation, by a test of each."""
    nets = [net for net in space.space if isinstance(net, Net)]
    by_net = ((net, arguments_of(net)) for net in nets)
    return [net for net, values in by_net if all(evaluated(r, values) is not False for r in space.relations)]


CASES = {
    "w2 >= w1": lambda v: v["w2"] >= v["w1"],
    "w2 % w1 == 0 and e1 > e2": lambda v: v["w2"] % v["w1"] == 0 and v["e1"] > v["e2"],
    "n1 + n2 + n3 <= 3": lambda v: v["n1"] + v["n2"] + v["n3"] <= 3,
    "kind2 == kind3 or hs0 == 32": lambda v: v["kind2"] == v["kind3"] or v.get("hs0", 32) == 32,
    "d2 == 32": lambda v: v.get("d2", 32) == 32,
    "w4 > w3": lambda v: "w4" not in v or v["w4"] > v["w3"],
    "not (kind2 == t and d2 < 32)": lambda v: not (v["kind2"] == "t" and v["d2"] < 32),
    "down2 == b": lambda v: v["down2"] == "b",
    "down3 != down2": lambda v: v["down3"] != v["down2"],
    "d2 < 32 and kind1 == t": lambda v: False,
}


@pytest.mark.parametrize(("text", "holds"), list(CASES.items())[:-1])
def test_a_relation_keeps_exactly_the_networks_that_do_not_break_it(text: str, holds: Any) -> None:
    space = parse_space(SPACE.replace("hr(32", "(hr | t(d=32))(32"), where=[text])
    expected = [net for net in space.space if holds(arguments_of(net))]
    assert 0 < len(expected) < space.space.size
    assert list(space) == expected
    assert space.size == len(expected)


def _names(space_text: str, let: dict[str, str]) -> list[tuple[str, bool]]:
    vocabulary = vocabulary_of(parse(space_text, let=let))
    return [(name, known.is_word) for name, known in sorted(vocabulary.items())]


@st.composite
def related(draw: DrawFn) -> tuple[WrittenSpec, list[str]]:
    """Draw a small space and one or two relations between its arguments."""
    written = draw(small_spaces())
    known = _names(written.text, written.let)
    numbers = st.sampled_from([name for name, is_word in known if not is_word])
    words = st.sampled_from([name for name, is_word in known if is_word])
    sums = st.one_of(
        numbers, st.builds("({} {} {})".format, numbers, st.sampled_from(["+", "-", "*", "//", "%"]), numbers)
    )
    compared = st.builds("{} {} {}".format, sums, st.sampled_from(["<=", ">=", "==", "!=", "<"]), sums | st.just("64"))
    simple = compared | st.builds("{} == {}".format, words, words)
    joined = st.builds("{} {} {}".format, simple, st.sampled_from(["and", "or", "or not"]), simple)
    return written, draw(st.lists(simple | joined, min_size=1, max_size=2))


@settings(max_examples=60, deadline=None)
@given(related(), st.booleans())
def test_any_related_space_equals_its_filtered_listing(case: tuple[WrittenSpec, list[str]], rejecting: bool) -> None:
    written, relations = case
    assume(parse(written.text, let=written.let).size < 400)
    with patch.object(counts, "MAX_STATES", 0 if rejecting else 100_000):
        space = parse_space(written.text, let=written.let, where=relations)
        assert isinstance(space, RelatedSpace)
        expected = satisfying(space)
        if not expected:
            if not rejecting:
                with pytest.raises(SpecError, match="no network of the space satisfies"):
                    _ = space.size
            return
        assert list(space) == expected
        assert space.size == (space.space.size if space.counting == "rejection" else len(expected))
        net, decisions = space.walk(uniform(Random(0)))
        assert net in expected
        assert space.replay(decisions) == net
        assert {net for net, _ in covering(space)} <= set(expected)
        if decisions and not rejecting:
            assert space.walk(mutated(decisions, Random(1)))[0] in expected


def test_relations_may_exclude_what_a_kind_does_not_allow() -> None:
    text = "hr(32 e=4) -> (hr | t(d=16|32|48))(64..128/16 e=4) -> t(64|96 e=2 d=32)"
    with pytest.raises(SpecError, match="width 64 is not a multiple of the head size 48"):
        parse_space(text)
    space = parse_space(text, where=["w2 % d2 == 0", "w3 > 64"])
    widths = [width for width in range(64, 129, 16) for head in (16, 32, 48) if width % head == 0]
    assert space.size == len(list(space)) == len(set(space)) == len(widths) + 5
    with pytest.raises(SpecError, match=r"no relation excludes this t in stage 2: width .* is not a multiple"):
        _ = parse_space(text, where=["w2 % d2 == 0 or d2 == 48"]).size
    with patch.object(counts, "MAX_STATES", 0), pytest.raises(SpecError, match="width 64 is not a multiple"):
        _ = parse_space(text, where=["w2 % d2 == 0"]).size
    with pytest.raises(SpecError, match="hr has no argument q"):
        parse_space("hr(32 e=4 q=3)", where=["w1 > 0"])


@pytest.mark.parametrize("limit", [0, 100_000])
def test_samples_are_uniform(limit: int) -> None:
    with patch.object(counts, "MAX_STATES", limit):
        space = parse_space(
            "hr(32|64 e=2..5)*1..3 -> (hr | t(d=16|32))(32|64|96 e=2)*1..2", where=["w2 > w1", "n1 >= n2"]
        )
        draws, rng = 4_000, Random(7)
        drawn = Counter(space.decide(uniform(rng)) for _ in range(draws))
    assert len(drawn) == len(satisfying(space)) == 180
    mean = draws / len(drawn)
    assert sum((number - mean) ** 2 / mean for number in drawn.values()) < 242  # 99.9 % at 179 degrees of freedom


def test_sizes_are_exact_in_spaces_that_cannot_be_listed() -> None:
    """Stages of non-decreasing widths: multisets of 20 of 8 widths, each with 3 expansions."""
    stages = " -> ".join(["cffn(64..512/64 e=1..3)"] * 20)
    space = parse_space(stages, where=[f"w{number + 1} >= w{number}" for number in range(1, 20)])
    assert space.size == 888_030 * 3**20  # C(27, 20) multisets
    assert space.space.size == 24**20


def test_arguments_that_no_relation_names_add_no_states() -> None:
    space = parse_space("(hr | t(d=1))(1..100 e=1..64)*1..15 -> cffn(1..50 e=1..64)*1..30", where=["w2 >= 49"])
    with patch.object(counts, "MAX_STATES", 600):
        assert space.size == 2 * 100 * 64 * 15 * 2 * 64 * 30
    assert space.replay(space.walk(uniform(Random(0)))[1]).stages[1].width >= 49  # type: ignore[union-attr]


def test_partial_sums_are_merged() -> None:
    """Depths of 30 stages of 1 to 4 blocks whose sum is limited: 4^30 combinations, but 90 partial sums."""
    total = " + ".join(f"n{number}" for number in range(1, 31))
    space = parse_space(" -> ".join(["cffn(8 e=1)*1..4"] * 30), where=[f"{total} <= 31"])
    assert space.size == 31
    assert len(list(space)) == 31


def test_relations_that_no_network_satisfies_are_named() -> None:
    text = "hr(32|64 e=2..4) -> hr(32|64 e=2..4)"
    for relations, number, expected in (
        (["w1 >= w2", "w1 > 64"], 1, "no network of the space satisfies w1 > 64"),
        (["w1 > w2", "e1 > 2", "w2 > w1"], 2, "satisfies w2 > w1 together with w1 > w2, e1 > 2"),
    ):
        with pytest.raises(related_space.InvalidRelation) as refused:
            _ = parse_space(text, where=relations).size
        assert expected in str(refused.value)
        assert refused.value.number == number


def test_a_network_that_breaks_a_relation_is_not_replayed() -> None:
    space = parse_space("hr(32|64 e=2) -> hr(32|64 e=2)", where=["w2 >= w1"])
    with pytest.raises(SpecError, match="does not hold"):
        space.replay({"1.w": 64, "2.w": 32})
    with pytest.raises(SpecError, match=r"no network with 1\.w=64"):
        parse_space(str(space.space), where=["w1 < 64"]).decide(lambda name, options, sizes: 1)  # type: ignore[union-attr]


def test_the_summary_says_the_size_or_the_measured_share() -> None:
    text, where = "hr(32|64 e=2) -> hr(32|64 e=2)", ["w2 >= w1"]
    assert parse_space(text, where=where).summary == "3 networks satisfy w2 >= w1, 75.000% of the space"  # type: ignore[union-attr]
    with patch.object(counts, "MAX_STATES", 0):
        summary = parse_space(text, where=where).summary  # type: ignore[union-attr]
    assert "too many networks to count those that satisfy w2 >= w1; 7" in summary
    assert summary.endswith("of 1,000 random networks do, and the others are rejected")


def test_rejection_ends_where_no_network_is_found() -> None:
    with (
        patch.object(counts, "MAX_STATES", 0),
        patch.object(related_space, "MAX_REJECTED", 5),
        pytest.raises(SpecError, match="5 random networks"),
    ):
        parse_space("hr(32|64 e=2)", where=["w1 > 64"]).decide(uniform(Random(0)))


@cache
def _default_downs(stages: int) -> list[str]:
    return [default_down(number, stages - 1 - number) for number in range(stages)]


def test_default_downsamplings_are_those_of_the_whole_network() -> None:
    text = (
        "hr(32 e=4) -> hr(32|64 e=4) -> (hr(32 e=2) | hr(32 e=3) -> hr(64 e=3) | hr(16 e=2) -> (hr(32) -> hr(64))(e=3))"
    )
    for word in ("a", "b"):
        space = parse_space(text, where=[f"down2 == {word}"])
        lengths = {len(net.stages) for net in space if isinstance(net, Net)}
        assert lengths == {n for n in (3, 4, 5) if _default_downs(n)[1] == word}
