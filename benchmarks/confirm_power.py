"""Error rates and power of a confirmation's verdict, on NAS-Bench-Macro: 6,561 networks, each trained three times.

Each draw is a search of the product that is told a short score of each network, and a confirmation with the mean
accuracy of all trainings as the long score. The search, the choice of networks, tau beyond cost and the verdict are
those of a study; only the trainings are replaced by the table. Short scores:

- one training: one of the three accuracies; here the long score is the mean of the two others
- GFLOPs, params, GFLOPs + params: cost alone, with noise of a thousandth of its spread, so that ties play no part
- degraded to T: the mean accuracy with normal noise, so large that tau beyond cost is T over the whole table

`front alone` is the rule of earlier versions: of the ten best networks, the interval of Kendall's tau lies above 0.

With --intervals: how often the 90 % interval of tau beyond cost contains the tau of a bivariate normal population.

python benchmarks/confirm_power.py --help
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import cast

import numpy as np
from many import epoch, network_facts
from scipy.optimize import brentq
from search_problems import CHOICES, MACRO, TABLE, Floats, macro_columns

from hiri_search.language import Net
from hiri_search.stats.order_verdict import OrderVerdict
from hiri_search.stats.rank_correlation import LIKE_COST, BeyondCost, kendall_tau, tau_beyond_cost
from hiri_search.study.config.networks import resolve
from hiri_search.study.config.schema import StudyConfig
from hiri_search.study.config.sections.search import ConfirmConfig
from hiri_search.study.ledger.events import TrialAsked
from hiri_search.study.ledger.trial import Trial
from hiri_search.study.search.confirmation import chosen
from hiri_search.study.search.objectives import objectives_of
from hiri_search.study.search.search import Search
from hiri_search.system.units import GIGA, MEGA

SIDE = 512
CONFIRM, FRONT_ALONE = ConfirmConfig(), ConfirmConfig(top=10, partners=0)
TIE_BREAK = 1e-3  # noise of scores that are costs, in their standard deviations
DEGRADED = (0.2, 0.4, 0.6, 0.8)
LIKE_PAIRS = 20_000  # drawn from all pairs of like cost, to find the noise of degraded scores

Scores = tuple[Floats, Floats]  # short and long score of each network


@dataclass(frozen=True)
class Networks:
    """All networks of NAS-Bench-Macro."""

    index: dict[str, int]  # by architecture
    trainings: Floats  # accuracy by training and network
    params: Floats
    macs: Floats

    @property
    def mean(self) -> Floats:
        return np.asarray(self.trainings.mean(axis=0))

    def of(self, net: Net) -> int:
        return self.index["".join(str(CHOICES[type(stage).__name__]) for stage in net.stages)]


@lru_cache
def read(path: Path) -> Networks:
    index, columns = macro_columns(path)
    trainings = np.stack([columns[f"acc{number}"] for number in (1, 2, 3)])
    return Networks(index, trainings, columns["params"], columns["flops"])


# ---- scores

MakeScores = Callable[[Networks, int], Scores]  # the number is a seed


def one_training(networks: Networks, seed: int) -> Scores:
    first, *others = np.roll(networks.trainings, -(seed % 3), axis=0)
    return first, np.asarray(np.mean(others, axis=0))


def cost_alone(networks: Networks, seed: int, *, costs: tuple[str, ...]) -> Scores:
    total = sum(_standardised(getattr(networks, cost)) for cost in costs)
    return np.asarray(total + np.random.default_rng(seed).normal(0, TIE_BREAK, len(networks.macs))), networks.mean


def degraded(networks: Networks, seed: int, *, tau: float) -> Scores:
    noise = np.random.default_rng(seed).normal(0, _noise(networks, tau), len(networks.macs))
    return networks.mean + noise, networks.mean


SHORT: dict[str, MakeScores] = {
    "one training": one_training,
    "GFLOPs": partial(cost_alone, costs=("macs",)),
    "params": partial(cost_alone, costs=("params",)),
    "GFLOPs + params": partial(cost_alone, costs=("macs", "params")),
    **{f"degraded to {tau}": partial(degraded, tau=tau) for tau in DEGRADED},
}


def _standardised(values: Floats) -> Floats:
    return np.asarray((values - values.mean()) / values.std())


def population_tau(networks: Networks, short: Floats, long: Floats) -> float:
    """Return tau beyond cost over the whole table, from pairs drawn at random."""
    costs, rng = networks.macs, np.random.default_rng(0)
    first, second = rng.integers(len(costs), size=(2, 100 * LIKE_PAIRS))
    low, high = np.minimum(costs[first], costs[second]), np.maximum(costs[first], costs[second])
    like = np.flatnonzero((high <= low * (1 + LIKE_COST)) & (first != second))[:LIKE_PAIRS]
    first, second = first[like], second[like]
    return float(np.mean(np.sign(short[first] - short[second]) * np.sign(long[first] - long[second])))


_noises: dict[float, float] = {}


def _noise(networks: Networks, tau: float) -> float:
    """Return the standard deviation of the noise, in points, that degrades the mean accuracy to this tau."""
    if tau not in _noises:
        noise, mean = np.random.default_rng(1).normal(size=len(networks.macs)), networks.mean
        excess = lambda spread: population_tau(networks, mean + spread * noise, mean) - tau
        _noises[tau] = float(brentq(excess, 1e-3, 100, xtol=1e-3))
    return _noises[tau]


# ---- draws


@dataclass(frozen=True)
class Draw:
    """The result of one search and its confirmation."""

    beyond: BeyondCost | None
    tau: float  # over all confirmed networks
    front_alone: bool  # the earlier rule passes it
    networks: int  # confirmed

    @property
    def verdict(self) -> OrderVerdict:
        return self.beyond.verdict if self.beyond else OrderVerdict.TOO_FEW


def draw(seed: int, name: str, sampler: str, size: int, path: Path) -> Draw:
    warnings.simplefilter("ignore")
    networks = read(path)
    short, long = SHORT[name](networks, seed)
    study = _study(sampler, size, seed)
    trials, indices = zip(*searched(networks, study, short), strict=True)
    objectives = objectives_of(study)
    picked, best = (
        [indices[trial.number] for trial in chosen(trials, confirm, objectives)] for confirm in (CONFIRM, FRONT_ALONE)
    )
    beyond = tau_beyond_cost(short[picked], long[picked], networks.macs[picked])
    tau, on_front = kendall_tau(short[picked], long[picked]), kendall_tau(short[best], long[best])
    return Draw(beyond, tau.value if tau else np.nan, bool(on_front and on_front.low > 0), len(picked))


def _study(sampler: str, size: int, seed: int) -> StudyConfig:
    search = {"sampler": sampler, "networks": size, "seed": seed}
    return StudyConfig.model_validate(
        {"space": MACRO["words"], "search": search, "counted": {"side": SIDE}, "proxy": {"side": SIDE}}
    )


def searched(networks: Networks, study: StudyConfig, short: Floats) -> Iterator[tuple[Trial, int]]:
    """Yield the trials of a search of the product that is told the short scores, with the index of each network."""

    def costs(net: Net) -> dict[str, float]:
        index = networks.of(net)
        return {"gmacs": float(networks.macs[index] / GIGA), "mparams": float(networks.params[index] / MEGA)}

    search = Search(resolve(study), [], costs=lambda net: costs(cast(Net, net)))
    while task := search.ask():
        number, candidate, seed = task
        index = networks.of(cast(Net, candidate.network))
        facts = network_facts(candidate, params=int(networks.params[index]), macs=int(networks.macs[index]))
        decisions = dict(candidate.decisions)
        asked = TrialAsked(trial=number, network=facts, seed=seed, checkpoint="", decisions=decisions)
        trial = Trial(asked, "finished", curve=[epoch(1, float(short[index]))])
        search.tell(trial)
        yield trial, index


# ---- intervals

FINE = 9  # decimals of scores without ties
TAUS = (0.0, 0.2, 0.4, 0.6, 0.8)
LAYOUTS = {
    "3 bands of 5": [2**band * (1 + 0.01 * place) for band in range(3) for place in range(5)],
    "6 bands of 3": [2**band * (1 + 0.01 * place) for band in range(6) for place in range(3)],
    "2 bands of 10": [2**band * (1 + 0.005 * place) for band in range(2) for place in range(10)],
    "20 bands of 5": [2**band * (1 + 0.01 * place) for band in range(20) for place in range(5)],
    "chain of 7": [1.012**place for place in range(7)],
    "chain of 12": [1.012**place for place in range(12)],
    "chain of 40": [1.012**place for place in range(40)],
    "chain of 100": [1.005**place for place in range(100)],
}


def covered(layout: str, digits: int, draws: int) -> Iterator[float]:
    """Yield the share of intervals that contain the tau of the population, for each of TAUS.

    Scores are rounded to `digits` decimals of their standard deviation: 0 gives ties in most pairs.
    """
    costs, rng = LAYOUTS[layout], np.random.default_rng(0)
    for tau in TAUS:
        correlation = np.sin(np.pi * tau / 2)
        first, noise = rng.normal(size=(2, draws, len(costs)))
        second = correlation * first + np.sqrt(1 - correlation**2) * noise
        x, y = np.round(first, digits), np.round(second, digits)
        target = kendall_tau(x.ravel()[:3000], y.ravel()[:3000]) if digits < FINE else None
        true = target.value if target else tau
        found = [tau_beyond_cost(*scores, costs) for scores in zip(x, y, strict=True)]
        yield float(np.mean([interval is not None and interval.low <= true <= interval.high for interval in found]))


def print_intervals(draws: int) -> None:
    head = ["costs", "decimals", *(f"tau {tau}" for tau in TAUS)]
    print(f"Share of {draws} intervals that contain the tau of the population:\n\n{_row(head)}\n|{'-|' * len(head)}")
    for digits in (FINE, 1):
        for layout in LAYOUTS:
            cells = [layout, str(digits), *(f"{share:.1%}" for share in covered(layout, digits, draws))]
            print(_row(cells), flush=True)


# ---- the table

HEAD = (
    *("short score", "whole table", "passes", "weak", "fails", "too few", "tau beyond cost", "Kendall's tau"),
    *("front alone", "networks", "of like cost", "pairs"),
)


def line(name: str, draws: Sequence[Draw], networks: Networks) -> str:
    whole = population_tau(networks, *SHORT[name](networks, 0))
    shares = (f"{np.mean([d.verdict is verdict for d in draws]):.1%}" for verdict in OrderVerdict)
    known = [d.beyond for d in draws if d.beyond]
    beyond, tau = np.mean([each.value for each in known]), np.mean([d.tau for d in draws])
    cells = [name, f"{whole:.2f}", *shares, f"{beyond:.2f}", f"{tau:.2f}"]
    counts = [[d.networks for d in draws], [each.items for each in known], [each.pairs for each in known]]
    cells += [f"{np.mean([d.front_alone for d in draws]):.1%}", *(f"{np.mean(count):.1f}" for count in counts)]
    return _row(cells)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, default=TABLE, help="CSV file of NAS-Bench-Macro")
    parser.add_argument("--samplers", nargs="+", default=["random", "surrogate"], help="of the searches")
    parser.add_argument("--networks", nargs="+", type=int, default=[20, 50, 100], help="networks that a search trains")
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--intervals", action="store_true", help="simulate the interval alone")
    parser.add_argument("--processes", type=int, default=1)
    return parser.parse_args()


def main() -> None:
    options = arguments()
    if options.intervals:
        print_intervals(options.draws)
        return
    if not options.table.is_file():
        sys.exit(f"{options.table} does not exist; write --table and the CSV file of NAS-Bench-Macro on CIFAR-10")
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # read by the worker processes
    print(f"{options.draws} draws; confirm: {{top: {CONFIRM.top}, partners: {CONFIRM.partners}}}")
    with ProcessPoolExecutor(options.processes, get_context("spawn")) as pool:
        for sampler in options.samplers:
            for size in options.networks:
                print(f"\n`{sampler}`, {size} networks:\n\n{_row(HEAD)}\n|{'-|' * len(HEAD)}")
                for name in SHORT:
                    one = partial(draw, name=name, sampler=sampler, size=size, path=options.table)
                    draws = list(pool.map(one, range(options.draws)))
                    print(line(name, draws, read(options.table)), flush=True)


if __name__ == "__main__":
    main()
