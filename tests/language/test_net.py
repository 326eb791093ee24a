"""Net: its text, its key and its valid input sides."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings

from hiri_search.kinds import Hr, HrStem, VitStem
from hiri_search.language import Net, SpecError, parse, parse_net
from hiri_search.language.stages import KINDS, names
from tests.language.specs import nets

S = "hr(32 e=4)*2 -> hr(64 e=4)*2 -> cffn(128 e=6)*2 -> t(320 e=5)*9 -> t(512 e=5)*4"
GOLDEN = list(csv.DictReader((Path(__file__).parent / "golden_keys.csv").read_text().splitlines()))


@settings(max_examples=60)
@given(nets())
def test_parsing_the_text_of_a_network_gives_the_network(net: Net) -> None:
    assert parse_net(str(net)) == net
    assert str(parse(str(net))) == str(net)


@settings(max_examples=60)
@given(nets())
def test_writing_defaults_out_changes_nothing(net: Net) -> None:
    assert parse_net(net.canonical_text) == net
    assert parse_net(net.canonical_text).key == net.key


@pytest.mark.parametrize("row", GOLDEN, ids=lambda row: row["name"])
def test_keys_are_stable(row: dict[str, str]) -> None:
    assert parse_net(row["spec"]).key == row["key"]


def test_keys_do_not_depend_on_the_process() -> None:
    code = "from hiri_search.language import parse_net; import sys; print(parse_net(sys.argv[1]).key)"
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code, S],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == parse_net(S).key


EQUAL = [
    ("hr(32 e=4)", "hr(32 e=4 r=2 s=1 down=none)"),
    ("hr(32 e=4)", "hrstem -> hr(32 e=4)"),
    ("hr(32 e=4)", "hrstem(hs=32) -> (hr(e=4))(w=32)*1"),
    ("hr(32 e=4) -> t(64 e=4)", "(hr(32) -> t(64 d=64 down=b s=2))(e=4)"),
    (
        "hr(8 e=4) -> hr(16 e=4) -> hr(32 e=4) -> hr(64 e=4)",
        "hr(8 e=4) -> (hr(16 down=a) -> hr(32) -> hr(64))(e=4)",
    ),
]


@pytest.mark.parametrize(("first", "second"), EQUAL)
def test_equal_networks_have_equal_keys(first: str, second: str) -> None:
    assert parse_net(first) == parse_net(second)
    assert parse_net(first).key == parse_net(second).key


@dataclass(frozen=True, kw_only=True)
class FullHr(Hr):
    """Hr with the default r=1 in place of r=2."""

    reduction: int = field(default=1, metadata=Hr.__dataclass_fields__["reduction"].metadata)


def test_a_changed_default_changes_the_key() -> None:
    net, changed = Net.of([Hr(width=32, expansion=4)]), Net.of([FullHr(width=32, expansion=4)])
    assert net.key != changed.key


def test_the_canonical_text_writes_every_argument() -> None:
    assert parse_net("hr(32 e=4) -> t(64 e=4)").canonical_text == (
        "hrstem(hs=32) -> hr(32 e=4 r=2 norm=bn down=none s=1)*1 -> t(64 e=4 d=64 sr=1 ffn=conv norm=mix down=b s=2)*1"
    )


@pytest.mark.parametrize(("stages", "downs"), [(1, ""), (2, "b"), (3, "bb"), (4, "abb"), (6, "aaabb")])
def test_default_downsampling_is_b_for_the_last_two_stages_and_a_before(stages: int, downs: str) -> None:
    net = parse_net(" -> ".join(["hr(32 e=4)"] * stages))
    assert [stage.down for stage in net.stages] == ["none", *downs]


SIDES = [
    (S, 64),
    ("hr(16 e=4) -> " + S, 128),
    ("hr(32 e=4)", 8),
    ("hr(32 e=4 r=1)", 4),
    (" -> ".join(["hr(32 e=4)"] * 5), 128),
    (" -> ".join(["hr(32 e=4)"] * 4 + ["hr(32 e=4 r=1)"]), 64),
    ("t(64 e=4 sr=8) -> t(128 e=4 sr=4)", 32),
    ("t(64 e=4 sr=3)", 12),
    ("cffn(32 e=4) -> cffn(64 e=4 s=1)", 4),
    ("cffn(32 e=4) -> cffn(32 e=4 down=none)", 4),
]


@pytest.mark.parametrize(("text", "unit"), SIDES)
def test_valid_sides_are_the_multiples_of_side_unit(text: str, unit: int) -> None:
    net = parse_net(text)
    assert net.side_unit == unit
    assert net.grids(unit * 7)[0] == unit * 7 // 4
    for side in (-unit, 0, unit // 2, unit + 1, unit * 7 - 2):
        with pytest.raises(SpecError, match=f"multiple of {unit}"):
            net.grids(side)


@pytest.mark.parametrize(("side", "nearest"), [(450, "448 or 512"), (63, "64"), (0, "64"), (-500, "64")])
def test_an_invalid_side_is_refused_with_the_nearest_valid_ones(side: int, nearest: str) -> None:
    with pytest.raises(SpecError, match=f"the nearest is {nearest}$"):
        parse_net(S).grids(side)


def test_grids_match_the_paper() -> None:
    assert parse_net(S).grids(448) == (112, 56, 28, 14, 7)


def test_a_scaled_down_network_keeps_its_heads() -> None:
    scaled = parse_net(S).scaled_down(width=4, depth=2)
    assert str(scaled) == (
        "hrstem(hs=8) -> hr(8 e=4) -> hr(16 e=4) -> cffn(32 e=6) -> t(80 e=5 d=16)*5 -> t(128 e=5 d=16)*2"
    )
    assert [stage.heads for stage in scaled.stages[3:]] == [5, 8]  # type: ignore[attr-defined]
    with pytest.raises(SpecError, match="w=80 cannot be divided by 32"):
        parse_net("vitstem -> t(80 e=5 d=16)").scaled_down(width=32)


def test_a_network_needs_a_stage() -> None:
    for parts in ([], [VitStem()], [HrStem()]):
        with pytest.raises(SpecError, match="at least one stage"):
            Net.of(parts)


def test_kinds_and_arguments_have_different_names() -> None:
    letters = {letter for kind in KINDS.values() for letter in names(kind)}
    assert not {*KINDS} & {*letters, "which"}  # otherwise two decisions could have the same name
