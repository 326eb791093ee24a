"""Search quality of samplers on spaces with known accuracies: hypervolume against trials, over many seeds.

The spaces are those of `search_problems.py`, the samplers those of `search_samplers.py`; only the training is replaced
by a table lookup. The score of networks is the hypervolume of their mean accuracies over all trainings, divided by the
hypervolume of the true front. The reference point is the worst accuracy and the highest cost of the whole space.

Without `--noise` a search observes one training: with seed s the (s mod 3)-th of the three, or a noisy accuracy of
`toy`. A network that a sampler proposes again costs no trial: its accuracy is already known. The share of all trained
networks is reported.
With `--noise` a search observes the mean accuracy plus Gaussian noise, as short trainings are noisy, and a repetition
is another training. The share of the networks on the observed front is reported: those that a user would pick.

The samplers take turns within each seed, so that they are timed under the same load. Times are CPU time of the process
that proposes, over the first 50 proposals: the median over seeds, and the median ratio to the default sampler.
With `--runs FILE` every run is appended to a file of JSON lines, and the runs that it holds are not repeated.

python benchmarks/search_quality.py --help
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from search_problems import LAYERS, TABLE, Problem, macro, toy
from search_samplers import NEPS, OURS, PLAIN, SLOW, Asker, asker

from hiri_search.cost.pareto import pareto_mask
from hiri_search.study.config.schema import Study

DEFAULT = str(Study.model_validate({"space": "hr(32 e=4)"}).search.sampler)
BUDGETS = (50, 100, 200, 400)
GOAL = 0.99
MAX_ASKS = 3  # proposals for each trial: a sampler that repeats itself more often is stopped


@dataclass(frozen=True)
class Run:
    """Result of one search."""

    trained: list[float]  # share of all trained networks, at each budget that the search reached
    chosen: list[float]  # share of the networks on the observed front, at the same budgets
    reached: int | None  # number of trials to the goal; None: not reached
    repeats: float  # share of the proposals that were made before
    ms: float  # CPU time of one of the first proposals


class Observations:
    """Trained networks of one search, in order, and their observed accuracies."""

    def __init__(self, problem: Problem, noise: float, seed: int) -> None:
        self.problem, self.noise, self.rng = problem, noise, np.random.default_rng(seed)
        self.indices: list[int] = []
        self.top1: list[float] = []

    def train(self, index: int) -> float:
        """Return the accuracy of a training; without noise a network is trained once."""
        if self.noise:
            top1 = float(self.problem.true[index] + self.noise * self.rng.normal())
        else:
            top1 = float(self.problem.observed[index])
        if self.noise or index not in self.indices:
            self.indices.append(index)
            self.top1.append(top1)
        return top1

    def chosen(self, trials: int) -> float:
        """Return the true share of the networks on the observed front; repeated trainings are averaged."""
        indices, places = np.unique(self.indices[:trials], return_inverse=True)
        means = np.bincount(places, self.top1[:trials]) / np.bincount(places)
        return self.problem.share(indices[pareto_mask(np.stack([-means, self.problem.gmacs[indices]], axis=1))])


def run(job: tuple[int, str], options: argparse.Namespace) -> Run:
    seed, sampler = job
    warnings.simplefilter("ignore")
    problem = toy(seed) if options.problem == "toy" else macro(options.table, options.written, seed)
    observations = Observations(problem, options.noise, seed)
    last, limit = last_budget(sampler, options), trial_limit(sampler, options)
    times = search(asker(sampler, problem, seed, limit, options.neps_python), observations, last, limit)
    shares = list(problem.shares(observations.indices))
    budgets = [budget for budget in _budgets(options) if budget <= last]
    result = Run(
        trained=[shares[min(budget, len(shares)) - 1] for budget in budgets],
        chosen=[observations.chosen(budget) for budget in budgets],
        reached=next((number for number, share in enumerate(shares, 1) if share >= GOAL), None),
        repeats=1 - len(set(observations.indices)) / len(times),
        ms=1e3 * float(np.mean(times[: BUDGETS[0]])),
    )
    if options.runs:
        with options.runs.open("a") as file:
            file.write(json.dumps([identity(job, options), asdict(result)]) + "\n")
    return result


def identity(job: tuple[int, str], options: argparse.Namespace) -> list[object]:
    """Return what decides the result of a run, but for the code."""
    return [*job, options.problem, options.written, options.noise, trial_limit(job[1], options)]


def past_runs(jobs: list[tuple[int, str]], options: argparse.Namespace) -> dict[tuple[int, str], Run]:
    """Return the runs in the file of `--runs`."""
    lines = options.runs.read_text().splitlines() if options.runs and options.runs.exists() else []
    past = {json.dumps(key): Run(**values) for key, values in map(json.loads, lines)}
    keys = {job: json.dumps(identity(job, options)) for job in jobs}
    return {job: past[key] for job, key in keys.items() if key in past}


def search(asker: Asker, observations: Observations, last: int, limit: int) -> list[float]:
    """Search until the limit of trials, or until the goal after the last budget; return CPU seconds per proposal."""
    times: list[float] = []
    while (trials := len(observations.indices)) < limit and len(times) < MAX_ASKS * limit:
        if trials >= last and trials % 50 == 0 and observations.problem.share(np.array(observations.indices)) >= GOAL:
            break
        start = asker.seconds()
        asker.tell(observations.train(asker.ask()))
        times.append(asker.seconds() - start)
    return times


def last_budget(sampler: str, options: argparse.Namespace) -> int:
    return int(options.slow_trials if sampler in SLOW else options.trials)


def trial_limit(sampler: str, options: argparse.Namespace) -> int:
    """Return the last budget, or more where a sampler is fast enough to run until it reaches the goal."""
    return int(options.random) if sampler == "random" else last_budget(sampler, options)


def _budgets(options: argparse.Namespace) -> list[int]:
    ends = {options.trials, options.slow_trials}
    return sorted({budget for budget in BUDGETS if budget < options.trials} | ends)


# ---- the table


def interval(values: list[float]) -> str:
    """Format the mean and half its 95 % confidence interval (normal approximation)."""
    return f"{np.mean(values):.4f} ±{1.96 * np.std(values, ddof=1) / np.sqrt(len(values)):.4f}"


def shares_at(run: Run, options: argparse.Namespace) -> list[float]:
    return run.chosen if options.noise else run.trained


def line(sampler: str, runs: list[Run], reference: list[Run], options: argparse.Namespace) -> str:
    limit = trial_limit(sampler, options)
    reached = sorted(limit + 1 if r.reached is None else r.reached for r in runs)
    middle, low, high = (reached[round(share * (len(runs) - 1))] for share in (0.5, 0.25, 0.75))
    trials = " ".join(f">{limit}" if number > limit else str(number) for number in (middle, low, high))
    columns = [interval(list(column)) for column in zip(*(shares_at(r, options) for r in runs), strict=True)]
    columns += ["-"] * (len(_budgets(options)) - len(columns))
    other = interval([(r.trained if options.noise else r.chosen)[-1] for r in runs])
    ratio = np.median([run.ms / base.ms for run, base in zip(runs, reference, strict=False)])
    ends = [f"{np.mean([r.repeats for r in runs]):.2f}", f"{np.median([r.ms for r in runs]):.1f}", f"{ratio:.2f}"]
    goal = [trials, f"{sum(r.reached is not None for r in runs)}/{len(runs)}"]
    return f"| {' | '.join([sampler, str(len(runs)), *columns, other, *goal, *ends])} |"


def verdict(results: dict[str, list[Run]], options: argparse.Namespace) -> Iterator[str]:
    """Compare the default sampler with the best other sampler at each budget."""
    for number, budget in enumerate(_budgets(options)):
        columns = {
            sampler: [shares_at(run, options)[number] for run in runs]
            for sampler, runs in results.items()
            if len(runs[0].trained) > number
        }
        own = columns.pop(DEFAULT, None)
        if own and columns:
            best = max(columns, key=lambda sampler: float(np.mean(columns[sampler])))
            gains = [ours - other for ours, other in zip(own, columns[best], strict=False)]
            yield f"after {budget} trials: {DEFAULT} less {best}, by seed: {interval(gains)}"


def head(options: argparse.Namespace) -> str:
    what = "all trained" if options.noise else "observed front"
    names = ["sampler", "runs", *(f"{budget} trials" for budget in _budgets(options)), f"{what}, last budget"]
    names += ["to 99 %: median, quartiles", "reached", "repeats", "ms per proposal", f"times {DEFAULT}"]
    return f"| {' | '.join(names)} |\n|{'-|' * len(names)}"


def description(options: argparse.Namespace) -> str:
    problem = toy(0) if options.problem == "toy" else macro(options.table, options.written, 0)
    text = f"{options.problem}, written as {options.written}; seeds 0..{options.seeds - 1}"
    if not options.noise:
        return text
    ratio = float(problem.true.std()) / options.noise
    return f"{text}; noise of {options.noise} points: signal to noise {ratio:.1f} (standard deviations, whole space)"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problem", choices=("macro", "toy"), default="macro")
    parser.add_argument("--table", type=Path, default=TABLE, help="CSV file of NAS-Bench-Macro")
    parser.add_argument("--written", choices=tuple(LAYERS), default="numbers", help="notation of the choices in macro")
    fast = [sampler for sampler in (*OURS, *PLAIN) if sampler not in SLOW]
    parser.add_argument("--samplers", nargs="+", choices=(*OURS, *PLAIN, NEPS), default=fast)
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--trials", type=int, default=BUDGETS[-1], help="trials per search")
    parser.add_argument("--slow-seeds", type=int, default=10, help=f"seeds of {', '.join(SLOW)}")
    parser.add_argument("--slow-trials", type=int, default=BUDGETS[0], help="trials of a search with one of these")
    parser.add_argument("--random", type=int, default=6561, help="maximum trials of the random sampler")
    parser.add_argument("--noise", type=float, default=0.0, help="standard deviation of one training, in points")
    parser.add_argument("--neps-python", type=Path, help="Python of an environment with neps")
    parser.add_argument("--runs", type=Path, help="file to which runs are appended, and from which they are taken")
    parser.add_argument("--processes", type=int, default=2)
    return parser.parse_args()


def main() -> None:
    options = arguments()
    if options.problem == "macro" and not options.table.is_file():
        sys.exit(f"{options.table} does not exist; write --table and the CSV file of NAS-Bench-Macro on CIFAR-10")
    if NEPS in options.samplers and not options.neps_python:
        sys.exit(f"{NEPS} needs an environment of its own; write --neps-python and its Python (see neps_peer.py)")
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # read by the worker processes
    seeds = {name: options.slow_seeds if name in SLOW else options.seeds for name in options.samplers}
    jobs = [(seed, name) for seed in range(max(seeds.values())) for name in options.samplers if seed < seeds[name]]
    runs = past_runs(jobs, options)
    missing = [job for job in jobs if job not in runs]
    with ProcessPoolExecutor(options.processes, get_context("spawn")) as pool:
        runs |= zip(missing, pool.map(partial(run, options=options), missing), strict=True)
    results = {name: [runs[seed, name] for seed in range(seeds[name])] for name in options.samplers}
    print(f"{description(options)}\n\n{head(options)}")
    for name in options.samplers:
        print(line(name, results[name], results.get(DEFAULT, results[name]), options))
    print("\n".join(["", *verdict(results, options)]))


if __name__ == "__main__":
    main()
