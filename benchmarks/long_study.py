"""What 10,000 trials cost the driver: seconds and memory, thousand by thousand; both are to stay flat.

The trials do nothing, in two slots through Ray; all else is a study's whole way: the search asks, each network is
counted, the ledger is synced to disk, rungs and the second look are decided.

- `random`, `surrogate`: searches with these samplers.
- `halving`: as random, with two rungs, of which a third goes on, two brackets, and a second look.
- `ablation`: so many rows, of one seed each.

For each thousand of new trials: milliseconds a trial by the clock, and of the driver's processor, and the megabytes
that the driver holds at its end. `growth` is the last thousand over the second one; the first holds the start.

python benchmarks/long_study.py --help
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from hashlib import sha256
from math import log
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hiri_search.study.dispatch.task import Report, TrialTask
    from hiri_search.study.ledger.trial import Trial

SLOTS = 2
SPACE = Path(__file__).parents[1] / "spaces" / "five_stage.yaml"
SMALL = """
proxy: {width: 8, side: 64}
data: {source: drawn, train: 32, val: 16}
"""
ONE_EPOCH = "recipe: {epochs: 1, batch: 16, warmup_epochs: 0}"
HALVING = """
recipe: {epochs: 4, batch: 16, warmup_epochs: 0}
confirm: {top: 10, seeds: 3}
"""
KINDS = ("random", "surrogate", "halving", "ablation")


def study(kind: str, trials: int) -> str:
    """The file of a study."""
    match kind:
        case "halving":
            rules = "{epochs: [1, 2], keep: 0.34, brackets: 2}"
            search = f"{{sampler: random, networks: {trials}, halving: {rules}}}"
            return f"space: {SPACE}\nsearch: {search}{SMALL}{HALVING}"
        case "ablation":
            return f"nets:\n{_rows(trials)}{SMALL}{ONE_EPOCH}"
    return f"space: {SPACE}\nsearch: {{sampler: {kind}, networks: {trials}}}{SMALL}{ONE_EPOCH}"


def _rows(count: int) -> str:
    from hiri_search.language import parse, sample

    space, rng = (
        parse("hr(32|48|64 e=4)*1..4 -> (cffn | t(d=32))(128..256/32 e=2..6)*1..8 -> t(256..512/64 e=4)*1..9"),
        Random(0),
    )
    return "\n".join(f"  row {number}: {sample(space, rng)}" for number in range(count))


def nothing(task: TrialTask, report: Report, heartbeat: Any, *, shared_gpu: bool) -> None:
    """In place of a training: more for what is large, and for what its name happens to say."""
    size = sum(map(int, re.findall(r"\d+", task.job.spec)))
    luck = sha256(task.job.spec.encode()).digest()[0] / 256
    last = task.until or task.job.recipe.epochs
    curve = [
        {"epoch": n, "loss": 1.0, "top1": 10 * log(size) + 3 * luck + n, "seconds": 0.0} for n in range(1, last + 1)
    ]
    report({"event": "began", "trial": task.trial, "device": "none"})
    for epoch in curve:
        report({"event": "epoch", "trial": task.trial, **epoch})
    report({"event": "finished" if last == task.job.recipe.epochs else "paused", "trial": task.trial, "curve": curve})


class Watch:
    """Notes clocks and memory whenever another so many trials have been asked for."""

    def __init__(self, each: int) -> None:
        self.each, self.seen = each, 0
        self.notes: list[tuple[float, float, float]] = []  # by the clock, of the driver's processor, megabytes

    def say(self, text: str) -> None:
        """Nothing that matters here."""

    def on_trial(self, trial: Trial) -> None:
        if trial.number >= self.seen and not trial.is_confirmation:
            self.seen = trial.number + 1
            if trial.number % self.each == 0:
                self.note()

    def note(self) -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self.notes.append((time.monotonic(), time.process_time(), pages * os.sysconf("SC_PAGE_SIZE") / 1e6))

    def thousands(self) -> list[list[float]]:
        """Seconds a trial by the clock and of the driver's processor, and megabytes at the end, of each thousand."""
        pairs = zip(self.notes, self.notes[1:], strict=False)
        return [[(b[0] - a[0]) / self.each, (b[1] - a[1]) / self.each, b[2]] for a, b in pairs]


def measure(kind: str, trials: int, each: int) -> list[list[float]]:
    """In this process."""
    from hiri_search.study.config.read import read_study
    from hiri_search.study.dispatch.ray_executor import run_on_ray
    from hiri_search.study.dispatch.resources import TrialResources
    from hiri_search.study.run import run
    from hiri_search.system.shutdown import Shutdown

    watch = Watch(each)
    with tempfile.TemporaryDirectory() as home:
        file = Path(home) / "study.yaml"
        file.write_text(study(kind, trials))
        execute = partial(
            run_on_ray,
            resources=TrialResources(SLOTS),
            log=Path(home) / "ray.log",
            shutdown=Shutdown(),
            trial_function=nothing,
        )
        run(read_study(file), Path(home) / "results", execute, watch, profile="none")
    watch.note()
    return watch.thousands()


def rows(kinds: list[str], trials: int, each: int) -> Iterator[str]:
    numbers = range(each, trials + 1, each)
    yield f"| trials | | {' | '.join(f'{number:,}' for number in numbers)} | growth |"
    yield "|-" * (len(numbers) + 3) + "|"
    for kind in kinds:
        command = [
            sys.executable,
            "-W",
            "ignore",
            __file__,
            "--one",
            kind,
            "--trials",
            str(trials),
            "--each",
            str(each),
        ]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{kind} failed:\n{done.stderr[-2000:]}")
        clock, processor, megabytes = zip(*json.loads(done.stdout.splitlines()[-1]), strict=True)
        for name, cells in (("ms by the clock", clock), ("ms of the driver", processor)):
            shown = " | ".join(f"{1e3 * cell:.1f}" for cell in cells)
            yield f"| {kind} | {name} | {shown} | {_growth(cells)} |"
        yield f"| | MB | {' | '.join(f'{cell:.0f}' for cell in megabytes)} | |"


def _growth(cells: tuple[float, ...]) -> str:
    return f"{cells[-1] / cells[1]:.2f}" if len(cells) > 2 else "-"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--each", type=int, default=1_000, help="trials that are summed up")
    parser.add_argument("--one", choices=KINDS, help="measure this one in this process, and print it as JSON")
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(given.one, given.trials, given.each)))
        return
    for line in rows(given.kinds, given.trials, given.each):
        print(line, flush=True)


if __name__ == "__main__":
    main()
