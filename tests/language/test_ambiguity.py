"""The ambiguity check: no space describes one network in two ways."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from hiri_search.language import Space, SpecError, parse
from hiri_search.language.parser import parse_tree
from tests.language.specs import repetitive_specs

MAX_LISTED = 5_000  # networks of a space that a test lists

AMBIGUOUS = [
    ("(hr | §hr)(128 e=4)", "hr(128 e=4)", 2),
    ("hr(8 e=4) | §hr(8 e=4 r=2)", "hr(8 e=4 r=2)", 1),
    ("hr(8 e=4|5) | §hr(8 e=5..9)", "hr(8 e=5)", 1),
    ("hr(8 e=4) -> t(64 e=4) | §hr(8 e=4) -> (t | hr)(64 e=4)", "hr(8 e=4)", 1),
    ("hr(8 e=4) -> (hr(8 e=4) | §hr(8 e=4 s=2))", "hr(8 e=4)", 15),
    ("hr(8 e=4) -> (hr(8 e=4) | §hr(8 e=4 down=b))", "hr(8 e=4)", 15),
    ("(hr(8) -> hr(9) | §hr(8) -> (hr(9) | hr(10)))(e=4)", "hr(8 e=4)", 2),
    ("(hr(8 e=4)|§hr(8 e=4)->hr(8 e=4)) -> (hr(8 e=4)|hr(8 e=4)->hr(8 e=4))", "hr(8 e=4)", 2),
]


@pytest.mark.parametrize(("marked", "common", "column"), AMBIGUOUS)
def test_a_space_that_writes_a_network_twice_is_refused(marked: str, common: str, column: int) -> None:
    with pytest.raises(SpecError) as caught:
        parse(marked.replace("§", ""))
    assert caught.value.column == marked.index("§")
    assert f"{common} can be written in two ways, here and at column {column};" in caught.value.message


STEMS = ["(§hrstem | vitstem) -> hr(8 e=4) | hr(8 e=4)", "(§hrstem(hs=32|64) -> hr(8 e=4)) | hr(8|9 e=4)"]


@pytest.mark.parametrize("marked", STEMS)
def test_the_default_stem_is_refused_as_an_alternative_to_no_stem(marked: str) -> None:
    with pytest.raises(SpecError, match="default stem") as caught:
        parse(marked.replace("§", ""))
    assert caught.value.column == marked.index("§")


def test_an_ambiguity_in_a_let_is_shown_in_its_text() -> None:
    with pytest.raises(SpecError, match=r"in let mixer: hr.* at column 1 of let mixer") as caught:
        parse("(mixer | mixer)(64 e=4)", let={"mixer": "hr | cffn"})
    assert caught.value.text == "hr | cffn"


DISTINCT = [
    ("hr(8 e=4) | hr(8 e=4 r=1)", 2),
    ("hr(8 e=4) -> hr(8 e=4) | hr(8 e=4)", 2),
    ("(hr | hr(r=1) | cffn | cffn(norm=ln))(8 e=4)", 4),
    ("hr(8 e=4) -> (hr | hr(down=a))(8 e=4)", 2),
    ("hr(8 e=4) -> (hr | hr(down=b))(8 e=4) -> hr(8 e=4) -> hr(8 e=4)", 2),
    ("hr(8 e=4) -> (hr | hr(down=none))(8 e=4)", 2),
    ("(hr(8) -> hr(8))(e=4) | (hr(8) -> hr(8))(e=5)", 2),
    ("(hrstem | convstem | vitstem | hrstem(hs=64)) -> hr(8 e=4)", 4),
    ("hr(8 e=4) | hrstem(hs=64) -> hr(8 e=4)", 2),
    ("(hr(8) -> t(64) | hr(8) -> t(128))(e=4)", 2),
]


@pytest.mark.parametrize(("text", "size"), DISTINCT)
def test_a_space_of_different_networks_is_accepted(text: str, size: int) -> None:
    assert len({net.key for net in parse(text)}) == parse(text).size == size


@settings(max_examples=150)
@given(repetitive_specs("hr(64 e=4 s=2)", "cffn(64 e=4 down=a)", "cffn(64 e=4 down=a|b)"))
def test_an_accepted_space_writes_every_network_once(text: str) -> None:
    try:
        space = parse(text)
    except SpecError:
        return
    if space.size < MAX_LISTED:
        assert len({net.key for net in space}) == space.size


@settings(max_examples=150)
@given(repetitive_specs())
def test_without_ties_only_spaces_with_equal_networks_are_refused(text: str) -> None:
    unchecked = Space(parse_tree(text, {}))
    if unchecked.size > MAX_LISTED:
        return
    if len({net.key for net in unchecked}) == unchecked.size:
        assert parse(text) == unchecked
    else:
        with pytest.raises(SpecError, match="two ways"):
            parse(text)
