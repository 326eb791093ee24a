"""Plans: what they count, that they can be kept, and what is made of them afterwards."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hiri_search.cli.main import main
from hiri_search.language import parse_network
from hiri_search.study.config.read import read_study
from hiri_search.study.dispatch.resources import TrialResources
from hiri_search.study.dispatch.serial_dispatcher import run_serially
from hiri_search.study.errors import StudyError
from hiri_search.study.ledger.events import AnyEvent, Planned, RunEnded, TrialFinished
from hiri_search.study.ledger.json_lines import read_line, write_line
from hiri_search.study.ledger.layout import LEDGER
from hiri_search.study.ledger.ledger import of_kind, read_events
from hiri_search.study.ledger.lock import locked
from hiri_search.study.plan import estimate, profiling
from hiri_search.study.plan import plan as plan_module
from hiri_search.study.plan.estimate import RAY_IMPORTS, estimate_plan
from hiri_search.study.plan.plan import Plan, compared_with_run, duration, last_plan, plan_lines, plan_table
from hiri_search.study.run import run
from hiri_search.system.cache_dir import CACHE_VARIABLE
from hiri_search.training.probe import ProbeError, ProbeResults, TrialTiming
from tests.study.search.searches import Quiet
from tests.study.test_run import SPACE, STUDY

PACE = TrialTiming(start=1.0, step=0.5, evaluate=0.0625, save=0.25, zero_cost=2.0)
MEMORY = 1_500_000_000
TRIAL = 1.0 + 2 * (2 * 0.5 + 16 * 0.0625 + 0.25)  # of two epochs of 32 images in batches of 16, and 16 looked at
UNTIMED = STUDY.replace("latency: {batch: 1, min_rounds: 1, max_rounds: 1}\n", "")
UNTIMED_SPACE = SPACE.replace("latency: {batch: 1, min_rounds: 1, max_rounds: 1}\n", "")


@pytest.fixture(autouse=True)
def probed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """All networks are of one pace; what was asked to be probed."""
    asked: list[Any] = []

    def probe_beside(
        jobs: Sequence[Any], decoded: Sequence[Any], *, processes: int, zero_cost: Any, code: Any
    ) -> ProbeResults:
        asked.append((jobs, decoded, processes))
        pace = PACE if zero_cost else replace(PACE, zero_cost=0.0)
        return ProbeResults({place: pace for place in range(len(jobs))}, 3.0, [0.125 for _ in decoded], 0.5, MEMORY)

    monkeypatch.setattr(profiling, "probe_side_by_side", probe_beside)
    monkeypatch.setattr(profiling.hardware, "cores", lambda: 2)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))  # nothing is decoded yet
    return asked


def _plan(tmp_path: Path, text: str = UNTIMED, *sets: str, slots: TrialResources | None = TrialResources(2)) -> Plan:  # noqa: B008
    (tmp_path / "study.yaml").write_text(text)
    return estimate_plan(read_study(tmp_path / "study.yaml", sets=sets), slots, tmp_path / "results")


def test_an_ablation_has_a_trial_for_each_row_and_seed(tmp_path: Path):
    plan = _plan(tmp_path)
    assert [(one.name, one.trials, one.epochs, one.side, one.timed) for one in plan.trainings] == [
        ("small", 2, 2, 32, True),
        ("other", 2, 2, 32, True),
    ]
    assert plan.space is None
    assert plan.trainings[0].trained == parse_network("hrstem(hs=8) -> hr(8 e=4) -> hr(16 e=4)").canonical_text
    assert plan.device_hours == pytest.approx(4 * TRIAL / 3600)


def test_the_parts_of_a_run(tmp_path: Path):
    plan = _plan(tmp_path, UNTIMED)
    assert plan.seconds["trials"] == pytest.approx(2 * TRIAL)
    assert plan.epoch_seconds == pytest.approx(4 * (TRIAL - 1.5))
    assert plan.seconds["images"] == pytest.approx(48 * 0.125 / 2)
    assert plan.seconds["workers"] == pytest.approx((1 + RAY_IMPORTS) * 3.0)
    assert plan.seconds["inference"] == 0
    assert plan.total == pytest.approx(sum(plan.seconds.values()))


def test_in_one_process_there_is_no_ray(tmp_path: Path, probed: list[Any]):
    plan = _plan(tmp_path, slots=None)
    assert plan.seconds["workers"] == 0
    assert plan.seconds["trials"] == pytest.approx(4 * TRIAL)
    assert probed[0][2] == 1


def test_of_several_processes_one_is_timed_with_its_share_of_the_batch(tmp_path: Path, probed: list[Any]):
    plan = _plan(tmp_path, slots=TrialResources(1, cpus=2.0, processes=2))
    jobs, _, processes = probed[0]
    assert ([job.recipe.batch for job, _ in jobs], processes) == ([8, 8], 2)
    assert plan.seconds["trials"] == pytest.approx(4 * (TRIAL - 2 * 16 * 0.0625 / 2))
    assert plan.device_hours == pytest.approx(2 * plan.trial_seconds / 3600)
    assert next(plan_lines(plan)).endswith("; each takes 2 cores, one for each of its processes")
    assert "one was timed alone, with its share of each batch" in "".join(plan_lines(plan))
    assert Plan.from_json(plan.to_json()) == plan


def test_images_that_are_there_take_no_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HIRI_SEARCH_CACHE", str(tmp_path / "cache"))
    assert _plan(tmp_path).seconds["images"] > 0
    run(read_study(tmp_path / "study.yaml"), tmp_path / "results", run_serially, Quiet(), profile="none")
    assert _plan(tmp_path).seconds["images"] == 0


def test_rows_that_are_the_same_training_are_trained_once(tmp_path: Path, probed: list[Any]):
    plan = _plan(
        tmp_path, UNTIMED.replace("  other: hr(32 e=4)", "  again: hr(32 e=4) -> hr(64 e=4)\n  other: hr(32 e=4)")
    )
    assert [one.name for one in plan.trainings] == ["small", "other"]
    assert len(probed[0][0]) == 2


def test_rows_have_recipes_of_their_own(tmp_path: Path):
    text = UNTIMED.replace("  other: hr(32 e=4) -> cffn(64 e=4)", "  other: {spec: hr(32 e=4), recipe: {epochs: 6}}")
    assert [one.epochs for one in _plan(tmp_path, text).trainings] == [2, 6]


def test_a_search_has_its_networks_with_all_seeds(tmp_path: Path):
    plan = _plan(tmp_path, UNTIMED_SPACE)
    (search,) = plan.trainings
    assert (search.name, search.trials, search.epochs) == ("search", 6, 2)
    assert plan.space is not None
    assert (plan.space.size, plan.space.feasible) == (4, 4)
    assert plan.space.gmacs.min < plan.space.gmacs.max
    assert plan.seconds["trials"] == pytest.approx(3 * TRIAL)
    assert any("sampler" in line for line in plan_lines(plan))


def test_a_space_smaller_than_what_is_asked_for_ends_it(tmp_path: Path):
    assert _plan(tmp_path, UNTIMED_SPACE, "search.networks=100").trials == 8


def test_a_budget_leaves_a_share(tmp_path: Path):
    whole = _plan(tmp_path, UNTIMED_SPACE).space
    assert whole is not None
    plan = _plan(tmp_path, UNTIMED_SPACE, f"within.gmacs={whole.gmacs.median:.9f}..")
    assert plan.space is not None
    assert plan.space.feasible < plan.space.size == 4
    assert plan.space.gmacs.min >= whole.gmacs.median - 1e-9
    assert any("within the budget" in line for line in plan_lines(plan))


def test_rungs_and_a_second_look(tmp_path: Path):
    sets = ("seeds=1", "search.networks=4", "search.halving.epochs=[1]", "search.halving.keep=0.5", "confirm.top=1")
    sets += ("confirm.partners=0",)
    plan = _plan(tmp_path, UNTIMED_SPACE, *sets, "confirm.epochs=x4", "confirm.seeds=3")
    search, confirm = plan.trainings
    assert (search.trials, search.epochs) == (4, 1.5), "half of them one epoch, the others two"
    assert (confirm.trials, confirm.epochs) == (3, 8)


def test_scores_are_computed_once_for_each_trial_of_the_first_look(tmp_path: Path):
    sets = (
        "seeds=1",
        "search.halving.epochs=[1]",
        "search.zero_cost=[naswot]",
        "confirm={top: 1, partners: 0, seeds: 1}",
    )
    plan = _plan(tmp_path, UNTIMED_SPACE, *sets, slots=None)
    bare = 3 * (PACE.seconds(1, 2, 16)) + PACE.seconds(1, 2, 16) + PACE.seconds(8, 2, 16)
    assert plan.seconds["trials"] == pytest.approx(bare + 3 * PACE.zero_cost)


def test_networks_that_were_not_timed_go_by_the_law(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def one(jobs: Sequence[Any], decoded: Sequence[Any], *, processes: int, zero_cost: Any, code: Any) -> ProbeResults:
        return ProbeResults({0: PACE}, 3.0, [0.0 for _ in decoded], None)

    monkeypatch.setattr(profiling, "probe_side_by_side", one)
    plan = _plan(tmp_path)
    assert sorted(training.timed for training in plan.trainings) == [False, True]
    assert all(training.seconds > 0 for training in plan.trainings)
    assert plan.model_error is None


def test_a_trial_that_would_fail_is_a_mistake_of_the_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(*given: Any, **named: Any) -> ProbeResults:
        raise ProbeError("a trial of 'x' at side 32 fails: the loss is not finite")

    monkeypatch.setattr(profiling, "probe_side_by_side", fail)
    with pytest.raises(StudyError, match="not finite"):
        _plan(tmp_path)


def _make_a_file(folder: Path) -> None:
    folder.touch()


def _damage_the_ledger(folder: Path) -> None:
    folder.mkdir()
    (folder / LEDGER).write_bytes(b"{}\n{}\n")


@pytest.mark.parametrize("make", [locked, _make_a_file, _damage_the_ledger])
def test_a_plan_that_cannot_be_recorded_is_refused_before_anything_is_timed(
    make: Callable[[Path], AbstractContextManager[None] | None],
    tmp_path: Path,
    probed: list[Any],
    capfd: pytest.CaptureFixture[str],
):
    (tmp_path / "study.yaml").write_text(UNTIMED)
    with make(tmp_path / "results") or nullcontext(), pytest.raises(SystemExit) as end:
        main(["run", str(tmp_path / "study.yaml"), "--plan", "--serial", "--results", str(tmp_path / "results")])
    assert (end.value.code, probed) == (2, [])
    assert f"error: {tmp_path / 'results'}" in capfd.readouterr().err


def test_timing_inference_is_foretold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(estimate, "estimate_seconds", lambda entries, setting, *, classes: 7.0 * len(entries))
    assert _plan(tmp_path, STUDY).seconds["inference"] == 14.0


@pytest.mark.parametrize("text", [UNTIMED, UNTIMED_SPACE])
def test_a_plan_is_the_same_from_json(tmp_path: Path, text: str):
    plan = _plan(tmp_path, text)
    event = read_line(write_line(Planned(plan=plan.to_json())))
    assert isinstance(event, Planned)
    assert Plan.from_json(event.plan) == plan
    assert last_plan([Planned(plan=replace(plan, slots=99).to_json()), event]) == plan
    assert last_plan([]) is None


def test_what_is_shown(tmp_path: Path):
    plan = _plan(tmp_path)
    shown = "\n".join(plan_lines(plan))
    assert "4 trials, 2 side by side" in shown
    assert "core-hours" in shown
    assert f"trials take {duration(plan.seconds['trials'] / 2)} on an idle machine" in shown
    assert "idle" not in "\n".join(plan_lines(replace(plan, core_share=1.0)))
    assert [row[0] for row in plan_table(plan)] == ["small", "other"]
    assert [duration(s) for s in (12.4, 200, 7500)] == ["12 s", "3 min 20 s", "2 h 05 min"]


# ---- held against what happened


def _run(tmp_path: Path) -> list[AnyEvent]:
    run(read_study(tmp_path / "study.yaml"), tmp_path / "results", run_serially, Quiet(), profile="none")
    return [event for event in read_events(tmp_path / "results") if not isinstance(event, RunEnded)]


def test_errors_are_relative_to_what_it_took(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(plan_module, "MIN_SECONDS", 1e-3)
    plan = _plan(tmp_path)
    events = _run(tmp_path)
    assert [one.part for one in compared_with_run(plan, events)] == ["epochs of all trials"], "a run that was killed"
    ended = RunEnded(seconds={"images": 6.0, "counting": 1.0, "inference": 0.0, "trials": 10.0})
    found = {one.part: one for one in compared_with_run(plan, [*events, ended])}
    assert list(found) == ["images", "counting", "trials", "in all", "epochs of all trials"]
    assert found["images"].error == pytest.approx(3.0 / 6.0 - 1)
    assert found["trials"].planned == pytest.approx(plan.seconds["workers"] + plan.seconds["trials"])
    assert found["in all"].took == 17.0
    taken = sum(epoch.seconds for event in of_kind(events, TrialFinished) for epoch in event.curve)
    assert found["epochs of all trials"].took == pytest.approx(taken)


def test_nothing_is_compared_before_all_is_done(tmp_path: Path):
    plan = _plan(tmp_path)
    events = _run(tmp_path)
    last = of_kind(events, TrialFinished)[-1]
    assert compared_with_run(plan, [event for event in events if event is not last]) == []


def test_a_plan_has_the_steps_and_the_needs_of_a_trial(tmp_path: Path):
    plan = _plan(tmp_path)
    assert [training.steps for training in plan.trainings] == [2 * 2, 2 * 2]
    assert plan.disk["images"] == 48 * 3 * 40**2, "stored a quarter larger than 32 pixels"
    assert plan.memory == MEMORY
    needs = [line.strip() for line in plan_lines(plan)][-2:]
    assert needs[0] == "a trial takes up to 4 steps; at most 1.5 GB of memory"
    assert needs[1].startswith("disk: images 0.2 MB, a checkpoint 0.")
    run(read_study(tmp_path / "study.yaml"), tmp_path / "results", run_serially, Quiet(), profile="none")
    largest = max(path.stat().st_size for path in (tmp_path / "results").glob("checkpoints/*/last.pt"))
    assert 0 <= largest - plan.disk["checkpoint"] < 100_000, "the rest is names and settings"
