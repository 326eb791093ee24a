"""Run one trial on a worker and report its events."""

from __future__ import annotations

import traceback
from dataclasses import asdict
from typing import Any

from hiri_search.study.dispatch.task import ENVIRONMENT_FAULT, Heartbeat, Report, TrialTask
from hiri_search.study.persistence.checkpoint_sync import synced
from hiri_search.system.hardware import describe_device, free_gpu_memory
from hiri_search.training.data.ensure_local import ensure_local
from hiri_search.training.job import Epoch
from hiri_search.training.loop import train
from hiri_search.training.state import OutOfSharedMemory
from hiri_search.training.zero_cost import job_scores


def run_trial(
    task: TrialTask, report: Report, heartbeat: Heartbeat = lambda: None, *, shared_gpu: bool = False
) -> None:
    """Train a trial, and report every epoch and the end: finished, paused, failed, lost or crowded."""

    def say(event: str, **facts: Any) -> None:
        report({"event": event, "trial": task.trial, **facts})

    say("began", device=describe_device())
    try:
        prepared = ensure_local(task.prepared, task.job, heartbeat)
        if task.zero_cost:
            say("scored", scores=job_scores(task.job, prepared, task.zero_cost))
        with synced(task.checkpoint, task.storage) as checkpoint:

            def on_epoch(epoch: Epoch) -> None:
                checkpoint.upload(epoch.epoch)
                say("epoch", **asdict(epoch))

            curve = train(
                task.job,
                prepared,
                checkpoint.local,
                until=task.until,
                report=on_epoch,
                beat=heartbeat,
                beside_others=shared_gpu,
            )
    except OutOfSharedMemory as error:
        say("crowded", reason=str(error))
    except Exception as error:  # the boundary of a trial: an error ends this trial and no other
        reason = f"{type(error).__name__}: {error}"
        where = traceback.format_exc(limit=-4)
        if isinstance(error, OSError):  # a disk or a network failed: no fault of the trial
            say("lost", fault=ENVIRONMENT_FAULT, reason=reason, traceback=where)
        else:
            say("failed", reason=reason, traceback=where)
    else:
        done = len(curve) == task.job.recipe.epochs
        say("finished" if done else "paused", curve=[asdict(epoch) for epoch in curve])
    finally:
        free_gpu_memory()  # memory that PyTorch caches is missing for other trials
