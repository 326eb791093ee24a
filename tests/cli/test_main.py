"""The commands, as they are typed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hiri_search.cli.main import main

ROOT = Path(__file__).parents[2]
SMALL = "hr(32 e=4)*2 -> hr(64 e=4)*2 -> cffn(128 e=6)*2 -> t(320 e=5)*9 -> t(512 e=5)*4"


def test_count_as_json_is_stable(capsys: pytest.CaptureFixture[str]):
    _run("count", SMALL, "--side", "448", "--json")
    told = json.loads(capsys.readouterr().out)
    assert (told["params"], told["macs"], told["core_macs"]) == (34_761_640, 4_985_712_896, 4_961_535_488)
    assert list(told["parts"]) == [
        "stem", "stage1", "down2", "stage2", "down3", "stage3", "down4", "stage4", "down5", "stage5", "head",
    ]  # fmt: skip
    assert sum(part["macs"] for part in told["parts"].values()) == told["macs"]


def test_count_as_a_table_shows_the_sum(capsys: pytest.CaptureFixture[str]):
    _run("count", SMALL)
    assert "34,761,640" in capsys.readouterr().out


def test_count_takes_a_network_of_timm(capsys: pytest.CaptureFixture[str]):
    _run("count", "timm:resnet18", "--side", "64", "--classes", "10", "--json")
    told = json.loads(capsys.readouterr().out)
    assert told["params"] == 11_181_642
    assert sum(part["macs"] for part in told["parts"].values()) == told["macs"]


def test_paper_shows_a_table_beside_our_counts(capsys: pytest.CaptureFixture[str]):
    _run("paper", "8")
    told = capsys.readouterr().out
    assert "4.986" in told
    assert told.splitlines()[-1] == "1 unexplained, 4 agrees"


@pytest.mark.parametrize(
    ("format", "wanted"), [("--csv", "34.761640,34.8"), ("--markdown", "| 34.762"), ("--latex", r"34.762 & 34.8")]
)
def test_paper_writes_for_other_programs(format: str, wanted: str, capsys: pytest.CaptureFixture[str]):
    _run("paper", "8", format)
    told = capsys.readouterr().out
    assert wanted.replace("34.761640", "34.76164") in told


def test_paper_alone_says_which_tables_there_are(capsys: pytest.CaptureFixture[str]):
    _run("paper")
    assert [line[0] for line in capsys.readouterr().out.splitlines()] == list("12346789")


def test_latency_measures_networks_of_both_kinds_at_sides_of_their_own(capsys: pytest.CaptureFixture[str]):
    _run("latency", "hrstem(hs=8) -> hr(8 e=1)@32", "timm:test_resnet", "--side", "64", "--seconds", "0.1", "--json")
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["network"], one["side"]) for one in told] == [
        ("hrstem(hs=8) -> hr(8 e=1)@32", 32),
        ("timm:test_resnet", 64),
    ]
    assert all(one["ms_per_image"] > 0 for one in told)


def test_list_shows_networks_and_how_many(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    space = tmp_path / "space.yaml"
    space.write_text("space: hr(32 e=4|6) -> t(64 e=4)*1..3\n")
    _run("list", str(space), "--limit", "4")
    told = capsys.readouterr()
    assert len(told.out.splitlines()) == 4
    assert "6 networks" in told.err


def test_help_and_the_language_need_no_heavy_import():
    code = (
        "import sys; import hiri_search.language; import hiri_search.cli.main;"
        "print(sorted({'torch', 'timm', 'ray', 'optuna', 'pandas', 'fvcore', 'pydantic'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert ran.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "command",
    [
        ["--help"],
        ["run", "--help"],
        ["count", "--help"],
        ["report", "--help"],
        ["paper", "--help"],
        ["latency", "--help"],
    ],
)
def test_every_command_has_help(command: list[str], capsys: pytest.CaptureFixture[str]):
    _run(*command)
    assert "Usage" in capsys.readouterr().out


def _run(*arguments: str) -> None:
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    assert end.value.code == 0


@pytest.mark.parametrize("environment", [{}, {"RAY_JOB_CONFIG_JSON_ENV_VAR": "{}"}], ids=["here", "in a job"])
def test_a_python_that_has_nothing_is_told_what_to_do(environment: dict[str, str]):
    """Without its packages, Ray's among them: as where Ray was started by another Python than the node's."""
    bare = [sys.executable, "-S", "run_study.py", "studies/block_mix.yaml"]
    ran = subprocess.run(bare, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True)
    assert ran.returncode == 1
    assert f"is not installed for {sys.executable}; `pip install .`, or put `uv run`" in ran.stderr
    assert "Traceback" not in ran.stderr
