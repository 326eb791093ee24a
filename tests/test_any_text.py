"""Names, titles, notes and paths of any Unicode text through every command: nothing is lost, every file parses back."""

import csv
import io
import json
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from hiri_search.api import running as run
from hiri_search.cli.main import main
from hiri_search.report.page.render import content_of_page
from hiri_search.report.tables import formats
from hiri_search.study.dispatch.run_trial import run_trial
from hiri_search.study.dispatch.serial_dispatcher import run_serially
from hiri_search.study.dispatch.task import Heartbeat, Report, TrialTask
from hiri_search.study.export.optuna_export import JOURNAL
from hiri_search.study.ledger.events import TrialEvent, TrialFailed
from hiri_search.study.ledger.json_lines import read_line, write_line
from hiri_search.system.text import not_storable, printable, storable
from tests.study.records import asked, network, study_started

ANY = st.text(st.characters(codec=None, exclude_categories=()), max_size=40)  # lone surrogates too
VALID = st.text(st.characters(codec="utf-8"), max_size=40)
# What files, terminals and typesetters give a meaning to.
HOSTILE = [
    *(
        "a|b",
        "a\\|b",
        "\\",
        "_base",
        "__init__",
        "x_y",
        "$x$ $y$",
        "50 %",
        "#1",
        "~~x~~",
        "*x*",
        "`x`",
        "[/x]",
        "[x](y)",
    ),
    *(
        "<b>",
        "&amp;",
        "</script>",
        "<br>",
        "=1+1",
        "+1",
        "-1",
        "@x",
        "'x",
        '"',
        '""',
        "''",
        "--",
        "-->",
        "a,b",
        ";",
        ":x:",
    ),
    *(
        "a\nb",
        "a\r\nb",
        "a\rb",
        "\n",
        "\t",
        " a ",
        "a  b",
        "\xa0a",
        "\u3000",
        "\u2028",
        "\u202e",
        "\x00",
        "\x1b[31m",
        "\x7f",
    ),
    *("", " ", "-", "nan", "None", "null", "1", "1.10", "2024-01-01", "__proto__", "constructor", "__lookahead__"),
    *("\U0001f600", "漢字", "e\u0301", "\ufeff", "\ufffe", "x" * 1000, "../x", "/", "%s", "{x}", "{{title}}", "\\x1b"),
]
SURROGATES = ["\udce9", "a\udcffb", "\ud800", "\udc00\ud800"]


# ---- each format


def _csv(text: str) -> list[str]:
    """Return the first column of a CSV."""
    first, *rows = csv.reader(io.StringIO(text, newline=""))
    assert {len(row) for row in rows} == {len(first)}
    return [row[0] for row in rows]


def _markdown(text: str) -> list[str]:
    """Return the first column of the first Markdown table, as a reader shows it."""
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)
    begin, end = ([token.type for token in tokens].index(name) for name in ("table_open", "table_close"))
    cells = [token for token in tokens[begin:end] if token.type == "inline"]
    columns = sum(token.type == "th_open" for token in tokens)
    return ["".join(map(_shown, cell.children or ())) for cell in cells[columns::columns]]


def _shown(token: Token) -> str:
    assert (token.type, token.content) == ("html_inline", "<br>") or token.type in ("text", "text_special"), token
    return "\n" if token.type == "html_inline" else token.content


def _latex(text: str) -> list[str]:
    """Return the first column of a LaTeX table, with its escapes undone."""
    rows = text.partition("\\midrule\n")[2].partition("\n\\bottomrule")[0].split("\n")
    back = {shown: letter for letter, shown in formats.LATEX.items() if letter != "→"}
    pattern = "|".join(map(re.escape, sorted(back, key=len, reverse=True)))
    cells = (re.split(r"(?<!\\) & ", row)[0].removeprefix(r"\raggedright ") for row in rows)
    return [re.sub(pattern, lambda match: back[match[0]], re.sub(r"^\{(\s*[*\[])\}", r"\1", cell)) for cell in cells]


def _in_markdown(text: str) -> str:
    """Return the text as Markdown shows it: control characters as escapes."""
    return "".join(letter if letter in "\n\t\r" else printable(letter) for letter in text)


def _in_latex(text: str) -> str:
    return printable(text).replace("→", "->")


@settings(max_examples=150, derandomize=True, deadline=None)
@given(st.lists(VALID | st.sampled_from(HOSTILE), min_size=1, max_size=6))
@example(HOSTILE)
def test_every_format_parses_back_to_the_same_names(names: list[str]):
    table = pd.DataFrame({"name": names, "n": [1] * len(names)})
    text = formats.csv(table)
    assert _csv(text) == names
    assert list(pd.read_csv(io.BytesIO(text.encode()), keep_default_na=False, dtype=str)["name"]) == names
    assert _markdown(formats.markdown(table)) == list(map(_in_markdown, names))
    assert _latex(formats.latex(table)) == list(map(_in_latex, names))


@settings(max_examples=100, derandomize=True, deadline=None)
@given(ANY | st.sampled_from(SURROGATES))
def test_the_ledger_keeps_every_text(text: str):
    """A text that UTF-8 cannot hold comes back with escapes, and every other one as it was."""
    plain = storable(text)
    assert plain == text or list(not_storable(text))
    for event, place in (
        (asked(net=network(text)), lambda read: read.network.name),
        (study_started(command=text, machine={text: [text]}), lambda read: next(iter(read.machine.values()))[0]),
        (TrialFailed(trial=0, reason=text), lambda read: read.reason),
    ):
        read = read_line(write_line(event))
        assert place(read) == plain
        assert write_line(read) == write_line(event)


# ---- each command

SPEC = "hrstem(hs=8) -> hr(8 e=4)"
SETTINGS = {
    "counted": {"side": 32, "classes": 4},
    "proxy": {"side": 32, "classes": 4},
    "data": {"source": "drawn", "train": 16, "val": 8},
    "recipe": {"epochs": 1, "batch": 8, "warmup_epochs": 0},
    "checkpoints": "none",
    "seeds": 1,
}
FOLDERS = st.binary(min_size=1, max_size=20).map(lambda name: os.fsdecode(re.sub(rb"[/\0]", b"_", name)))
_TRAINED: dict[str, list[TrialEvent]] = {}  # events by training


def _looked_up(task: TrialTask, report: Report, heartbeat: Heartbeat, *, shared_gpu: bool) -> None:
    """Train each network once in this process, and report the same events for every other trial of it."""
    if task.job.digest not in _TRAINED:
        run_trial(task, _TRAINED.setdefault(task.job.digest, []).append, heartbeat)
    for event in _TRAINED[task.job.digest]:
        report(replace(event, trial=task.trial))


def _dispatcher(*args: object) -> object:
    return partial(run_serially, trial_function=_looked_up)


def _code(*arguments: str | Path) -> object:
    with pytest.raises(SystemExit) as end, patch.object(run, "dispatcher", _dispatcher):
        main(list(map(str, arguments)))
    return end.value.code or 0


def _names_in_report(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield the names of the rows in each file of a results folder."""
    report = folder / "report"
    with (report / "trials.csv").open(newline="", encoding="utf-8") as file:
        yield "trials.csv", [row["name"] for row in csv.DictReader(file)]
    yield "trials.parquet", list(pd.read_parquet(io.BytesIO((report / "trials.parquet").read_bytes()))["name"])
    yield "networks.csv", _csv((report / "networks.csv").read_bytes().decode())
    yield "manifest.json", [row["name"] for row in json.loads((folder / "manifest.json").read_text())["networks"]]
    column = content_of_page((report / "index.html").read_bytes().decode())["networks"]["name"]
    yield "index.html", [column["values"][index] for index in column["indices"]] if isinstance(column, dict) else column


ROWS = st.dictionaries(VALID | st.sampled_from(HOSTILE), VALID, min_size=1, max_size=6)
TITLES = VALID | st.sampled_from(HOSTILE)
TWO_FOLDERS = st.tuples(FOLDERS, FOLDERS).filter(lambda names: len({*names, ".", ".."}) == 4)


@settings(max_examples=1, derandomize=True, deadline=None)
@given(ROWS, TITLES, TWO_FOLDERS)
@example(dict.fromkeys(HOSTILE, "a|b\n$x$"), "Title | $x$ \n[/x]", ("a b", os.fsdecode(b"caf\xe9")))
def test_every_command_takes_every_text(rows: dict[str, str], title: str, folders: tuple[str, str]):
    _run_every_command(rows, title, folders)


@pytest.mark.slow
@settings(max_examples=15, derandomize=True, deadline=None)
@given(ROWS, TITLES, TWO_FOLDERS)
def test_every_command_takes_many_texts(rows: dict[str, str], title: str, folders: tuple[str, str]):
    _run_every_command(rows, title, folders)


def _run_every_command(rows: dict[str, str], title: str, folders: tuple[str, str]) -> None:
    with TemporaryDirectory() as temporary:
        first, second = (Path(temporary, "results", name) for name in folders)
        first.parent.mkdir()
        study, merged, compared = (Path(temporary, name) for name in ("study.yaml", "merged", "compared.csv"))
        nets = {name: {"spec": SPEC, "note": note, "curve": note} for name, note in rows.items()}
        study.write_text(json.dumps({"title": title, "nets": nets, **SETTINGS}))
        for folder in (first, second):
            assert _code("run", study, "--results", folder, "--serial", "--profile", "none") == 0
        assert _code("merge", first, second, "-o", merged) == 0
        assert _code("report", first) == 0
        for folder in (first, second, merged):
            for command in (("verify", "--quick"), ("status",), ("dashboard",)):
                assert _code(command[0], folder, *command[1:]) == 0, command
            for place, names in _names_in_report(folder):
                assert names == list(rows), place
            assert _markdown((folder / "report/networks.md").read_text()) == list(map(_in_markdown, rows))
            assert _latex((folder / "report/networks.tex").read_text()) == list(map(_in_latex, rows))
            storage = JournalStorage(JournalFileBackend(str(folder / JOURNAL)))
            (exported,) = storage.get_all_studies()
            assert exported.study_name == storable(folder.name)
            assert [trial.params["net"] for trial in storage.get_all_trials(exported._study_id)] == list(rows)
        assert _code("compare", first, merged, "-o", compared) == 0
        assert _csv(compared.read_bytes().decode()) == list(rows)


@pytest.mark.parametrize("text", SURROGATES, ids=ascii)
@pytest.mark.parametrize("key", ["title", "nets.NAME", "nets.a.note", "data.source", "storage", "compare"])
def test_a_study_with_a_text_that_is_not_utf8_is_refused(
    key: str, text: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    """Such a text, as Python reads the bytes of a file name, would come back changed from the ledger."""
    content: dict[str, Any] = {"nets": {"a": {"spec": SPEC}}, **SETTINGS, "data": {"source": "drawn"}}
    *path, last = key.split(".")
    section = content
    for name in path:
        section = section[name]
    section.update({text: {"spec": SPEC}} if last == "NAME" else {last: text})
    (tmp_path / "study.yaml").write_text(json.dumps(content))
    assert _code("run", tmp_path / "study.yaml", "--results", tmp_path / "results", "--serial") == 2
    words = capfd.readouterr().err
    assert words.startswith(f"error: {tmp_path}/study.yaml:1: {key.partition('NAME')[0]}")
    assert words.endswith("write it in UTF-8, or give a link to a path that is not\n")
    assert not (tmp_path / "results").exists()
