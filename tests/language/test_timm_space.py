"""TimmSpace: its text, its networks, its decisions, and relations between arguments of timm's builders."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hiri_search.language import RelatedSpace, SpecError, TimmNetwork, TimmSpace, parse_network, parse_space, sample
from hiri_search.language.choosers import covering

PVT = "timm:pvt_v2_b2 depths=3,4,(6|8),3 embed_dims=64,(96..128/32),320,512"
SPACES = {
    PVT: (4, PVT.replace("96..128/32", "96|128")),
    "timm:a x=1..3": (3, "timm:a x=(1..3)"),
    "timm:a x=1|4|2 y=( relu | gelu )": (6, "timm:a x=(1|2|4) y=(relu|gelu)"),
    "timm:a ratio=0.5|1|2.50 on=true|false": (6, "timm:a on=(true|false) ratio=(0.5|1|2.5)"),
    "timm:a y=2 x=-1,(0..1)": (2, "timm:a x=-1,(0|1) y=2"),
    "timm:a x=1|2 | timm:b x=(1|2|3) y=2 | timm:c": (6, "timm:a x=(1|2) | timm:b x=(1..3) y=2 | timm:c"),
    "timm:resnet18": (1, "timm:resnet18"),
    "timm:a x=1e-5|.5|0.0001": (3, "timm:a x=(1e-05|0.5|0.0001)"),
}


@pytest.mark.parametrize(("text", "expected"), SPACES.items())
def test_a_space_has_a_normal_text_and_every_combination_once(text: str, expected: tuple[int, str]) -> None:
    space = parse_space(f" {text}\n")
    assert isinstance(space, TimmSpace)
    assert (space.size, str(space)) == expected
    assert parse_space(str(space)) == space
    walks = list(space.walks())
    assert len({net.key for net, _ in walks}) == len(walks) == space.size
    assert all(space.replay(decisions) == net for net, decisions in walks)
    assert all(space.decisions_of(net) == decisions for net, decisions in walks)
    others = ("timm:a x=9", "timm:resnet18 x=1", "hr(32 e=4)", "timm:pvt_v2_b2 depths=3,4,7,3")
    assert [space.decisions_of(parse_network(other)) for other in others] == [None] * 4
    assert all(repr(parse_network(str(net))) == repr(net) for net, _ in walks)


def test_values_keep_their_types() -> None:
    network = next(iter(parse_space("timm:a depths=1,(2|3) ratio=0.5|1 on=true|false act=relu|gelu")))
    assert network == TimmNetwork("a", (("act", "relu"), ("depths", (1, 2)), ("on", True), ("ratio", 0.5)))


def test_decisions_have_the_names_of_arguments() -> None:
    _, decisions = next(parse_space(f"{PVT} drop_rate=0.1|0.2").walks())
    assert decisions == {"depths.3": 6, "drop_rate": "0.1", "embed_dims.2": 96}
    _, decisions = next(parse_space("timm:a x=1|2 | timm:b").walks())
    assert decisions == {"which": "a", "a.x": 1}


MISTAKES = {
    "timm:": ("'timm:' has no valid model name", 0),
    "timm:a.in1k x=(1|2)": ("names weights of timm (in1k)", 0),
    "timm:a x=(True|false)": ("True is a word here; write true", 10),
    "timm:a x=(1.0|2|1)": ("1 is the number 1.0, which is listed already; remove one", 16),
    "timm:a x=(0.5|.5)": ("0.5 is listed twice", 14),
    "timm:a x": ("unexpected end of the space; expected a value, as in x=2", 8),
    "timm:a x=": ("unexpected end of the space; expected a value", 9),
    "timm:a x=(1|2": ("unexpected end of the space; expected | or )", 13),
    "timm:a x=1)": ("unexpected ')'; expected an argument", 10),
    "timm:a x=3,4|6": ("alternatives in a list need parentheses, as in 3,4,(6|8),3", 12),
    "timm:a x=3|4,6": ("alternatives in a list need parentheses", 12),
    "timm:a x=(1|b)": ("numbers and words cannot be mixed", 12),
    "timm:a x=(1|1)": ("1 is listed twice; remove one", 12),
    "timm:a x=3..1": ("the range 3..1 is descending; write 1..3", 9),
    "timm:a x=1..2.5": ("'1..2.5' is no range of integers; write it as 1..3", 9),
    "timm:a x=1 x=(2|3)": ("x is set twice", 11),
    "timm:a x=(1|2) | timm:a x=3": ("a is an alternative twice", 17),
    "timm:a 5x=3": ("'5x' is no name of an argument", 7),
    "timm:a x=" + ",".join(["(1000|2000)"] * 180): ("this space has 2,168 characters; the maximum is 2,000", 0),
    "timm:a x=" + ",".join(["(1|100000)"] * 90): ("a network of this space has 638 characters; the maximum is 500", 0),
}


@pytest.mark.parametrize(("text", "expected"), MISTAKES.items())
def test_a_mistake_is_shown_at_its_place(text: str, expected: tuple[str, int]) -> None:
    with pytest.raises(SpecError) as wrong:
        parse_space(text)
    assert expected[0] in wrong.value.message
    assert wrong.value.column == expected[1]


@settings(max_examples=100)
@given(
    st.lists(st.sampled_from(["timm:a", " x=", "1", "|", "(", ")", ",", "..", "4", " y=", "relu", " "])).map("".join)
)
def test_any_text_is_a_space_or_a_spec_error(text: str) -> None:
    try:
        space = parse_space("timm:a" + text)
    except SpecError:
        return
    assert parse_space(str(space)) == space


# ---- relations

RELATIONS = {
    "depths.3 >= depths.2": lambda v: v["depths"][2] >= v["depths"][1],
    "width % heads == 0": lambda v: v["width"] % v["heads"] == 0,
    "act == relu or ratio > 1.5": lambda v: v["act"] == "relu" or v["ratio"] > 1.5,
    "not on == true": lambda v: not v["on"],
    "depths.1 + depths.2 + depths.3 <= 5": lambda v: sum(v["depths"]) <= 5,
}
RELATED = "timm:a act=relu|gelu depths=1,(1|2|3),(1..3) heads=(1|2|3) on=(true|false) ratio=(0.5|1|2.5) width=(6|8)"


@pytest.mark.parametrize("text", RELATIONS)
def test_a_relation_keeps_exactly_the_networks_that_do_not_break_it(text: str) -> None:
    space = parse_space(RELATED, where=[text])
    assert isinstance(space, RelatedSpace)
    expected = [net for net in space.space if RELATIONS[text](dict(net.arguments))]  # type: ignore[union-attr,no-untyped-call]
    assert 0 < len(expected) < space.space.size
    assert list(space) == expected
    assert space.size == len(expected)
    assert {net for net, _ in covering(space)} <= set(expected)


def test_a_relation_is_not_broken_by_a_builder_that_lacks_an_argument() -> None:
    space = parse_space("timm:a x=1..3 | timm:b y=1..3 | timm:c x=1..2 y=1..2", where=["x > 1", "x >= y"])
    assert [str(net) for net in space] == [
        *("timm:a x=2", "timm:a x=3"),
        *("timm:b y=1", "timm:b y=2", "timm:b y=3"),
        *("timm:c x=2 y=1", "timm:c x=2 y=2"),
    ]
    with pytest.raises(SpecError, match=r"this space has no depth\.2; did you mean depths\.2"):
        parse_space(RELATED, where=["depth.2 > 1"])


def test_samples_are_uniform_over_builders_of_unequal_sizes() -> None:
    space, rng = parse_space("timm:a x=1..5 | timm:b x=1..3 y=1..5", where=["x <= y"]), Random(1)
    drawn = Counter(sample(space, rng) for _ in range(3_400))
    assert len(drawn) == space.size == 17
    assert sum((number - 200) ** 2 / 200 for number in drawn.values()) < 39.3  # 99.9 % at 16 degrees of freedom


def test_sizes_are_exact_in_spaces_that_cannot_be_listed() -> None:
    entries = ",".join(["(1..8)"] * 40)
    space = parse_space(f"timm:a x={entries}", where=[f"x.{number + 1} >= x.{number}" for number in range(1, 40)])
    assert space.size == 62_891_499  # C(47, 7) multisets of 40 of 8 values


def test_a_space_of_timm_takes_no_names() -> None:
    with pytest.raises(SpecError, match="let is for networks of the language"):
        parse_space("timm:a x=(1|2)", let={"x": "3"})
