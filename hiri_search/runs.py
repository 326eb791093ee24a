"""A run from the command line: what it will take, where its trials run, what it leaves, and how it ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hiri_search.console import Console
    from hiri_search.report.tables import Results
    from hiri_search.study.config import Resources, Study
    from hiri_search.study.leaving import Leaving
    from hiri_search.study.ledger import Event, Trial
    from hiri_search.study.run import Executor
    from hiri_search.study.slots import Slots

INTERRUPTED = 130


def begin_anew(study: Study, folder: Path, say: Callable[[str], None]) -> None:
    """Move aside what there is, here and in the storage, for a fresh one."""
    from hiri_search.study.mirror import move_stored_aside, storage_of
    from hiri_search.study.run import move_aside

    storage = storage_of(study.storage, folder)  # first: while it is there, a run would go on from it
    if storage and (name := move_stored_aside(folder, storage)):
        say(f"what {storage} held is now in {name} there")
    if aside := move_aside(folder):
        say(f"the old results are now in {aside}")


def store_report(study: Study, folder: Path, say: Callable[[str], None]) -> None:
    """The report, as it is now, beside the rest in the storage."""
    from hiri_search.study.mirror import bring_report, storage_of

    if storage := storage_of(study.storage, folder):
        bring_report(folder, storage, say)


def plan(study: Study, folder: Path, slots: Slots | None, console: Console) -> None:
    """What a study will take, kept in its ledger, so that the run can say how far off it was."""
    from hiri_search.study.ledger import open_ledger
    from hiri_search.study.mirror import storage_of, take_up
    from hiri_search.study.plan import COLUMNS, PLANNED, lines, table
    from hiri_search.study.planning import draw_up
    from hiri_search.study.run import PICTURES

    if storage := storage_of(study.storage, folder):
        take_up(folder, storage, console.say)  # else what is written down here would stand where it ends
    drawn_up = draw_up(study, slots, folder / PICTURES, say=console.say)
    with open_ledger(folder) as ledger:
        ledger.append(PLANNED, **drawn_up.to_json())
    console.table(COLUMNS, table(drawn_up))
    for line in lines(drawn_up):
        console.say(line)


def say_plan_error(folder: Path, say: Callable[[str], None]) -> None:
    """Where there was a plan: what came of it."""
    from hiri_search.study.ledger import read_events
    from hiri_search.study.plan import compared, error_lines, last_plan

    events = read_events(folder)
    planned = last_plan(events)
    for line in error_lines(compared(planned, events)) if planned else ():
        say(line)


def executor(folder: Path, leaving: Leaving, *, serial: bool, slots: Slots, address: str | None) -> Executor:
    if serial:
        from hiri_search.study import dispatch

        return partial(dispatch.serial, leaving=leaving)
    from hiri_search.study.cluster import on_ray
    from hiri_search.study.join import check_answers, in_a_job
    from hiri_search.study.work import work

    if address:
        check_answers(address)  # before pictures are decoded and networks timed
    if in_a_job() and folder.is_relative_to(Path.cwd()):
        leaving.say(f"{folder} goes when Ray tidies up behind this job; give a folder that stays with --results")
    return partial(on_ray, slots=slots, log=folder / "ray.log", leaving=leaving, do=work, address=address)


def slots_for(asked: int, resources: Resources, *, address: str | None) -> Slots:
    """As many as were asked for, or as the hardware carries; on a cluster that is seen when it is joined."""
    from hiri_search.study.slots import ROUNDING, Slots

    given = partial(Slots, accelerator=resources.needs.accelerator, timeout=resources.timeout)
    if address:
        return given(asked, resources.gpu, cpus=resources.cpu or 1.0)
    from hiri_search.training.device import cores, gpus

    if not gpus():  # one thread each: more would change the last digit
        return given(asked or max(1, int(cores() / (resources.cpu or 1))), 0.0, cpus=resources.cpu or 1.0)
    if resources.gpu == "auto":
        return given(asked, "auto", cpus=resources.cpu or 1.0)
    count = asked or int(gpus() / (resources.gpu or 1) + ROUNDING) or 1
    cpus = resources.cpu or max(1.0, cores() // count)  # what decodes and gathers has threads; none has too many
    return given(count, resources.gpu or min(1.0, gpus() / count), cpus=cpus)


def read_results(folder: Path) -> Results:
    from hiri_search.report.tables import Results
    from hiri_search.study.checkpoints import shown
    from hiri_search.study.ledger import TIME, read_events, study_event, trials

    events = read_events(folder, timed=True)
    times = [event.pop(TIME) for event in events if TIME in event]
    about, known = study_event(events, folder), trials(events)
    counted, timed = ([event for event in events if event["event"] == kind] for kind in ("counted", "timed"))
    return Results(
        about,
        shown(folder, [trial.row() for trial in known]),
        counted,
        timed=timed,
        planned=_planned(events),
        times=(times[0], times[-1]) if times else None,
        **(_searched(about, known) if about["file"].get("space") else {}),
    )


def _searched(about: Event, known: list[Trial]) -> dict[str, Any]:
    """What only a search has."""
    from hiri_search.study.config import Study
    from hiri_search.study.importance import decided, importances
    from hiri_search.study.objectives import losses

    study = Study.model_validate(about["file"])
    first = [trial for trial in known if not trial.is_second_look]
    finished = [[trial] for trial in first if trial.state == "finished"]
    found = [one for trial in finished if (one := losses(trial, study.search.objectives))]
    return {"losses": found, "decisions": decided(study, first), "importances": importances(study, first)}


def _planned(events: list[Event]) -> list[tuple[str, float, float]]:
    from hiri_search.study.plan import compared, last_plan

    plan = last_plan(events)
    return [(one.part, one.planned, one.took) for one in compared(plan, events)] if plan else []


def write_report(folder: Path, say: Callable[[str], None]) -> Counter[str]:
    """Write the report and the manifest; how many trials are in which state."""
    from hiri_search.report.write import write
    from hiri_search.study import manifest

    results = read_results(folder)
    for path in write(results, folder / "report"):
        say(f"wrote {path}")
    say(f"wrote {manifest.write(folder)}")
    return Counter(str(trial["state"]) for trial in results.trials)


def summary(states: Counter[str], say: Callable[[str], None]) -> int:
    """Say what a run has left undone; the exit code."""
    if states["failed"]:
        say(f"{states['failed']} trials failed, for reasons in trials.csv; --retry-failed trains them again")
    if left := states["unfinished"] + states["paused"]:
        say(f"{left} trials are unfinished; the same command goes on with them")
        return INTERRUPTED
    return 1 if states["failed"] else 0
