"""Seconds until a study of 10,000 finished trials continues, prints its status, and writes its report.

The trainings are made up; all other work is that of a real study. Each network has six epochs.

- `search`: with the surrogate sampler; every tenth trial failed.
- `halving`: with one rung that promotes a third, and zero-cost scores.
- `ablation`: a tenth of the rows, with ten seeds each.

`decision` is the time from opening the ledger to the next trial, with all checks before it; `cold decision` is the
same on a machine with an empty count cache. `status` and `report` are the commands; `export` is the export for the
Optuna dashboard. `imports` is the import time, which the other columns exclude.

python benchmarks/opening.py --help
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
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hiri_search.study.config.schema import StudyConfig
    from hiri_search.study.dispatch.task import TrialSource
    from hiri_search.study.ledger.trial import Trial

SEEDS = 10
KINDS = ("search", "halving", "ablation")


class Quiet:
    """A watcher that prints nothing."""

    def say(self, text: str) -> None:
        pass

    def on_trial(self, trial: Trial) -> None:
        pass


def study(kind: str, trials: int) -> StudyConfig:
    """Return a study with one more trial than is finished."""
    import many

    match kind:
        case "search":
            return many.search(trials + 1)
        case "halving":
            return many.search(trials + 1, halving={"epochs": [2], "keep": 1 / 3}, zero_cost=["synflow", "zen"])
    return many.ablation(trials // SEEDS + 1, SEEDS)


def measure(kind: str, trials: int, *, decision_alone: bool) -> dict[str, float]:
    """Return the seconds of each step, measured in this process."""
    seconds, started = dict[str, float](), time.perf_counter()

    def timed(name: str, do: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        result = do()
        seconds[name] = time.perf_counter() - started
        return result

    import many

    from hiri_search.api.folders import read_results
    from hiri_search.report.write import write_all
    from hiri_search.study.export.optuna_export import JOURNAL, read_export, to_file
    from hiri_search.study.run import run
    from hiri_search.study.status import status, status_lines

    seconds["imports"] = time.perf_counter() - started
    large = study(kind, trials)
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home) / "results"
        run(large, folder, lambda source: None, Quiet(), profile="none")  # writes images and the first ledger lines
        many.write(large, folder, trials)

        def first(source: TrialSource) -> None:
            assert source.next(), "one more trial must be proposed"

        timed("decision", lambda: run(large, folder, first, Quiet(), profile="none"))
        if decision_alone:
            return seconds
        timed("status", lambda: list(status_lines(status(folder))))
        timed("report", lambda: write_all(read_results(folder), folder / "report"))
        timed("export", lambda: to_file(read_export(folder), folder / JOURNAL))
        seconds["ledger MB"] = (folder / "ledger.jsonl").stat().st_size / 1e6
    return seconds


def rows(kinds: list[str], trials: int) -> Iterator[str]:
    for number, kind in enumerate(kinds):
        with tempfile.TemporaryDirectory() as cache:
            cold_decision = _in_a_process(cache, kind, trials, "--decision-alone")["decision"]
            seconds = _in_a_process(cache, kind, trials)
        seconds = {"imports": seconds.pop("imports"), "cold decision": cold_decision, **seconds}
        if not number:
            yield f"| {trials:,} trials | {' | '.join(seconds)} |"
            yield "|-" * (len(seconds) + 1) + "|"
        yield f"| {kind} | {' | '.join(f'{value:.1f}' for value in seconds.values())} |"


def _in_a_process(cache: str, kind: str, trials: int, *more: str) -> dict[str, float]:
    command = [sys.executable, "-W", "ignore", __file__, "--one", kind, "--trials", str(trials), *more]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"HIRI_SEARCH_CACHE": cache})
    if done.returncode:
        sys.exit(f"{kind} failed:\n{done.stderr[-2000:]}")
    seconds: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--one", choices=KINDS, help="measure this kind in this process and print JSON")
    parser.add_argument("--decision-alone", action="store_true", help="with --one: stop after the decision")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one, options.trials, decision_alone=options.decision_alone)))
        return
    for line in rows(options.kinds, options.trials):
        print(line, flush=True)


if __name__ == "__main__":
    main()
