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


def run_trial(task: TrialTask, tell: Report, beat: Heartbeat = lambda: None, *, beside_others: bool = False) -> None:
    """Train, telling of each epoch and of the end, good or bad, of the pause, or of what it was lost to."""

    def say(event: str, **facts: Any) -> None:
        tell({"event": event, "trial": task.trial, **facts})

    say("began", device=describe_device())
    try:
        prepared = ensure_local(task.prepared, task.job, beat)
        if task.zero_cost:
            say("scored", scores=job_scores(task.job, prepared, task.zero_cost))
        with synced(task.checkpoint, task.storage) as checkpoint:

            def report(epoch: Epoch) -> None:
                checkpoint.upload(epoch.epoch)
                say("epoch", **asdict(epoch))

            curve = train(
                task.job,
                prepared,
                checkpoint.here,
                until=task.until,
                report=report,
                heartbeat=beat,
                shared_gpu=beside_others,
            )
    except OutOfSharedMemory as error:
        say("crowded", reason=str(error))
    except Exception as error:  # the trial's boundary: whatever happens in here ends this trial and no other
        reason = f"{type(error).__name__}: {error}"
        where = traceback.format_exc(limit=-4)
        if isinstance(error, OSError):  # a disk, a mount, a network: never a property of what is trained
            say("lost", fault=ENVIRONMENT_FAULT, reason=reason, traceback=where)
        else:
            say("failed", reason=reason, traceback=where)
    else:
        done = len(curve) == task.job.recipe.epochs
        say("finished" if done else "paused", curve=[asdict(epoch) for epoch in curve])
    finally:
        free_gpu_memory()  # what a training leaves on the device is missing to others
