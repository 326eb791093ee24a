"""Run one stint of a trial and report its events."""

from __future__ import annotations

import traceback
from contextlib import AbstractContextManager, nullcontext

from hiri_search.study.callbacks import call
from hiri_search.study.dispatch.task import Heartbeat, RankDied, Report, Together, TrialTask
from hiri_search.study.ledger import events
from hiri_search.study.persistence.checkpoint_sync import synced
from hiri_search.system.hardware import describe_device, free_gpu_memory
from hiri_search.training.inputs.ensure_local import NodeMismatch, ensure_local
from hiri_search.training.job import Epoch
from hiri_search.training.loop import train
from hiri_search.training.parallel.ranks import ONE_PROCESS, Ranks
from hiri_search.training.state import OutOfSharedMemory
from hiri_search.training.zero_cost import job_scores


def _alone(task: TrialTask, heartbeat: Heartbeat) -> AbstractContextManager[Ranks]:
    """Train in this process alone."""
    return nullcontext(ONE_PROCESS)


def run_trial(
    task: TrialTask,
    report: Report,
    heartbeat: Heartbeat = lambda: None,
    *,
    shared_gpu: bool = False,
    together: Together = _alone,
) -> None:
    """Train one stint of a trial; report each epoch, and how the stint ended."""
    trial = task.trial
    report(events.TrialBegan(trial=trial, device=describe_device()))
    try:
        curve = _train(task, report, heartbeat, shared_gpu=shared_gpu, together=together)
    except OutOfSharedMemory as error:
        report(events.TrialOutOfMemory(trial=trial, reason=str(error)))
    except (Exception, SystemExit) as error:  # the trial's boundary: an error in here ends this trial and no other
        reason = f"{type(error).__name__}: {error}"
        where = traceback.format_exc(limit=-4)
        if isinstance(error, OSError):  # a disk, a mount, a network: never a property of the network that is trained
            report(events.TrialLost(trial=trial, fault="environment", reason=reason, traceback=where))
        elif isinstance(error, RankDied):
            report(events.TrialLost(trial=trial, fault="process", reason=str(error)))
        else:
            report(events.TrialFailed(trial=trial, reason=reason, traceback=where))
    else:
        kind = events.TrialFinished if len(curve) == task.job.recipe.epochs else events.TrialPaused
        report(kind(trial=trial, curve=curve))
    finally:
        free_gpu_memory()  # memory that a training leaves on the device is missing for other trials


def _train(
    task: TrialTask, report: Report, heartbeat: Heartbeat, *, shared_gpu: bool, together: Together
) -> tuple[Epoch, ...]:
    task.files.code.load()
    prepared = ensure_local(task.prepared, task.job, heartbeat, begin_again)
    if task.zero_cost:
        report(events.TrialScored(trial=task.trial, scores=job_scores(task.job, prepared, task.zero_cost)))
    with synced(task.checkpoint, task.files.storage) as checkpoint:

        def on_epoch(epoch: Epoch) -> None:
            checkpoint.upload(epoch.epoch)
            for name in task.on_epoch:
                call("on_epoch", name, trial=task.trial, spec=task.job.spec, seed=task.job.seed, epoch=epoch)
            report(events.EpochEnded(trial=task.trial, result=epoch))

        with together(task, heartbeat) as ranks:
            curve = train(
                task.job,
                prepared,
                checkpoint.local,
                until=task.until,
                epochs_done=task.epochs_done,
                report=on_epoch,
                heartbeat=heartbeat,
                shared_gpu=shared_gpu,
                ranks=ranks,
            )
        return tuple(curve)


def begin_again(sentence: str) -> None:
    """End the stint as lost, which records why; the next one finds whole images."""
    raise NodeMismatch(sentence)
