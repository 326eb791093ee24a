"""Harness overhead: seconds per trial beyond its training, for this project, Ray Tune with defaults, and a bare loop.

The trials sleep for a fixed time, on two workers. `ours` is a complete study: the sampler proposes, the network is
counted, the ledger is synced to disk, a worker runs the trial, the rows of the report exist. `tune` is a Tuner with
OptunaSearch and the defaults of Ray; `tune reused` adds `reuse_actors`. `bare` is a pool of two processes.

Columns: `a trial`, the worker seconds without sleep between the start of the first and the end of the last trial, per
trial; `start`, the seconds until the first trial starts; `growth`, the growth of the driver's memory after trial 100.

python benchmarks/overhead.py --help
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hiri_search.study.dispatch.task import Heartbeat, Report, TrialTask

SLOTS = 2
SETTLED = 100  # number of trials after which the growth of memory is measured
STUDY = """
space: {space}
search: {{sampler: random, networks: {trials}}}
proxy: {{width: 8, side: 64}}
data: {{source: drawn, train: 32, val: 16}}
recipe: {{epochs: 1, batch: 16, warmup_epochs: 0}}
"""
SPACE = Path(__file__).parents[1] / "spaces" / "five_stage.yaml"


class Watch:
    """Records start and end of trials on the clock that all processes share, and the driver's memory."""

    def __init__(self) -> None:
        self.began, self.ended = float("inf"), 0.0
        self.count, self.settled, self.last = 0, 0.0, 0.0

    def add(self, began: float, ended: float) -> None:
        self.began, self.ended = min(self.began, began), max(self.ended, ended)
        self.count += 1
        self.last = _megabytes()
        if self.count == SETTLED:
            self.settled = self.last


def _megabytes() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def timed_sleep(seconds: float) -> tuple[float, float]:
    """Sleep; return start and end."""
    began = time.monotonic()
    time.sleep(seconds)
    return began, time.monotonic()


# ---- the harnesses


def ours(seconds: float, trials: int, watch: Watch) -> None:
    from hiri_search.study.config.read import read_study
    from hiri_search.study.dispatch.ray_dispatcher import run_on_ray
    from hiri_search.study.dispatch.resources import TrialResources
    from hiri_search.study.ledger.trial import Trial
    from hiri_search.study.run import run
    from hiri_search.system.shutdown import Shutdown

    class Watcher:
        def say(self, text: str) -> None:
            pass

        def on_trial(self, trial: Trial) -> None:
            if trial.state == "finished":
                watch.add(trial.zero_cost["began"] or 0.0, trial.zero_cost["ended"] or 0.0)

    with tempfile.TemporaryDirectory() as home:
        file = Path(home) / "study.yaml"
        file.write_text(STUDY.format(space=SPACE, trials=trials))
        execute = partial(
            run_on_ray,
            resources=TrialResources(SLOTS),
            log=Path(home) / "ray.log",
            shutdown=Shutdown(),
            trial_function=partial(_sleep, seconds),
        )
        run(read_study(file), Path(home) / "results", execute, Watcher(), profile="none")


def _sleep(seconds: float, task: TrialTask, report: Report, heartbeat: Heartbeat, *, shared_gpu: bool) -> None:
    """Sleep in place of a training; report the start and the end of the sleep as zero-cost scores."""
    import many

    from hiri_search.study.ledger.events import EpochEnded, TrialBegan, TrialFinished, TrialScored

    began, ended = timed_sleep(seconds)
    epoch = many.epoch(1, top1=50.0)
    report(TrialBegan(trial=task.trial, device="none"))
    report(TrialScored(trial=task.trial, scores={"began": began, "ended": ended}))
    report(EpochEnded(trial=task.trial, result=epoch))
    report(TrialFinished(trial=task.trial, curve=(epoch,)))


def tune(seconds: float, trials: int, watch: Watch, *, reuse: bool = False) -> None:
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")  # under `uv run` the Ray workers would not start
    import optuna
    import ray
    from ray import tune
    from ray.tune.search.optuna import OptunaSearch

    def trainable(config: dict[str, Any]) -> None:
        began, ended = timed_sleep(seconds)
        tune.report({"top1": 50.0, "began": began, "ended": ended})

    class Listener(tune.Callback):  # type: ignore[misc]
        def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any) -> None:
            watch.add(result["began"], result["ended"])

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = {f"choice {number}": tune.choice([1, 2, 3]) for number in range(8)}
    with tempfile.TemporaryDirectory() as home:
        ray.init(address="local", num_cpus=SLOTS, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        searcher = OptunaSearch(metric="top1", mode="max")
        config = tune.TuneConfig(
            search_alg=searcher, num_samples=trials, max_concurrent_trials=SLOTS, reuse_actors=reuse
        )
        run_config = tune.RunConfig(storage_path=home, verbose=0, callbacks=[Listener()])
        limited = tune.with_resources(trainable, {"cpu": 1})
        tune.Tuner(limited, param_space=space, tune_config=config, run_config=run_config).fit()
        ray.shutdown()


def bare(seconds: float, trials: int, watch: Watch) -> None:
    with ProcessPoolExecutor(SLOTS, mp_context=get_context("forkserver")) as pool:
        for slept in pool.map(timed_sleep, [seconds] * trials):
            watch.add(*slept)


HARNESSES: dict[str, Callable[[float, int, Watch], None]] = {
    "bare": bare,
    "ours": ours,
    "tune reused": partial(tune, reuse=True),
    "tune": tune,
}


# ---- the table


def measure(name: str, seconds: float, trials: int) -> dict[str, float]:
    """Measure in this process."""
    watch, started = Watch(), time.monotonic()
    HARNESSES[name](seconds, trials, watch)
    assert watch.count == trials, f"{watch.count} of {trials} trials were reported"
    return {
        "start": watch.began - started,
        "a trial": (SLOTS * (watch.ended - watch.began) - trials * seconds) / trials,
        "whole": time.monotonic() - started,
        "growth": watch.last - watch.settled if trials > SETTLED else float("nan"),
    }


def rows(names: list[str], workloads: list[tuple[float, int]]) -> Iterator[str]:
    yield "| harness | trials | seconds each | start s | a trial s | whole s | growth MB |"
    yield "|-|-|-|-|-|-|-|"
    for seconds, trials in workloads:
        for name in names:
            command = [sys.executable, "-W", "ignore", __file__, "--one", name, "--work", f"{seconds}x{trials}"]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                sys.exit(f"{name} failed:\n{done.stderr[-2000:]}")
            result = json.loads(done.stdout.splitlines()[-1])
            cells = [f"{result[column]:.3f}" for column in ("start", "a trial", "whole")] + [f"{result['growth']:.1f}"]
            yield f"| {name} | {trials} | {seconds:g} | {' | '.join(cells)} |"


def _work(text: str) -> tuple[float, int]:
    seconds, _, trials = text.partition("x")
    return float(seconds), int(trials)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--work", nargs="+", type=_work, default=[(0.0, 200), (1.0, 40), (10.0, 8)], metavar="SECONDSxN"
    )
    parser.add_argument("--harnesses", nargs="+", choices=HARNESSES, default=list(HARNESSES))
    parser.add_argument("--one", choices=HARNESSES, help="measure this harness in this process and print JSON")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one, *options.work[0])))
        return
    for line in rows(options.harnesses, options.work):
        print(line, flush=True)


if __name__ == "__main__":
    main()
