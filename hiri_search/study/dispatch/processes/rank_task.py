"""The work of each process of a trial but the first one."""

from __future__ import annotations

from hiri_search.study.dispatch.run_trial import begin_again
from hiri_search.study.dispatch.task import TrialTask
from hiri_search.training.inputs.ensure_local import ensure_local
from hiri_search.training.loop import train
from hiri_search.training.parallel.ranks import Ranks, find_store, joined


def run_rank(task: TrialTask, host: str, port: int, ranks: Ranks, seconds: float) -> None:
    """Train a stint of a trial together with its first process, which waits at a store and reads and writes all."""
    task.files.code.load()
    prepared = ensure_local(task.prepared, task.job, lambda: None, begin_again)
    store = find_store(host, port, ranks.size, seconds=seconds)
    with joined(store, ranks, seconds=seconds):
        train(task.job, prepared, task.checkpoint, until=task.until, epochs_done=task.epochs_done, ranks=ranks)
