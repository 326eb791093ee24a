"""Every command of the documents works as it is printed; what is trained by them is made small."""

from __future__ import annotations

import re
import shlex
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from hiri_search.cli.main import main

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.DOTALL | re.MULTILINE)

# What begins with these is not run here, and why.
NOT_RUN = {
    "uv run pytest": "this is it",
    "--profile gpu": "needs a GPU",
    "export RAY_API_SERVER_ADDRESS": "for the next one",
    "ray job submit": "needs a cluster: tests/study/test_job.py starts one",
    "sbatch": "needs Slurm: tests/test_deploy.py has stand-ins for it",
    "postgresql+psycopg://me@host": "needs a server: tests/study/export/test_optuna_export.py starts one",
}
SERVES = ("--serve", " watch ")  # until it is stopped
SERVING = 120.0  # seconds until it says where
# What takes more than half a minute on two cores even when it is made small.
SLOW = ("hiri-search paper 2", "studies/cost_accuracy.yaml", "studies/resolution.yaml", "studies/other_backbones.yaml")

SMALL = {
    "recipe": "{epochs: 1, batch: 16, warmup_epochs: 0}",
    "data": "{train: 32, val: 16}",
    "latency": "null",
}
SMALL_SEARCH = {"search": "{networks: 3, halving: null, zero_cost: [zen]}", "confirm": "{top: 1, seeds: 1, epochs: x1}"}


def commands(page: Path) -> list[str]:
    """Of its blocks of commands, without remarks; a line that ends with a backslash goes on in the next one."""
    blocks = BLOCK.findall(page.read_text(encoding="utf-8"))
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    without = (re.sub(r"\s+#.*$", "", line).strip() for line in lines)
    return [line for line in without if line and not line.startswith("#")]


def why_not_run(command: str) -> str:
    return next((why for words, why in NOT_RUN.items() if words in command), "")


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a user has after cloning, in a folder of its own; and images in PATH."""
    for name in ("studies", "spaces", "benchmarks"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for number, place in enumerate(_image_places(tmp_path / "PATH")):
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40), (number * 3 % 256, number * 7 % 256, 90)).save(place)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HIRI_SEARCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def _image_places(folder: Path) -> Iterator[Path]:
    for split, count in (("train", 16), ("val", 8)):
        for name in ("cat", "dog"):
            yield from (folder / split / name / f"{number}.png" for number in range(count))


def _run(command: str) -> None:
    words = shlex.split(command.removeprefix("pip install uv && "))
    assert words[:2] == ["uv", "run"], f"documents write `uv run` before a command: {command}"
    words = words[4:] if words[2] == "--extra" else words[2:]  # the tests' environment has them
    match words:
        case ["hiri-search", *given] if any(sign in command for sign in SERVES):
            _serve(given)
        case ["hiri-search", *given]:
            _main(given)
        case ["python", "run_study.py", *given]:
            _main(["run", *given, "--serial", *_made_small(given)])
        case ["python", *given]:
            subprocess.run([sys.executable, "-W", "ignore", *given], check=True, capture_output=True)
        case _:
            pytest.fail(f"nobody knows how to run {command}")


def _serve(given: list[str]) -> None:
    """It says where it is, answers there, and goes when it is asked to."""
    command = [sys.executable, "-W", "ignore", "-c", "from hiri_search.cli.main import main; main()", *given]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            address = _where(process)
            assert urllib.request.urlopen(address, timeout=SERVING).status == 200
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(SERVING) in (0, 130)


def _where(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    for line in process.stdout:
        if found := re.search(r"http://127\.0\.0\.1:\d+\S*", line):
            return found[0]
    raise AssertionError("it ended without a word of where it is")


def _made_small(given: list[str]) -> Iterator[str]:
    is_search = "space:" in Path(given[0]).read_text()
    for name, value in (SMALL | (SMALL_SEARCH if is_search else {})).items():
        yield from ("--set", f"{name}={value}")


def _main(given: list[str]) -> None:
    code: object = 0
    try:
        main(given)
    except SystemExit as ended:
        code = ended.code
    assert not code, f"{given}: exit code {code}"


def _fast(page: Path) -> list[str]:
    return [one for one in commands(page) if not any(words in one for words in SLOW)]


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_commands_of_a_page_work_one_behind_the_other(page: Path, clone: Path):
    for command in _fast(page):
        if not why_not_run(command):
            _run(command)


@pytest.mark.slow
@pytest.mark.parametrize("command", sorted({c for page in PAGES for c in commands(page) if c not in _fast(page)}))
def test_the_longer_commands_work(command: str, clone: Path):
    _run(command)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_links_of_a_page_lead_somewhere(page: Path):
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
    for link in links:
        assert link.startswith("https://") or (page.parent / link).exists(), link
