"""Estimating a plan from probed networks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from statistics import fmean

import numpy as np

from hiri_search.cost.activations import activation_count
from hiri_search.cost.flops import count
from hiri_search.cost.latency.config import LatencyConfig
from hiri_search.cost.latency.estimate import estimate_seconds
from hiri_search.language.dense_network import square_side
from hiri_search.language.space import SearchSpace
from hiri_search.study.config.networks import Candidate, StudyNetworks, resolve
from hiri_search.study.config.schema import StudyConfig
from hiri_search.study.config.sections.search import ConfirmConfig
from hiri_search.study.dispatch.resources import TrialResources
from hiri_search.study.persistence.trial_weights import with_trial_weights
from hiri_search.study.plan.plan import CostSpread, Plan, Quartiles, Training, duration
from hiri_search.study.plan.profiling import ProfiledNetwork, SpeedTable, StudyData, profile
from hiri_search.study.plan.schedule import makespan, training_stints
from hiri_search.study.plan.time_model import Workload
from hiri_search.study.search import confirmation
from hiri_search.study.search.initial_weights import check_weights
from hiri_search.study.search.network_facts import check_own_kinds
from hiri_search.study.search.search_space import checked_space, sampled_networks, with_choices
from hiri_search.system import hardware
from hiri_search.system.units import GIGA, MEGA
from hiri_search.training.data.datasets import check_augmentation
from hiri_search.training.data.sources.timm_datasets import is_stream

SAMPLED_NETWORKS = 200  # networks sampled from a space for the quartiles of its costs
# Fixed times of a run, in units of one import of torch and timm, because they scale with the machine in the same way.
# Two idle cores need 3.0 s for an import. Ray needs 9.1 s from its start to its end with empty trials, one import
# included; a command needs 6.3 s around its run: one import, and the report.
RAY_IMPORTS = 2.0
REPORT_IMPORTS = 1.1


@dataclass(frozen=True)
class Stint:
    """A trial, or a part of a trial up to a rung of successive halving."""

    trial: int
    network: ProfiledNetwork
    epochs: int
    with_scores: bool = False  # True: the zero-cost scores of the network, if the study has any, are computed first
    with_test: bool = True  # False: it ends at a rung, and what the study has of test images is not measured
    seconds: float = 0.0  # as `_timed` estimates them
    epoch_seconds: float = 0.0  # the part of `seconds` that the ledger reports as epochs


@dataclass(frozen=True)
class _Counted:
    """The networks of a study, or samples of its space, with their costs; and its images."""

    space: SearchSpace | None
    images: StudyData
    profiled: list[ProfiledNetwork]
    seconds: float  # of a run, before its first training


def estimate_plan(
    study: StudyConfig, slots: TrialResources | None, home: Path, *, say: Callable[[str], None] = lambda text: None
) -> Plan:
    """Return the plan of a whole study, for trials in `slots` through Ray, or (None) one by one in this process.

    This takes about a minute: networks are counted, and some are trained for seconds, in as many processes as there
    are slots. Nothing is stored. `home` is the folder of decoded images unless the environment names another one.
    StudyError where a trial would fail; DataError and SpecError as for a run.
    """
    study = with_trial_weights(study, say)
    networks = resolve(study)
    check_own_kinds(study, networks.rows)
    counted = _counted(networks, home, say)
    resolved = _resolved(slots)
    say(f"timing short trainings of up to {len({network.job for network in counted.profiled})} networks")
    speeds = profile(study, counted.profiled, counted.images, resolved)
    spread = _spread(networks, counted.space, counted.profiled) if counted.space else None
    stints = _stints(study, counted.profiled, spread)
    timed = {name: [_timed(stint, speeds, counted.images) for stint in of_name] for name, of_name in stints.items()}
    trials = makespan((stint.seconds for of_name in timed.values() for stint in of_name), resolved.count)
    return Plan(
        device=hardware.describe_device(),
        slots=resolved.count,
        gpus=resolved.gpu_share,
        processes=resolved.processes,
        trainings=tuple(_training(name, of_name, speeds, counted.images) for name, of_name in timed.items()),
        space=spread,
        seconds=_seconds(counted, speeds, _inference_seconds(networks), trials, in_workers=slots is not None),
        epoch_seconds=sum(stint.epoch_seconds for of_name in timed.values() for stint in of_name),
        timed=len(speeds.timed),
        model_error=speeds.model_error,
        core_share=speeds.core_share,
        memory=speeds.memory,
        disk=_disk(counted),
        limits=tuple(_limits(study, timed, resolved)),
    )


def _counted(networks: StudyNetworks, home: Path, say: Callable[[str], None]) -> _Counted:
    """Return the counted networks and images of a study; a search counts networks while others are trained."""
    started = time.perf_counter()
    space = None if networks.space is None else checked_space(networks, say)
    seconds = time.perf_counter() - started
    for side, recipe in networks.training_settings:
        check_augmentation(recipe, side)
    images = StudyData(networks, home)
    started = time.perf_counter()
    profiled = [
        _profiled(networks, candidate, len(images.any_side.classes)) for candidate in _candidates(networks, space)
    ]
    seconds += 0.0 if space else time.perf_counter() - started
    check_weights((network.candidate for network in profiled), say)
    return _Counted(space, images, profiled, seconds)


def _seconds(
    counted: _Counted, speeds: SpeedTable, inference: float, trials: float, *, in_workers: bool
) -> dict[str, float]:
    """Return the seconds of each part of a run, in the order of a run."""
    return {
        "start": speeds.import_seconds,
        "images": speeds.decoding_seconds,
        "counting": counted.seconds,
        "inference": inference,
        "workers": (1 + RAY_IMPORTS) * speeds.import_seconds if in_workers else 0.0,
        "trials": trials,
        "report": REPORT_IMPORTS * speeds.import_seconds,
    }


def _disk(counted: _Counted) -> dict[str, int]:
    """Return bytes on the disk: of the decoded images, of the largest checkpoint, and those that are free."""
    return {
        "images": counted.images.decoded_bytes,
        "checkpoint": max(network.checkpoint_bytes for network in counted.profiled),
        "free": counted.images.free_bytes,
    }


def _resolved(slots: TrialResources | None) -> TrialResources:
    """Return slots with known numbers; one for each GPU where a run decides them later."""
    if slots and slots.count and isinstance(slots.gpus, float):
        return slots
    return TrialResources(max(1, hardware.gpus()) if slots else 1, float(hardware.gpus() > 0))


def _candidates(networks: StudyNetworks, space: SearchSpace | None) -> Iterable[Candidate]:
    """Return the trained rows of an ablation, with the other ones counted too, as a run does; or samples of a space."""
    if space is not None:
        return sampled_networks(networks.study, space, SAMPLED_NETWORKS)
    for row in networks.rows:
        count(row.network, row.side, classes=networks.study.counted.classes)
    return networks.trained_rows


def _spread(networks: StudyNetworks, space: SearchSpace, sampled: Sequence[ProfiledNetwork]) -> CostSpread:
    assert networks.space is not None
    gmacs = _quartiles([network.cost.macs / GIGA for network in sampled])
    mparams = _quartiles([network.cost.params / MEGA for network in sampled])
    return CostSpread(with_choices(networks.space, networks.study).size, space.size, len(sampled), gmacs, mparams)


def _profiled(networks: StudyNetworks, candidate: Candidate, classes: int) -> ProfiledNetwork:
    assert candidate.trained is not None
    cost = count(candidate.network, candidate.side, classes=networks.study.counted.classes)
    trained = count(candidate.trained, candidate.trained_side, classes=classes)
    activations = activation_count(candidate.trained, candidate.trained_side, classes=classes)
    work = Workload(trained.macs, activations)
    return ProfiledNetwork(candidate, networks.first_job(candidate), cost, work, trained.params)


def _quartiles(values: Sequence[float]) -> Quartiles:
    return Quartiles(*np.quantile(values, [0, 0.25, 0.5, 0.75, 1]).tolist())


def _stints(
    study: StudyConfig, networks: Sequence[ProfiledNetwork], space: CostSpread | None
) -> dict[str, list[Stint]]:
    """Return the stints in order: by row of an ablation; of a search, first trainings and confirmations."""
    if space is None:
        return dict(_ablation_stints(study, networks))
    rng = Random(study.search.seed)
    searched = _evenly_by_cost(networks, min(study.search.networks, space.feasible), rng)
    trials = [network for network in searched for _ in study.first_seeds]
    stints = training_stints(len(trials), study.recipe.epochs, study.search.halving)
    last = study.recipe.epochs
    first = [
        Stint(number, trials[number], end - start, with_scores=not start, with_test=end == last)
        for number, start, end in stints
    ]
    if study.confirm is None:
        return {"search": first}
    epochs = study.confirm.epochs_for(study.recipe.epochs)
    chosen = _confirmed(study.confirm, searched, rng)
    confirmed = [network for network in chosen for _ in study.confirm.seeds]
    confirmations = [Stint(number, network, epochs) for number, network in enumerate(confirmed, len(trials))]
    return {"search": first, "confirm": confirmations}


def _confirmed(confirm: ConfirmConfig, searched: Sequence[ProfiledNetwork], rng: Random) -> list[ProfiledNetwork]:
    """Return networks for the best ones of a search, evenly by cost, and their partners of like cost."""
    best = _evenly_by_cost(searched, min(confirm.top, len(searched)), rng)
    costs = [network.cost.macs for network in searched]
    beside = confirmation.partners(costs, [searched.index(network) for network in best], confirm.partners)
    return [*best, *(searched[index] for index in beside)]


def _ablation_stints(study: StudyConfig, networks: Sequence[ProfiledNetwork]) -> Iterator[tuple[str, list[Stint]]]:
    """Yield the name and the stints of each row; of rows with the same training only the first."""
    first_by_job = {network.job: network for network in reversed(networks)}
    distinct = [network for network in networks if first_by_job[network.job] is network]
    for index, network in enumerate(distinct):
        numbers = range(index * len(study.first_seeds), (index + 1) * len(study.first_seeds))
        yield network.candidate.name, [Stint(number, network, network.job.recipe.epochs) for number in numbers]


def _evenly_by_cost(networks: Sequence[ProfiledNetwork], wanted: int, rng: Random) -> list[ProfiledNetwork]:
    """Return `wanted` networks at even steps from the cheapest to the most expensive one, in random order."""
    ordered = sorted(networks, key=lambda network: network.work.macs)
    return rng.sample([ordered[int((number + 0.5) * len(networks) / wanted)] for number in range(wanted)], wanted)


def _timed(stint: Stint, speeds: SpeedTable, images: StudyData) -> Stint:
    timing = speeds.timing(stint.network)
    steps, val = images.epoch_size(stint.network.job.recipe)
    seconds = timing.seconds(stint.epochs, steps, val) + (timing.zero_cost if stint.with_scores else 0.0)
    epoch_seconds = replace(timing, start=0.0, save=0.0).seconds(stint.epochs, steps, val)
    seconds += images.any_side.test * timing.evaluate * stint.with_test
    return replace(stint, seconds=seconds, epoch_seconds=epoch_seconds)


def _training(name: str, stints: Sequence[Stint], speeds: SpeedTable, images: StudyData) -> Training:
    networks = list({stint.network.job: stint.network for stint in stints}.values())
    trials = len({stint.trial for stint in stints})
    return Training(
        name=name,
        trained=networks[0].job.spec if len(networks) == 1 else "",
        side=networks[0].job.side,
        gmacs=fmean(network.cost.macs for network in networks) / GIGA,
        mparams=fmean(network.cost.params for network in networks) / MEGA,
        trials=trials,
        epochs=sum(stint.epochs for stint in stints) / trials,
        steps=sum(stint.epochs * images.epoch_size(stint.network.job.recipe)[0] for stint in stints) / trials,
        seconds=sum(stint.seconds for stint in stints) / trials,
        timed=all(network.job in speeds.timed for network in networks),
    )


def _inference_seconds(networks: StudyNetworks) -> float:
    """Return the time of latency benchmarks: rows of an ablation, or networks of a search with latency as objective."""
    study = networks.study
    if study.space is None:
        if study.latency is None:
            return 0.0
        entries = [(row.network, square_side(row.side)) for row in networks.rows]
        return estimate_seconds(entries, study.latency, classes=study.counted.classes)
    is_objective = "ms_per_image" in study.search.objectives
    return study.search.networks * (study.latency or LatencyConfig()).seconds if is_objective else 0.0


def _limits(study: StudyConfig, stints: Mapping[str, Sequence[Stint]], slots: TrialResources) -> Iterator[str]:
    if slots.processes > 1:
        yield "how long processes wait for each other: one was timed alone, with its share of each batch"
    if is_stream(study.data):
        yield "how fast images are read and decoded: steps were timed with noise in the place of a stream"
    if rule := study.auto_seeds:
        added = [of_row[0].seconds for of_row in stints.values() for _ in range(rule.most - len(of_row))]
        limit = f"; none that would end after {rule.minutes:g} min of all runs" if rule.minutes else ""
        at_most = f"at most {len(added)} more trials, which take {duration(makespan(added, slots.count))}"
        yield f"how many seeds the rule of seeds: auto adds: {at_most}{limit}"
    if study.space is not None:
        yield "which networks the sampler will choose: the times are those of uniformly sampled networks"
    if study.confirm and study.confirm.partners:
        yield "how many networks of like cost the search will train, for confirm.partners"
    if study.search.reuse:
        yield "which trainings search.reuse will save"
