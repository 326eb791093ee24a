"""A record carries its own values: no later study file, order of rows or merge shows a trial as another one's."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch

from hiri_search.api.folders import read_results
from hiri_search.language import parse_net
from hiri_search.report.page.page_data import page_content
from hiri_search.report.tables.confirmation import confirmed_table, rank_agreement
from hiri_search.report.tables.networks import caption, inference_table, network_table
from hiri_search.study.config.read import read_study
from hiri_search.study.dispatch.serial_dispatcher import run_serially
from hiri_search.study.dispatch.task import Heartbeat, Report, TrialTask
from hiri_search.study.errors import StudyError
from hiri_search.study.export.optuna_export import read_export
from hiri_search.study.ledger.events import TrialAsked, TrialFinished
from hiri_search.study.ledger.ledger import of_kind, read_events, trials
from hiri_search.study.provenance.environment import run_environment
from hiri_search.study.provenance.merge import merge
from hiri_search.study.provenance.verify import verify
from hiri_search.study.run import run
from hiri_search.study.status import status
from hiri_search.system.hardware import Machine, find_machine
from tests.study.records import epoch
from tests.study.search.searches import Quiet

COMMON = """
counted: {side: 64, classes: 10}
proxy: {width: 4, side: 32, classes: 2}
data: {source: drawn, train: 32, val: 16}
recipe: {epochs: 2, batch: 16, warmup_epochs: 0}
seeds: 1
"""
CHECKS = ("study", "networks", "costs", "trials", "trainings")  # no check of files: nothing is trained
ROWS = {
    "one": "hr(32 e=4) -> t(64 e=2)",
    "two": "hr(32 e=4) -> cffn(64 e=2)",
    "three": "{spec: hr(32 e=6), recipe: {lr: 0.01}}",
}


class Said(Quiet):
    """Keeps the messages of a run."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def say(self, text: str) -> None:
        self.texts.append(text)


def ablation(*names: str, **more: str) -> str:
    """Return a study file with these rows, and rows of `more`."""
    rows = {name: ROWS[name] for name in names} | more
    return "nets:\n" + "".join(f"  {name}: {row}\n" for name, row in rows.items()) + COMMON


def search(space: str, more: str = "") -> str:
    return f"space: {space}\nsearch: {{networks: 4, sampler: random}}\n{COMMON}{more}"


def top1(spec: str, seed: int, epochs: int) -> float:
    """Return a made-up accuracy that no other training has."""
    return zlib.crc32(f"{spec} {seed} {epochs}".encode()) % 10_000 / 100


def look_up(task: TrialTask, report: Report, heartbeat: Heartbeat, *, shared_gpu: bool) -> None:
    """Report the made-up curve of a training."""
    job = task.job
    accuracy = top1(job.spec, job.seed, job.recipe.epochs)
    curve = tuple(epoch(number, accuracy, joules=None) for number in range(1, job.recipe.epochs + 1))
    report(TrialFinished(trial=task.trial, curve=curve))


def looked_up(folder: Path, text: str, *sets: str) -> list[str]:
    """Run a study whose trainings are looked up; return its messages."""
    folder.mkdir(exist_ok=True)
    (folder / "study.yaml").write_text(text)
    study, said = read_study(folder / "study.yaml", sets=sets), Said()
    run(study, folder, lambda source: run_serially(source, trial_function=look_up), said, profile="none")
    return said.texts


def check_rows(folder: Path, rows: Sequence[str]) -> None:
    """Check that every reader shows each trial under the name of its own network."""
    asked = {event.trial: event for event in of_kind(read_events(folder), TrialAsked)}
    results = read_results(folder)
    table = network_table(results).set_index("name")
    assert list(table.index) == list(rows)
    for trial in read_export(folder).trials:
        own = asked[trial.user_attrs["trial"]]
        assert trial.params["net"] == trial.user_attrs["name"] == own.network.name in rows
    for name in rows:
        own = [t for t in trials(read_events(folder)) if t.network.name == name]
        expected = [top1(parse_net(t.network.trained.spec).canonical_text, t.asked.seed, 2) for t in own]
        assert table.loc[name, "top1"] == pytest.approx(sum(expected) / len(expected)), name
        assert {t.network.spec for t in own} == {table.loc[name, "spec"]}
    unlike = [finding for finding in verify(folder) if finding.check in CHECKS and finding.faults]
    assert not unlike


CHANGES: dict[str, tuple[str, ...]] = {
    "nothing": ("one", "two", "three"),
    "another order": ("three", "one", "two"),
    "a row between the others": ("one", "new", "two", "three"),
    "a row before the others": ("new", "one", "two", "three"),
    "the first row taken away": ("two", "three"),
    "the row with its own recipe taken away": ("one", "two"),
    "a row renamed": ("one", "renamed", "three"),
    "all of it": ("new", "three", "renamed"),
}
NEW = {"new": "hr(16 e=4) -> t(64 e=2)", "renamed": ROWS["two"]}


@pytest.mark.parametrize("names", CHANGES.values(), ids=list(CHANGES))
def test_rows_keep_their_trials_whatever_the_study_becomes(tmp_path: Path, names: tuple[str, ...]):
    looked_up(tmp_path / "a", ablation("one", "two", "three"))
    text = "nets:\n" + "".join(f"  {name}: {(ROWS | NEW)[name]}\n" for name in names) + COMMON
    said = looked_up(tmp_path / "a", text, "seeds=2")
    check_rows(tmp_path / "a", names)
    gone = [name for name in ROWS if name not in names]
    assert any(all(name in text for name in gone) and "leaves them out" in text for text in said) == bool(gone)
    assert status(tmp_path / "a").states["finished"] == status(tmp_path / "a").wanted == 2 * len(names)
    looked_up(tmp_path / "b", ablation("two", "one"))
    merge([tmp_path / "a", tmp_path / "b"], tmp_path / "m", run_environment(()))
    check_rows(tmp_path / "m", (*names, *(name for name in ("two", "one") if name not in names)))


def test_merges_of_folders_of_one_name_keep_them_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for place, row in (("first", "two"), ("second", "three")):
        (tmp_path / place).mkdir()
        monkeypatch.chdir(tmp_path / place)
        looked_up(Path("a"), ablation(row))
        looked_up(Path("b"), ablation("one"))
        merge([Path("a"), Path("b")], Path("m"), run_environment(()))
    monkeypatch.chdir(tmp_path)
    merge([Path("first/m"), Path("second/m")], Path("m"), run_environment(()))
    check_rows(Path("m"), ("two", "one", "three"))
    assert {trial.network.merged_from for trial in trials(read_events(Path("m")))} == {"a", "b", "a (second/m)"}


@pytest.mark.parametrize(
    ("texts", "problem"),
    [
        ([ablation("two", one="hr(16 e=4)")], "a changed row may also get a new name"),
        ([ablation("two"), ablation("two", one="hr(16 e=4)")], "a changed row may also get a new name"),
        ([ablation("two"), ablation("two", three="hr(32 e=6)")], "a changed row may also get a new name"),
        ([ablation("one", "two", "three").replace("epochs: 2", "epochs: 3")], "recipe.epochs: 2 -> 3"),
        ([ablation(four="hr(16 e=4)")], "belongs to another study"),
    ],
    ids=["another network", "put back as another", "put back without its recipe", "recipe", "no row is left"],
)
def test_other_changes_of_an_ablation_are_refused(tmp_path: Path, texts: list[str], problem: str):
    for text in [ablation("one", "two", "three"), *texts[:-1]]:
        looked_up(tmp_path / "a", text)
    with pytest.raises(StudyError, match=problem):
        looked_up(tmp_path / "a", texts[-1])


def test_rows_come_back_with_their_trials(tmp_path: Path):
    for names in (("one", "two"), ("one",), ("two", "three"), ("three", "one", "two")):
        looked_up(tmp_path / "a", ablation(*names))
        check_rows(tmp_path / "a", names)
    assert len(trials(read_events(tmp_path / "a"))) == 3


# ---- decisions of a search


SPACES = ["hr(16|32 e=4|6)", "hr(8|16|32 e=2|6)", "(hr | cffn)(24|32 e=6) -> t(64 e=2|4)"]


def widths(folder: Path) -> None:
    """Check that every reader shows the options that lead to the network of each trial."""
    own = {trial.number: trial for trial in trials(read_events(folder))}
    exported = {trial.user_attrs["trial"]: trial.params for trial in read_export(folder).trials}
    results = read_results(folder)
    table, page = network_table(results), page_content(results)
    shown = {
        name: [each["options"][i] if i is not None else None for i in each["indices"]]
        for name, each in page["decisions"].items()
    }
    for number, trial in own.items():
        stage = parse_net(trial.network.spec).stages[0]
        place = list(table["name"]).index(trial.network.name)
        wanted = {"1.w": stage.width, "1.e": stage.expansion}
        for name, option in {name: wanted[name] for name in wanted if name in trial.asked.decisions}.items():
            assert trial.asked.decisions[name] == exported[number][name] == shown[name][place] == option


@pytest.mark.parametrize("other", SPACES[1:])
def test_a_merge_of_unlike_spaces_keeps_the_options_of_each_trial(tmp_path: Path, other: str):
    for name, space in (("a", SPACES[0]), ("b", other)):
        looked_up(tmp_path / name, search(space))
        widths(tmp_path / name)
    merge([tmp_path / "a", tmp_path / "b"], tmp_path / "m", run_environment(()), unlike=True)
    assert len(trials(read_events(tmp_path / "m"))) > 4
    widths(tmp_path / "m")


@pytest.mark.parametrize("confirm", ["", "confirm: {top: 2, seeds: 2, epochs: x2}"])
@pytest.mark.parametrize("sampler", ["random", "surrogate", "grid"])
def test_a_search_grows_as_if_it_had_asked_for_all_networks_at_once(tmp_path: Path, sampler: str, confirm: str):
    space, sets = search(SPACES[1], confirm), f"search.sampler={sampler}"
    for networks in (3, 5):
        looked_up(tmp_path / "grown", space, sets, f"search.networks={networks}")
    looked_up(tmp_path / "whole", space, sets, "search.networks=5")
    grown, whole = (trials(read_events(tmp_path / name)) for name in ("grown", "whole"))
    asked, at_once = ([t.asked for t in each if not t.is_confirmation] for each in (grown, whole))
    assert [replace(each, trial=number) for number, each in enumerate(asked)] == at_once
    assert len(of_kind(read_events(tmp_path / "grown"), TrialAsked)) == len(grown)  # no number is taken twice
    assert not [finding for finding in verify(tmp_path / "grown") if finding.check in CHECKS and finding.faults]
    with pytest.raises(StudyError, match=r"search\.networks: 5 -> 4"):
        looked_up(tmp_path / "grown", space, sets, "search.networks=4")


# ---- numbers taken under unlike settings


def test_confirmations_of_unlike_lengths_are_rows_of_their_own(tmp_path: Path):
    for epochs in ("x2", "x4"):
        looked_up(tmp_path / "a", search(SPACES[1]), f"confirm={{top: 3, partners: 0, seeds: 2, epochs: {epochs}}}")
    table = confirmed_table(read_results(tmp_path / "a"))
    longer = [trial for trial in trials(read_events(tmp_path / "a")) if trial.is_confirmation]
    assert len(table) == 6
    for row in table.itertuples():
        own = [t for t in longer if (t.network.name, len(t.curve)) == (row.name, row.epochs)]
        assert row.seeds == len(own) == 2
        assert row.top1 == pytest.approx(sum(t.curve[-1].scores["top1"] for t in own) / 2, abs=0.01)
    assert sorted(table[table["epochs"] == 8]["rank"]) == sorted(table[table["epochs"] == 4]["rank"]) == [1, 2, 3]
    sentence = rank_agreement(read_results(tmp_path / "a"))
    assert "After 4 epochs: " in sentence
    assert "After 8 epochs: " in sentence
    assert "over 3 networks" in sentence
    state = status(tmp_path / "a")
    assert (state.wanted, state.seconds_left) == (state.states["finished"], (0.0, 0.0))


QUICK = {"seconds": 0.1, "min_rounds": 1, "max_rounds": 1}
ANOTHER_MACHINE = {"device": "another CPU"}


@pytest.mark.parametrize(
    ("latency", "machine", "timed_again"),
    [
        ({"max_rounds": 2, "seed": 3}, {}, False),
        ({"batch": 2}, {}, True),
        pytest.param({"threads": 2}, {}, True, marks=pytest.mark.slow),
        ({}, ANOTHER_MACHINE, True),
    ],
    ids=str,
)
def test_times_under_unlike_settings_are_never_in_one_column(
    tmp_path: Path, latency: dict[str, Any], machine: dict[str, Any], timed_again: bool
):
    folder = tmp_path / "a"
    looked_up(folder, ablation("one", "two"), f"latency={QUICK | {'threads': 1}}")
    with on_machine(machine):
        looked_up(folder, ablation("two", "three", "one"), f"latency={QUICK | {'threads': 1} | latency}")
    results = read_results(folder)
    assert len(results.timed) == (5 if timed_again else 3)
    last = {event.key: event.ms_per_image for event in results.timed[-3 if timed_again else 0 :]}
    table = network_table(results)
    assert list(table["ms"]) == [last[key] for key in table["key"]]
    inference = inference_table(results)
    assert inference["batch"].nunique() == 1
    assert len(inference) == (3 if "batch" in latency else len(results.timed))


BATCH = {f"batch {batch}": f"latency={QUICK | {'threads': 1, 'batch': batch}}" for batch in (1, 2)}


@pytest.mark.parametrize(
    ("runs", "batch"),
    [
        ([("one two", "batch 1"), ("one two", "batch 2"), ("one two", "batch 1")], 1),
        ([("one two three", "batch 1"), ("one", "batch 2")], 2),
        ([("one two three", "batch 1"), ("one two", "batch 2"), ("two", "batch 2")], 2),
    ],
    ids=["there and back", "fewer rows", "still fewer rows"],
)
def test_times_in_the_table_are_those_of_the_study(tmp_path: Path, runs: list[tuple[str, str]], batch: int):
    for names, setting in runs:
        looked_up(tmp_path / "a", ablation(*names.split()), BATCH[setting])
    results = read_results(tmp_path / "a")
    own = {event.key: event.ms_per_image for event in results.timed if event.batch == batch}
    table = network_table(results)
    assert list(table["ms"]) == [own[key] for key in table["key"]]
    assert set(inference_table(results)["name"]) == set(table["name"])


def test_confirmations_of_unlike_searches_are_never_averaged(tmp_path: Path):
    for name, lr in (("a", 0.1), ("b", 0.2)):
        sets = (f"recipe.lr={lr}", "confirm={top: 3, partners: 0, seeds: 2, epochs: x2}")
        looked_up(tmp_path / name, search(SPACES[0]), *sets)
    merge([tmp_path / "a", tmp_path / "b"], tmp_path / "unlike", run_environment(()), unlike=True)
    looked_up(tmp_path / "c", search(SPACES[0]), "recipe.lr=0.1")
    merge([tmp_path / "c", tmp_path / "unlike"], tmp_path / "m", run_environment(()))
    results = read_results(tmp_path / "m")
    table = confirmed_table(results)
    assert len(table) == 6
    assert set(table["seeds"]) == {2}
    assert "Merged from studies with unlike settings: recipe.lr: 0.1 -> 0.2." in caption(results)
    with pytest.raises(StudyError, match="merged although"):
        looked_up(tmp_path / "m", search(SPACES[0]), "recipe.lr=0.1")


@contextmanager
def on_machine(changes: dict[str, Any]) -> Iterator[None]:
    """Let benchmarks see another machine."""

    def found(device: torch.device) -> Machine:
        return replace(find_machine(device), **changes)

    with ExitStack() as stack:
        for module in (
            "study.continuing",
            "study.provenance.environment",
            "cost.latency.torch_state",
            "system.hardware",
        ):
            stack.enter_context(patch(f"hiri_search.{module}.find_machine", found))
        yield


@pytest.mark.parametrize(
    ("sets", "machine", "problem"),
    [
        (("latency={batch: 2}",), {}, r"latency\.batch: .* -> 2"),
        ((), ANOTHER_MACHINE, "has measured ms_per_image on .* and this machine is another CPU"),
        ((), {"threads": 77}, "this machine is .* with 77 threads"),
    ],
)
def test_a_search_by_time_goes_on_under_the_same_setting_only(
    tmp_path: Path, sets: tuple[str, ...], machine: dict[str, Any], problem: str
):
    text, own = (
        search(SPACES[0], "latency: {seconds: 0.1, min_rounds: 1, max_rounds: 1}"),
        "search.objectives=[top1, ms_per_image]",
    )
    looked_up(tmp_path / "a", text, own, "search.networks=1")
    looked_up(tmp_path / "a", text, own, "search.networks=2")
    with on_machine(machine), pytest.raises(StudyError, match=problem):
        looked_up(tmp_path / "a", text, own, "search.networks=3", *sets)


@pytest.mark.slow
def test_searches_by_time_on_two_machines_are_unlike(tmp_path: Path):
    text = search(SPACES[0], "latency: {seconds: 0.1, min_rounds: 1, max_rounds: 1}")
    own = ("search.objectives=[top1, ms_per_image]", "search.networks=1")
    looked_up(tmp_path / "a", text, *own)
    looked_up(tmp_path / "c", text, *own, "search.networks=2")
    with on_machine(ANOTHER_MACHINE):
        looked_up(tmp_path / "b", text, *own)
        merge([tmp_path / "a", tmp_path / "c"], tmp_path / "elsewhere", run_environment(()))
        with pytest.raises(StudyError, match="this machine is another CPU"):
            looked_up(tmp_path / "elsewhere", text, own[0], "search.networks=3")
    looked_up(tmp_path / "elsewhere", text, own[0], "search.networks=3")
    with pytest.raises(StudyError, match=r"machine: .* -> another CPU"):
        merge([tmp_path / "a", tmp_path / "b"], tmp_path / "m", run_environment(()))
