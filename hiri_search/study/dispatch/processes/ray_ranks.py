"""The processes of a trial on Ray: the first one starts the others in its placement group, and watches them."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from hiri_search.study.dispatch.processes.rank_task import run_rank
from hiri_search.study.dispatch.resources import TrialResources
from hiri_search.study.dispatch.task import Heartbeat, RankDied, TrialTask
from hiri_search.study.dispatch.watchdog import STACK_FILE
from hiri_search.system.concurrency import repeat_in_background
from hiri_search.system.hardware import gpus
from hiri_search.training.inputs.ensure_local import HEARTBEAT_SECONDS
from hiri_search.training.parallel.ranks import Ranks, joined, open_store

_WATCH_SECONDS = 1.0  # between two looks at the other processes
_GRACE_SECONDS = 10.0  # in which the end of one process is noticed by the others, or they end together
_EXCHANGE = re.compile(
    r"gloo|nccl|process group|connection (closed|reset|refused)|broken pipe|timed out", re.IGNORECASE
)


@contextmanager
def ray_ranks(task: TrialTask, heartbeat: Heartbeat, *, resources: TrialResources) -> Iterator[Ranks]:
    """Start the other processes of a trial from its first one, which is here; yield its place among them.

    Where one process ends, the others soon fail too: raises the error of the first one, and RankDied where it was
    killed. The others end with the block.
    """
    import ray

    ranks, seconds = Ranks(0, resources.processes), 2 * resources.timeout  # the watchdog of this process is faster
    store = open_store(ray.util.get_node_ip_address(), ranks.size, seconds=seconds)
    share = {"num_cpus": resources.of_process.cpus, "num_gpus": min(1, gpus()), "max_retries": 0}
    others = [
        ray.remote(run_rank)
        .options(name=f"rank {rank} of a trial", **share)
        .remote(task, store.host, store.port, Ranks(rank, ranks.size), seconds)
        for rank in range(1, ranks.size)
    ]
    try:
        with _watching(others, task.checkpoint.with_name(STACK_FILE)), ExitStack() as stack:
            with repeat_in_background(heartbeat, every=HEARTBEAT_SECONDS):
                stack.enter_context(joined(store, ranks, seconds=seconds))
            yield ranks
        ray.wait(others, num_returns=len(others), timeout=_GRACE_SECONDS)
    except Exception as error:
        first = _first_error(error, others)
        if first is error:
            raise
        raise first from error
    finally:
        for other in others:
            ray.cancel(other, force=True)


@contextmanager
def _watching(others: Sequence[Any], stack: Path) -> Iterator[None]:
    """Kill this process, and write the reason to a file, if the block goes on after another process has failed.

    Only gloo notices that a process is missing. NCCL waits in a thread that no exception reaches.
    """
    failed_at: float | None = None

    def watch() -> None:
        nonlocal failed_at
        if not (errors := _errors(others, wait=0)):
            return
        failed_at = failed_at or time.monotonic()
        if time.monotonic() - failed_at >= _GRACE_SECONDS:
            with suppress(OSError):
                stack.write_text(f"{_said(errors[0])}\n")
            os.kill(os.getpid(), signal.SIGKILL)

    with repeat_in_background(watch, every=_WATCH_SECONDS):
        yield


def _errors(others: Sequence[Any], *, wait: float) -> list[Exception]:
    """Return the errors of the other processes that have ended, at the latest after `wait` seconds."""
    import ray

    errors = []
    for other in ray.wait(others, num_returns=len(others), timeout=wait)[0]:
        try:
            ray.get(other)
        except ray.exceptions.RayTaskError as error:
            errors.append(error.cause if isinstance(error.cause, Exception) else error)
        except ray.exceptions.RayError as error:
            errors.append(RankDied(f"another process of the trial died: {' '.join(str(error).split())[:300]}"))
    return errors


def _first_error(error: Exception, others: Sequence[Any]) -> Exception:
    """Return the error that came first, by what they say: those that follow from it are of the exchange."""
    if not _EXCHANGE.search(_said(error)):
        return error
    errors = _errors(others, wait=_GRACE_SECONDS)
    died = [other for other in errors if isinstance(other, RankDied)]
    own = [other for other in errors if not _EXCHANGE.search(_said(other))]
    return next(iter([*died, *own]), RankDied(f"the processes of the trial lost each other: {_said(error)}"))


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
