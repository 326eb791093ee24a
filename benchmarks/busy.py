"""The main job beside busy loops: its seconds, and the share of the cores that its trials get, by niceness of workers.

Loops and job are of one session: Linux shares the cores between sessions first, and by niceness only within one.

python benchmarks/busy.py --help
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil  # comes with Ray

ROOT = Path(__file__).parents[1]
RAYS_OWN = 15  # the niceness that Ray gives its workers where nothing is set
TINY = ("seeds=1", "data.train=160", "data.val=48", "proxy.side=64", "latency=null", "recipe.epochs=2")
HEAD = "| beside | niceness of workers | seconds | CPU s of the workers | CPU s of one loop | share of a worker |"
BUSY_LOOP = [sys.executable, "-c", "while True: pass"]


@dataclass(frozen=True)
class Run:
    """One run of the job: CPU seconds are those since its first worker had started."""

    ended: bool  # False: it was stopped at the limit
    seconds: float
    workers: float  # CPU seconds of all workers
    loop: float  # CPU seconds of one busy loop, on average; 0 without one
    slots: int  # workers at the same time

    @property
    def share(self) -> float:
        """CPU time of a worker over that of a busy loop: 1 is a fair share, and more where loops wait."""
        return self.workers / max(1, self.slots) / self.loop if self.loop else 1.0


def run_job(command: list[str], niceness: int, loops: int, limit: float) -> Run:
    """Run the job beside busy loops, for `limit` seconds at most; an error of the job ends the benchmark."""
    environment = os.environ | {"RAY_worker_niceness": f"{niceness}", "PYTHONPATH": str(ROOT)}
    with busy_loops(loops) as competitors, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        started = time.perf_counter()
        log = (Path(folder) / "log").open("w")
        job = subprocess.Popen([*command, "--results", f"{folder}/results"], env=environment, stdout=log, stderr=log)
        workers: dict[int, float] = {}
        slots, before = 0, 0.0
        while job.poll() is None and time.perf_counter() - started < limit:
            alive = dict(worker_seconds(job.pid))
            if alive and not workers:
                before = loop_seconds(competitors)
            workers |= alive
            slots = max(slots, len(alive))
            time.sleep(0.5)
        seconds, loop = time.perf_counter() - started, loop_seconds(competitors) - before
        ended = job.poll() is not None
        job.kill()
        job.wait()
        if ended and job.returncode:
            sys.exit(f"{' '.join(command)} ended with {job.returncode}: {(Path(folder) / 'log').read_text()}")
        log.close()
    return Run(ended, seconds, sum(workers.values()), loop / max(1, loops), slots)


@contextmanager
def busy_loops(count: int) -> Iterator[list[psutil.Process]]:
    """Run endless loops at normal niceness."""
    loops = [subprocess.Popen(BUSY_LOOP) for _ in range(count)]
    try:
        yield [psutil.Process(loop.pid) for loop in loops]
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def loop_seconds(loops: list[psutil.Process]) -> float:
    """Return the CPU seconds of all loops so far."""
    return sum(sum(loop.cpu_times()[:2]) for loop in loops)


def worker_seconds(job: int) -> Iterator[tuple[int, float]]:
    """Yield each worker of the job that trains, with its CPU seconds so far."""
    with suppress(psutil.Error):
        for process in psutil.Process(job).children(recursive=True):
            with suppress(psutil.Error):
                if process.name().startswith("ray::Implicit"):  # the name of functions that Tune runs
                    yield process.pid, sum(process.cpu_times()[:2])


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--study", default="block_mix", help="study file, or a shipped study")
    add("--profile", default="laptop", help="profile of the study")
    add("--tiny", action="store_true", help="few small images and epochs: a minute on two idle cores")
    add("--loops", type=int, default=4, help="busy loops")
    add("--limit", type=float, default=3600, help="seconds after which a run is stopped")
    add("--alone", action="store_true", help="also without loops")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    command = [sys.executable, str(ROOT / "run_study.py"), given.study, "--profile", given.profile]
    command += [word for each in (TINY if given.tiny else ()) for word in ("--set", each)]
    print(f"{given.study}, {len(os.sched_getaffinity(0))} cores, load before {os.getloadavg()[0]:.1f}\n{HEAD}")
    print("|-|-:|-:|-:|-:|-:|")
    settings = [(0, 0)] * given.alone + [(RAYS_OWN, given.loops), (0, given.loops)]
    for niceness, loops in settings:
        ran = run_job(command, niceness, loops, given.limit)
        numbers = [
            f"{'' if ran.ended else 'over '}{ran.seconds:.0f}",
            f"{ran.workers:.1f}",
            f"{ran.loop:.1f}",
            f"{ran.share:.2f}" if loops else "-",
        ]
        print(f"| {loops} busy loops | {niceness} | {' | '.join(numbers)} |", flush=True)


if __name__ == "__main__":
    main()
