"""The parser: valid specs, invalid specs and their error messages."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from hiri_search.language import SpecError, parse, parse_net
from tests.calls import at_most_calls
from tests.language.specs import WrittenSpec, mutated_specs, spaces, token_sequences

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
def test_a_space_has_one_canonical_text(text: str, normal: str) -> None:
    assert str(parse(text)) == normal
    assert parse(text) == parse(normal)


LET = {
    "start": "hr(32 e=4)*2 -> hr(64 e=4)*2",
    "mixer": "hr | t",
    "both": "start -> mixer(128 e=4)",
    "bare": "hr",
}

EXPANDED = [
    ("start", "hr(32 e=4)*2 -> hr(64 e=4)*2"),
    ("start -> t(64 e=4)", "hr(32 e=4)*2 -> hr(64 e=4)*2 -> t(64 e=4)"),
    ("mixer(64 e=4)", "(hr | t)(64 e=4)"),
    ("(mixer | cffn)(64 e=4)", "(hr | t | cffn)(64 e=4)"),
    ("both", "hr(32 e=4)*2 -> hr(64 e=4)*2 -> (hr | t)(128 e=4)"),
    ("start(norm=bn)", "(hr(32 e=4)*2 -> hr(64 e=4)*2)(norm=bn)"),
    ("bare(32 e=4) -> bare(64 e=4)", "hr(32 e=4) -> hr(64 e=4)"),
]


@pytest.mark.parametrize(("text", "expanded"), EXPANDED)
def test_a_let_is_expanded_as_a_group(text: str, expanded: str) -> None:
    assert str(parse(text, let=LET)) == expanded


# The mistake starts after the §; the caret must point there.
MALFORMED = [
    ("§", "unexpected end of spec; expected a stem, a stage, a let name or a group"),
    ("hr(32§, e=4)", "unexpected character ',': separate arguments with spaces"),
    ("hr(32 e=4§.5)", "unexpected character '.': write a range as 1..3; all numbers are integers"),
    ("hr(32 e=4) §- hr(64 e=4)", "unexpected character '-': connect stages with ->"),
    ("hr(32 e=§٣)", "unexpected character '٣'"),
    ("h§é(32 e=4)", "unexpected character 'é'"),
    ("§hrr(32 e=4)", "unknown name hrr; did you mean hr?"),
    ("hr(32 e=4) -> §HR(64 e=4)", "unknown name HR; did you mean hr?"),
    ("§swin(32 e=4)", "unknown name swin; expected one of hr, cffn, t, hrstem, convstem, vitstem"),
    ("hr(32 e=4 §h=2)", "hr has no argument h; expected one of w, e, n, r, norm, down, s"),
    ("(hr | t)(64 e=4 §d=64)", "hr has no argument d; expected one of w, e, n, r, norm, down, s"),
    ("vitstem(§hs=64) -> hr(32 e=4)", "vitstem has no argument hs; it takes no arguments"),
    ("§hr(e=4)", "this hr has no width (w); write it as in hr(64 e=4)"),
    ("hr(8 e=4) -> (hr(8 e=4) | §t(64))*2", "this t has no expansion (e); write it as in t(64 e=4)"),
    ("hr(32 e=4)*2 -> (cffn(e=4) | t(64))(§e=4)", "e is set twice for one stage; remove one"),
    ("hr(32 e=4 §64)", "the width is set twice for one stage; remove one"),
    ("hr(32 e=4)*2§*3", "the depth n is set twice for one stage; remove one"),
    ("hr(32 §e=65)", "in hr, e=65 is not supported; e must be an integer from 1 to 64"),
    ("hr(32 e=4)§*0", "in hr, n=0 is not supported; n must be an integer from 1 to 512"),
    ("(hr | cffn)(32 e=4 §norm=ln)", "in hr, norm=ln is not supported; norm must be one of bn"),
    ("hr(32 e=4 §norm=1)", "in hr, norm=1 is not supported; norm must be one of bn"),
    ("hr(32 §e=bn)", "in hr, e=bn is not supported; e must be an integer from 1 to 64"),
    ("hr(32 e=4 §bn)", "'bn' is not assigned to an argument; write it as in norm=bn"),
    ("hr(32 e=4|§bn)", "numbers and words cannot be mixed in one value"),
    ("hr(32 e=4..6|§5)", "5 is listed twice; remove one"),
    ("hr(32 e=§6..4)", "the range 6..4 is descending; write 4..6"),
    ("hr(§64..300/64 e=4)", "the range 64..300/64 does not end at 300; write 64..256/64"),
    ("hr(§64..128/0 e=4)", "the step of a range must be at least 1"),
    ("hr(§1..999999 e=4)", "this range has more than 20,000 numbers"),
    ("hr(§1000000 e=4)", "this number is too large; write at most six digits"),
    ("hr(§)", "unexpected ')'; expected an argument"),
    ("hr(32 e=4§", "unexpected end of spec; expected an argument or )"),
    ("hr(32 e=§)", "unexpected ')'; expected a value of e"),
    ("hr(32 e=4) §hr(64 e=4)", "unexpected 'hr'; expected ->, | or the end of the spec"),
    ("(hr(32 e=4)§", "unexpected end of spec; expected ->, | or )"),
    ("hr(32 e=4)§)", "unexpected ')'; expected ->, | or the end of the spec"),
    ("hr(32 e=4)*§", "unexpected end of spec; expected a depth"),
    ("hr(32 e=4) -> §-> hr(64 e=4)", "unexpected '->'; expected a stem, a stage, a let name or a group"),
    ("§t(100 e=4)", "t(100 d=64): width 100 is not a multiple of the head size 64; write d=50,"),
    ("(hr | §t(d=16|24))(64 e=4)", "t(64 d=24): width 64 is not a multiple of the head size 24;"),
    ("hr(8 e=4) -> §hr(8 e=4 down=a|none s=2)", "hr(down=none s=2): s=2 is not supported with down=none"),
    ("hr(32 e=4 §down=a)", "the first stage does not support down=a: it follows the stem directly; leave it out"),
    ("vitstem -> (hr | cffn)(32 e=4 §s=1|2)", "the first stage does not support s=2: it follows the stem directly"),
    ("hr(32 e=4) -> hr(64 e=4 §down=none)", "down=none keeps the width, but hr of width 64 follows width 32"),
    ("hr(32|64 e=4) -> hr(32|64 e=4 §down=a|none)", "down=none keeps the width, but hr of width 64 follows"),
    ("hr(32 e=4) -> §hrstem -> hr(64 e=4)", "hrstem follows another part; a stem must come first"),
    ("hr(32 e=4) | §vitstem", "no stage follows this vitstem; write one, as in -> hr(64 e=4)"),
    ("§hr(1..16384 e=1..64)", "this hr has 1,048,576 combinations of arguments; the maximum is 100,000"),
    ("(" * 50 + "§(hr(32 e=4)" + ")" * 51, "more than 50 nested groups"),
    (" " * 2000 + "§hr(32 e=4)", "this spec has 2,010 characters; the maximum is 2,000"),
]


@pytest.mark.parametrize(("marked", "message"), MALFORMED)
def test_a_mistake_has_a_message_and_a_column(marked: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse(marked.replace("§", ""))
    assert caught.value.message.startswith(message)
    assert caught.value.column == marked.index("§")


def test_the_caret_points_at_the_mistake() -> None:
    with pytest.raises(SpecError) as caught:
        parse("hr(32, e=4)")
    assert str(caught.value).splitlines()[1:] == ["  hr(32, e=4)", "       ^"]


def test_the_caret_is_right_in_a_long_text_of_several_lines() -> None:
    with pytest.raises(SpecError) as caught:
        parse("hr(32 e=4)\n-> " * 40 + "hrr(64 e=4) -> t(64 e=4)" + "\n-> hr(32 e=4)" * 40)
    _, text, caret = str(caught.value).splitlines()
    assert text[caret.index("^") :].startswith("hrr(64")
    assert len(text) < 110


LET_ERRORS: list[tuple[str, dict[Any, Any], str]] = [
    ("a", {"a": "b", "b": "c", "c": "a"}, "in let c: a contains itself: a -> b -> c -> a"),
    ("hr(32 e=4)", {"a": "a"}, "in let a: a contains itself: a -> a"),
    ("hr(32 e=4)", {"a": "hr(32,e=4)"}, "in let a: unexpected character ','"),
    ("block(32)", {"block": "hr"}, "in let block: this hr has no expansion (e)"),
    ("block(e=4)", {"block": "hr(32 e=4)"}, "e is set twice for one stage"),
    ("blok(e=4)", {"block": "hr(32)"}, "unknown name blok; did you mean block?"),
    ("hr(32 e=4)", {"hr": "t"}, "let hr would hide the built-in hr; choose another name"),
    ("hr(32 e=4)", {"a-b": "t"}, "'a-b' is not a valid let name"),
    ("hr(32 e=4)", {"é": "t"}, "'é' is not a valid let name"),
    ("hr(32 e=4)", {3: "t"}, "3 is not a valid let name"),
    ("hr(32 e=4)", {"a": 64}, "let a must be text, as in hr(64 e=4)*2; found 64"),
    (
        "a -> a",
        {"a": " -> ".join(["hr(32 e=4)"] * 75)},
        "with all lets expanded, this spec has 2,096 characters",
    ),
]


@pytest.mark.parametrize(("text", "let", "message"), LET_ERRORS)
def test_an_error_names_the_wrong_let(text: str, let: dict[Any, Any], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse(text, let=let)
    assert caught.value.message.startswith(message)


def test_a_mistake_in_a_let_is_shown_in_its_text() -> None:
    with pytest.raises(SpecError) as caught:
        parse("hr(32 e=4) -> end", let={"end": "t(512 e=5, n=4)"})
    assert (caught.value.text, caught.value.column) == ("t(512 e=5, n=4)", 9)


def test_too_many_calls_are_noticed() -> None:
    with pytest.raises(pytest.fail.Exception, match="more than 1,000 function calls"), at_most_calls(1_000):
        parse(HEAVY[0])


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("inner", ["x{} -> x{}", "(x{} -> hr(8 e=4) | cffn(8 e=4))", "x{}"])
def test_lets_that_grow_exponentially_are_refused_early(inner: str, order: int) -> None:
    let = {f"x{at + 1}": inner.format(at, at) for at in range(400)} | {"x0": "hr(8 e=4)"}
    with pytest.raises(SpecError, match="more than"), at_most_calls(20_000):
        parse("x400", let=dict(list(let.items())[::order]))


@pytest.mark.parametrize("value", [None, 5, True, b"hr(32 e=4)", ["hr(32 e=4)"]])
def test_a_spec_must_be_text(value: Any) -> None:
    with pytest.raises(SpecError, match="a spec must be text"):
        parse(value)


def test_parse_net_refuses_a_space_of_several_networks() -> None:
    assert parse_net("a", let={"a": "hr(32 e=4)"}) == parse_net("hr(32 e=4)")
    with pytest.raises(SpecError, match=r"expected one network, but this spec describes 6; .* `space:`"):
        parse_net("hr(32|48 e=4)*1..3")


SAME_WIDTH = [
    ("hr(8 e=4) -> hr(8 e=4 down=none)", 1),
    ("(hr(8|16) -> t(64))(e=4) -> hr(64 e=4 down=none)", 2),
    ("(hr -> hr(down=none|a))(8|16 e=4)", 4),
    ("((hr | cffn) -> hr(down=none))(8|16 e=4)", 4),
    ("hr(8 e=4 down=none) -> hr(16 e=4)", 1),
]


@pytest.mark.parametrize(("text", "size"), SAME_WIDTH)
def test_down_none_is_valid_where_the_width_never_changes(text: str, size: int) -> None:
    assert len(list(parse(text))) == size


def check_parses_or_raises(text: str, let: dict[str, str]) -> None:
    try:
        space = parse(text, let=let)
    except SpecError:
        return
    assert parse(str(space)) == space


@settings(max_examples=100)
@given(st.text() | st.text(alphabet=st.characters(max_codepoint=127)) | token_sequences())
def test_any_text_parses_or_raises_a_spec_error(text: str) -> None:
    check_parses_or_raises(text, {})
    check_parses_or_raises("hr(32 e=4) -> block", {"block": text})


@settings(max_examples=80)
@given(mutated_specs())
def test_a_mutated_spec_parses_or_raises_a_spec_error(written: WrittenSpec) -> None:
    check_parses_or_raises(written.text, written.let)


HEAVY = [
    " -> ".join(["(hr | cffn | t)(64|128 e=4|5)*1..3"] * 52),
    " -> ".join(["(" + "|".join(f"hr({width} e=4)" for width in range(10, 60)) + ")"] * 3),
    "(" + " -> ".join(["(hr|cffn|t)"] * 130) + ")(64 e=4)",
    "|".join(f"t(1..{16000 + at} d=1 e=1..6)" for at in range(80)),
    "t(1..16384 d=1 e=1..6)",
]


@pytest.mark.parametrize("text", HEAVY)
def test_the_longest_specs_are_parsed_without_a_blow_up(text: str) -> None:
    assert len(text) <= 2_000
    with at_most_calls(4_000_000):  # three times the largest number; about a second
        check_parses_or_raises(text, {})


@settings(max_examples=30)
@given(spaces(max_values=2, level=1))
def test_a_spec_needs_no_quotes_in_yaml(written: WrittenSpec) -> None:
    text = str(parse(written.text, let=written.let))
    loaded = yaml.safe_load(f"net: {text}\nnets: [{text}, {text}]\nkeys:\n  {text}: {text}\n")
    assert loaded == {"net": text, "nets": [text, text], "keys": {text: text}}
    assert not {*text} & {",", '"', "\n"}  # a CSV cell needs no quotes either


def test_the_language_imports_only_the_standard_library() -> None:
    code = "import sys; before = {*sys.modules}; import hiri_search.language; print(*{*sys.modules} - before)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {name.split(".")[0] for name in done.stdout.split()} <= {"hiri_search", *sys.stdlib_module_names}
