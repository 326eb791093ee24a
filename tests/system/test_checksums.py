"""Checksums by block: every kind of damage to a sealed folder is found, and no whole folder is called damaged."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from hiri_search.system import checksums
from hiri_search.system.checksums import CHECKSUMS, checked_line, find_damage, flush, has_checksums, line_content, seal
from tests.system.damages import DAMAGES, flip_a_bit

BLOCK = checksums.BLOCK_BYTES
SIZES = {"empty": 0, "small": 9, "one block": BLOCK, "long": 5 * BLOCK + 1}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = random.Random(0)
    for name, size in SIZES.items():
        (tmp_path / name).write_bytes(rng.randbytes(size))
    seal(tmp_path)
    return tmp_path


@pytest.mark.parametrize("whole", [False, True])
def test_a_whole_folder_is_not_damaged(folder: Path, whole: bool):
    assert find_damage(folder, whole=whole) == ""


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["small", "one block", "long", CHECKSUMS])
def test_each_damage_of_each_file_is_found(folder: Path, name: str, damage: Callable[[Path], None]):
    damage(folder / name)
    own = "checksums.json is damaged" if has_checksums(folder) else "no checksums"
    expected = own if name == CHECKSUMS else f"{name} "
    assert expected in find_damage(folder)
    assert expected in find_damage(folder, whole=True)


def test_a_sample_is_spread_over_the_file_and_begins_elsewhere_each_time(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(checksums, "SAMPLED_BYTES", BLOCK)  # one block in six
    assert find_damage(folder) == ""
    flip_a_bit(folder / "long")
    assert find_damage(folder, whole=True) == f"long has changed at byte {2 * BLOCK:,}"
    assert {find_damage(folder) for _ in range(200)} == {"", f"long has changed at byte {2 * BLOCK:,}"}


def test_the_last_block_is_always_compared(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(checksums, "SAMPLED_BYTES", BLOCK)
    content = (folder / "long").read_bytes()
    (folder / "long").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert all(find_damage(folder) for _ in range(20))


def test_all_is_on_disk_before_a_folder_counts_as_sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    flushed: list[str] = []
    monkeypatch.setattr(checksums, "flush", lambda path: flushed.append(path.name))
    (tmp_path / "file").write_bytes(b"content")
    seal(tmp_path)
    assert sorted(flushed[:-1]) == [CHECKSUMS, "file"]
    assert flushed[-1] == tmp_path.name


def test_files_and_folders_can_be_flushed(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"content")
    flush(tmp_path / "file")
    flush(tmp_path)


@pytest.mark.parametrize("text", ["", "one", '["a", 1]', "\u2028 é"])
def test_a_checked_line_is_read_as_it_was_written(text: str):
    line = checked_line(text)
    assert line_content(line) == text
    for damaged in ("", "\n", line[:-1], line[1:], line.replace(" ", "", 1), "\0" * len(line), line * 2):
        with pytest.raises(ValueError, match="damaged"):
            line_content(damaged)
