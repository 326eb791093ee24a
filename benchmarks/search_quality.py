"""How good searchers are, where every network's accuracy is known: hypervolume against trials, over many seeds.

`macro` is NAS-Bench-Macro (Su et al. 2021): 6,561 networks of 8 layers with 3 choices each, trained three times on
CIFAR-10. `toy` is a conditional space of our language with counted multiply-adds and accuracies that are made up: an
effect of every decision, of some pairs of decisions, and of cost, other ones for every seed.

A search sees one training: with seed s the (s mod 3)-th of the three, or a noisy one. It is judged by the mean of all
trainings: the hypervolume of what it asked for, over that of the true front. The reference point is the worst accuracy
and the highest cost of the whole space. The search is the product's own; only the training is looked up.

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

import numpy as np
import numpy.typing as npt

from hiri_search.cost.flops import count
from hiri_search.cost.pareto import hypervolume, pareto_mask
from hiri_search.language import Net, Space, parse
from hiri_search.study.config.networks import resolve
from hiri_search.study.config.schema import Study
from hiri_search.study.ledger.trial import Trial
from hiri_search.study.search.search import Search

TABLE = Path(__file__).parents[2] / "shared" / "data" / "nas_bench_macro" / "nas-bench-macro_cifar10.csv"
OURS = ("surrogate", "evolution", "random", "tpe", "nsga2", "nsga3", "gp")
PLAIN = (
    "plain tpe",
    "plain nsga2",
    "plain random",
)  # Optuna's defaults: a network that is asked for again is trained again
DEFAULT = str(Study.model_validate({"space": "hr(32 e=4)"}).search.sampler)
BUDGETS = (50, 100, 200, 400)
GOAL = 0.99
SIDE = 512

# Eight stages of three choices each: as depths, which are numbers and keep their order, or as words, which have none.
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
    """A space whose networks have all been trained."""

    spec: str
    place: Callable[[Net], int]  # of a network in the columns
    seen: Floats  # by network: what one training comes to
    true: Floats  # the mean of many
    gmacs: Floats
    mparams: Floats

    @property
    def reference(self) -> tuple[float, float]:
        return float(-self.true.min()), float(self.gmacs.max())

    def share(self, places: npt.NDArray[np.int64]) -> float:
        """The hypervolume of these networks, over that of all."""
        return hypervolume(self.points[places], self.reference) / self.whole

    @cached_property
    def points(self) -> Floats:
        return np.stack([-self.true, self.gmacs], axis=1)

    @cached_property
    def whole(self) -> float:
        """The hypervolume of the true front."""
        return hypervolume(self.points[pareto_mask(self.points)], self.reference)

    def shares(self, asked: list[int]) -> Iterator[float]:
        """The same after every trial."""
        front: list[int] = []
        share = 0.0
        for place in asked:
            if not any(self.true[p] >= self.true[place] and self.gmacs[p] <= self.gmacs[place] for p in front):
                front.append(place)
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
    """NAS-Bench-Macro."""
    places, columns = _macro_columns(path)

    def place(net: Net) -> int:
        choices = (s.depth - 1 if written == "numbers" else CHOICES[type(s).__name__] for s in net.stages)
        return places["".join(map(str, choices))]

    seen = columns[f"acc{seed % 3 + 1}"]
    return Problem(MACRO[written], place, seen, columns["mean_acc"], columns["flops"] / 1e9, columns["params"] / 1e6)


@lru_cache
def _toy_walks() -> tuple[dict[str, int], list[dict[str, int]], Floats]:
    """Places by key, decisions, and gmacs and mparams of every network."""
    walks = list(parse(TOY).walks())
    costs = [count(net, 128) for net, _ in walks]
    numbers = np.array([[cost.macs / 1e9, cost.params / 1e6] for cost in costs])
    return {net.key: i for i, (net, _) in enumerate(walks)}, [decisions for _, decisions in walks], numbers


def toy(seed: int) -> Problem:
    """Made up: 90 percent, less what the sum of effects is short of."""
    places, walks, costs = _toy_walks()
    rng = np.random.default_rng(seed)
    options = sorted({item for walk in walks for item in walk.items()})
    taken = np.array([[walk.get(name) == index for name, index in options] for walk in walks], dtype=float)
    pairs = np.array([taken[:, a] * taken[:, b] for a, b in combinations(range(len(options)), 2)][::7]).T
    effects = taken @ rng.normal(size=taken.shape[1]) + pairs @ rng.normal(scale=0.5, size=pairs.shape[1])
    quality = effects / effects.std() + 2.0 * _scaled(np.log(costs[:, 0]))
    true = 90.0 - 20.0 / (1 + np.exp(quality))
    seen = true + rng.normal(scale=0.2, size=len(true))
    return Problem(TOY, lambda net: places[net.key], seen, true, costs[:, 0], costs[:, 1])


def _scaled(column: Floats) -> Floats:
    scaled: Floats = (column - column.mean()) / column.std()
    return scaled


# ---- searches


def ours(problem: Problem, word: str, seed: int, trials: int, enough: float) -> tuple[list[int], float]:
    """The networks that the product asks for, and the CPU seconds that it took to ask."""
    settings = {"sampler": word, "networks": trials, "seed": seed}
    sides = {"counted": {"side": SIDE}, "proxy": {"side": SIDE}}
    study = Study.model_validate({"space": problem.spec, "search": settings, **sides})
    search = Search(resolve(study), [], costs=lambda net: _costs(problem, problem.place(net)))
    asked: list[int] = []
    seconds = -time.process_time()
    while task := search.ask():
        number, candidate, trial_seed = task
        assert isinstance(candidate.network, Net)
        place = problem.place(candidate.network)
        asked.append(place)
        cost = {"macs": problem.gmacs[place] * 1e9, "params": problem.mparams[place] * 1e6}
        facts = {"seed": trial_seed, "decisions": candidate.decisions, **cost}
        search.tell(Trial(number, facts, "finished", curve=[{"top1": float(problem.seen[place])}]))
        if enough < 1 and len(asked) % 50 == 0 and problem.share(np.array(asked)) >= enough:
            break
    return asked, seconds + time.process_time()


def _costs(problem: Problem, place: int) -> dict[str, float]:
    return {"gmacs": float(problem.gmacs[place]), "mparams": float(problem.mparams[place])}


def plain(problem: Problem, word: str, seed: int, trials: int) -> tuple[list[int], float]:
    """The same of Optuna's defaults."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    samplers = {
        "plain tpe": optuna.samplers.TPESampler,
        "plain nsga2": optuna.samplers.NSGAIISampler,
        "plain random": optuna.samplers.RandomSampler,
    }
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=samplers[word](seed=seed))
    space = parse(problem.spec)
    seconds = -time.process_time()
    asked = [_plain_trial(study, space, problem) for _ in range(trials)]
    return asked, seconds + time.process_time()


def _plain_trial(study: object, space: Space, problem: Problem) -> int:
    trial = study.ask()  # type: ignore[attr-defined]

    def choose(name: str, options: tuple[int | str, ...], sizes: tuple[int, ...]) -> int:
        if isinstance(options[0], int):
            return int(trial.suggest_int(name, 0, len(options) - 1))
        return options.index(trial.suggest_categorical(name, options))

    place = problem.place(space.decide(choose))
    study.tell(trial, [problem.seen[place], problem.gmacs[place]])  # type: ignore[attr-defined]
    return place


@dataclass(frozen=True)
class Run:
    """What one search came to."""

    shares: tuple[float, ...]  # by budget
    reached: int | None  # trials to the goal
    chosen: float  # of those alone that look best by what was seen, at the last budget
    ms: float  # CPU time per ask


def run(word: str, seed: int, given: argparse.Namespace) -> Run:
    warnings.simplefilter("ignore")
    problem = toy(seed) if given.problem == "toy" else macro(given.table, given.written, seed)
    last = given.trials
    if word in PLAIN:
        asked, seconds = plain(problem, word, seed, given.random if word == "plain random" else last)
    else:
        far = word == "random"  # asks fast, so its goal can be waited for
        asked, seconds = ours(problem, word, seed, given.random if far else last, GOAL if far else 1.0)
    shares = list(problem.shares(asked))
    seen = np.stack([-problem.seen[asked[:last]], problem.gmacs[asked[:last]]], axis=1)
    chosen = problem.share(np.array(asked[:last])[pareto_mask(seen)])
    reached = next((number for number, share in enumerate(shares, 1) if share >= GOAL), None)
    return Run(
        tuple(shares[min(b, len(shares)) - 1] for b in _budgets(given)), reached, chosen, 1e3 * seconds / len(asked)
    )


def _budgets(given: argparse.Namespace) -> list[int]:
    return [budget for budget in BUDGETS if budget < given.trials] + [given.trials]


# ---- the table


def interval(values: list[float]) -> str:
    """Mean and half the 95 % interval of it, by the normal approximation."""
    return f"{np.mean(values):.4f} ±{1.96 * np.std(values, ddof=1) / np.sqrt(len(values)):.4f}"


def line(word: str, runs: list[Run], limit: int) -> str:
    reached = sorted(limit + 1 if r.reached is None else r.reached for r in runs)
    middle, low, high = (reached[round(share * (len(runs) - 1))] for share in (0.5, 0.25, 0.75))
    trials = " ".join(f">{limit}" if number > limit else str(number) for number in (middle, low, high))
    cells = [word, str(len(runs)), *(interval(list(column)) for column in zip(*(r.shares for r in runs), strict=True))]
    cells += [trials, f"{sum(r.reached is not None for r in runs)}/{len(runs)}", interval([r.chosen for r in runs])]
    return f"| {' | '.join([*cells, f'{np.mean([r.ms for r in runs]):.1f}'])} |"


def verdict(found: dict[str, list[Run]], budgets: list[int]) -> Iterator[str]:
    """Whether the default is as good as it has to be."""
    if DEFAULT not in found or not any(word in found for word in PLAIN):
        return
    for place, budget in enumerate(budgets):
        means = {word: float(np.mean([run.shares[place] for run in runs])) for word, runs in found.items()}
        best = max((word for word in means if word in PLAIN), key=means.__getitem__)
        gains = [a.shares[place] - b.shares[place] for a, b in zip(found[DEFAULT], found[best], strict=False)]
        yield f"after {budget} trials: {DEFAULT} less {best}, by seed: {interval(gains)}"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problem", choices=("macro", "toy"), default="macro")
    parser.add_argument("--table", type=Path, default=TABLE, help="of NAS-Bench-Macro")
    parser.add_argument("--written", choices=tuple(LAYERS), default="numbers", help="how macro's choices are written")
    parser.add_argument("--samplers", nargs="+", choices=(*OURS, *PLAIN), default=[*OURS[:-1], *PLAIN])
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--trials", type=int, default=BUDGETS[-1], help="of each search; gp takes seconds for each")
    parser.add_argument("--random", type=int, default=6561, help="trials that random may take to the goal")
    parser.add_argument("--processes", type=int, default=2)
    return parser.parse_args()


def main() -> None:
    given = arguments()
    if given.problem == "macro" and not given.table.is_file():
        sys.exit(f"there is no {given.table}; give the csv of NAS-Bench-Macro on CIFAR-10 with --table")
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # read by the processes
    print(f"{given.problem}, written as {given.written}; networks drawn with seeds 0..{given.seeds - 1}")
    head = ["sampler", "runs", *(f"{budget} trials" for budget in _budgets(given)), "to 99 %: median, quartiles"]
    head += ["reached", f"chosen by what was seen, {given.trials}", "ms per ask"]
    print(f"| {' | '.join(head)} |\n|{'-|' * len(head)}")
    found: dict[str, list[Run]] = {}
    with ProcessPoolExecutor(given.processes, get_context("spawn")) as pool:
        for word in given.samplers:
            seeds = range(given.seeds)
            found[word] = list(pool.map(partial(run, word, given=given), seeds))
            limit = given.random if word in ("random", "plain random") else given.trials
            print(line(word, found[word], limit), flush=True)
    print("\n".join(verdict(found, _budgets(given))))


if __name__ == "__main__":
    main()
