"""Ledgers of many trials with simulated trainings, in the format that a run writes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from random import Random
from typing import Any, cast

from hiri_search.kinds import Cffn, Hr, Transformer
from hiri_search.language import Net, parse, uniform
from hiri_search.study.config.networks import Candidate, StudyNetworks, network_of, resolve
from hiri_search.study.config.schema import StudyConfig
from hiri_search.study.ledger.events import (
    FORMAT,
    EpochEnded,
    Event,
    LedgerStarted,
    NetworkCounted,
    StudyStarted,
    TrialAsked,
    TrialBegan,
    TrialFailed,
    TrialFinished,
    TrialPaused,
    TrialPromoted,
    TrialScored,
)
from hiri_search.study.ledger.json_lines import write_line
from hiri_search.study.ledger.layout import CHECKPOINTS, LAST_CHECKPOINT, LEDGER
from hiri_search.study.ledger.values import CodeVersion, ImageSet, NetworkFacts, StandIn
from hiri_search.study.search.visited import UnvisitedSpace
from hiri_search.training.job import Epoch

SPACE = (
    "(hr | cffn)(32|48 e=2|4)*1..3 -> (hr | cffn)(64|96 e=2|4)*1..3 -> (hr | cffn | t)(128|192 e=4|6)*2..4"
    " -> (cffn | t)(256..384/64 e=3|5)*(6|9|12) -> t(448|512 e=3|5)*2..4"
)
FIRST_TIME = 1.7e9  # of the first event, seconds since 1970
INTERVAL = 0.5  # seconds from one event to the next
IMAGES = ImageSet(train=100, val=50, classes=8, fingerprints={"64": "images"})
DEVICE = "CPU, 2 cores (x86_64)"
COMMON = {
    "title": "Many trials",
    "proxy": {"width": 8, "side": 64},
    "recipe": {"epochs": 6, "batch": 16, "warmup_epochs": 0.5},
}


def ablation(networks: int, seeds: int) -> StudyConfig:
    walked = UnvisitedSpace(parse(SPACE))
    nets = {f"row {n}": str(net) for n, (net, _) in enumerate(islice(_walks(walked), networks))}
    return StudyConfig.model_validate({"nets": nets, "seeds": list(range(seeds)), **COMMON})


def search(networks: int, **more: Any) -> StudyConfig:
    return StudyConfig.model_validate({"space": SPACE, "search": {"networks": networks, **more}, **COMMON})


def write(study: StudyConfig, folder: Path, trials: int) -> Path:
    """Write the ledger of a study whose first `trials` trials have ended; append to a ledger that exists."""
    folder.mkdir(parents=True, exist_ok=True)
    networks, exists = resolve(study), (folder / LEDGER).exists()
    asked = enumerate(islice(_asked(networks), trials))
    events = (event for number, (candidate, seed) in asked for event in _trial(networks, number, candidate, seed))
    with (folder / LEDGER).open("ab") as file:
        for line in lines(chain([] if exists else _start(networks), events)):
            file.write(line)
    return folder


def lines(events: Iterable[Event]) -> Iterator[bytes]:
    """Yield the lines of a ledger, with a time for each event."""
    for number, event in enumerate(events):
        yield write_line(replace(event, time=FIRST_TIME + number * INTERVAL)) + b"\n"


def _start(networks: StudyNetworks) -> Iterator[Event]:
    """Yield the events before the first trial."""
    yield LedgerStarted(format=FORMAT)
    yield StudyStarted(
        file=networks.study.model_dump(mode="json"),
        profile="none",
        device="CPU, 2 cores",
        images=IMAGES,
        code=CodeVersion(version=None, digest="0" * 16),
    )
    yield from (NetworkCounted(network=_network(row)) for row in networks.rows)


def _asked(networks: StudyNetworks) -> Iterator[tuple[Candidate, int]]:
    """Yield networks and seeds in the order of a run."""
    study = networks.study
    if networks.space is None:
        yield from ((row, seed) for row in networks.rows for seed in study.first_seeds)
        return
    for net, decisions in _walks(UnvisitedSpace(networks.space)):
        yield from ((network_of(study, net, decisions), seed) for seed in study.first_seeds)


def _walks(unvisited: UnvisitedSpace) -> Iterator[Any]:
    rng = Random(0)
    while True:
        _, decisions = unvisited.walk(uniform(rng), rng)
        yield unvisited.add(decisions)


def _network(candidate: Candidate) -> NetworkFacts:
    """Return a network with simulated costs."""
    assert isinstance(candidate.network, Net)
    stages = cast(tuple[Hr | Cffn | Transformer, ...], candidate.network.stages)
    work = sum(stage.depth * stage.width * (1 + stage.expansion) for stage in stages)
    stand_in = StandIn(str(candidate.trained), candidate.trained_side, params=work * 50, macs=work * 300)
    return network_facts(candidate, params=work * 5_000, macs=work * 700_000, stand_in=stand_in)


def network_facts(candidate: Candidate, *, params: int, macs: int, stand_in: StandIn | None = None) -> NetworkFacts:
    """Return a network with these costs."""
    return NetworkFacts(
        name=candidate.name,
        key=candidate.network.key,
        spec=str(candidate.network),
        side=candidate.side,
        params=params,
        macs=macs,
        core_macs=macs,
        by_part={},
        stand_in=stand_in,
    )


def _trial(networks: StudyNetworks, number: int, candidate: Candidate, seed: int) -> Iterator[Event]:
    """Yield the events of a trial: with rungs every third one is promoted, without rungs every tenth one fails."""
    study, network = networks.study, _network(candidate)
    checkpoint = f"{CHECKPOINTS}/{networks.job(network, seed).digest}/{LAST_CHECKPOINT}"
    yield TrialAsked(
        trial=number, network=network, seed=seed, checkpoint=checkpoint, decisions=dict(candidate.decisions)
    )
    yield TrialBegan(trial=number, device=DEVICE)
    if study.search.zero_cost:
        yield TrialScored(trial=number, scores={"synflow": 15.4 + number % 7, "zen": 179.0 - number % 11})
    curve = tuple(_curve(Random(number), network.macs / 1e9, study.recipe.epochs))
    rung = study.search.halving.epochs[0] if study.search.halving else 0
    if not rung and number % 10 == 9:
        yield TrialFailed(trial=number, reason=f"ValueError: the loss of step {number} is not finite")
        return
    yield from _epochs(number, curve[:rung])
    if rung:
        yield TrialPaused(trial=number, curve=curve[:rung])
        if number % 3:
            return
        yield TrialPromoted(trial=number)
    yield from _epochs(number, curve[rung:])
    yield TrialFinished(trial=number, curve=curve)


def _epochs(trial: int, curve: Sequence[Epoch]) -> Iterator[Event]:
    return (EpochEnded(trial=trial, result=epoch) for epoch in curve)


def _curve(rng: Random, gmacs: float, epochs: int) -> Iterator[Epoch]:
    """Yield epochs whose accuracy grows with cost and training, plus noise."""
    best = 40 + 20 * gmacs / (4 + gmacs) + rng.gauss(0, 2)
    for number in range(1, epochs + 1):
        top1 = best * (1 - 0.6**number) + rng.gauss(0, 0.5)
        yield replace(
            epoch(number, top1),
            loss=2 - number / 10 + rng.random(),
            lr=0.001 / number,
            scores={"top1": top1, "top5": top1 + 20, "ema_top1": top1 - 1, "ema_top5": top1 + 19},
            seconds=2.1 + rng.random(),
            images_per_second=400 + rng.random(),
            seconds_waiting=rng.random(),
        )


def epoch(number: int, top1: float) -> Epoch:
    """Return an epoch with this accuracy in percent."""
    return Epoch(
        number,
        loss=1.0,
        lr=0.001,
        scores={"top1": top1, "top5": top1 + 20},
        seconds=0.0,
        images_per_second=0.0,
        seconds_waiting=0.0,
        parts=1,
        compile_seconds=None,
        peak_memory_bytes=None,
    )
