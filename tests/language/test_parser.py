"""From text to a space: what is one, what is not, and how an error says so."""

from __future__ import annotations

import subprocess
import sys
from time import perf_counter
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from hiri_search.language import SpecError, parse, parse_net
from tests.language.specs import Written, mutants, soups, spaces

WRITTEN = [
    ("hr(e=4 32)", "hr(32 e=4)"),
    (" hr\n(w = 32\te= 4) * 2 ", "hr(32 e=4)*2"),
    ("hr(32)(e=4)*2", "hr(32 e=4)*2"),
    ("hr*2(32 e=4 )", "hr(32 e=4)*2"),
    ("hr(n=2 32 e=4)", "hr(32 e=4)*2"),
    ("hr(32 e=4)*(9|4)", "hr(32 e=4)*(4|9)"),
    ("hr(32 e=4)*(1..3)", "hr(32 e=4)*1..3"),
    ("hr(32 e=6|4|5)", "hr(32 e=4..6)"),
    ("hr(64|128..256/64|32 e=4)", "hr(32|64..256/64 e=4)"),
    ("hr(32 e=4..5)", "hr(32 e=4|5)"),
    ("hr(032 e=4..4)", "hr(32 e=4)"),
    ("t(64 e=4 norm=mix|bn|ln)", "t(64 e=4 norm=mix|bn|ln)"),
    ("((hr(32 e=4)))", "hr(32 e=4)"),
    ("(hr(32))(e=4)", "hr(32 e=4)"),
    ("((hr | t)(64))(e=4)", "(hr | t)(64 e=4)"),
    ("(hr(8 e=4) -> hr(9 e=4)) -> hr(8 e=4)", "hr(8 e=4) -> hr(9 e=4) -> hr(8 e=4)"),
    ("hr(8 e=4) | (hr(9 e=4) | t(64 e=4))", "hr(8 e=4) | hr(9 e=4) | t(64 e=4)"),
    ("((hr(8) | t(64)) -> hr(8))(e=4)", "((hr(8) | t(64)) -> hr(8))(e=4)"),
]


@pytest.mark.parametrize(("text", "normal"), WRITTEN)
def test_one_space_has_one_text(text: str, normal: str) -> None:
    assert str(parse(text)) == normal
    assert parse(text) == parse(normal)


LET = {
    "start": "hr(32 e=4)*2 -> hr(64 e=4)*2",
    "mixer": "hr | t",
    "both": "start -> mixer(128 e=4)",
    "bare": "hr",
}

PASTED = [
    ("start", "hr(32 e=4)*2 -> hr(64 e=4)*2"),
    ("start -> t(64 e=4)", "hr(32 e=4)*2 -> hr(64 e=4)*2 -> t(64 e=4)"),
    ("mixer(64 e=4)", "(hr | t)(64 e=4)"),
    ("(mixer | cffn)(64 e=4)", "(hr | t | cffn)(64 e=4)"),
    ("both", "hr(32 e=4)*2 -> hr(64 e=4)*2 -> (hr | t)(128 e=4)"),
    ("start(norm=bn)", "(hr(32 e=4)*2 -> hr(64 e=4)*2)(norm=bn)"),
    ("bare(32 e=4) -> bare(64 e=4)", "hr(32 e=4) -> hr(64 e=4)"),
]


@pytest.mark.parametrize(("text", "pasted"), PASTED)
def test_a_let_is_pasted_as_a_group(text: str, pasted: str) -> None:
    assert str(parse(text, let=LET)) == pasted


# What is wrong stands behind the §; the caret must stand there too.
MALFORMED = [
    ("§", "the text ends where a kind, a let name or a group must stand"),
    ("hr(32§, e=4)", "',' has no meaning here: arguments are separated by spaces"),
    ("hr(32 e=4§.5)", "'.' has no meaning here: a range is written 1..3, and all numbers are whole"),
    ("hr(32 e=4) §- hr(64 e=4)", "'-' has no meaning here: one stage behind another is written ->"),
    ("hr(32 e=§٣)", "'٣' has no meaning here"),
    ("h§é(32 e=4)", "'é' has no meaning here"),
    ("§hrr(32 e=4)", "no kind is called hrr; did you mean hr?"),
    ("hr(32 e=4) -> §HR(64 e=4)", "no kind is called HR; did you mean hr?"),
    ("§swin(32 e=4)", "no kind is called swin; there is hr, cffn, t, hrstem, convstem, vitstem"),
    ("hr(32 e=4 §h=2)", "hr takes no h; there is w, e, n, r, norm, down, s"),
    ("(hr | t)(64 e=4 §d=64)", "hr takes no d; there is w, e, n, r, norm, down, s"),
    ("vitstem(§hs=64) -> hr(32 e=4)", "vitstem takes no hs; there is nothing it takes"),
    ("§hr(e=4)", "this hr has no width (w); write it as in hr(64 e=4)"),
    ("hr(8 e=4) -> (hr(8 e=4) | §t(64))*2", "this t has no expansion (e); write it as in t(64 e=4)"),
    ("hr(32 e=4)*2 -> (cffn(e=4) | t(64))(§e=4)", "e is given twice for one stage; leave one out"),
    ("hr(32 e=4 §64)", "the width is given twice for one stage; leave one out"),
    ("hr(32 e=4)*2§*3", "the depth n is given twice for one stage; leave one out"),
    ("hr(32 §e=65)", "in hr, e=65 is not possible; e is a whole number from 1 to 64"),
    ("hr(32 e=4)§*0", "in hr, n=0 is not possible; n is a whole number from 1 to 512"),
    ("(hr | cffn)(32 e=4 §norm=ln)", "in hr, norm=ln is not possible; norm is one of bn"),
    ("hr(32 e=4 §norm=1)", "in hr, norm=1 is not possible; norm is one of bn"),
    ("hr(32 §e=bn)", "in hr, e=bn is not possible; e is a whole number from 1 to 64"),
    ("hr(32 e=4 §bn)", "'bn' has no letter and = in front, as norm=bn has"),
    ("hr(32 e=4|§bn)", "numbers and words cannot be mixed in one value"),
    ("hr(32 e=4..6|§5)", "5 stands here twice; leave one out"),
    ("hr(32 e=§6..4)", "6..4 counts down; write 4..6"),
    ("hr(§64..300/64 e=4)", "64..300/64 does not meet 300; write 64..256/64"),
    ("hr(§64..128/0 e=4)", "a range with step 0 goes nowhere"),
    ("hr(§1..999999 e=4)", "this range has more than 20,000 numbers"),
    ("hr(§1000000 e=4)", "this number is too large; no number here has more than six digits"),
    ("hr(§)", "')' stands where an argument must stand"),
    ("hr(32 e=4§", "the text ends where an argument or ) must stand"),
    ("hr(32 e=§)", "')' stands where a value of e must stand"),
    ("hr(32 e=4) §hr(64 e=4)", "'hr' stands where -> or | or the end must stand"),
    ("(hr(32 e=4)§", "the text ends where -> or | or ) must stand"),
    ("hr(32 e=4)§)", "')' stands where -> or | or the end must stand"),
    ("hr(32 e=4)*§", "the text ends where a depth must stand"),
    ("hr(32 e=4) -> §-> hr(64 e=4)", "'->' stands where a kind, a let name or a group must stand"),
    ("§t(100 e=4)", "t(100 d=64): a t of width 100 has no whole number of heads of size 64; write d=50,"),
    ("(hr | §t(d=16|24))(64 e=4)", "t(64 d=24): a t of width 64 has no whole number of heads of size 24;"),
    ("hr(8 e=4) -> §hr(8 e=4 down=a|none s=2)", "hr(down=none s=2): s=2 with down=none is not possible"),
    ("hr(32 e=4 §down=a)", "the first stage takes no down=a: the stem stands there; leave it out"),
    ("vitstem -> (hr | cffn)(32 e=4 §s=1|2)", "the first stage takes no s=2: the stem stands there"),
    ("hr(32 e=4) -> hr(64 e=4 §down=none)", "down=none keeps the width, but hr of width 64 follows width 32"),
    ("hr(32|64 e=4) -> hr(32|64 e=4 §down=a|none)", "down=none keeps the width, but hr of width 64 follows"),
    ("hr(32 e=4) -> §hrstem -> hr(64 e=4)", "hrstem stands behind another part; a stem comes first"),
    ("hr(32 e=4) | §vitstem", "no stage stands behind this vitstem; write one, as in -> hr(64 e=4)"),
    ("§hr(1..16384 e=1..64)", "this hr has 1,048,576 combinations of arguments; 100,000 is the most"),
    ("(" * 50 + "§(hr(32 e=4)" + ")" * 51, "more than 50 groups stand inside each other here"),
    (" " * 2000 + "§hr(32 e=4)", "2,010 characters are too many; 2,000 is the most"),
]


@pytest.mark.parametrize(("marked", "message"), MALFORMED)
def test_what_is_wrong_is_shown_and_said(marked: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse(marked.replace("§", ""))
    assert caught.value.message.startswith(message)
    assert caught.value.column == marked.index("§")


def test_the_caret_stands_under_the_mistake() -> None:
    with pytest.raises(SpecError) as caught:
        parse("hr(32, e=4)")
    assert str(caught.value).splitlines()[1:] == ["  hr(32, e=4)", "       ^"]


def test_the_caret_stands_right_in_a_long_text_of_several_lines() -> None:
    with pytest.raises(SpecError) as caught:
        parse("hr(32 e=4)\n-> " * 40 + "hrr(64 e=4) -> t(64 e=4)" + "\n-> hr(32 e=4)" * 40)
    _, text, caret = str(caught.value).splitlines()
    assert text[caret.index("^") :].startswith("hrr(64")
    assert len(text) < 110


LET_ERRORS: list[tuple[str, dict[Any, Any], str]] = [
    ("a", {"a": "b", "b": "c", "c": "a"}, "in the let c: a contains itself: a -> b -> c -> a"),
    ("hr(32 e=4)", {"a": "a"}, "in the let a: a contains itself: a -> a"),
    ("hr(32 e=4)", {"a": "hr(32,e=4)"}, "in the let a: ',' has no meaning here"),
    ("block(32)", {"block": "hr"}, "in the let block: this hr has no expansion (e)"),
    ("block(e=4)", {"block": "hr(32 e=4)"}, "e is given twice for one stage"),
    ("blok(e=4)", {"block": "hr(32)"}, "no kind is called blok; did you mean block?"),
    ("hr(32 e=4)", {"hr": "t"}, "the let hr would hide the kind hr; choose another name"),
    ("hr(32 e=4)", {"a-b": "t"}, "'a-b' is no name for a let"),
    ("hr(32 e=4)", {"é": "t"}, "'é' is no name for a let"),
    ("hr(32 e=4)", {3: "t"}, "3 is no name for a let"),
    ("hr(32 e=4)", {"a": 64}, "the let a is 64; write text, as in hr(64 e=4)*2"),
    (
        "a -> a",
        {"a": " -> ".join(["hr(32 e=4)"] * 75)},
        "written out, with lets pasted, this has 2,096 characters",
    ),
]


@pytest.mark.parametrize(("text", "let", "message"), LET_ERRORS)
def test_a_wrong_let_is_named(text: str, let: dict[Any, Any], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse(text, let=let)
    assert caught.value.message.startswith(message)


def test_a_mistake_in_a_let_is_shown_in_its_text() -> None:
    with pytest.raises(SpecError) as caught:
        parse("hr(32 e=4) -> end", let={"end": "t(512 e=5, n=4)"})
    assert (caught.value.text, caught.value.column) == ("t(512 e=5, n=4)", 9)


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("inner", ["x{} -> x{}", "(x{} -> hr(8 e=4) | cffn(8 e=4))", "x{}"])
def test_lets_that_grow_without_bounds_are_refused_at_once(inner: str, order: int) -> None:
    let = {f"x{at + 1}": inner.format(at, at) for at in range(400)} | {"x0": "hr(8 e=4)"}
    started = perf_counter()
    with pytest.raises(SpecError, match="more than"):
        parse("x400", let=dict(list(let.items())[::order]))
    assert perf_counter() - started < 1


@pytest.mark.parametrize("thing", [None, 5, True, b"hr(32 e=4)", ["hr(32 e=4)"]])
def test_what_is_no_text_is_no_spec(thing: Any) -> None:
    with pytest.raises(SpecError, match="a spec is text"):
        parse(thing)


def test_one_network_is_asked_for_where_one_is_needed() -> None:
    assert parse_net("a", let={"a": "hr(32 e=4)"}) == parse_net("hr(32 e=4)")
    with pytest.raises(SpecError, match=r"one network must stand here, but this writes 6; .* `space:`"):
        parse_net("hr(32|48 e=4)*1..3")


SAME_WIDTH = [
    ("hr(8 e=4) -> hr(8 e=4 down=none)", 1),
    ("(hr(8|16) -> t(64))(e=4) -> hr(64 e=4 down=none)", 2),
    ("(hr -> hr(down=none|a))(8|16 e=4)", 4),
    ("((hr | cffn) -> hr(down=none))(8|16 e=4)", 4),
    ("hr(8 e=4 down=none) -> hr(16 e=4)", 1),
]


@pytest.mark.parametrize(("text", "size"), SAME_WIDTH)
def test_a_stage_may_keep_the_grid_where_the_width_is_sure_to_stay(text: str, size: int) -> None:
    assert len(list(parse(text))) == size


def refuses_or_parses(text: str, let: dict[str, str]) -> None:
    try:
        space = parse(text, let=let)
    except SpecError:
        return
    assert parse(str(space)) == space


@settings(max_examples=100)
@given(st.text() | st.text(alphabet=st.characters(max_codepoint=127)) | soups())
def test_any_text_parses_or_is_a_spec_error(text: str) -> None:
    refuses_or_parses(text, {})
    refuses_or_parses("hr(32 e=4) -> block", {"block": text})


@settings(max_examples=80)
@given(mutants())
def test_a_spec_with_a_piece_exchanged_parses_or_is_a_spec_error(written: Written) -> None:
    refuses_or_parses(written.text, written.let)


HEAVY = [
    " -> ".join(["(hr | cffn | t)(64|128 e=4|5)*1..3"] * 52),
    " -> ".join(["(" + "|".join(f"hr({width} e=4)" for width in range(10, 60)) + ")"] * 3),
    "(" + " -> ".join(["(hr|cffn|t)"] * 130) + ")(64 e=4)",
    "|".join(f"t(1..{16000 + at} d=1 e=1..6)" for at in range(80)),
    "t(1..16384 d=1 e=1..6)",
]


@pytest.mark.parametrize("text", HEAVY)
def test_reading_the_longest_texts_takes_less_than_two_seconds(text: str) -> None:
    assert len(text) <= 2_000
    started = perf_counter()
    refuses_or_parses(text, {})
    assert perf_counter() - started < 4  # it is read twice


@settings(max_examples=30)
@given(spaces(most=2, level=1))
def test_a_spec_needs_no_quotes_in_yaml(written: Written) -> None:
    text = str(parse(written.text, let=written.let))
    loaded = yaml.safe_load(f"net: {text}\nnets: [{text}, {text}]\nkeys:\n  {text}: {text}\n")
    assert loaded == {"net": text, "nets": [text, text], "keys": {text: text}}
    assert not {*text} & {",", '"', "\n"}  # nor in a cell of a CSV file


def test_the_language_imports_the_standard_library_alone() -> None:
    code = "import sys; before = {*sys.modules}; import hiri_search.language; print(*{*sys.modules} - before)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {name.split(".")[0] for name in done.stdout.split()} <= {"hiri_search", *sys.stdlib_module_names}
