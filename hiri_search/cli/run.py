"""What `run` does around a study: plan, executor, resources, exit code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hiri_search.cli.console import Console
    from hiri_search.report.tables.results import Results
    from hiri_search.study.config.schema import Resources, Study
    from hiri_search.study.dispatch.resources import TrialResources
    from hiri_search.study.run import Executor
    from hiri_search.system.shutdown import Shutdown


INTERRUPTED = 130


def start_fresh(study: Study, folder: Path, say: Callable[[str], None]) -> None:
    """Move aside what there is, here and in the storage, for a fresh one."""
    from hiri_search.study.persistence.mirror import move_stored_aside, storage_of
    from hiri_search.study.run import move_aside

    storage = storage_of(study.storage, folder)  # first: while it is there, a run would go on from it
    if storage and (name := move_stored_aside(folder, storage)):
        say(f"what {storage} held is now in {name} there")
    if aside := move_aside(folder):
        say(f"the old results are now in {aside}")


def store_report(study: Study, folder: Path, say: Callable[[str], None]) -> None:
    """The report, as it is now, beside the rest in the storage."""
    from hiri_search.study.persistence.mirror import storage_of, upload_report

    if storage := storage_of(study.storage, folder):
        upload_report(folder, storage, say)


def plan(study: Study, folder: Path, slots: TrialResources | None, console: Console) -> None:
    """What a study will take, kept in its ledger, so that the run can say how far off it was."""
    from hiri_search.study.ledger.events import Planned
    from hiri_search.study.ledger.ledger import open_ledger
    from hiri_search.study.persistence.mirror import resume_from_storage, storage_of
    from hiri_search.study.plan.estimate import estimate_plan
    from hiri_search.study.plan.plan import PLAN_COLUMNS, plan_lines, plan_table
    from hiri_search.study.run import IMAGE_FOLDER

    if storage := storage_of(study.storage, folder):
        resume_from_storage(folder, storage, console.say)  # else what is written down here would stand where it ends
    drawn_up = estimate_plan(study, slots, folder / IMAGE_FOLDER, say=console.say)
    with open_ledger(folder) as ledger:
        ledger.append(Planned(plan=drawn_up.to_json()))
    console.table(PLAN_COLUMNS, plan_table(drawn_up))
    for line in plan_lines(drawn_up):
        console.say(line)


def say_plan_error(results: Results, say: Callable[[str], None]) -> None:
    """Print how far the plan was off, if there was one."""
    from hiri_search.study.plan.plan import error_lines

    for line in error_lines(results.planned):
        say(line)


def executor(folder: Path, leaving: Shutdown, *, serial: bool, slots: TrialResources, address: str | None) -> Executor:
    if serial:
        from hiri_search.study.dispatch import serial_executor

        return partial(serial_executor.run_serially, shutdown=leaving)
    from hiri_search.study.dispatch.ray_connection import check_answers, in_a_job
    from hiri_search.study.dispatch.ray_executor import run_on_ray
    from hiri_search.study.dispatch.run_trial import run_trial

    if address:
        check_answers(address)  # before images are decoded and networks timed
    if in_a_job() and folder.is_relative_to(Path.cwd()):
        leaving.say(f"{folder} goes when Ray tidies up behind this job; give a folder that stays with --results")
    log = folder / "ray.log"
    return partial(run_on_ray, resources=slots, log=log, shutdown=leaving, trial_function=run_trial, address=address)


def resources_for(asked: int, resources: Resources, *, address: str | None) -> TrialResources:
    """As many as were asked for, or as the hardware carries; on a cluster that is seen when it is joined."""
    from hiri_search.study.dispatch.resources import ROUNDING, TrialResources

    given = partial(TrialResources, accelerator=resources.needs.accelerator, timeout=resources.timeout)
    if address:
        return given(asked, resources.gpu, cpus=resources.cpu or 1.0)
    from hiri_search.system.hardware import cores, gpus

    if not gpus():  # one thread each: more would change the last digit
        return given(asked or max(1, int(cores() / (resources.cpu or 1))), 0.0, cpus=resources.cpu or 1.0)
    if resources.gpu == "auto":
        return given(asked, "auto", cpus=resources.cpu or 1.0)
    count = asked or int(gpus() / (resources.gpu or 1) + ROUNDING) or 1
    cpus = resources.cpu or max(1.0, cores() // count)  # what decodes and gathers has threads; none has too many
    return given(count, resources.gpu or min(1.0, gpus() / count), cpus=cpus)


def summary(states: Counter[str], say: Callable[[str], None]) -> int:
    """Say what a run has left undone; the exit code."""
    if states["failed"]:
        say(f"{states['failed']} trials failed, for reasons in trials.csv; --retry-failed trains them again")
    if left := states["unfinished"] + states["paused"]:
        say(f"{left} trials are unfinished; the same command goes on with them")
        return INTERRUPTED
    return 1 if states["failed"] else 0


def costs_of_table(table: str) -> dict[tuple[str, int], tuple[int, int]]:
    """Params and multiply-adds of each network of a table of the paper, counted now."""
    from hiri_search.cli.console import progress_bar
    from hiri_search.cost.flops import count
    from hiri_search.language import parse_network
    from hiri_search.report.paper.published import networks

    known = networks(table)
    wanted = dict.fromkeys((spec, side) for spec, side in zip(known["spec"], known["side"], strict=True) if spec)
    found = {}
    for spec, side in progress_bar(list(wanted), "counting"):
        cost = count(parse_network(spec), side)
        found[spec, side] = (cost.params, cost.macs)
    return found


def profile_for(study: Path, wanted: str) -> str:
    """The profile that was asked for, or the one that fits the hardware, where the study has it."""
    from hiri_search.study.config.read import NO_PROFILE, profiles_of

    if wanted != "auto":
        return wanted
    known = profiles_of(study)  # a file that cannot be read is said before the slow import
    from hiri_search.system.hardware import gpus

    fitting = "gpu" if gpus() else "laptop"
    return fitting if fitting in known else NO_PROFILE
