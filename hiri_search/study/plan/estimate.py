"""Estimating a plan from probed networks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from statistics import fmean

import numpy as np

from hiri_search.cost.activations import activation_count
from hiri_search.cost.flops import Cost, count
from hiri_search.cost.latency.config import LatencyConfig
from hiri_search.cost.latency.estimate import estimate_seconds
from hiri_search.language import uniform
from hiri_search.language.space import SearchSpace
from hiri_search.study.config.networks import Candidate, InvalidNetwork, StudyNetworks, network_of, resolve
from hiri_search.study.config.schema import Study
from hiri_search.study.dispatch.resources import TrialResources
from hiri_search.study.plan.plan import CostSpread, Plan, Quartiles, Training
from hiri_search.study.plan.profiling import ProfiledNetwork, SpeedTable, StudyData, profile
from hiri_search.study.plan.schedule import makespan, training_stints
from hiri_search.study.plan.time_model import Workload
from hiri_search.study.search.search_space import search_space
from hiri_search.system import hardware
from hiri_search.training.job import Job

SAMPLED_NETWORKS = 200  # networks of a space that the costs are told of
# In imports of torch and timm by a process of a probe, which say how fast a machine starts things. On two idle cores
# that is 3.0 s; Ray takes 9.1 s from its start to its end with trials that do nothing, one import among them, and a
# command 6.3 s around its run: one import, and the report.
RAY_IMPORTS = 2.0
REPORT_IMPORTS = 1.1


@dataclass(frozen=True)
class Stint:
    """What is given out at once: a trial, or the part of one up to a pause."""

    trial: int
    net: ProfiledNetwork
    epochs: int
    scored: bool = False  # whether the zero-cost scores of its network, if any are wanted, are computed before


@dataclass(frozen=True)
class TimedStint:
    """A stint, and how long it takes."""

    stint: Stint
    seconds: float
    epoch_seconds: float  # of these, what the ledger tells of its epochs


def estimate_plan(
    study: Study, slots: TrialResources | None, home: Path, *, say: Callable[[str], None] = lambda text: None
) -> Plan:
    """The plan of a whole study, for trials side by side in `slots` through Ray, or (None) in one process without it.

    It takes about a minute: networks are counted, and some trained for seconds, in as many processes as there are
    slots. Nothing of it is kept. `home` is where the study's images lie if nowhere else.
    StudyError where a trial would fail; DataError and SpecError as for a run.
    """
    networks = resolve(study)
    images = StudyData(networks, home)
    nets, space, counting = _counted(networks, len(images.any.classes))
    distinct = len({net.job for net in nets})
    say(f"training some of {distinct} networks for seconds, to see how long they take")
    side_by_side = _known(slots)
    paces = profile(study, nets, images, side_by_side)
    given_out = _given_out(study, nets, space)
    timed = {name: [_timed(stint, paces, images) for stint in stints] for name, stints in given_out.items()}
    every = [one for ours in timed.values() for one in ours]
    return Plan(
        device=hardware.describe_device(),
        slots=side_by_side.count,
        gpus=side_by_side.gpu_share,
        trainings=tuple(_training(name, ours, paces) for name, ours in timed.items()),
        space=space,
        seconds={
            "start": paces.import_seconds,
            "images": paces.decoding,
            "counting": counting,
            "inference": _inference(networks),
            "workers": (1 + RAY_IMPORTS) * paces.import_seconds if slots else 0.0,
            "trials": makespan((one.seconds for one in every), side_by_side.count),
            "report": REPORT_IMPORTS * paces.import_seconds,
        },
        epoch_seconds=sum(one.epoch_seconds for one in every),
        timed=len(paces.timed),
        model_error=paces.model_error,
        share=paces.share,
        limits=tuple(_limits(study)),
    )


def _known(slots: TrialResources | None) -> TrialResources:
    """How many, where that is known only once they run: one for each card."""
    if slots and slots.count and isinstance(slots.gpus, float):
        return slots
    return TrialResources(max(1, hardware.gpus()) if slots else 1, float(hardware.gpus() > 0))


# ---- networks


def _counted(networks: StudyNetworks, classes: int) -> tuple[list[ProfiledNetwork], CostSpread | None, float]:
    """The networks with their costs, what is known of a space, and how long a run counts before its trials."""
    started, study = time.perf_counter(), networks.study
    if networks.space is None:
        costs = {row.name: count(row.network, row.side, classes=study.counted.classes) for row in networks.rows}
        nets = [_trained(study, row, classes, costs[row.name]) for row in networks.trained_rows]
        return nets, None, time.perf_counter() - started
    space = search_space(networks)
    counting = time.perf_counter() - started
    nets = [
        _trained(study, one, classes, count(one.network, one.side, classes=study.counted.classes))
        for one in _sample(study, space)
    ]
    return nets, _spread(networks.space.size, space, nets), counting


def _trained(study: Study, candidate: Candidate, classes: int, cost: Cost) -> ProfiledNetwork:
    assert candidate.trained is not None
    small, side = candidate.trained, candidate.trained_side
    job = Job(small.canonical_text, side, study.proxy.classes, study.seeds[0], candidate.recipe, study.data)
    work = Workload(count(small, side, classes=classes).macs, activation_count(small, side, classes=classes))
    return ProfiledNetwork(candidate, job, cost, work)


def _sample(study: Study, space: SearchSpace) -> Iterator[Candidate]:
    """Networks drawn by chance, each as likely as any other; what does not fit is passed over, as by a search."""
    rng, misfit = Random(study.search.seed), None
    drawn = 0
    for _ in range(SAMPLED_NETWORKS):
        try:
            yield network_of(study, *space.walk(uniform(rng)))
            drawn += 1
        except InvalidNetwork as error:
            misfit = error
    if misfit and not drawn:
        raise misfit


def _spread(unconstrained: int, space: SearchSpace, nets: Sequence[ProfiledNetwork]) -> CostSpread:
    gmacs = _quartiles([net.cost.macs / 1e9 for net in nets])
    mparams = _quartiles([net.cost.params / 1e6 for net in nets])
    return CostSpread(unconstrained, space.size, len(nets), gmacs, mparams)


def _quartiles(values: Sequence[float]) -> Quartiles:
    return Quartiles(*np.quantile(values, [0, 0.25, 0.5, 0.75, 1]).tolist())


# ---- trials


def _given_out(study: Study, nets: Sequence[ProfiledNetwork], space: CostSpread | None) -> dict[str, list[Stint]]:
    """In order, by network of an ablation; of a search, the first look and the second."""
    if space is None:
        return dict(_of_rows(study, nets))
    rng = Random(study.search.seed)
    asked = _evenly(nets, min(study.search.networks, space.inside), rng)
    trials = [net for net in asked for _ in study.seeds]
    stints = training_stints(len(trials), study.recipe.epochs, study.search.halving)
    first = [Stint(number, trials[number], end - begin, scored=not begin) for number, begin, end in stints]
    looks = {"search": first}
    if study.confirm is None:
        return looks
    longer = study.confirm.epochs_for(study.recipe.epochs)
    again = [net for net in _evenly(asked, min(study.confirm.top, len(asked)), rng) for _ in study.confirm.seeds]
    return looks | {"confirm": [Stint(len(trials) + number, net, longer) for number, net in enumerate(again)]}


def _of_rows(study: Study, nets: Sequence[ProfiledNetwork]) -> Iterator[tuple[str, list[Stint]]]:
    """What is the same training as an earlier row's is not trained again."""
    distinct = {net.job: net for net in reversed(nets)}
    first = [net for net in nets if distinct[net.job] is net]
    for place, net in enumerate(first):
        numbers = range(place * len(study.seeds), (place + 1) * len(study.seeds))
        yield net.candidate.name, [Stint(number, net, net.job.recipe.epochs) for number in numbers]


def _evenly(nets: Sequence[ProfiledNetwork], asked: int, rng: Random) -> list[ProfiledNetwork]:
    """So many, from the cheapest to the dearest in even steps, mixed."""
    ordered = sorted(nets, key=lambda net: net.work.macs)
    return rng.sample([ordered[int((number + 0.5) * len(nets) / asked)] for number in range(asked)], asked)


def _timed(stint: Stint, paces: SpeedTable, images: StudyData) -> TimedStint:
    pace = paces.of(stint.net)
    steps, val = images.epoch(stint.net.job.recipe)
    bare = replace(pace, start=0.0, save=0.0)
    scoring = pace.zero_cost if stint.scored else 0.0
    return TimedStint(stint, scoring + pace.seconds(stint.epochs, steps, val), bare.seconds(stint.epochs, steps, val))


def _training(name: str, timed: Sequence[TimedStint], paces: SpeedTable) -> Training:
    nets = list({one.stint.net.job: one.stint.net for one in timed}.values())
    trials = len({one.stint.trial for one in timed})
    return Training(
        name=name,
        trained=nets[0].job.spec if len(nets) == 1 else "",
        side=nets[0].job.side,
        gmacs=fmean(net.cost.macs for net in nets) / 1e9,
        mparams=fmean(net.cost.params for net in nets) / 1e6,
        trials=trials,
        epochs=sum(one.stint.epochs for one in timed) / trials,
        seconds=sum(one.seconds for one in timed) / trials,
        timed=all(net.job in paces.timed for net in nets),
    )


# ---- the rest


def _inference(networks: StudyNetworks) -> float:
    """Of an ablation's rows before the trials; of a search's networks one by one, where they are compared by it."""
    study = networks.study
    if study.space is None:
        entries = [(row.network, row.side) for row in networks.rows]
        return estimate_seconds(entries, study.latency, classes=study.counted.classes) if study.latency else 0.0
    asks = "ms_per_image" in study.search.objectives
    return study.search.networks * (study.latency or LatencyConfig()).seconds if asks else 0.0


def _limits(study: Study) -> Iterator[str]:
    if study.space is not None:
        yield "which networks the sampler will ask for: times are those of networks drawn by chance"
    if study.search.reuse:
        yield "what search.reuse has trained, and will not be trained again"
