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
that proposes, over the first 50 proposals of a search: the median over seeds, and the median ratio to the default
sampler.
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
from dataclasses import asdict, dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from search_problems import LAYERS, TABLE, Problem, macro, toy
from search_samplers import NEPS, OURS, PLAIN, SLOW, Asker, asker

from hiri_search.cost.pareto import pareto_mask
from hiri_search.study.config.schema import StudyConfig

DEFAULT = str(StudyConfig.model_validate({"space": "hr(32 e=4)"}).search.sampler)
BUDGETS = (20, 50, 100, 200, 400)
GOAL = 0.99
MAX_ASKS = 2  # proposals for each trial: a sampler that repeats itself more often is stopped
TIMED = 50  # proposals


@dataclass(frozen=True)
class Run:
    """Trained networks of one search in order, their observed accuracies, and CPU seconds of every proposal."""

    indices: list[int] = field(default_factory=list)
    top1: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    @property
    def repeats(self) -> float:
        """Share of the proposals that were made before."""
        return 1 - len(set(self.indices)) / len(self.seconds)

    @property
    def ms(self) -> float:
        return 1e3 * float(np.mean(self.seconds[:TIMED]))

    def chosen(self, problem: Problem, trials: int) -> float:
        """Return the true share of the networks on the observed front; repeated trainings are averaged."""
        indices, places = np.unique(self.indices[:trials], return_inverse=True)
        means = np.bincount(places, self.top1[:trials]) / np.bincount(places)
        return problem.share(indices[pareto_mask(np.stack([-means, problem.gmacs[indices]], axis=1))])

    def score(self, problem: Problem, budgets: list[int]) -> Score:
        shares = list(problem.shares(self.indices))
        return Score(
            trained=[shares[min(budget, len(shares)) - 1] for budget in budgets],
            chosen=[self.chosen(problem, budget) for budget in budgets],
            reached=next((number for number, share in enumerate(shares, 1) if share >= GOAL), None),
            repeats=self.repeats,
            ms=self.ms,
        )


@dataclass(frozen=True)
class Score:
    """Result of one search."""

    trained: list[float]  # share of all trained networks, at each budget that the search reached
    chosen: list[float]  # share of the networks on the observed front, at the same budgets
    reached: int | None  # number of trials to the goal; None: not reached
    repeats: float
    ms: float  # CPU time of one of the first proposals


def problem_of(seed: int, options: argparse.Namespace) -> Problem:
    return toy(seed) if options.problem == "toy" else macro(options.table, options.written, seed)


def run(job: tuple[int, str], options: argparse.Namespace) -> Run:
    seed, sampler = job
    warnings.simplefilter("ignore")
    problem, limit = problem_of(seed, options), trial_limit(sampler, options)
    trainings = Trainings(problem, options.noise, seed)
    result = search(asker(sampler, problem, seed, limit, options.neps_python), trainings, options.trials, limit)
    if options.runs:
        with options.runs.open("a") as file:
            file.write(json.dumps([identity(job, options), asdict(result)]) + "\n")
    return result


class Trainings:
    """Accuracies of trainings: one of each network, or a mean with noise that every training draws anew."""

    def __init__(self, problem: Problem, noise: float, seed: int) -> None:
        self.problem, self.noise, self.rng = problem, noise, np.random.default_rng(seed)

    def top1(self, index: int) -> float:
        if not self.noise:
            return float(self.problem.observed[index])
        return float(self.problem.true[index] + self.noise * self.rng.normal())


def search(asker: Asker, trainings: Trainings, last: int, limit: int) -> Run:
    """Search until the limit of trials, or until the goal after the last budget."""
    run = Run()
    while (trials := len(run.indices)) < limit and len(run.seconds) < MAX_ASKS * limit:
        if trials >= last and trials % 50 == 0 and trainings.problem.share(np.array(run.indices)) >= GOAL:
            break
        start = asker.seconds()
        index = asker.ask()
        top1 = trainings.top1(index)
        asker.tell(top1)
        run.seconds.append(round(asker.seconds() - start, 6))
        if trainings.noise or index not in run.indices:
            run.indices.append(index)
            run.top1.append(top1)
    return run


def identity(job: tuple[int, str], options: argparse.Namespace) -> list[object]:
    """Return what decides the result of a run, but for the code."""
    return [*job, options.problem, options.written, options.noise, trial_limit(job[1], options)]


def past_runs(jobs: list[tuple[int, str]], options: argparse.Namespace) -> dict[tuple[int, str], Run]:
    """Return the runs in the file of `--runs`."""
    lines = options.runs.read_text().splitlines() if options.runs and options.runs.exists() else []
    past = {json.dumps(key): Run(**values) for key, values in map(json.loads, lines)}
    keys = {job: json.dumps(identity(job, options)) for job in jobs}
    return {job: past[key] for job, key in keys.items() if key in past}


def trial_limit(sampler: str, options: argparse.Namespace) -> int:
    """Return the trials of a search: more than the last budget where random sampling runs until the goal."""
    if sampler == "random":
        return int(max(options.random, options.trials))
    return int(min(options.slow_trials, options.trials) if sampler in SLOW else options.trials)


def budgets_of(limit: int) -> list[int]:
    return sorted({budget for budget in BUDGETS if budget < limit} | {limit})


# ---- the table


def interval(values: list[float]) -> str:
    """Format the mean and half its 95 % confidence interval (normal approximation)."""
    return f"{np.mean(values):.4f} ±{1.96 * np.std(values, ddof=1) / np.sqrt(len(values)):.4f}"


def shares_at(score: Score, options: argparse.Namespace) -> list[float]:
    return score.chosen if options.noise else score.trained


def line(sampler: str, runs: list[Score], reference: list[Score], options: argparse.Namespace) -> str:
    limit = trial_limit(sampler, options)
    reached = sorted(limit + 1 if r.reached is None else r.reached for r in runs)
    middle, low, high = (reached[round(share * (len(runs) - 1))] for share in (0.5, 0.25, 0.75))
    trials = " ".join(f">{limit}" if number > limit else str(number) for number in (middle, low, high))
    columns = [interval(list(column)) for column in zip(*(shares_at(r, options) for r in runs), strict=True)]
    columns += ["-"] * (len(budgets_of(options.trials)) - len(columns))
    other = interval([(r.trained if options.noise else r.chosen)[-1] for r in runs])
    ratio = np.median([run.ms / base.ms for run, base in zip(runs, reference, strict=False)])
    ends = [f"{np.mean([r.repeats for r in runs]):.2f}", f"{np.median([r.ms for r in runs]):.1f}", f"{ratio:.2f}"]
    goal = [trials, f"{sum(r.reached is not None for r in runs)}/{len(runs)}"]
    return f"| {' | '.join([sampler, str(len(runs)), *columns, other, *goal, *ends])} |"


def verdict(results: dict[str, list[Score]], options: argparse.Namespace) -> Iterator[str]:
    """Compare the default sampler with the best other sampler at each budget."""
    for number, budget in enumerate(budgets_of(options.trials)):
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
    names = ["sampler", "runs", *(f"{budget} trials" for budget in budgets_of(options.trials)), f"{what}, last budget"]
    names += ["to 99 %: median, quartiles", "reached", "repeats", "ms per proposal", f"times {DEFAULT}"]
    return f"| {' | '.join(names)} |\n|{'-|' * len(names)}"


def description(options: argparse.Namespace) -> str:
    text = f"{options.problem}, written as {options.written}; seeds 0..{options.seeds - 1}"
    if not options.noise:
        return text
    ratio = float(problem_of(0, options).true.std()) / options.noise
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
    parser.add_argument("--slow-trials", type=int, default=50, help="trials of a search with one of these")
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
    results: dict[str, list[Score]] = {name: [] for name in options.samplers}
    for (seed, name), result in sorted(runs.items()):
        budgets = budgets_of(min(trial_limit(name, options), options.trials))
        results[name].append(result.score(problem_of(seed, options), budgets))
    print(f"{description(options)}\n\n{head(options)}")
    for name in options.samplers:
        print(line(name, results[name], results.get(DEFAULT, results[name]), options))
    print("\n".join(["", *verdict(results, options)]))


if __name__ == "__main__":
    main()
