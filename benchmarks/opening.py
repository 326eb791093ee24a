"""A study of 10,000 finished trials: seconds until it goes on, says how it stands, and has written its report.

Their trainings are made up, all else is a study's own; each network has six epochs.

- `search`: with the surrogate, every tenth trial failed.
- `halving`: with a rung, of which a third went on, and proxies.
- `ablation`: a tenth as many rows, of ten seeds each.

`decision` is from opening the ledger to the next trial, with all that a run looks at before; `elsewhere` is the same on
a machine where no network of the space was counted before. `status` and `report` are the commands; `export` is that for
Optuna's dashboard. None holds the imports, which `imports` tells.

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
    from hiri_search.study.config.schema import Study
    from hiri_search.study.dispatch.task import TrialSource
    from hiri_search.study.ledger.trial import Trial

SEEDS = 10
KINDS = ("search", "halving", "ablation")


class Quiet:
    """A watcher that says nothing."""

    def say(self, text: str) -> None:
        pass

    def on_trial(self, trial: Trial) -> None:
        pass


def study(kind: str, trials: int) -> Study:
    """One that has a trial more to ask for."""
    import many

    match kind:
        case "search":
            return many.search(trials + 1)
        case "halving":
            return many.search(trials + 1, halving={"epochs": [2], "keep": 1 / 3}, zero_cost=["synflow", "zen"])
    return many.ablation(trials // SEEDS + 1, SEEDS)


def measure(kind: str, trials: int, *, decision_alone: bool) -> dict[str, float]:
    """Seconds by what is done, in this process."""
    found, began = dict[str, float](), time.perf_counter()

    def timed(name: str, do: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        done = do()
        found[name] = time.perf_counter() - began
        return done

    import many

    from hiri_search.cli.results import read_results
    from hiri_search.report.write import write_all
    from hiri_search.study.export.optuna_export import JOURNAL, read_export, to_file
    from hiri_search.study.run import run
    from hiri_search.study.status import status, status_lines

    found["imports"] = time.perf_counter() - began
    given = study(kind, trials)
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home) / "results"
        run(given, folder, lambda feed: None, Quiet(), profile="none")  # images, and the first lines
        many.write(given, folder, trials)

        def first(feed: TrialSource) -> None:
            assert feed.next(), "there is a trial to ask for"

        timed("decision", lambda: run(given, folder, first, Quiet(), profile="none"))
        if decision_alone:
            return found
        timed("status", lambda: list(status_lines(status(folder))))
        timed("report", lambda: write_all(read_results(folder), folder / "report"))
        timed("export", lambda: to_file(read_export(folder), folder / JOURNAL))
        found["ledger MB"] = (folder / "ledger.jsonl").stat().st_size / 1e6
    return found


def rows(kinds: list[str], trials: int) -> Iterator[str]:
    for number, kind in enumerate(kinds):
        with tempfile.TemporaryDirectory() as cache:
            elsewhere = _in_a_process(cache, kind, trials, "--decision-alone")["decision"]
            found = _in_a_process(cache, kind, trials)
        found = {"imports": found.pop("imports"), "elsewhere": elsewhere, **found}
        if not number:
            yield f"| {trials:,} trials | {' | '.join(found)} |"
            yield "|-" * (len(found) + 1) + "|"
        yield f"| {kind} | {' | '.join(f'{value:.1f}' for value in found.values())} |"


def _in_a_process(cache: str, kind: str, trials: int, *more: str) -> dict[str, float]:
    command = [sys.executable, "-W", "ignore", __file__, "--one", kind, "--trials", str(trials), *more]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"HIRI_SEARCH_CACHE": cache})
    if done.returncode:
        sys.exit(f"{kind} failed:\n{done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--one", choices=KINDS, help="measure this one in this process, and print it as JSON")
    parser.add_argument("--decision-alone", action="store_true", help="with --one")
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(given.one, given.trials, decision_alone=given.decision_alone)))
        return
    for line in rows(given.kinds, given.trials):
        print(line, flush=True)


if __name__ == "__main__":
    main()
