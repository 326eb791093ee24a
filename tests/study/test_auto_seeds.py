"""Runs of studies with `seeds: auto`: real queue, ledger, report and checks; the trainings are looked up."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from pathlib import Path

import pytest

from hiri_search.api.folders import read_results
from hiri_search.language import parse_net
from hiri_search.report.tables.ablation import comparison_caption, comparison_table
from hiri_search.report.tables.networks import caption, trial_table
from hiri_search.study.config.read import read_study
from hiri_search.study.dispatch.task import TrialSource, TrialTask
from hiri_search.study.errors import StudyError
from hiri_search.study.ledger.events import TrialAsked, TrialEvent, TrialFinished
from hiri_search.study.ledger.layout import LEDGER
from hiri_search.study.ledger.ledger import of_kind, read_events
from hiri_search.study.provenance.verify import verify
from hiri_search.study.run import run
from hiri_search.study.status import status
from tests.study.records import epoch
from tests.study.search.searches import Quiet

SPECS = {"base": "hr(32 e=4)", "near": "hr(32 e=2)", "hopeless": "cffn(32 e=2)"}
STUDY = f"""
nets: {SPECS}
compare: base
seeds: {{most: 8}}
counted: {{side: 64, classes: 10}}
proxy: {{width: 4, side: 32, classes: 2}}
data: {{source: drawn, train: 32, val: 16}}
recipe: {{epochs: 1, batch: 16, warmup_epochs: 0}}
"""
NOISE = (0.0, 1.0, -0.8, 0.3, -0.5, 0.9, 0.1, -0.2)
TOP1 = {
    "base": [50.0 + noise for noise in NOISE],
    "near": [53.0 + 2 * noise for noise in NOISE],
    "hopeless": [50.0 + noise + even for noise, even in zip(NOISE, (0.5, -0.6, 0.1), strict=False)],
}
SECONDS = 6.0  # of each training
FIRST = [(row, seed) for row in SPECS for seed in range(3)]
ADDED = [(row, seed) for seed in (3, 4) for row in ("near", "base")]  # until the difference is shown


class Killed(BaseException):
    """The end of a process."""


def _run(folder: Path, *sets: str, workers: int = 1, killed_after: int = 99) -> list[tuple[str, int]]:
    """Run or continue the study; return row and seed of its trials, in the order of the ledger."""
    folder.mkdir(exist_ok=True)
    (folder / "study.yaml").write_text(STUDY)
    study = read_study(folder / "study.yaml", sets=sets)
    rows = {parse_net(spec).scaled_down(width=4, depth=1).canonical_text: row for row, spec in SPECS.items()}

    def dispatch(source: TrialSource) -> None:
        """Give each worker a task as soon as there is one; the oldest training ends first."""
        running, done = deque[TrialTask](), 0
        while True:
            while len(running) < workers and isinstance(task := source.next(), TrialTask):
                running.append(task)
            if not running:
                return
            if (done := done + 1) > killed_after:
                raise Killed
            task = running.popleft()
            score = epoch(1, TOP1[rows[task.job.spec]][task.job.seed], seconds=SECONDS, joules=None)
            source.on_event(TrialFinished(trial=task.trial, curve=(score,)))

    with suppress(Killed):
        run(study, folder, dispatch, Quiet(), profile="none")
    return [(event.network.name, event.seed) for event in of_kind(read_events(folder), TrialAsked)]


def _faults(folder: Path) -> list[str]:
    checks = ("trials", "added seeds", "trainings")
    return [fault for finding in verify(folder) if finding.check in checks for fault in finding.faults]


def test_seeds_are_added_until_the_difference_is_shown_and_none_to_a_hopeless_pair(tmp_path: Path):
    assert _run(tmp_path) == FIRST + ADDED
    results = read_results(tmp_path)
    table = comparison_table(results).set_index("network")
    assert (list(table["shown"]), list(table["seeds"])) == ([True, False], [5, 3])
    assert "from 3 to at most 8, until each was shown or unlikely to be" in comparison_caption(results)
    assert "a new study with" in table.loc["hopeless", "verdict"]
    assert "over 3 to 8 seeds, as a rule added them" in caption(results)
    added = trial_table(results).set_index("trial")["added_for"]
    assert list(added.dropna()) == ["near against base"] * len(ADDED)
    assert _faults(tmp_path) == []
    now = status(tmp_path)
    assert (now.wanted, now.seconds_left) == (len(FIRST + ADDED), (0.0, 0.0))


@pytest.mark.parametrize("workers", [2, 5])
def test_several_workers_add_seeds_that_the_rule_adds_to_what_has_ended(tmp_path: Path, workers: int):
    added = _run(tmp_path, workers=workers)[len(FIRST) :]
    assert added == ADDED, "the other pair has no chance, and no worker trains for it"
    assert _faults(tmp_path) == []


@pytest.mark.parametrize("killed_after", [5, 9, 10, 12])
def test_a_killed_run_adds_the_same_seeds_when_it_goes_on(tmp_path: Path, killed_after: int):
    assert len(_run(tmp_path, killed_after=killed_after)) == killed_after + 1
    before = status(tmp_path)
    assert before.wanted > len(FIRST + ADDED), "at most"
    assert _run(tmp_path) == FIRST + ADDED
    assert _faults(tmp_path) == []


def test_the_time_limit_holds_over_all_runs_and_more_minutes_go_on(tmp_path: Path):
    """A pair needs two trainings of 6 seconds; the time that this test takes is nearly nothing beside them."""
    assert _run(tmp_path, "seeds.minutes=0.15") == FIRST
    assert status(tmp_path).seconds_left == (0.0, 0.0)
    assert _faults(tmp_path) == []
    assert _run(tmp_path, "seeds.minutes=10") == FIRST + ADDED
    assert _faults(tmp_path) == []


def test_verify_finds_seeds_that_the_rule_did_not_add(tmp_path: Path):
    _run(tmp_path)
    lines = (tmp_path / LEDGER).read_text().splitlines(keepends=True)
    last = {event.trial for event in of_kind(read_events(tmp_path), TrialEvent) if event.trial >= len(FIRST) + 2}
    kept = [line for line in lines if not any(f'"trial": {trial},' in line for trial in last)]
    (tmp_path / LEDGER).write_text("".join(kept))
    assert _faults(tmp_path) == ["there is no trial of 'near' with seed 4, which the rule of seeds: auto adds next"]
    wrong = [line.replace('"added_for": ["near", "base"]', '"added_for": ["hopeless", "base"]') for line in lines]
    (tmp_path / LEDGER).write_text("".join(wrong))
    assert "trial 9 is an added seed, and the rule adds 'near' with seed 3 there" in _faults(tmp_path)


def test_a_study_with_added_seeds_takes_no_fixed_number(tmp_path: Path):
    _run(tmp_path)
    with pytest.raises(StudyError, match="belongs to another study"):
        _run(tmp_path, "seeds=8")
