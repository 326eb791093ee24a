"""The script for a GPU machine explains itself, refuses unknown steps, and passes its rehearsal on the CPU."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "benchmarks" / "gpu_check.sh"
STEPS = ("check", "tests", "plain", "compiled", "speed", "short", "dense", "full", "study")


def _run(*words: str, **knobs: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHON": sys.executable} | knobs
    return subprocess.run(["bash", str(SCRIPT), *words], capture_output=True, text=True, env=environment)


def test_help_names_every_step_and_exits_with_0():
    told = _run("--help")
    assert told.returncode == 0
    assert not told.stderr
    assert all(f"\n  {step} " in told.stdout for step in STEPS)


def test_an_unknown_step_is_refused_before_any_step_runs(tmp_path: Path):
    told = _run("check", "everything", OUT=str(tmp_path / "out"))
    assert told.returncode == 2
    assert "everything is not a step; choose from check tests" in told.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_failed_step_gives_exit_code_1_and_does_not_stop_the_next(tmp_path: Path):
    out = tmp_path / "out"
    told = _run("--rehearse", "short", "check", OUT=str(out), IMAGES=str(tmp_path / "nothing"), TOGETHER="1")
    assert told.returncode == 1, told.stdout
    short, check, _ = (out / "summary.txt").read_text().splitlines()
    assert short.startswith("short      FAILED (exit 1)")
    assert check.startswith("check      ok")


@pytest.mark.slow
def test_the_rehearsal_passes_and_leaves_nothing_but_its_output(tmp_path: Path):
    before = set((ROOT / "results" / "reference").iterdir())
    out = tmp_path / "out"
    with tempfile.TemporaryDirectory() as temporary:  # a short path, since sockets go there
        told = _run("--rehearse", OUT=str(out), TMPDIR=temporary)
        left = os.listdir(temporary)
    assert told.returncode == 0, told.stdout + told.stderr
    assert not left
    lines = (out / "summary.txt").read_text().splitlines()
    assert sorted(line.split()[:2] for line in lines[:-1]) == sorted([step, "ok"] for step in STEPS)
    assert "left out: cuda-graphs" in told.stdout
    assert "slots 2: 5 trials in" in told.stdout
    assert set((ROOT / "results" / "reference").iterdir()) == before
