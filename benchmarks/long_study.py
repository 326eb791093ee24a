"""Driver time and memory of a study with 10,000 trials, per thousand trials; both should stay constant.

The trials do nothing, on two Ray workers. All other work is that of a real study: the sampler proposes networks, their
costs are counted, the ledger is synced to disk, and successive halving and confirmation take their decisions.

- `random`, `surrogate`: searches with these samplers.
- `halving`: like random, with two rungs that each promote a third, two brackets, and a confirmation.
- `ablation`: one row per trial, with one seed.

For each thousand new trials: milliseconds per trial of elapsed time and of driver CPU time, and the driver's memory in
megabytes at the end. `growth` is the last thousand divided by the second; the first thousand includes the start.

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
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hiri_search.study.dispatch.task import Heartbeat, Report, TrialTask
    from hiri_search.study.ledger.trial import Trial

SLOTS = 2
SPACE = Path(__file__).parents[1] / "spaces" / "five_stage.yaml"
SMALL = """
proxy: {width: 8, side: 64}
data: {source: drawn, train: 32, val: 16}
"""
ONE_EPOCH = "recipe: {epochs: 1, batch: 16, warmup_epochs: 0}\nseeds: 1"
HALVING = """
recipe: {epochs: 4, batch: 16, warmup_epochs: 0}
confirm: {top: 10, seeds: 3}
"""
KINDS = ("random", "surrogate", "halving", "ablation")


def study(kind: str, trials: int) -> str:
    """Return the text of a study file."""
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


def nothing(task: TrialTask, report: Report, heartbeat: Heartbeat, *, shared_gpu: bool) -> None:
    """Replace a training: top-1 grows with the size of the network, plus noise from a hash of its spec."""
    import many

    from hiri_search.study.ledger.events import EpochEnded, TrialBegan, TrialFinished, TrialPaused

    size = sum(map(int, re.findall(r"\d+", task.job.spec)))
    noise = sha256(task.job.spec.encode()).digest()[0] / 256
    last = task.until or task.job.recipe.epochs
    curve = tuple(many.epoch(number, 10 * log(size) + 3 * noise + number) for number in range(1, last + 1))
    report(TrialBegan(trial=task.trial, device="none"))
    for epoch in curve:
        report(EpochEnded(trial=task.trial, result=epoch))
    end = TrialFinished if last == task.job.recipe.epochs else TrialPaused
    report(end(trial=task.trial, curve=curve))


class Watch:
    """Records times and memory after every `each` proposed trials."""

    def __init__(self, each: int) -> None:
        self.each, self.proposed = each, 0
        self.records: list[tuple[float, float, float]] = []  # elapsed seconds, driver CPU seconds, megabytes

    def say(self, text: str) -> None:
        """Ignore messages."""

    def on_trial(self, trial: Trial) -> None:
        if trial.number >= self.proposed and not trial.is_confirmation:
            self.proposed = trial.number + 1
            if trial.number % self.each == 0:
                self.record()

    def record(self) -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self.records.append((time.monotonic(), time.process_time(), pages * os.sysconf("SC_PAGE_SIZE") / 1e6))

    def thousands(self) -> list[list[float]]:
        """Return elapsed and driver CPU seconds per trial, and the megabytes at the end, of each `each` trials."""
        pairs = zip(self.records, self.records[1:], strict=False)
        return [[(b[0] - a[0]) / self.each, (b[1] - a[1]) / self.each, b[2]] for a, b in pairs]


def measure(kind: str, trials: int, each: int) -> list[list[float]]:
    """Measure in this process."""
    from hiri_search.study.config.read import read_study
    from hiri_search.study.dispatch.ray_dispatcher import run_on_ray
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
    watch.record()
    return watch.thousands()


def rows(kinds: list[str], trials: int, each: int) -> Iterator[str]:
    numbers = range(each, trials + 1, each)
    yield f"| trials | | {' | '.join(f'{number:,}' for number in numbers)} | growth |"
    yield "|-" * (len(numbers) + 3) + "|"
    for kind in kinds:
        flags = ["--one", kind, "--trials", str(trials), "--each", str(each)]
        command = [sys.executable, "-W", "ignore", __file__, *flags]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{kind} failed:\n{done.stderr[-2000:]}")
        elapsed, cpu, megabytes = zip(*json.loads(done.stdout.splitlines()[-1]), strict=True)
        for name, cells in (("ms elapsed", elapsed), ("ms driver CPU", cpu)):
            columns = " | ".join(f"{1e3 * cell:.1f}" for cell in cells)
            yield f"| {kind} | {name} | {columns} | {_growth(cells)} |"
        yield f"| | MB | {' | '.join(f'{cell:.0f}' for cell in megabytes)} | |"


def _growth(cells: tuple[float, ...]) -> str:
    return f"{cells[-1] / cells[1]:.2f}" if len(cells) > 2 else "-"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--each", type=int, default=1_000, help="number of trials per column")
    parser.add_argument("--one", choices=KINDS, help="measure this kind in this process and print JSON")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one, options.trials, options.each)))
        return
    for line in rows(options.kinds, options.trials, options.each):
        print(line, flush=True)


if __name__ == "__main__":
    main()
