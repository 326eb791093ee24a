"""Error of time plans: each study is planned and then run, directly one after the other.

python benchmarks/plan_error.py --help
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from hiri_search.api.running import resources_for
from hiri_search.study.config.read import read_study
from hiri_search.study.ledger.layout import IMAGE_FOLDER
from hiri_search.study.ledger.ledger import read_events
from hiri_search.study.plan.estimate import estimate_plan
from hiri_search.study.plan.plan import Compared, Plan, compared_with_run, plan_lines
from hiri_search.system.hardware import gpus

COMMAND = "from hiri_search.cli.main import main; main()"
HEAD = "| study | part | planned s | took s | error % | load |"


def measure(file: Path, profile: str, sets: list[str], home: Path) -> Iterator[Compared]:
    """Compare plan and run: the whole command, then each part that the ledger records."""
    study = read_study(file, profile=profile, sets=sets)
    resources = resources_for(0, study.resources, address=None)
    plan = estimate_plan(study, resources, home / IMAGE_FOLDER, say=lambda text: print(text, file=sys.stderr))
    print(*plan_lines(plan), sep="\n", file=sys.stderr)
    overrides = [argument for text in sets for argument in ("--set", text)]
    started = time.perf_counter()
    arguments = ["run", str(file), "--profile", profile, "--results", str(home), *overrides]
    subprocess.run([sys.executable, "-W", "ignore", "-c", COMMAND, *arguments], check=True, stdout=subprocess.DEVNULL)
    yield Compared("the command", plan.total, time.perf_counter() - started)
    yield from compared_with_run(Plan.from_json(plan.to_json()), read_events(home))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="+", type=Path, help="study files")
    parser.add_argument("--profile", default="gpu" if gpus() else "laptop")
    parser.add_argument("--set", dest="sets", action="append", default=[], help="key=value that overrides the study")
    options = parser.parse_args()
    print(HEAD, "|-|-|-|-|-|-|", sep="\n")
    for file in options.studies:
        with tempfile.TemporaryDirectory(prefix="hiri_search_plan_error_") as home:
            for part in measure(file, options.profile, options.sets, Path(home) / file.stem):
                numbers = f"{part.planned:.1f} | {part.took:.1f} | {100 * part.error:+.0f} | {os.getloadavg()[0]:.1f}"
                print(f"| {file.stem} | {part.part} | {numbers} |", flush=True)


if __name__ == "__main__":
    main()
