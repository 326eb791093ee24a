"""Atomic writes."""

import os
import stat
import threading
from pathlib import Path

import pytest

from hiri_search.system.files import atomic_write


def test_a_file_is_replaced_as_a_whole(tmp_path: Path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with atomic_write(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    with pytest.raises(RuntimeError), atomic_write(path):
        raise RuntimeError
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_a_pipe_is_written_to_and_stays(tmp_path: Path):
    os.mkfifo(pipe := tmp_path / "pipe")
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()), daemon=True)
    reader.start()
    with atomic_write(pipe) as file:
        file.write(b"text")
    reader.join(10)
    assert read == [b"text"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


@pytest.mark.parametrize("kind", ["device", "folder", "circle"])
def test_what_no_file_can_replace_stays(tmp_path: Path, kind: str):
    path = {"device": Path("/dev/full"), "folder": tmp_path / "folder", "circle": tmp_path / "circle"}[kind]
    if kind == "folder":
        path.mkdir()
    elif kind == "circle":
        path.symlink_to(path)
    before = path.lstat().st_mode
    with pytest.raises(OSError, match=r"No space|directory|symbolic links"), atomic_write(path) as file:
        file.write(b"text")
    assert path.lstat().st_mode == before
