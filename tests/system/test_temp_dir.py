"""Ray's temporary folder is removed by its run, or by the next run if its run was killed; Ray's log stays short."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hiri_search.study.dispatch import ray_session
from hiri_search.study.dispatch.ray_session import redirect_output
from hiri_search.system import temp_dir

HOLD = """
import sys
from hiri_search.system.temp_dir import temporary_directory
with temporary_directory() as folder:
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def temp_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(temp_dir, "_temp_root", lambda: tmp_path)
    return tmp_path


def test_the_folder_is_removed_after_a_run(temp_root: Path):
    with temp_dir.temporary_directory() as folder:
        assert folder.parent == temp_root
        (folder / "session").mkdir()
    assert not list(temp_root.iterdir())


def test_links_to_folders_are_removed_in_any_order(temp_root: Path, tmp_path: Path):
    (kept := tmp_path / "kept").mkdir()
    with temp_dir.temporary_directory() as folder:
        for name in "abc":  # as Ray's session_latest, beside the folder that it leads to
            (folder / name).mkdir()
            (folder / f"{name}_latest").symlink_to(folder / name)
            (folder / f"{name}_kept").symlink_to(kept)
    assert not folder.exists()
    assert kept.exists()


def test_what_other_processes_still_write_is_removed_by_a_later_run(temp_root: Path, monkeypatch: pytest.MonkeyPatch):
    """After a second Ctrl-C, processes of Ray live for a moment longer than their folder."""
    remove = shutil.rmtree

    def refilled(path: Path, **options: bool) -> None:
        remove(path, **options)
        if path.name == "session":
            path.mkdir()

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", refilled)
        with temp_dir.temporary_directory() as folder:
            (folder / "session").mkdir()
    assert (folder / "session").exists()
    with temp_dir.temporary_directory():
        assert not folder.exists()


def test_folders_of_running_processes_stay_and_those_of_killed_ones_are_removed():
    existing = set(Path("/tmp").glob("hiri_*"))
    runs = [
        subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    with runs[0] as running, runs[1] as killed:
        assert running.stdout
        assert killed.stdout
        running_folder, killed_folder = (Path(run.stdout.readline().strip()) for run in (running, killed))
        killed.kill()
        killed.wait()
        assert killed_folder.exists()
        with temp_dir.temporary_directory() as own_folder:
            assert running_folder.exists()
            assert not killed_folder.exists()
            assert own_folder.exists()
        running.communicate()
    assert set(Path("/tmp").glob("hiri_*")) <= existing


def test_other_files_and_folders_are_left_alone(temp_root: Path):
    (temp_root / "hiri_no_lock").mkdir()
    (temp_root / "hiri_file").touch()
    (temp_root / "target").mkdir()
    (temp_root / "target" / temp_dir.DRIVER_LOCK).touch()
    (temp_root / "hiri_link").symlink_to(temp_root / "target")
    with temp_dir.temporary_directory():
        pass
    assert {path.name for path in temp_root.iterdir()} == {"hiri_no_lock", "hiri_file", "hiri_link", "target"}


def test_another_users_folder_is_left_alone(temp_root: Path, monkeypatch: pytest.MonkeyPatch):
    (temp_root / "hiri_old").mkdir()
    (temp_root / "hiri_old" / temp_dir.DRIVER_LOCK).touch()
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with temp_dir.temporary_directory():
        pass
    assert (temp_root / "hiri_old").exists()


def test_the_log_of_a_run_stays_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ray_session, "LOG_BYTES", 1000)
    monkeypatch.setattr(ray_session, "LOG_SECONDS", 0.02)
    log = tmp_path / "ray.log"
    longest = 0
    with redirect_output(log):
        for _ in range(100):
            os.write(1, b"x" * 99 + b"\n")
            time.sleep(0.01)
            longest = max(longest, log.stat().st_size)
        os.write(1, b"the end\n")
    assert 0 < longest < 5000
    assert log.read_text().endswith("the end\n")
