"""What was counted before is not counted again, unless what counts has changed, or nobody may believe it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import timm
from timm.models import register_model
from torch import nn

from hiri_search.cost import count_cache, flops
from hiri_search.cost.count_cache import cache_disabled
from hiri_search.cost.flops import count, count_parts
from hiri_search.language import Network, parse_network

OURS = parse_network("hr(8 e=2) -> t(16 e=2 d=8)")
TIMMS = parse_network("timm:resnet18")
BOTH = pytest.mark.parametrize("network", [OURS, TIMMS], ids=["ours", "timm's"])
SIDE = 64


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("HIRI_SEARCH_CACHE", str(tmp_path / "cache"))
    _as_a_new_process()
    yield tmp_path / "cache"
    _as_a_new_process()


def _as_a_new_process() -> None:
    for kept in (flops._piece_cost, flops._timm_parts, count_cache._read_file):
        kept.cache_clear()


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """The modules that are really counted."""
    found: list[nn.Module] = []
    operators = flops._operators

    def noted(module: nn.Module, shape: tuple[int, ...]):
        found.append(module)
        return operators(module, shape)

    monkeypatch.setattr(flops, "_operators", noted)
    return found


@BOTH
def test_the_next_process_counts_nothing_and_says_the_same(network: Network, counted: list[nn.Module]):
    first = count_parts(network, SIDE)
    assert counted
    counted.clear()
    _as_a_new_process()
    assert count_parts(network, SIDE) == first
    assert not counted


@BOTH
def test_another_side_is_counted(network: Network, counted: list[nn.Module]):
    count(network, SIDE)
    counted.clear()
    _as_a_new_process()
    assert count(network, 2 * SIDE).macs > count(network, SIDE).macs
    assert counted


def test_all_classes_have_numbers_of_their_own():
    ten, many = (count(TIMMS, SIDE, classes=classes) for classes in (10, 1000))
    _as_a_new_process()
    assert (count(TIMMS, SIDE, classes=10), count(TIMMS, SIDE, classes=1000)) == (ten, many)
    assert many.params - ten.params == 990 * 513


@BOTH
def test_other_code_counts_anew(network: Network, counted: list[nn.Module], monkeypatch: pytest.MonkeyPatch):
    count(network, SIDE)
    counted.clear()
    _as_a_new_process()
    monkeypatch.setattr(count_cache, "_code", lambda: "another")
    count(network, SIDE)
    assert counted


def test_the_code_is_that_of_all_that_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    own = count_cache._code_hash.__wrapped__()
    assert own == count_cache._code_hash.__wrapped__()
    for part in ("language", "nets", "cost"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "any.py").write_text("")
    monkeypatch.setattr(count_cache.hiri_search, "__file__", str(tmp_path / "__init__.py"))
    digests = [own, count_cache._code_hash.__wrapped__()]
    for file in ("nets/any.py", "models.py", "networks.py"):
        (tmp_path / file).write_text("changed = True")
        digests.append(count_cache._code_hash.__wrapped__())
    monkeypatch.setattr(count_cache, "version", lambda name: "0")
    digests.append(count_cache._code_hash.__wrapped__())
    assert len(set(digests)) == len(digests)


@BOTH
@pytest.mark.parametrize("line", [b"{", b"\xff\x00", b"7", b'["", 7]', b'["", {"": "x"}]', b'["x", {"": [1'])
def test_what_is_no_line_of_numbers_is_passed_over(network: Network, line: bytes, place: Path):
    first = count(network, SIDE)
    (file,) = place.glob("counts-*.jsonl")
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(line + b"\n" + b"".join(lines[:-1]) + lines[-1][:-9])
    _as_a_new_process()
    assert count(network, SIDE) == first


def _forge(place: Path) -> None:
    (file,) = place.glob("counts-*.jsonl")
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    forged = [[key, {name: [7, 7, 7] for name in parts}] for key, parts in lines]
    file.write_text("".join(json.dumps(line) + "\n" for line in forged))
    _as_a_new_process()


@BOTH
def test_who_counts_anew_believes_nothing(network: Network, place: Path):
    first = count(network, SIDE)
    _forge(place)
    assert count(network, SIDE) != first, "it is read"
    with cache_disabled():
        assert count(network, SIDE) == first


@BOTH
def test_where_nothing_can_be_kept_it_is_counted(network: Network, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    first = count(network, SIDE)
    _as_a_new_process()
    (tmp_path / "file").touch()
    monkeypatch.setenv("HIRI_SEARCH_CACHE", str(tmp_path / "file" / "cache"))
    assert count(network, SIDE) == first
    _as_a_new_process()
    monkeypatch.delenv("HIRI_SEARCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert count(network, SIDE) == first


def test_networks_that_others_register_are_not_remembered(counted: list[nn.Module], place: Path):
    @register_model
    def somebodys(**more: object) -> nn.Module:
        return timm.create_model("resnet10t", num_classes=10)

    peer = parse_network("timm:somebodys")
    count(peer, SIDE)
    _as_a_new_process()
    counted.clear()
    count(peer, SIDE)
    assert counted
    assert not list(place.glob("counts-*.jsonl"))
