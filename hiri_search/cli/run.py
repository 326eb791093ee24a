"""Parts of `run` that `calibrate` shares: options, profile, plan, dispatcher, exit code; and the counts of `paper`."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hiri_search.cli.results import write_report

if TYPE_CHECKING:
    from hiri_search.cli.console import Console
    from hiri_search.study.config.schema import Resources, StudyConfig
    from hiri_search.study.dispatch.resources import TrialResources
    from hiri_search.study.dispatch.task import Dispatcher
    from hiri_search.system.shutdown import Shutdown


INTERRUPTED = 130  # exit code if trials are unfinished
MAX_SLOTS = 2**31 - 1

ProfileOption = Annotated[str, typer.Option(help="Profile of the study, or none. auto: gpu or laptop.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="Override a setting: key=value. Repeatable.")]
SlotsOption = Annotated[
    int, typer.Option(help="Trials side by side. 0: as many as the hardware allows.", min=0, max=MAX_SLOTS)
]
SerialOption = Annotated[bool, typer.Option("--serial", help="Run trials one by one, without Ray.")]
RetryOption = Annotated[bool, typer.Option("--retry-failed", help="Train failed trials again.")]
RayAddress = Annotated[
    str | None,
    typer.Option(envvar="RAY_ADDRESS", help="Ray cluster: auto or HOST:PORT. Default: local Ray."),
]


def start_fresh(study: StudyConfig, folder: Path, file: Path, say: Callable[[str], None]) -> None:
    """Rename the results of earlier runs, here and in the storage, so that the study of `file` starts again.

    StudyError where the folder holds the study file or the working folder: these would get another name too.
    """
    from hiri_search.study.errors import StudyError
    from hiri_search.study.persistence.mirror import move_stored_aside, storage_of
    from hiri_search.study.run import move_aside

    for own in (Path.cwd(), Path(os.path.realpath(file))):
        if own.is_relative_to(os.path.realpath(folder)):
            problem = f"--fresh renames {folder}, which holds {own}"
            raise StudyError(f"{problem}; give a folder of the results alone with --results")
    storage = storage_of(study.storage, folder)  # first, because a run resumes from the storage
    if storage and (name := move_stored_aside(folder, storage)):
        say(f"the old results in {storage} are now in {name} there")
    if aside := move_aside(folder):
        say(f"the old results are now in {aside}")


def plan(study: StudyConfig, folder: Path, slots: TrialResources | None, console: Console) -> None:
    """Print the plan of a study, and record it in the ledger, so that the run can be compared with it."""
    from hiri_search.study.ledger.events import Planned
    from hiri_search.study.ledger.layout import IMAGE_FOLDER
    from hiri_search.study.ledger.ledger import open_ledger
    from hiri_search.study.persistence.mirror import resume_from_storage, storage_of
    from hiri_search.study.plan.estimate import estimate_plan
    from hiri_search.study.plan.plan import PLAN_COLUMNS, plan_lines, plan_table

    if storage := storage_of(study.storage, folder):
        resume_from_storage(folder, storage, console.say)  # before the plan is appended, or the ledgers would diverge
    with open_ledger(folder) as ledger:  # first, so that a folder in use is refused before networks are timed
        estimated = estimate_plan(study, slots, folder / IMAGE_FOLDER, say=console.say)
        ledger.append(Planned(plan=estimated.to_json()))
    console.table(PLAN_COLUMNS, plan_table(estimated))
    for line in plan_lines(estimated):
        console.say(line)


def dispatcher(folder: Path, shutdown: Shutdown, slots: TrialResources | None, address: str | None) -> Dispatcher:
    """Return the function that runs the trials: on Ray, or (slots None) one by one in this process."""
    if slots is None:
        from hiri_search.study.dispatch import serial_dispatcher

        return partial(serial_dispatcher.run_serially, shutdown=shutdown)
    from hiri_search.study.dispatch.ray_dispatcher import run_on_ray
    from hiri_search.study.dispatch.ray_session import check_answers, in_a_job
    from hiri_search.study.dispatch.run_trial import run_trial

    if address:
        check_answers(address)  # before slow preparations
    if in_a_job() and folder.is_relative_to(Path.cwd()):
        shutdown.say(f"Ray deletes {folder} after this job; give a permanent folder with --results")
    log = folder / "ray.log"
    return partial(run_on_ray, resources=slots, log=log, shutdown=shutdown, trial_function=run_trial, address=address)


def resources_for(slots: int, resources: Resources, *, address: str | None) -> TrialResources:
    """Return the resources of trials in `slots` slots; 0: as many as the hardware allows, on a cluster known later."""
    from hiri_search.study.dispatch.resources import ROUNDING, TrialResources

    trial_resources = partial(TrialResources, accelerator=resources.needs.accelerator, timeout=resources.timeout)
    if address:
        return trial_resources(slots, resources.gpu, cpus=resources.cpu or 1.0)
    from hiri_search.system.hardware import cores, gpus

    if not gpus():  # one thread each: another number of threads would change the last digits of results
        count = slots or max(1, int(cores() / (resources.cpu or 1)))
        return trial_resources(count, 0.0, cpus=resources.cpu or 1.0)
    if resources.gpu == "auto":
        return trial_resources(slots, "auto", cpus=resources.cpu or 1.0)
    count = slots or int(gpus() / (resources.gpu or 1) + ROUNDING) or 1
    cpus = resources.cpu or max(1.0, cores() // count)  # for the threads that decode images and build batches
    return trial_resources(count, resources.gpu or min(1.0, gpus() / count), cpus=cpus)


def after_run(study: StudyConfig, folder: Path, say: Callable[[str], None]) -> int:
    """Write and upload the report; print the errors of the plan, and trials without a result; return the exit code."""
    from hiri_search.study.persistence.mirror import storage_of, upload_report
    from hiri_search.study.plan.plan import error_lines

    results, complete = write_report(folder, say)
    if storage := storage_of(study.storage, folder):
        upload_report(folder, storage, say)
    for line in error_lines(results.planned):
        say(line)
    code = code_for((str(trial["state"]) for trial in results.trials), say)
    return code if complete or code else 1


def code_for(states: Iterable[str], say: Callable[[str], None]) -> int:
    """Print how many trials have no result; return the exit code of a run with trials in these states."""
    count = Counter(states)
    if count["failed"]:
        say(f"{count['failed']} trials failed; trials.csv has the reasons; --retry-failed trains them again")
    if left := count["unfinished"] + count["paused"]:
        say(f"{left} trials are unfinished; the same command continues them")
        return INTERRUPTED
    return 1 if count["failed"] else 0


def count_paper_networks(table: str) -> dict[tuple[str, int], tuple[int, int]]:
    """Count the networks of a table of the paper; return params and multiply-adds by spec and side."""
    from rich.console import Console
    from rich.progress import track

    from hiri_search.cost.flops import count
    from hiri_search.language import parse_network
    from hiri_search.paper.published import networks

    rows = networks(table)
    distinct = dict.fromkeys((spec, side) for spec, side in zip(rows["spec"], rows["side"], strict=True) if spec)
    costs = {}
    title = f"counting {len(distinct)} networks"
    for spec, side in track(list(distinct), title, console=Console(stderr=True), transient=True):
        cost = count(parse_network(spec), side)
        costs[spec, side] = (cost.params, cost.macs)
    return costs


def profile_for(profiles: Collection[str], name: str) -> str:
    """Return the profile `name`; `auto` chooses gpu or laptop by the hardware, or none if the study has no such one."""
    from hiri_search.study.config.layers import BY_HARDWARE, NO_PROFILE

    if name != BY_HARDWARE:
        return name
    from hiri_search.system.hardware import gpus

    by_hardware = "gpu" if gpus() else "laptop"
    return by_hardware if by_hardware in profiles else NO_PROFILE


def results_folder(study: Path) -> Path:
    """Return the default results folder of a study file. StudyError for standard input or a pipe: no name."""
    from hiri_search.study.errors import StudyError

    if not study.is_file():
        raise StudyError(f"{study} gives no name to the results; name their folder with --results")
    return Path("results") / study.stem
