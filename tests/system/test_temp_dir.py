"""Ray's folder goes with its run, or with the next one where it was killed; what is printed stays short."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hiri_search.study.dispatch import ray_executor
from hiri_search.study.dispatch.ray_executor import redirect_output
from hiri_search.system import temp_dir

HOLD = """
import sys
from hiri_search.system.temp_dir import temporary_directory
with home() as folder:
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(temp_dir, "_short", lambda: tmp_path)
    return tmp_path


def test_it_is_gone_behind_a_run(short: Path):
    with temp_dir.temporary_directory() as folder:
        assert folder.parent == short
        (folder / "session").mkdir()
    assert not list(short.iterdir())


def test_those_of_runs_that_live_stay_and_those_of_killed_ones_go():
    there = set(Path("/tmp").glob("hiri_*"))
    runs = [
        subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    with runs[0] as living, runs[1] as killed:
        assert living.stdout
        assert killed.stdout
        one, other = (Path(run.stdout.readline().strip()) for run in (living, killed))
        killed.kill()
        killed.wait()
        assert other.exists()
        with temp_dir.temporary_directory() as mine:
            assert one.exists()
            assert not other.exists()
            assert mine.exists()
        living.communicate()
    assert set(Path("/tmp").glob("hiri_*")) <= there


def test_what_is_not_of_a_run_is_left_alone(short: Path):
    (short / "hiri_no_lock").mkdir()
    (short / "hiri_file").touch()
    (short / "elsewhere").mkdir()
    (short / "elsewhere" / temp_dir.DRIVER_LOCK).touch()
    (short / "hiri_link").symlink_to(short / "elsewhere")
    with temp_dir.temporary_directory():
        pass
    assert {path.name for path in short.iterdir()} == {"hiri_no_lock", "hiri_file", "hiri_link", "elsewhere"}


def test_another_users_folder_is_left_alone(short: Path, monkeypatch: pytest.MonkeyPatch):
    (short / "hiri_old").mkdir()
    (short / "hiri_old" / temp_dir.DRIVER_LOCK).touch()
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with temp_dir.temporary_directory():
        pass
    assert (short / "hiri_old").exists()


def test_what_is_printed_in_a_run_stays_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ray_executor, "LOG_BYTES", 1000)
    monkeypatch.setattr(ray_executor, "LOG_SECONDS", 0.02)
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
