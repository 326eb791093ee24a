"""Commands of the command line and their output."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hiri_search.cli.main import main

ROOT = Path(__file__).parents[2]
SMALL = "hr(32 e=4)*2 -> hr(64 e=4)*2 -> cffn(128 e=6)*2 -> t(320 e=5)*9 -> t(512 e=5)*4"


def test_count_prints_json_with_stable_keys(capsys: pytest.CaptureFixture[str]):
    _run("count", SMALL, "--side", "448", "--json")
    output = json.loads(capsys.readouterr().out)
    assert (output["params"], output["macs"], output["core_macs"]) == (34_761_640, 4_985_712_896, 4_961_535_488)
    assert list(output["parts"]) == [
        "stem", "stage1", "down2", "stage2", "down3", "stage3", "down4", "stage4", "down5", "stage5", "head",
    ]  # fmt: skip
    assert sum(part["macs"] for part in output["parts"].values()) == output["macs"]


@pytest.mark.parametrize(
    ("name", "params", "macs"), [("HIRI-ViT-S", 34_761_640, 4_985_712_896), ("Swin-T", 28_288_354, 4_509_194_496)]
)
def test_count_knows_the_names_of_table_2_and_their_sides(
    capsys: pytest.CaptureFixture[str], name: str, params: int, macs: int
):
    _run("count", name, "--json")
    output = json.loads(capsys.readouterr().out)
    assert (output["params"], output["macs"]) == (params, macs)


def test_count_prints_a_table_with_the_total(capsys: pytest.CaptureFixture[str]):
    _run("count", SMALL)
    assert "34,761,640" in capsys.readouterr().out


def test_count_accepts_a_timm_network(capsys: pytest.CaptureFixture[str]):
    _run("count", "timm:resnet18", "--side", "64", "--classes", "10", "--json")
    output = json.loads(capsys.readouterr().out)
    assert output["params"] == 11_181_642
    assert sum(part["macs"] for part in output["parts"].values()) == output["macs"]


def test_paper_compares_a_table_with_our_counts(capsys: pytest.CaptureFixture[str]):
    _run("paper", "8")
    output = capsys.readouterr().out
    assert "4.986" in output
    assert output.splitlines()[-1] == "1 unexplained, 4 agrees"


@pytest.mark.parametrize(
    ("format", "expected"), [("--csv", "34.761640,34.8"), ("--markdown", "| 34.762"), ("--latex", r"34.762 & 34.8")]
)
def test_paper_prints_other_formats(format: str, expected: str, capsys: pytest.CaptureFixture[str]):
    _run("paper", "8", format)
    output = capsys.readouterr().out
    assert expected.replace("34.761640", "34.76164") in output


def test_paper_without_a_number_lists_the_tables(capsys: pytest.CaptureFixture[str]):
    _run("paper")
    assert [line[0] for line in capsys.readouterr().out.splitlines()] == list("123456789")


def test_latency_measures_our_networks_and_timm_networks_at_their_sides(capsys: pytest.CaptureFixture[str]):
    _run("latency", "hrstem(hs=8) -> hr(8 e=1)@32", "timm:test_resnet", "--side", "64", "--seconds", "0.1", "--json")
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["network"], row["side"]) for row in rows] == [
        ("hrstem(hs=8) -> hr(8 e=1)@32", 32),
        ("timm:test_resnet", 64),
    ]
    assert all(row["ms_per_image"] > 0 for row in rows)


def test_throughputs_over_swin_stand_beside_those_of_table_2(capsys: pytest.CaptureFixture[str]):
    _run("latency", "HIRI-ViT-S@64", "HIRI-ViT-S@224", "Swin-T", "--seconds", "0.1")
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    small, own, swin = (words for words in lines if words and words[0].partition("@")[0] in ("HIRI-ViT-S", "Swin-T"))
    assert [small[0], small[1], small[6]] == ["HIRI-ViT-S@64", "64", "-"], "the paper has none at this side"
    assert [own[1], own[6]] == ["224", f"{2028 / 1637:.2f}"]
    assert swin[:2] + swin[5:7] == ["Swin-T", "224", "1.00", "1.00"]


def test_list_prints_networks_and_their_number(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    space = tmp_path / "space.yaml"
    space.write_text("space: hr(32 e=4|6) -> t(64 e=4)*1..3\n")
    _run("list", str(space), "--limit", "4")
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 4
    assert "6 networks" in captured.err


def test_the_command_line_and_the_language_import_no_heavy_package():
    code = (
        "import sys; import hiri_search.language; import hiri_search.cli.main;"
        "print(sorted({'torch', 'timm', 'ray', 'optuna', 'pandas', 'fvcore', 'pydantic'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert ran.stdout.strip() == "[]"


COMMANDS = [
    *("run", "count", "latency", "paper", "report", "status", "watch", "init", "list", "dashboard"),
    *("verify", "compare", "merge", "calibrate", "train"),
]


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
def test_every_command_has_help(command: list[str], capsys: pytest.CaptureFixture[str]):
    _run(*command, "--help")
    assert "Usage" in capsys.readouterr().out


@pytest.mark.parametrize("environment", [{}, {"RAY_JOB_CONFIG_JSON_ENV_VAR": "{}"}], ids=["outside a job", "in a job"])
def test_a_python_without_packages_prints_how_to_install_them(environment: dict[str, str]):
    """Ray is missing too, as on a node where another Python has started Ray."""
    bare = [sys.executable, "-S", "run_study.py", "studies/block_mix.yaml"]
    ran = subprocess.run(bare, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True)
    assert ran.returncode == 1
    assert f"is not installed for {sys.executable}; `pip install .`, or put `uv run`" in ran.stderr
    assert "Traceback" not in ran.stderr


def _run(*arguments: str) -> None:
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    assert end.value.code == 0


def test_count_takes_a_detector_and_a_rectangle(capsys: pytest.CaptureFixture[str]):
    _run("count", "retinanet:timm:test_resnet", "--side", "160x128", "--classes", "5", "--json")
    counted = json.loads(capsys.readouterr().out)
    assert counted["side"] == "160x128"
    assert list(counted["parts"]) == ["backbone", "pyramid", "head"]
