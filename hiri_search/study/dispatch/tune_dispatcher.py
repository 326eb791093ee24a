"""Tasks of the scheduler as trials of Ray Tune.

Tune finds resources, starts workers and uses them again, and passes on what they report. The scheduler decides, by the
ledger, which task is next and what follows from a lost worker: Tune retries nothing, and its own state is never read.
"""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray import cloudpickle, tune
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from hiri_search.study.dispatch.capacity import CHECK_SECONDS
from hiri_search.study.dispatch.resources import TrialResources
from hiri_search.study.dispatch.task import TrialFunction, TrialTask
from hiri_search.study.dispatch.task_tracker import TaskTracker
from hiri_search.study.dispatch.trial_config import config_of, epoch_of, scores_of
from hiri_search.study.dispatch.worker import StintFailed, device, run_task
from hiri_search.study.errors import StudyError
from hiri_search.study.ledger.events import GO_ON, Fault
from hiri_search.system.temp_dir import temporary_directory
from hiri_search.training.job import DataSource

CALLBACKS = "RAY_TUNE_CALLBACKS"  # Tune's own variable: classes of callbacks that the user adds
TUNE_FOLDER = "tune"  # in the results folder: what the user's callbacks write
_SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # they import torch into the driver, half a GB
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # `Shutdown` handles the signal
    "TUNE_MAX_PENDING_TRIALS_PG": "10000",  # `TaskTracker` sets the limit; by default workers start one by one
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "RAY_TRAIN_COUNT_PREEMPTION_AS_FAILURE": "1",  # otherwise Tune itself retries after the loss of a spot machine
    "RAY_AIR_NEW_OUTPUT": "0",  # no banner
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths of a study mean the same in all processes
}
_NO_SNAPSHOTS = {"TUNE_GLOBAL_CHECKPOINT_S": f"{10**9}"}
_PRESENT = 0.001  # of a resource that only marks a kind of node


def run_tuner(tracker: TaskTracker, resources: TrialResources, trial_function: TrialFunction, data: DataSource) -> None:
    """Run the tasks of a tracker on the running Ray. Raises the error that ended the run, if there is one."""
    files = tracker.source.files
    timeout, shares_gpu = resources.timeout, resources.per_gpu > 1

    def trial(config: dict[str, Any]) -> None:
        # A closure, not tune.with_parameters: a driver that fetches an object from a dead node ends without a word.
        run_task(config, trial_function, data, files, timeout=timeout, shares_gpu=shares_gpu)

    with _settings() as user_has_callbacks, temporary_directory() as temporary:
        storage = files.folder.absolute() / TUNE_FOLDER if user_has_callbacks else temporary
        _run_trials(
            _Run(tracker, timeout, resources.processes), tune.with_resources(trial, _placement(resources)), storage
        )


@dataclass
class _Run:
    """A run of a Tuner, as its parts share it."""

    tracker: TaskTracker
    timeout: float  # seconds
    processes: int = 1  # of each trial
    trials: dict[str, Any] = field(default_factory=dict)  # trials of Tune that have not ended, by id

    def ended(self, reason: str) -> StudyError:
        return StudyError(f"Ray Tune ended the run: {reason}; {GO_ON}")


def _run_trials(run: _Run, trainable: Any, storage: Path) -> None:
    """Run tasks until there are none. Raises the error that ended the run, or StudyError where Tune failed."""
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=_TaskSearcher(run),
            scheduler=_ShutdownScheduler(run),
            num_samples=-1,
            reuse_actors=True,
            trial_name_creator=_trial_name,
            trial_dirname_creator=_trial_folder,
        ),
        run_config=tune.RunConfig(
            name=datetime.now().isoformat(timespec="milliseconds").replace(":", "-"),
            storage_path=str(storage),
            verbose=0,
            callbacks=[_TrackerCallback(run)],
        ),
    )
    try:
        tuner.fit()
    except Exception as error:  # for example of a callback of the user
        traceback.print_exc()  # into ray.log
        run.tracker.error = run.tracker.error or run.ended(_last_line(error))
    if run.tracker.error:
        raise run.tracker.error
    if not run.tracker.finished:
        raise run.ended("it stopped before the last trial")


@contextmanager
def _settings() -> Iterator[bool]:
    """Set Tune's variables during the block, where the user has not; yield true if the user has callbacks."""
    before = dict(os.environ)
    own_callbacks = before.get(CALLBACKS, "")
    settings = _SETTINGS if own_callbacks else _SETTINGS | _NO_SNAPSHOTS
    os.environ.update({name: before.get(name, value) for name, value in settings.items()})
    # Behind ours Tune calls the callbacks of this variable, in order: a trial is dropped when all have seen it.
    os.environ[CALLBACKS] = ",".join([*filter(None, [own_callbacks]), f"{__name__}.{FreeMemory.__name__}"])
    try:
        yield bool(own_callbacks)
    finally:
        for name in (*settings, CALLBACKS):
            del os.environ[name]
            os.environ |= {name: before[name]} if name in before else {}


def _trial_name(trial: Any) -> str:
    return f"trial_{trial.config['trial']:04d}"


def _trial_folder(trial: Any) -> str:
    """Return the folder of a trial, the same for all its stints; Tune by itself makes another one for each."""
    trial.relative_logdir = trial.storage.trial_dir_name = _trial_name(trial)
    return str(trial.relative_logdir)


def _placement(resources: TrialResources) -> Callable[[Mapping[str, Any]], Any]:
    """Return the function from a config to the resources of its trial, in one bundle of a placement group a process.

    The trial's own process takes the first bundle; those that it starts take the others.
    """
    kind = {f"accelerator_type:{resources.accelerator}": _PRESENT} if resources.accelerator else {}
    bundle = {"CPU": resources.of_process.cpus, "GPU": resources.of_process.gpu_share, **kind}
    shared, alone = (
        tune.PlacementGroupFactory([bundle] * resources.processes),
        tune.PlacementGroupFactory([bundle | {"GPU": 1.0}]),
    )
    return lambda config: alone if config["alone"] and resources.per_gpu > 1 else shared


def _take_error(trial: Any) -> Any:
    """Return what ended a trial, an exception of Ray or a text; remove Tune's files of it, which may hold secrets."""
    error: Any = ""
    for file in (trial.error_file, trial.pickled_error_file):
        with suppress(Exception):  # no such file, or no class here of what it holds: the other one says enough
            content = Path(file).read_bytes()
            Path(file).unlink()
            error = content.decode() if file == trial.error_file else cloudpickle.loads(content)
    return error


def _last_line(error: object) -> str:
    """Return the reason of an error; a TuneError has a whole traceback as its text."""
    lines = str(error).strip().splitlines()
    named = isinstance(error, tune.TuneError | str) and lines
    return lines[-1] if named else f"{type(error).__name__}: {' '.join(lines)}"


class FreeMemory(tune.Callback):  # type: ignore[misc]
    """Drops what Tune would keep of each trial to the end of the run, 50 kB: statistics of all numbers, configs."""

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any) -> None:
        result.clear()

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        trial.config.clear()
        trial.evaluated_params.clear()
        trial.experiment_tag, trial._default_result_or_future = "", None

    on_trial_error = on_trial_complete


class _Part:
    """A part of a Tuner that acts on the tracker; Tune pickles such parts, and we never read the pickles."""

    def __init__(self, run: _Run) -> None:
        super().__init__()
        self._run, self._tracker = run, run.tracker

    def _guarded(self, act: Callable[[], None]) -> None:
        """Act; an error ends the run. Tune would turn it into an error of its own."""
        try:
            act()
        except Exception as error:
            self._tracker.error = self._tracker.error or error

    def __reduce__(self) -> Any:
        return str, ()


class _TaskSearcher(_Part, Searcher):  # type: ignore[misc]
    """Gives Tune the next task. After FINISHED Tune asks no more."""

    def suggest(self, trial_id: str) -> Any:
        self._lose_refused()
        tasks = list[TrialTask]()
        self._guarded(lambda: tasks.extend(filter(None, [self._tracker.next_task(trial_id)])))
        if tasks:
            return config_of(tasks[0])
        return Searcher.FINISHED if self._tracker.finished else None

    def _lose_refused(self) -> None:
        """Lose the trials that Tune ended without a word, because their worker could not be used again."""
        for key, trial in list(self._run.trials.items()):
            if trial.is_finished():
                del self._run.trials[key]
                self._tracker.started(key)
                self._guarded(partial(self._tracker.worker_died, key, "the worker could not be used again"))

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        """Do nothing: `_TrackerCallback` tells the tracker."""

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the ledger is the state of a study."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: the ledger is the state of a study."""


class _ShutdownScheduler(_Part, FIFOScheduler):  # type: ignore[misc]
    """Stops trials after their epoch in a shutdown, those that do not train yet at once; all after an error."""

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        self._run.trials[trial.trial_id] = trial

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        return str(FIFOScheduler.STOP if self._tracker.shutdown.requested else FIFOScheduler.CONTINUE)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Note that the trial had a worker, also if it died while it was made ready for the trial."""
        if trial.temporary_state.ray_actor and trial.trial_id in self._tracker.assignments:
            self._tracker.started(trial.trial_id)

    def choose_trial_to_run(self, tune_controller: Any) -> None:
        """Stop what must stop; leave it to Tune to start the others."""
        if self._tracker.ending:
            for key, trial in list(self._run.trials.items()):
                if self._tracker.error or not self._tracker.trains(key):
                    tune_controller.stop_trial(trial)


class _TrackerCallback(_Part, tune.Callback):  # type: ignore[misc]
    """Tells the tracker what Tune knows of its trials."""

    def __init__(self, run: _Run) -> None:
        super().__init__(run)
        self._devices: dict[str, Any] = {}  # Ray's references to answers of workers, by trial
        self._idle_since: dict[str, float] = {}  # when a worker was first seen that does not train, by trial
        self._checked_at = time.monotonic()

    def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self._devices[trial.trial_id] = trial.temporary_state.ray_actor.execute.remote(
            partial(device, self._run.processes)
        )
        self._guarded(lambda: self._tracker.started(trial.trial_id))

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any) -> None:
        self._note_devices(trial.trial_id)  # the worker answered before it began to train
        self._guarded(lambda: self._tracker.epoch_ended(trial.trial_id, epoch_of(result), scores_of(result)))

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self._forget(trial)
        self._guarded(lambda: self._tracker.completed(trial.trial_id))

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self._note_devices(trial.trial_id)
        self._forget(trial)
        key, error = trial.trial_id, _take_error(trial)
        cause = getattr(error, "cause", None)
        if key not in self._tracker.assignments:  # it had completed: a callback of the user failed
            self._tracker.error = self._tracker.error or self._run.ended(_last_line(error))
        elif isinstance(cause, StintFailed):
            self._guarded(lambda: self._tracker.failed(key, cause.events))
        else:
            fault: Fault | None = "environment" if isinstance(cause, OSError) else None
            self._guarded(lambda: self._tracker.worker_died(key, str(error), fault=fault))

    def on_step_end(self, iteration: int, trials: Any, **info: Any) -> None:
        self._note_devices(*self._devices)
        if time.monotonic() - self._checked_at > CHECK_SECONDS:
            self._checked_at = time.monotonic()
            self._guarded(self._tracker.check_workers)
            self._kill_idle()

    def _forget(self, trial: Any) -> None:
        for by_trial in (self._run.trials, self._devices, self._idle_since):
            by_trial.pop(trial.trial_id, None)

    def _note_devices(self, *keys: str) -> None:
        """Pass on the answers that have come."""
        for key in keys:
            if key in self._devices and ray.wait([self._devices[key]], timeout=0)[0]:
                try:
                    answer = ray.get(self._devices.pop(key))
                except ray.exceptions.RayError:  # the worker died, as another callback tells
                    continue
                self._guarded(partial(self._tracker.began, key, answer))

    def _kill_idle(self) -> None:
        """Kill workers that have a trial and do not train for too long, when their watchdog does not watch."""
        for key, trial in self._run.trials.items():
            worker = trial.temporary_state.ray_actor
            if worker is None or self._tracker.trains(key):
                self._idle_since.pop(key, None)
            elif time.monotonic() - self._idle_since.setdefault(key, time.monotonic()) > self._run.timeout:
                ray.kill(worker)
