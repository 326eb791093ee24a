"""Every command of the pages works as printed, on small trainings; links lead somewhere; metadata is consistent."""

from __future__ import annotations

import re
import shlex
import shutil
import signal
import subprocess
import sys
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from PIL import Image

from hiri_search.cli.main import main
from hiri_search.cost import flops
from hiri_search.study.config.networks import resolve, start_of
from hiri_search.study.config.read import read_study
from hiri_search.study.search.network_facts import check_own_kinds
from hiri_search.system.units import GIGA, MEGA
from hiri_search.training.recipe import Recipe
from tests.own_code import own_kinds
from tests.study.waiting import wait_until

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINKED = [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)

# Commands that contain these words are not run here; the value is the reason.
NOT_RUN = {
    "uv run pytest": "it is this test",
    "--profile gpu": "needs a GPU",
    "export RAY_API_SERVER_ADDRESS": "belongs to the next command",
    "export RAY_TUNE_CALLBACKS": "belongs to the next command: tests/study/dispatch/test_tune_callbacks.py sets it",
    "tensorboard --logdir": "is a server of another project: tests/study/loggers reads the files by its own reader",
    "ray job submit": "needs a cluster: tests/study/dispatch/test_ray_job.py starts one",
    "hiri-search calibrate": "trains for hours: tests/cli/test_calibrate.py has a small one",
    "hiri-search report results/my_search": "belongs to hiri-search calibrate",
    "hiri-search train": "needs images and GPUs: tests/api/test_full_training.py trains small networks",
    "hiri-search run cells.yaml": "needs annotated photographs: tests/study/test_dense_study.py trains on drawn scenes",
    "sbatch": "needs Slurm: tests/test_deploy.py has fake commands for it",
    "postgresql+psycopg://me@host": "needs a server: tests/study/export/test_optuna_export.py starts one",
}
SERVES = ("--serve", " watch ")  # commands with these words run until they are stopped
START_SECONDS = 120.0  # time limit for a server to print its address
# Commands that take more than half a minute on two cores even with small trainings.
SLOW = (
    *("hiri-search paper 2", "hiri-search paper 4", "hiri-search paper 5", "hiri-search paper 6"),
    *("studies/cost_accuracy.yaml", "studies/resolution.yaml", "studies/other_backbones.yaml"),
)

SMALL = {
    "recipe": "{epochs: 1, batch: 16, warmup_epochs: 0}",
    "data": "{train: 32, val: 16}",
    "latency": "null",
}
SMALL_SEARCH = {
    "search": "{networks: 3, halving: null, zero_cost: [zen]}",
    "confirm": "{top: 1, partners: 0, seeds: 1, epochs: x1}",
}


def blocks(page: Path, language: str) -> list[str]:
    """Return the code blocks of a page in a language."""
    return [text for name, text in BLOCK.findall(page.read_text(encoding="utf-8")) if name == language]


def commands(page: Path) -> list[str]:
    """Return the commands of a page without comments; a backslash at the end of a line joins it with the next."""
    lines = "\n".join(blocks(page, "sh")).replace("\\\n", " ").splitlines()
    without_comments = (re.sub(r"\s+#.*$", "", line).strip() for line in lines)
    return [line for line in without_comments if line and not line.startswith("#")]


def reason_not_to_run(command: str) -> str:
    return next((reason for words, reason in NOT_RUN.items() if words in command), "")


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that a clone gives a user, and images in PATH."""
    for name in ("studies", "spaces", "benchmarks"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for number, path in enumerate(image_paths(tmp_path / "PATH")):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40), (number * 3 % 256, number * 7 % 256, 90)).save(path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HIRI_SEARCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def image_paths(folder: Path) -> Iterator[Path]:
    for split, count in (("train", 16), ("val", 8)):
        for name in ("cat", "dog"):
            yield from (folder / split / name / f"{number}.png" for number in range(count))


def _run(command: str) -> None:
    words = shlex.split(command.removeprefix("pip install uv && "))
    assert words[:2] == ["uv", "run"], f"the pages write `uv run` before a command: {command}"
    words = words[4:] if words[2] == "--extra" else words[2:]  # the environment of the tests has the extras
    match words:
        case ["hiri-search", *arguments] if any(word in command for word in SERVES):
            _serve(arguments)
        case ["hiri-search", *arguments]:
            _main(arguments)
        case ["python", "run_study.py", *arguments]:
            _main(["run", *arguments, "--serial", *_small_settings(arguments)])
        case ["python", *arguments]:
            subprocess.run([sys.executable, "-W", "ignore", *arguments], check=True, capture_output=True)
        case _:
            pytest.fail(f"this test cannot run {command}")


def _serve(arguments: list[str]) -> None:
    """Start a server, read its address from its output, fetch its page, and stop it."""
    command = [sys.executable, "-W", "ignore", "-c", "from hiri_search.cli.main import main; main()", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            address = _printed_address(process)
            wait_until(lambda: _answers(address), alive=lambda: process.poll() is None)  # Optuna's prints it too early
            wait_until(lambda: _interrupted(process))  # a server can swallow an interrupt while it answers
        finally:
            process.kill()
        # On a busy machine a second interrupt reaches a server while Python ends it.
        assert process.returncode in (0, 130, -signal.SIGINT)


def _interrupted(process: subprocess.Popen[str]) -> bool:
    process.send_signal(signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        process.wait(2)
    return process.poll() is not None


def _answers(address: str) -> bool:
    with suppress(urllib.error.URLError):
        return bool(urllib.request.urlopen(address, timeout=START_SECONDS).status == 200)
    return False


def _printed_address(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    for line in process.stdout:
        if address := re.search(r"http://127\.0\.0\.1:\d+\S*", line):
            return address[0]
    raise AssertionError("the server ended before it printed its address")


def _small_settings(arguments: list[str]) -> Iterator[str]:
    is_search = "space:" in Path(arguments[0]).read_text()
    for name, value in (SMALL | (SMALL_SEARCH if is_search else {})).items():
        yield from ("--set", f"{name}={value}")


def _main(arguments: list[str]) -> None:
    code: object = 0
    try:
        main(arguments)
    except SystemExit as ended:
        code = ended.code
    assert not code, f"{arguments}: exit code {code}"


def _fast(page: Path) -> list[str]:
    return [command for command in commands(page) if not any(words in command for words in SLOW)]


def _name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_the_commands_of_a_page_work_one_after_the_other(page: Path, clone: Path):
    for command in _fast(page):
        if not reason_not_to_run(command):
            _run(command)


@pytest.mark.slow
@pytest.mark.parametrize("command", sorted({c for page in PAGES for c in commands(page) if c not in _fast(page)}))
def test_the_longer_commands_work(command: str, clone: Path):
    _run(command)


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_the_commands_of_a_page_have_a_form_that_can_be_run(page: Path):
    for command in commands(page):
        words = shlex.split(command.removeprefix("pip install uv && "))
        assert reason_not_to_run(command) or words[:2] == ["uv", "run"], command


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_the_python_and_yaml_blocks_of_a_page_are_well_formed(page: Path):
    for text in blocks(page, "python"):
        compile(text, str(page), "exec")
    for text in blocks(page, "yaml"):
        assert isinstance(yaml.safe_load(text), dict)


def test_the_block_and_the_study_of_own_blocks_fit_together(tmp_path: Path):
    page = ROOT / "docs" / "own_blocks.md"
    (tmp_path / "my_blocks.py").write_text(blocks(page, "python")[0])
    (tmp_path / "mine.yaml").write_text(blocks(page, "yaml")[0])
    with own_kinds():
        study = read_study(tmp_path / "mine.yaml")
        check_own_kinds(study, resolve(study).rows)


def test_the_study_of_the_search_page_can_be_run(tmp_path: Path):
    (tmp_path / "mine.yaml").write_text(blocks(ROOT / "docs" / "search.md", "yaml")[0])
    networks = resolve(read_study(tmp_path / "mine.yaml"))
    assert networks.space is not None
    (start,) = start_of(networks.study, networks.space)
    cost = flops.count(start.network, start.side)
    assert 4.5 <= cost.macs / GIGA <= 5.5
    assert cost.params / MEGA <= 36


def test_every_key_of_a_recipe_is_in_its_table():
    page = (ROOT / "docs" / "study_files.md").read_text(encoding="utf-8")
    table = page.partition("### The recipe")[2].partition("\n\n`recipe:")[0]
    rows = [line.split(" | ") for line in table.splitlines() if line.startswith("| `")]
    keys = [key.strip("| `") for row in rows for key in row[0].split(",")]
    assert sorted(keys) == sorted(field.name for field in fields(Recipe))


@pytest.mark.parametrize("page", LINKED, ids=_name)
def test_the_links_of_a_page_lead_somewhere(page: Path):
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
    for link in links:
        assert link.startswith("https://") or (page.parent / link).exists(), link


@pytest.mark.parametrize("page", LINKED, ids=_name)
def test_the_files_that_a_page_names_exist(page: Path):
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"`((?:docs|deploy|benchmarks|spaces|tests|results/reference)/[\w./]*\w)`", text):
        assert (ROOT / name).exists() or page.name == "CHANGELOG.md", name


def test_every_page_is_listed_in_the_readme():
    listed = {(ROOT / link).resolve() for link in re.findall(r"\]\((docs/[^)]*\.md)\)", PAGES[0].read_text())}
    assert listed == set(PAGES[1:])


def test_project_changelog_and_citation_name_one_version():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    changelog = re.findall(r"^## \[([\d.]+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert changelog[0] == version == citation["version"]
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= citation.keys()
