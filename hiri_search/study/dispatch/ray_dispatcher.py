"""Trials side by side on Ray, on this machine or a cluster."""

from __future__ import annotations

from pathlib import Path

from hiri_search.study.dispatch.capacity import ClusterWorkers, resolve_gpus
from hiri_search.study.dispatch.ray_session import ray_running, redirect_output
from hiri_search.study.dispatch.resources import TrialResources
from hiri_search.study.dispatch.task import TrialFunction, TrialSource, TrialTask
from hiri_search.study.dispatch.task_tracker import TaskTracker
from hiri_search.system.shutdown import Shutdown


def run_on_ray(
    source: TrialSource,
    resources: TrialResources,
    log: Path,
    shutdown: Shutdown,
    *,
    trial_function: TrialFunction,
    address: str | None = None,
) -> None:
    """Run all trials side by side on a Ray cluster; output of Ray goes to `log`.

    Without an address this process starts a local Ray and ends it. StudyError if Ray cannot be reached or no worker
    can be started.
    """
    first = source.next()
    if first is None:
        return  # nothing to run: do not start Ray
    assert isinstance(first, TrialTask), "no trial is running: the source has no reason to wait"
    with redirect_output(log), ray_running(address, resources, shutdown.say, log):
        run_tasks(first, source, resources, shutdown, trial_function)


def run_tasks(
    first: TrialTask, source: TrialSource, resources: TrialResources, shutdown: Shutdown, trial_function: TrialFunction
) -> None:
    """Run this task and all others of the source on the running Ray."""
    from hiri_search.study.dispatch.tune_dispatcher import run_tuner  # Ray reads its settings at this import

    with shutdown.epochs_running():
        resources = resolve_gpus(resources, source, shutdown.say)
        tracker = TaskTracker(first, source, shutdown, ClusterWorkers(resources, shutdown.say))
        run_tuner(tracker, resources, trial_function, first.job.data)
