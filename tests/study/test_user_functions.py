"""Metrics, objectives and callbacks of the user, named `module:name` in a study."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hiri_search.api.folders import read_results
from hiri_search.report.tables.networks import network_table
from hiri_search.study.config.read import read_study
from hiri_search.study.config.schema import StudyConfig
from hiri_search.study.dispatch.serial_dispatcher import run_serially
from hiri_search.study.errors import StudyError
from hiri_search.study.export.optuna_export import read_export
from hiri_search.study.ledger.ledger import read_events, trials
from hiri_search.study.ledger.trial import Trial
from hiri_search.study.provenance.verify import verify
from hiri_search.study.run import run
from hiri_search.study.search.objectives import objectives_of
from hiri_search.study.status import status
from tests.study.search.searches import Quiet

MODULE = """
import torch

called = []

def error(logits, labels):
    return (logits.argmax(1) != labels).float().mean()

error.label, error.unit, error.up, error.digits = "error rate", "%", False, 1

def entropy(logits, labels):
    return -(logits.softmax(1) * logits.log_softmax(1)).sum(1).mean().item()

def fails_in_training(logits, labels):
    if len(labels) == 16:
        raise KeyError("bin 3")
    return 1

def infinite(logits, labels):
    return torch.tensor(float("inf"))

def pair(logits, labels):
    return torch.zeros(2)

def log(trial, spec, seed, epoch):
    called.append((trial, seed, epoch.epoch, sorted(epoch.scores)))
    epoch.scores.clear()

def full(trial, spec, seed, epoch):
    if trial == 1 and epoch.epoch == 2:
        raise OSError("no space left for the log")

def end(trial):
    called.append((trial.number, trial.state))
    trial.curve[-1].scores.clear()
    trial.curve.clear()

def no_network(trial):
    raise RuntimeError("no network")

def leave(trial):
    raise SystemExit(5)

def text(logits, labels):
    return "0.5"

def lines(logits, labels):
    raise ValueError("sorry,\\nno")

def wrong(logits, labels):
    return 0.0

wrong.up = "down"
number = 3
"""
COMMON = """
counted: {side: 64, classes: 10}
proxy: {width: 4, side: 32, classes: 2}
data: {source: drawn, train: 32, val: 16}
recipe: {epochs: 2, batch: 16, warmup_epochs: 0, ema: 0.5}
seeds: 1
"""
ABLATION = "nets: {one: hr(32 e=4), two: hr(32 e=2)}\n" + COMMON
SEARCH = "space: hr(16|32 e=2|4)\nsearch: {networks: 3, objectives: ['my_code:error', gmacs]}\n" + COMMON


class Said(Quiet):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def say(self, text: str) -> None:
        self.texts.append(text)


@pytest.fixture(autouse=True)
def _my_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "my_code.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("my_code", None)


def _run(tmp_path: Path, text: str, *sets: str) -> tuple[list[Trial], list[str]]:
    """Run a study; return its trials and messages."""
    (tmp_path / "study.yaml").write_text(text)
    said = Said()
    run(read_study(tmp_path / "study.yaml", sets=sets), tmp_path / "a", run_serially, said, profile="none")
    return trials(read_events(tmp_path / "a")), said.texts


def test_a_metric_of_the_user_is_an_objective_in_every_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    done, _ = _run(tmp_path, SEARCH, "metrics=[my_code:entropy]")
    for trial in done:
        for scores in (epoch.scores for epoch in trial.curve):
            assert scores["error"] == pytest.approx(1 - scores["top1"] / 100)
            assert scores["ema_error"] == pytest.approx(1 - scores["ema_top1"] / 100)
            assert 0 < scores["entropy"] < 0.694, "of two classes"
    monkeypatch.setitem(sys.modules, "my_code", None)  # no module of this name can be imported: nothing reads it again
    results = read_results(tmp_path / "a")
    assert (results.score.name, results.score.up, results.score.axis) == ("error", False, "Error rate (%)")
    assert {"error", "top1", "entropy"} < set(network_table(results))
    errors = {trial.network.name: trial.curve[-1].scores["error"] for trial in done}
    assert {losses[0] for losses in results.losses} == set(errors.values())
    assert {member["name"]: member["error"] for member in status(tmp_path / "a").front}.items() <= errors.items()
    exported = read_export(tmp_path / "a")
    assert [(each.name, each.up) for each in exported.objectives] == [("error", False), ("gmacs", False)]
    assert [trial.values[0] for trial in exported.trials] == list(errors.values())
    assert [finding.check for finding in verify(tmp_path / "a") if finding.faults] == ["manifest.json"], (
        "none is written"
    )


def test_a_metric_that_fails_in_training_fails_its_trial_with_its_own_message(tmp_path: Path):
    done, _ = _run(tmp_path, ABLATION, "metrics=[my_code:fails_in_training]")
    message = "MetricError: metric fails_in_training (my_code:fails_in_training) raised KeyError: 'bin 3'"
    assert [(trial.state, trial.reason) for trial in done] == [("failed", message)] * 2


BROKEN = {
    "metrics=[my_code:text]": r"metric text \(my_code:text\) returned '0\.5'; return a finite number",
    "metrics=[my_code:lines]": r"metric lines \(my_code:lines\) raised ValueError: sorry, no \(tried with random",
    "metrics=[my_code:infinite]": r"metric infinite \(my_code:infinite\) returned inf; return a finite number",
    "metrics=[my_code:pair]": r"metric pair \(my_code:pair\) raised \w+Error: .*\(tried with random logits",
    "metrics=[my_code:absent]": "my_code:absent: module my_code has no absent",
    "metrics=[my_code:number]": "my_code:number is a int; name a function",
    "metrics=[my_code:wrong]": "my_code:wrong: its attribute up is 'down'; write a value of type bool",
    "metrics={loss: my_code:error}": "metrics: 'loss' cannot be the name of a metric",
    "metrics={top1: my_code:error}": "metrics: 'top1' cannot be the name of a metric",
    "metrics=[my_code:error, other:error]": "metrics: two functions are called error; write a name for each",
    "metrics={error: {function: my_code:error, digits: 10}}": r"digits=10 is not possible; write 0 to 9",
    "score=accuracy": "score='accuracy' is not measured; write one of top1, top5, or module:name",
    "callbacks={on_epoch: my_code:absent}": "my_code:absent: module my_code has no absent",
}


@pytest.mark.parametrize(("setting", "message"), BROKEN.items(), ids=list(BROKEN))
def test_a_function_that_cannot_be_used_is_one_error_before_anything_is_trained(
    tmp_path: Path, setting: str, message: str
):
    with pytest.raises(StudyError, match=message):
        _run(tmp_path, ABLATION, setting)


def test_callbacks_are_called_after_each_epoch_and_at_the_end_of_each_trial(tmp_path: Path):
    done, _ = _run(tmp_path, ABLATION, "callbacks={on_epoch: my_code:log, on_trial_end: [my_code:end]}")
    measured = ["ema_top1", "ema_top5", "top1", "top5"]
    expected = [[(n, 0, 1, measured), (n, 0, 2, measured), (n, "finished")] for n in (0, 1)]
    assert sys.modules["my_code"].called == [call for calls in expected for call in calls]
    assert [len(trial.curve) for trial in done] == [2, 2], "a callback gets a copy"
    assert all(epoch.scores for trial in done for epoch in trial.curve)


def test_a_callback_that_raises_fails_its_trial_and_no_result_is_lost(tmp_path: Path):
    done, said = _run(
        tmp_path, ABLATION, "callbacks={on_epoch: my_code:full, on_trial_end: [my_code:no_network, my_code:leave]}"
    )
    message = "CallbackError: on_epoch: my_code:full raised OSError: no space left for the log"
    assert [(trial.state, trial.reason) for trial in done] == [("finished", ""), ("failed", message)]
    told = "trial 0: on_trial_end: my_code:no_network raised RuntimeError: no network; the trial keeps its result"
    assert told in said
    assert "trial 1: on_trial_end: my_code:leave raised SystemExit: 5; the trial keeps its result" in said


@pytest.mark.parametrize(
    ("keys", "headline", "objectives"),
    [
        ({}, "top1", ("top1", "gmacs")),
        ({"metrics": ["m:a"]}, "top1", ("top1", "gmacs")),
        ({"metrics": "m:a", "score": "a"}, "a", ("a", "gmacs")),
        ({"score": "m:a"}, "a", ("a", "gmacs")),
        ({"search": {"objectives": ["gmacs", "m:a", "top1"]}}, "a", ("gmacs", "a", "top1")),
        ({"search": {"objectives": ["m:a"]}, "score": "top5"}, "top5", ("a",)),
        ({"metrics": {"b": "m:a"}, "search": {"objectives": ["b", "m:a"]}}, "b", ("b", "a")),
    ],
    ids=str,
)
def test_the_first_objective_that_is_a_score_judges_unless_another_is_named(
    keys: dict[str, object], headline: str, objectives: tuple[str, ...]
):
    study = StudyConfig.model_validate({"space": "hr(8|16)", **keys})
    assert (study.headline.name, tuple(each.name for each in objectives_of(study))) == (headline, objectives)
    assert StudyConfig.model_validate(study.model_dump(mode="json")) == study, "as the ledger records it"
    ablation = StudyConfig.model_validate({"nets": {"one": "hr(8)"}, **keys})
    judged = headline if "score" in keys else "top1"
    assert [each.name for each in objectives_of(ablation)] == [judged, "gmacs"]
