"""Search quality of samplers on spaces with known accuracies: hypervolume against trials, over many seeds.

`macro` is NAS-Bench-Macro (Su et al. 2021): 6,561 networks of 8 layers with 3 choices each, trained three times on
CIFAR-10. `toy` is a conditional space of our language with counted multiply-adds and synthetic accuracies: for every
seed other random effects of each decision, of some pairs of decisions, and of cost.

A search observes one training: with seed s the (s mod 3)-th of the three, or a noisy accuracy. It is scored by the mean
accuracy of all trainings: the hypervolume of its networks, divided by the hypervolume of the true front. The reference
point is the worst accuracy and the highest cost of the whole space. The search is that of the product; only the
training is replaced by a table lookup.

python benchmarks/search_quality.py --help
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from itertools import combinations
from multiprocessing import get_context
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
from many import epoch, network_facts

from hiri_search.cost.flops import count
from hiri_search.cost.pareto import hypervolume, pareto_mask
from hiri_search.language import Net, Space, parse
from hiri_search.language.space import Decisions
from hiri_search.study.config.networks import resolve
from hiri_search.study.config.schema import Study
from hiri_search.study.ledger.events import TrialAsked
from hiri_search.study.ledger.trial import Trial
from hiri_search.study.search.search import Search
from hiri_search.study.search.search_space import all_options

TABLE = Path(__file__).parents[2] / "shared" / "data" / "nas_bench_macro" / "nas-bench-macro_cifar10.csv"
OURS = ("surrogate", "evolution", "random", "tpe", "nsga2", "nsga3", "gp")
PLAIN = ("plain tpe", "plain nsga2", "plain random")  # Optuna's defaults, which may train a network twice
DEFAULT = str(Study.model_validate({"space": "hr(32 e=4)"}).search.sampler)
BUDGETS = (50, 100, 200, 400)
GOAL = 0.99
SIDE = 512

# Eight stages with three choices each: as depths, which are ordered numbers, or as stage types, which have no order.
LAYERS = {"numbers": "hr(64 e=4{})*1..3", "words": "(hr | cffn | t)(64 e=4{})"}
MACRO = {name: " -> ".join(text.format(" s=1" * (layer > 3)) for layer in range(8)) for name, text in LAYERS.items()}
CHOICES = {"Hr": 0, "Cffn": 1, "Transformer": 2}
TOY = (
    "(hr | cffn)(32 e=2|4)*1..3 -> (hr | cffn | t(d=32|64))(64 e=2|4)*1..2"
    " -> (cffn | t)(128|192 e=2|4)*1..3 -> t(256 e=2|4)*1..2"
)

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Problem:
    """A space with the accuracies and costs of all its networks."""

    spec: str
    index: Callable[[Net], int]  # of a network in the arrays below
    observed: Floats  # accuracy of one training, per network
    true: Floats  # mean accuracy of all trainings, per network
    gmacs: Floats
    mparams: Floats

    @property
    def reference(self) -> tuple[float, float]:
        return float(-self.true.min()), float(self.gmacs.max())

    def share(self, indices: npt.NDArray[np.int64]) -> float:
        """Return the hypervolume of these networks, divided by that of the true front."""
        return hypervolume(self.points[indices], self.reference) / self.front_hypervolume

    @cached_property
    def points(self) -> Floats:
        return np.stack([-self.true, self.gmacs], axis=1)

    @cached_property
    def front_hypervolume(self) -> float:
        return hypervolume(self.points[pareto_mask(self.points)], self.reference)

    def shares(self, proposed: list[int]) -> Iterator[float]:
        """Yield the share after every trial."""
        front: list[int] = []
        share = 0.0
        for index in proposed:
            if not any(self.true[i] >= self.true[index] and self.gmacs[i] <= self.gmacs[index] for i in front):
                front.append(index)
                share = self.share(np.array(front))
            yield share


# ---- problems


@lru_cache
def _macro_columns(path: Path) -> tuple[dict[str, int], dict[str, Floats]]:
    with path.open() as file:
        lines = list(csv.DictReader(file))
    names = ("mean_acc", "acc1", "acc2", "acc3", "params", "flops")
    return {line["arch"]: i for i, line in enumerate(lines)}, {n: np.array([float(r[n]) for r in lines]) for n in names}


def macro(path: Path, written: str, seed: int) -> Problem:
    """Return NAS-Bench-Macro; `seed` selects the observed training."""
    indices, columns = _macro_columns(path)

    def index(net: Net) -> int:
        choices = (s.depth - 1 if written == "numbers" else CHOICES[type(s).__name__] for s in net.stages)
        return indices["".join(map(str, choices))]

    observed = columns[f"acc{seed % 3 + 1}"]
    gmacs, mparams = columns["flops"] / 1e9, columns["params"] / 1e6
    return Problem(MACRO[written], index, observed, columns["mean_acc"], gmacs, mparams)


@lru_cache
def _toy_walks() -> tuple[dict[str, int], list[Decisions], Floats]:
    """Return indices by key, decisions, and gmacs and mparams of every network."""
    walks = list(parse(TOY).walks())
    costs = [count(net, 128) for net, _ in walks]
    numbers = np.array([[cost.macs / 1e9, cost.params / 1e6] for cost in costs])
    return {net.key: i for i, (net, _) in enumerate(walks)}, [decisions for _, decisions in walks], numbers


def toy(seed: int) -> Problem:
    """Return synthetic accuracies between 70 and 90 percent, from random effects of the decisions and the cost."""
    indices, walks, costs = _toy_walks()
    rng = np.random.default_rng(seed)
    options = [(name, option) for name, own in sorted(all_options(parse(TOY)).items()) for option in own]
    taken = np.array([[walk.get(name) == option for name, option in options] for walk in walks], dtype=float)
    pairs = np.array([taken[:, a] * taken[:, b] for a, b in combinations(range(len(options)), 2)][::7]).T
    effects = taken @ rng.normal(size=taken.shape[1]) + pairs @ rng.normal(scale=0.5, size=pairs.shape[1])
    quality = effects / effects.std() + 2.0 * _scaled(np.log(costs[:, 0]))
    true = 90.0 - 20.0 / (1 + np.exp(quality))
    observed = true + rng.normal(scale=0.2, size=len(true))
    return Problem(TOY, lambda net: indices[net.key], observed, true, costs[:, 0], costs[:, 1])


def _scaled(column: Floats) -> Floats:
    scaled: Floats = (column - column.mean()) / column.std()
    return scaled


# ---- searches


def ours(problem: Problem, sampler: str, seed: int, trials: int, goal: float) -> tuple[list[int], float]:
    """Return the networks that the product's search proposes, and its CPU seconds."""
    settings = {"sampler": sampler, "networks": trials, "seed": seed}
    sides = {"counted": {"side": SIDE}, "proxy": {"side": SIDE}}
    study = Study.model_validate({"space": problem.spec, "search": settings, **sides})
    search = Search(resolve(study), [], costs=lambda net: _costs(problem, problem.index(cast(Net, net))))
    proposed: list[int] = []
    seconds = -time.process_time()
    while task := search.ask():
        number, candidate, trial_seed = task
        assert isinstance(candidate.network, Net)
        index = problem.index(candidate.network)
        proposed.append(index)
        params, macs = round(problem.mparams[index] * 1e6), round(problem.gmacs[index] * 1e9)
        asked = TrialAsked(
            trial=number,
            network=network_facts(candidate, params=params, macs=macs),
            seed=trial_seed,
            checkpoint="",
            decisions=dict(candidate.decisions),
        )
        search.tell(Trial(asked, "finished", curve=[epoch(1, float(problem.observed[index]))]))
        if goal < 1 and len(proposed) % 50 == 0 and problem.share(np.array(proposed)) >= goal:
            break
    return proposed, seconds + time.process_time()


def _costs(problem: Problem, index: int) -> dict[str, float]:
    return {"gmacs": float(problem.gmacs[index]), "mparams": float(problem.mparams[index])}


def plain(problem: Problem, sampler: str, seed: int, trials: int) -> tuple[list[int], float]:
    """Return the same for a sampler of Optuna with its defaults."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    samplers = {
        "plain tpe": optuna.samplers.TPESampler,
        "plain nsga2": optuna.samplers.NSGAIISampler,
        "plain random": optuna.samplers.RandomSampler,
    }
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=samplers[sampler](seed=seed))
    space = parse(problem.spec)
    seconds = -time.process_time()
    proposed = [_plain_trial(study, space, problem) for _ in range(trials)]
    return proposed, seconds + time.process_time()


def _plain_trial(study: object, space: Space, problem: Problem) -> int:
    trial = study.ask()  # type: ignore[attr-defined]

    def choose(name: str, options: tuple[int | str, ...], sizes: tuple[int, ...]) -> int:
        if isinstance(options[0], int):
            return int(trial.suggest_int(name, 0, len(options) - 1))
        return options.index(trial.suggest_categorical(name, options))

    index = problem.index(space.decide(choose))
    study.tell(trial, [problem.observed[index], problem.gmacs[index]])  # type: ignore[attr-defined]
    return index


@dataclass(frozen=True)
class Run:
    """Result of one search."""

    shares: tuple[float, ...]  # hypervolume share at each budget
    reached: int | None  # number of trials to the goal; None: not reached
    chosen: float  # share of the networks on the observed front, at the last budget
    ms: float  # CPU time per proposal


def run(sampler: str, seed: int, options: argparse.Namespace) -> Run:
    warnings.simplefilter("ignore")
    problem = toy(seed) if options.problem == "toy" else macro(options.table, options.written, seed)
    last = options.trials
    if sampler in PLAIN:
        proposed, seconds = plain(problem, sampler, seed, options.random if sampler == "plain random" else last)
    else:
        to_goal = sampler == "random"  # proposes fast enough to run until it reaches the goal
        proposed, seconds = ours(problem, sampler, seed, options.random if to_goal else last, GOAL if to_goal else 1.0)
    shares = list(problem.shares(proposed))
    observed = np.stack([-problem.observed[proposed[:last]], problem.gmacs[proposed[:last]]], axis=1)
    chosen = problem.share(np.array(proposed[:last])[pareto_mask(observed)])
    reached = next((number for number, share in enumerate(shares, 1) if share >= GOAL), None)
    at_budgets = tuple(shares[min(budget, len(shares)) - 1] for budget in _budgets(options))
    return Run(at_budgets, reached, chosen, 1e3 * seconds / len(proposed))


def _budgets(options: argparse.Namespace) -> list[int]:
    return [budget for budget in BUDGETS if budget < options.trials] + [options.trials]


# ---- the table


def interval(values: list[float]) -> str:
    """Format the mean and half its 95 % confidence interval (normal approximation)."""
    return f"{np.mean(values):.4f} ±{1.96 * np.std(values, ddof=1) / np.sqrt(len(values)):.4f}"


def line(sampler: str, runs: list[Run], limit: int) -> str:
    reached = sorted(limit + 1 if r.reached is None else r.reached for r in runs)
    middle, low, high = (reached[round(share * (len(runs) - 1))] for share in (0.5, 0.25, 0.75))
    trials = " ".join(f">{limit}" if number > limit else str(number) for number in (middle, low, high))
    shares = (interval(list(column)) for column in zip(*(r.shares for r in runs), strict=True))
    cells = [sampler, str(len(runs)), *shares]
    cells += [trials, f"{sum(r.reached is not None for r in runs)}/{len(runs)}", interval([r.chosen for r in runs])]
    return f"| {' | '.join([*cells, f'{np.mean([r.ms for r in runs]):.1f}'])} |"


def verdict(results: dict[str, list[Run]], budgets: list[int]) -> Iterator[str]:
    """Compare the default sampler with the best plain sampler at each budget."""
    if DEFAULT not in results or not any(sampler in results for sampler in PLAIN):
        return
    for index, budget in enumerate(budgets):
        means = {sampler: float(np.mean([run.shares[index] for run in runs])) for sampler, runs in results.items()}
        best = max((sampler for sampler in means if sampler in PLAIN), key=means.__getitem__)
        gains = [a.shares[index] - b.shares[index] for a, b in zip(results[DEFAULT], results[best], strict=False)]
        yield f"after {budget} trials: {DEFAULT} less {best}, by seed: {interval(gains)}"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problem", choices=("macro", "toy"), default="macro")
    parser.add_argument("--table", type=Path, default=TABLE, help="CSV file of NAS-Bench-Macro")
    parser.add_argument("--written", choices=tuple(LAYERS), default="numbers", help="notation of the choices in macro")
    parser.add_argument("--samplers", nargs="+", choices=(*OURS, *PLAIN), default=[*OURS[:-1], *PLAIN])
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--trials", type=int, default=BUDGETS[-1], help="trials per search; gp takes seconds per trial")
    parser.add_argument("--random", type=int, default=6561, help="maximum trials of the random samplers")
    parser.add_argument("--processes", type=int, default=2)
    return parser.parse_args()


def main() -> None:
    options = arguments()
    if options.problem == "macro" and not options.table.is_file():
        sys.exit(f"{options.table} does not exist; write --table and the CSV file of NAS-Bench-Macro on CIFAR-10")
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # read by the worker processes
    print(f"{options.problem}, written as {options.written}; networks drawn with seeds 0..{options.seeds - 1}")
    head = ["sampler", "runs", *(f"{budget} trials" for budget in _budgets(options)), "to 99 %: median, quartiles"]
    head += ["reached", f"observed front, {options.trials} trials", "ms per proposal"]
    print(f"| {' | '.join(head)} |\n|{'-|' * len(head)}")
    results: dict[str, list[Run]] = {}
    with ProcessPoolExecutor(options.processes, get_context("spawn")) as pool:
        for sampler in options.samplers:
            results[sampler] = list(pool.map(partial(run, sampler, options=options), range(options.seeds)))
            limit = options.random if sampler in ("random", "plain random") else options.trials
            print(line(sampler, results[sampler], limit), flush=True)
    print("\n".join(verdict(results, _budgets(options))))


if __name__ == "__main__":
    main()
