"""Studies run and planned: the resources of trials, their dispatcher, signals, the report after a run."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, cast

from hiri_search.api.folders import write_report

if TYPE_CHECKING:
    from hiri_search.study.callbacks import Display
    from hiri_search.study.config.schema import StudyConfig
    from hiri_search.study.config.sections.resources import Resources
    from hiri_search.study.dispatch.resources import TrialResources
    from hiri_search.study.dispatch.task import Dispatcher, TrialFunction
    from hiri_search.study.plan.plan import Plan
    from hiri_search.system.shutdown import Shutdown

INTERRUPTED = 130  # exit code if trials are unfinished


@dataclass(frozen=True)
class Runner:
    """Where the trials of studies run."""

    slots: int = 0  # trials side by side; 0: as many as the hardware allows
    serial: bool = False  # one by one, in this process
    address: str | None = None  # of a Ray cluster; None: a local Ray
    retry_failed: bool = False  # train failed trials again
    profile: str = ""  # of the study; recorded in the ledger, as the command
    command: Sequence[str] = ()

    def check(self, study: StudyConfig) -> None:
        """Raise an error where the study asks for hardware or a logger that this machine lacks.

        Also where the processes of a trial cannot share its training. A cluster checks its own hardware.
        """
        from hiri_search.study.config.processes import check_processes
        from hiri_search.study.errors import StudyError
        from hiri_search.study.loggers.write import check_installed
        from hiri_search.system.hardware import gpus
        from hiri_search.training.data.pixel_stores import check_gpus

        check_installed(study.log)
        resources = resources_for(self.slots, study.resources, address=self.address)
        if self.address is None:
            check_gpus(study.cache, gpus())
            if resources.processes > gpus() > 0:
                problem = f"resources: a trial takes {resources.processes} GPUs, and this machine has {gpus()}"
                raise StudyError(f"{problem}; write at most {gpus()}, or give the --address of a cluster")
        check_processes(study, resources.processes, serial=self.serial)

    def resources(self, study: StudyConfig, *, address: str | None = None) -> TrialResources | None:
        """Return the resources of trials; None: serial."""
        return None if self.serial else resources_for(self.slots, study.resources, address=address)

    def run(self, study: StudyConfig, folder: Path, display: Display) -> bool:
        """Train the trials that a results folder lacks. Return False where the user interrupted it.

        The ledger has everything that was trained before.
        """
        from hiri_search.study.run import run as run_study
        from hiri_search.system.shutdown import graceful_shutdown

        home, resources = folder.absolute(), self.resources(study, address=self.address)
        with display, suppress(KeyboardInterrupt), graceful_shutdown(display.say) as shutdown:
            dispatch = dispatcher(home, shutdown, resources, self.address)
            run_study(
                *(study, home, dispatch, display),
                profile=self.profile,
                retry_failed=self.retry_failed,
                command=self.command,
            )
            return True
        return False

    def plan(self, study: StudyConfig, folder: Path, say: Callable[[str], None]) -> Plan:
        """Return the plan of a study on this machine, and record it in the ledger to compare the run with it."""
        from hiri_search.study.ledger.events import Planned
        from hiri_search.study.ledger.layout import IMAGE_FOLDER
        from hiri_search.study.ledger.ledger import open_ledger
        from hiri_search.study.persistence.mirror import resume_from_storage, storage_of
        from hiri_search.study.plan.estimate import estimate_plan

        if storage := storage_of(study.storage, folder):
            resume_from_storage(folder, storage, say)  # before the plan is appended, or the ledgers would diverge
        with open_ledger(folder) as ledger:  # first, so that a folder in use is refused before networks are timed
            estimated = estimate_plan(study, self.resources(study), folder / IMAGE_FOLDER, say=say)
            ledger.append(Planned(plan=estimated.to_json()))
        return estimated


def start_fresh(study: StudyConfig, folder: Path, file: Path | None, say: Callable[[str], None]) -> None:
    """Rename the results of earlier runs, here and in the storage, so that the study of `file` starts again.

    StudyError where the folder holds the study file or the working folder: these would get another name too.
    """
    from hiri_search.study.errors import StudyError
    from hiri_search.study.persistence.mirror import move_stored_aside, storage_of
    from hiri_search.study.run import move_aside

    for own in (Path.cwd(), *([Path(os.path.realpath(file))] if file else ())):
        if own.is_relative_to(os.path.realpath(folder)):
            problem = f"--fresh renames {folder}, which holds {own}"
            raise StudyError(f"{problem}; give a folder of the results alone with --results")
    storage = storage_of(study.storage, folder)  # first, because a run resumes from the storage
    if storage and (name := move_stored_aside(folder, storage)):
        say(f"the old results in {storage} are now in {name} there")
    if aside := move_aside(folder):
        say(f"the old results are now in {aside}")


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
    log, function = folder / "ray.log", cast("TrialFunction", run_trial)
    if slots.processes > 1:
        from hiri_search.study.dispatch.processes.ray_ranks import ray_ranks

        function = partial(run_trial, together=partial(ray_ranks, resources=slots))
    return partial(run_on_ray, resources=slots, log=log, shutdown=shutdown, trial_function=function, address=address)


def resources_for(slots: int, resources: Resources, *, address: str | None) -> TrialResources:
    """Return the resources of trials in `slots` slots; 0: as many as the hardware allows, on a cluster known later."""
    from hiri_search.study.dispatch.resources import ROUNDING, TrialResources
    from hiri_search.system.hardware import cores, gpus

    processes = resources.processes_of_trial(on_gpus=address is not None or gpus() > 0)
    cpus = resources.cpu or float(processes)  # on the CPU one thread each: more would change the last digits of results
    trial_resources = partial(
        TrialResources, accelerator=resources.needs.accelerator, timeout=resources.timeout, processes=processes
    )
    if address:
        return trial_resources(slots, resources.gpu, cpus=cpus)
    if not gpus():
        return trial_resources(slots or max(1, int(cores() / cpus)), 0.0, cpus=cpus)
    if resources.gpu == "auto":
        return trial_resources(slots, "auto", cpus=cpus)
    wanted = resources.gpu or (float(processes) if processes > 1 else None)
    count = slots or int(gpus() / (wanted or 1) + ROUNDING) or 1
    cpus = resources.cpu or max(1.0, cores() // count)  # for the threads that decode images and build batches
    return trial_resources(count, wanted or 1 / ceil(count / gpus()), cpus=cpus)  # of one GPU: Ray spans no two


def after_run(study: StudyConfig, folder: Path, say: Callable[[str], None]) -> int:
    """Write and upload the report; print the errors of the plan, and trials without a result; return the exit code."""
    from hiri_search.study.persistence.mirror import storage_of, upload_report
    from hiri_search.study.plan.plan import error_lines

    results, complete = write_report(folder, say)
    if storage := storage_of(study.storage, folder):
        upload_report(folder, storage, say)
    for line in error_lines(results.planned):
        say(line)
    code = code_for((str(trial["state"]) for trial in results.all_trials), say)
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


def profile_for(profiles: Collection[str], name: str) -> str:
    """Return the profile `name`; `auto` chooses gpu or laptop by the hardware, or none if the study has no such one."""
    from hiri_search.study.config.files.base import BY_HARDWARE, NO_PROFILE

    if name != BY_HARDWARE:
        return name
    from hiri_search.system.hardware import gpus

    by_hardware = "gpu" if gpus() else "laptop"
    return by_hardware if by_hardware in profiles else NO_PROFILE


def results_folder(file: Path) -> Path:
    """Return the results folder where none is given: results/NAME of the study file. StudyError for a pipe: no name.

    A path that cannot be read has one too: what is wrong with it is said when it is read.
    """
    from hiri_search.study.errors import StudyError

    if file == Path("-") or (file.exists() and not file.is_file() and not file.is_dir()):
        raise StudyError(f"{file} gives no name to the results; name their folder with --results")
    return Path("results") / file.stem
