"""Study files as YAML: lines of errors; nothing is dropped or guessed silently."""

from pathlib import Path

import pytest

from hiri_search.study.config.files.yaml_file import MAX_NODES_PER_FILE, parse_value, parse_yaml
from hiri_search.study.errors import StudyError

FILE = Path("study.yaml")


def _content(text: str) -> dict[str, object]:
    return parse_yaml(text, FILE, dict).content


VALUES = [
    ("no", "no"),
    ("on", "on"),
    ("yes", "yes"),
    ("true", True),
    ("False", False),
    ("1e-3", 1e-3),
    ("1.", 1.0),
    (".5", 0.5),
    ("-2", -2),
    ("007", 7.0),
    ("1_000", "1_000"),
    ("12:30", "12:30"),
    ("2024-01-01", "2024-01-01"),
    ("0x1F", "0x1F"),
    ("", None),
    ("~", None),
    ("'1'", "1"),
    ("!!str 1", "1"),
    ("=", "="),
    ("hr(32 e=4)*2 -> t(64 e=4)", "hr(32 e=4)*2 -> t(64 e=4)"),
    ("[1, no]", [1, "no"]),
    ("{a: 1}", {"a": 1}),
]


@pytest.mark.parametrize(("text", "value"), VALUES)
def test_scalars_are_those_of_yaml_1_2(text: str, value: object):
    read = parse_value(text, "here", (), dict)
    assert (read, type(read)) == (value, type(value))
    assert _content(f"key: {text}") == {"key": value}


def test_a_key_is_text_as_it_is_written():
    assert _content("1: a\nno: b\nnull: c\n'<<': d") == {"1": "a", "no": "b", "null": "c", "<<": "d"}


def test_every_key_has_its_line_or_that_of_the_enclosing_key():
    tree = parse_yaml("title: x\nrecipe:\n  lr: 1\n  epochs: 2\nseeds:\n  - 1\n  - 2\n", FILE, dict)
    assert tree.location(("recipe", "epochs")) == "study.yaml:4"
    assert tree.location(("seeds", 1)) == "study.yaml:7"
    assert tree.location(("recipe", "batch", "deeper")) == "study.yaml:2"
    assert tree.location(("proxy",)) == "study.yaml"


def test_an_alias_stands_for_its_value():
    assert _content("a: &x {k: 1}\nb: *x") == {"a": {"k": 1}, "b": {"k": 1}}


MERGES = [
    ("b: {<<: *a, k: 3}", {"k": 3, "m": 2}),
    ("b: {k: 3, <<: *a}", {"k": 3, "m": 2}),
    ("b: {<<: [*a, *c]}", {"k": 1, "m": 2, "n": 5}),
    ("b: {<<: [*c, *a]}", {"k": 4, "m": 2, "n": 5}),
    ("b: {<<: {n: 0}}", {"n": 0}),
    ("b: {'<<': text}", {"<<": "text"}),
]


@pytest.mark.parametrize(("text", "merged"), MERGES)
def test_a_merge_key_adds_the_keys_that_are_not_written_beside_it(text: str, merged: dict[str, object]):
    assert _content(f"a: &a {{k: 1, m: 2}}\nc: &c {{k: 4, n: 5}}\n{text}")["b"] == merged


def test_a_merged_key_has_the_line_where_it_is_written():
    tree = parse_yaml("a: &a\n  k: 1\n  m: 2\nb:\n  k: 3\n  <<: *a\n", FILE, dict)
    assert [tree.location(("b", key)) for key in ("k", "m")] == ["study.yaml:5", "study.yaml:3"]


MISTAKES = [
    ("a: {<<: 5}", "study.yaml:1: << merges a mapping, as in <<: \\*name; quote it to use it as a name"),
    ("a: {<<: [5]}", "study.yaml:1: << merges a mapping"),
    ("a: &a {<<: *a}", "study.yaml: more than 50 nested mappings or lists"),
    ("a: " + "9" * 30, "study.yaml:1: 9{30} does not fit into 64 bits; write a smaller number"),
    (r'a: "\U00110000"', "study.yaml: this is not YAML: chr"),
    ("a: 1\nb: 2\na: 3", "study.yaml:3: duplicate key 'a', first in line 1"),
    ("r:\n  a: 1\n  a: 1", "study.yaml:3: duplicate key 'a', first in line 2"),
    ("r: {a: 1, a: 1}", "study.yaml:1: duplicate key 'a', first in line 1"),
    ("a: &x [*x]", "study.yaml:1: more than 50 nested mappings or lists"),
    ("a: &x {k: *x}", "study.yaml:1: more than 50 nested mappings or lists"),
    ("a: " + "[" * 2000 + "]" * 2000, "more than 50 nested mappings or lists"),
    ("a: *x", "study.yaml:1: this is not YAML: found undefined alias 'x'"),
    ("? [a]\n: b", "study.yaml:1: a key must be plain text"),
    ("a: !!int x", "study.yaml:1: 'x' cannot be read as int"),
    ("a: !!float x", "study.yaml:1: 'x' cannot be read as float"),
    ("a: !!timestamp 2020-01-01", "study.yaml:1: the tag tag:yaml.org,2002:timestamp is not supported"),
    ("a: !!set {b}", "study.yaml:1: the tag tag:yaml.org,2002:set is not supported"),
    ("a: " + "9" * 5000, "study.yaml:1: '9999999999999999999999999999999999999999' cannot be read as int"),
    ("", "study.yaml holds no mapping; write `key: value` lines"),
    ("just words", "study.yaml holds no mapping"),
    ("a: \x07", r"study.yaml: this is not YAML: special characters are not allowed \('\\x07'\)"),
]


@pytest.mark.parametrize(("text", "message"), MISTAKES)
def test_yaml_that_would_be_dropped_or_guessed_is_refused(text: str, message: str):
    with pytest.raises(StudyError, match=message):
        parse_yaml(text, FILE, dict)


def test_an_alias_bomb_is_refused_early():
    layers = "".join(f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 10)}]\n" for i in range(1, 12))
    with pytest.raises(StudyError, match=f"more than {MAX_NODES_PER_FILE:,} values, counting each use of an alias"):
        parse_yaml("l0: &l0 [x]\n" + layers, FILE, dict)


def test_an_error_in_a_command_line_value_names_the_option():
    with pytest.raises(StudyError, match=r"^--set a=\[: this is not YAML"):
        parse_value("[", "--set a=[", (), dict)
