"""Where trials run: in this process, or side by side through Ray Tune."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from hiri_search.study.task import Event, Feed, Later, Task, work

if TYPE_CHECKING:
    from ray.tune.search import Searcher

WORKER_DEATHS = 2  # a trial whose process died goes on from its checkpoint this often, then fails

# Read by Ray when it is imported.
RAY_SETTINGS = {
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # under `uv run` it would build its workers another environment
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # they cost 0.5 GB, and the ledger is ours
    "RAY_AIR_NEW_OUTPUT": "0",  # no banner
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths of a study mean the same in a worker
    "OMP_WAIT_POLICY": "PASSIVE",  # waiting threads do not take the cores from the other trials
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",  # Tune's own state is never read: the ledger is the truth
}


@dataclass(frozen=True)
class Slots:
    """How many trials run side by side, and what each is given."""

    count: int
    gpus: float = 0.0  # of each


class _Here:
    """A feed that stays in this process: Tune pickles all that it is given, and never reads it again."""

    def __init__(self, feed: Feed | None = None, tasks: Iterator[Task | Later] = iter(())) -> None:  # noqa: B008
        self.feed, self.tasks = feed, tasks

    def __reduce__(self) -> tuple[type[_Here], tuple[()]]:
        return _Here, ()

    def heard(self, event: Event) -> None:
        assert self.feed is not None
        self.feed.heard(event)


def serial(feed: Feed) -> None:
    """One trial after the other, in this process."""
    while task := feed.next():
        assert isinstance(task, Task), "nothing is at work that could be waited for"
        work(task, feed.heard)


def ray_tune(feed: Feed, slots: Slots, log: Path) -> None:
    """Trials side by side on this machine through Ray Tune; what Ray prints goes to `log`."""
    os.environ.update({name: os.environ.get(name, value) for name, value in RAY_SETTINGS.items()})
    tasks = cast("Iterator[Task | Later]", iter(feed.next, None))
    first = next(tasks, None)
    if first is None:
        return  # all is done: no need to start Ray
    here = _Here(feed, chain([first], tasks))
    home = tempfile.mkdtemp(prefix="hiri_search_")
    with noise_to(log):
        import ray

        try:
            ray.init(
                address="local",  # never somebody else's Ray that happens to run here
                num_cpus=slots.count,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                object_store_memory=128 << 20,
            )
            _tune(here, slots, home)
        finally:
            ray.shutdown()
            shutil.rmtree(home, ignore_errors=True)


def _tune(here: _Here, slots: Slots, home: str) -> None:
    from ray import tune

    searcher = _searcher(here)
    trainable = tune.with_resources(_trainable, {"cpu": 1, "gpu": slots.gpus})
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=searcher, num_samples=-1, max_concurrent_trials=slots.count, reuse_actors=True
        ),
        run_config=tune.RunConfig(
            name="study",
            storage_path=home,
            verbose=0,
            callbacks=[_listener(here)],
            failure_config=tune.FailureConfig(max_failures=WORKER_DEATHS),
        ),
    )
    tuner.fit()


def _trainable(config: dict[str, Any]) -> None:
    from ray import tune

    work(config["task"], lambda event: tune.report({"heard": event}))


def _searcher(here: _Here) -> Searcher:
    """Ray Tune's way to ask for the next trial, onto ours."""
    from ray.tune.search import Searcher

    class FeedSearcher(Searcher):  # type: ignore[misc]
        def suggest(self, trial_id: str) -> Any:
            task = next(here.tasks, None)
            if isinstance(task, Later):
                return None  # Tune's word for it
            return Searcher.FINISHED if task is None else {"task": task}

        def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
            """Heard by the listener."""

        def save(self, checkpoint_path: str) -> None:
            """Nothing: the ledger is the truth."""

        def restore(self, checkpoint_path: str) -> None:
            """Nothing: the ledger is the truth."""

    return FeedSearcher()


def _listener(here: _Here) -> Any:
    """Ray Tune's way to tell what happened, onto ours."""
    from ray.tune import Callback

    class Listener(Callback):  # type: ignore[misc]
        def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any) -> None:
            if "heard" in result:
                here.heard(result["heard"])

        def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            task: Task = trial.config["task"]
            reason = f"its process died {WORKER_DEATHS + 1} times (killed, or out of memory)"
            here.heard({"event": "failed", "trial": task.trial, "reason": reason})

    return Listener()


@contextmanager
def noise_to(log: Path) -> Iterator[None]:
    """Whatever this process, and those it starts, print goes to a file meanwhile."""
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(1), os.dup(2)]
    try:
        with log.open("ab") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, old in enumerate(kept, 1):
            os.dup2(old, number)
            os.close(old)
