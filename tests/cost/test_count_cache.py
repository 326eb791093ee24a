"""Cached costs are used again, unless the counting code has changed or the cache is disabled."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import timm
from timm.models import register_model
from torch import nn

from hiri_search.cost import count_cache, flops
from hiri_search.cost.count_cache import cache_disabled
from hiri_search.cost.flops import count, count_parts
from hiri_search.language import Network, parse_network
from hiri_search.system.checksums import checked_line, line_content
from tests.system.damages import DAMAGES

OURS = parse_network("hr(8 e=2) -> t(16 e=2 d=8)")
TIMMS = parse_network("timm:resnet18")
BOTH = pytest.mark.parametrize("network", [OURS, TIMMS], ids=["ours", "timm's"])
SIDE = 64


@pytest.fixture(autouse=True)
def cache_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("HIRI_SEARCH_CACHE", str(tmp_path / "cache"))
    _clear_memory_caches()
    yield tmp_path / "cache"
    _clear_memory_caches()


def _clear_memory_caches() -> None:
    for cache in (flops._piece_cost, flops._timm_parts, count_cache._read_file):
        cache.cache_clear()


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """The modules that are counted instead of being read from the cache."""
    modules: list[nn.Module] = []
    operators = flops.operators_by_module

    def record(module: nn.Module, shape: tuple[int, ...]):
        modules.append(module)
        return operators(module, shape)

    monkeypatch.setattr(flops, "operators_by_module", record)
    return modules


@BOTH
def test_a_new_process_reads_the_same_costs_from_the_cache(network: Network, counted: list[nn.Module]):
    first = count_parts(network, SIDE)
    assert counted
    counted.clear()
    _clear_memory_caches()
    assert count_parts(network, SIDE) == first
    assert not counted


@BOTH
def test_each_side_is_counted(network: Network, counted: list[nn.Module]):
    count(network, SIDE)
    counted.clear()
    _clear_memory_caches()
    assert count(network, 2 * SIDE).macs > count(network, SIDE).macs
    assert counted


def test_each_number_of_classes_is_cached_separately():
    ten, many = (count(TIMMS, SIDE, classes=classes) for classes in (10, 1000))
    _clear_memory_caches()
    assert (count(TIMMS, SIDE, classes=10), count(TIMMS, SIDE, classes=1000)) == (ten, many)
    assert many.params - ten.params == 990 * 513


@BOTH
def test_changed_code_counts_again(network: Network, counted: list[nn.Module], monkeypatch: pytest.MonkeyPatch):
    count(network, SIDE)
    counted.clear()
    _clear_memory_caches()
    monkeypatch.setattr(count_cache, "_code_hash", lambda: "another")
    count(network, SIDE)
    assert counted


def test_the_code_hash_covers_all_counting_packages_and_libraries(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    original = count_cache._code_hash.__wrapped__()
    assert original == count_cache._code_hash.__wrapped__()
    for package in ("language", "nets", "cost"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "any.py").write_text("")
    monkeypatch.setattr(count_cache.hiri_search, "__file__", str(tmp_path / "__init__.py"))
    digests = [original, count_cache._code_hash.__wrapped__()]
    for file in ("nets/any.py", "models.py", "networks.py"):
        (tmp_path / file).write_text("changed = True")
        digests.append(count_cache._code_hash.__wrapped__())
    monkeypatch.setattr(count_cache, "version", lambda name: "0")
    digests.append(count_cache._code_hash.__wrapped__())
    assert len(set(digests)) == len(digests)


@BOTH
@pytest.mark.parametrize(
    "line",
    [
        *(b"{", b"\xff\x00", b"7", b'["", 7]', b'["", {"": "x"}]', b'["x", {"": [1', b"\0" * 99, b"[" * 100_000),
        *(b'["x", {"": [Infinity]}]', b"00000000 [1]"),
    ],
)
def test_invalid_and_incomplete_lines_are_ignored(network: Network, line: bytes, cache_dir: Path):
    first = count(network, SIDE)
    (file,) = cache_dir.glob("counts-*.jsonl")
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(line + b"\n" + b"".join(lines[:-1]) + lines[-1][:-9])
    _clear_memory_caches()
    assert count(network, SIDE) == first


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_cache_does_not_change_the_costs(damage: Callable[[Path], None], cache_dir: Path):
    first = count(OURS, SIDE)
    (file,) = cache_dir.glob("counts-*.jsonl")
    damage(file)
    for _ in range(2):
        _clear_memory_caches()
        assert count(OURS, SIDE) == first


def _forge(cache_dir: Path) -> None:
    (file,) = cache_dir.glob("counts-*.jsonl")
    lines = [json.loads(line_content(line)) for line in file.read_text().splitlines(keepends=True)]
    forged = [[key, {name: [7, 7, 7] for name in parts}] for key, parts in lines]
    file.write_text("".join(checked_line(json.dumps(line)) for line in forged))
    _clear_memory_caches()


@BOTH
def test_a_disabled_cache_is_not_read(network: Network, cache_dir: Path):
    first = count(network, SIDE)
    _forge(cache_dir)
    assert count(network, SIDE) != first, "the forged cache is read"
    with cache_disabled():
        assert count(network, SIDE) == first


@pytest.mark.parametrize("name", ["HIRI_SEARCH_CACHE", "XDG_CACHE_HOME", "HOME"])
@pytest.mark.parametrize("value", ["{tmp}/file", "{tmp}/file/cache", "~nobody_of_this_name/cache", "/proc/cache"])
def test_a_cache_directory_that_cannot_be_used_does_not_prevent_counting(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    first = count(OURS, SIDE)
    _clear_memory_caches()
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HIRI_SEARCH_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv(name, value.format(tmp=tmp_path))
    assert count(OURS, SIDE) == first


def test_networks_registered_by_other_packages_are_not_cached(counted: list[nn.Module], cache_dir: Path):
    @register_model
    def foreign_network(**options: object) -> nn.Module:
        return timm.create_model("resnet10t", num_classes=10)

    network = parse_network("timm:foreign_network")
    count(network, SIDE)
    _clear_memory_caches()
    counted.clear()
    count(network, SIDE)
    assert counted
    assert not list(cache_dir.glob("counts-*.jsonl"))
