"""Synthetic ledgers of many trials, in the format of real runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from random import Random
from typing import Any

from hiri_search.study.ledger.checksums import check_lines

from hiri_search.language import Net, parse_network, uniform
from hiri_search.study.config.identity import canonical_form
from hiri_search.study.config.networks import Candidate, ablation_networks, network_of, space_of
from hiri_search.study.config.schema import Study
from hiri_search.study.ledger.layout import LEDGER
from hiri_search.study.ledger.ledger import as_line, read_lines
from hiri_search.study.search.visited import UnvisitedSpace
from hiri_search.training.job import Job

SPACE = (
    "(hr | cffn)(32|48 e=2|4)*1..3 -> (hr | cffn)(64|96 e=2|4)*1..3 -> (hr | cffn | t)(128|192 e=4|6)*2..4"
    " -> (cffn | t)(256..384/64 e=3|5)*(6|9|12) -> t(448|512 e=3|5)*2..4"
)
START_TIME = 1.7e9  # Unix time of the first line
LINE_SECONDS = 0.5  # seconds between two lines
IMAGES = {"train": 100, "val": 50, "classes": 8, "skipped": [], "keys": {"64": "images"}}
COMMON = {"proxy": {"width": 8, "side": 64}, "recipe": {"epochs": 6, "batch": 16, "warmup_epochs": 0.5}}


def ablation(networks: int, seeds: int) -> Study:
    walked = UnvisitedSpace(space_of(search(1)))
    nets = {f"row {n}": str(net) for n, (net, _) in enumerate(islice(_walks(walked), networks))}
    return Study.model_validate({"nets": nets, "seeds": list(range(seeds)), **COMMON})


def search(networks: int, **more: Any) -> Study:
    return Study.model_validate({"space": SPACE, "search": {"networks": networks, **more}, **COMMON})


def write(study: Study, folder: Path, trials: int) -> Path:
    """Write a ledger in which the first `trials` trials have ended; append to an existing ledger."""
    folder.mkdir(parents=True, exist_ok=True)
    exists = (folder / LEDGER).exists()
    asked = enumerate(islice(_asked(study), trials))
    events = (event for number, (row, seed) in asked for event in _trial(study, number, row, seed))
    checksum = check_lines(read_lines(folder) if exists else [], folder / LEDGER)
    with (folder / LEDGER).open("ab") as file:
        for number, event in enumerate(chain([] if exists else _start(study), events)):
            line = checksum.signed(as_line({**event, "time": START_TIME + number * LINE_SECONDS}))
            checksum.added(line)
            file.write(line + b"\n")
    return folder


def _start(study: Study) -> Iterator[Mapping[str, Any]]:
    """Yield the events before the first trial."""
    rows = {name: row.model_dump(include={"paper", "note", "curve"}) for name, row in (study.nets or {}).items()}
    yield {
        "event": "study",
        "meaning": canonical_form(study),
        "title": "Many trials",
        "table": "",
        "rows": rows,
        "file": study.model_dump(mode="json"),
        "profile": "none",
        "device": "CPU, 2 cores",
        "images": IMAGES,
        "versions": {},
    }
    yield from ({"event": "counted", **_costs(row)} for row in ablation_networks(study))


def _asked(study: Study) -> Iterator[tuple[Candidate, int]]:
    """Yield networks and seeds in the order of a run."""
    if study.space is None:
        yield from ((row, seed) for row in ablation_networks(study) for seed in study.seeds)
        return
    for net, decisions in _walks(UnvisitedSpace(space_of(study))):
        yield from ((network_of(study, net, decisions), seed) for seed in study.seeds)


def _walks(unvisited: UnvisitedSpace) -> Iterator[Any]:
    rng = Random(0)
    while True:
        _, decisions = unvisited.walk(uniform(rng), rng)
        yield unvisited.add(decisions)


def _costs(candidate: Candidate) -> dict[str, Any]:
    network, trained = candidate.network, candidate.trained
    assert trained is not None
    assert isinstance(network, Net)
    work = sum(int(stage.depth * stage.width * (1 + stage.expansion)) for stage in network.stages)
    costs = {"params": work * 5_000, "macs": work * 700_000, "core_macs": work * 690_000}
    small = {"trained_spec": str(trained), "trained_side": candidate.trained_side}
    small |= {"trained_params": work * 50, "trained_macs": work * 300}
    return {
        "name": candidate.name,
        "key": network.key,
        "spec": str(network),
        "side": candidate.side,
        **costs,
        **small,
    }


def _trial(study: Study, number: int, candidate: Candidate, seed: int) -> Iterator[Mapping[str, Any]]:
    """Yield all events of a trial; with rungs the first promotes a third, without rungs every tenth trial fails."""
    costs = _costs(candidate)
    spec = parse_network(costs["trained_spec"]).canonical_text
    job = Job(spec, candidate.trained_side, study.proxy.classes, seed, study.recipe, study.data)
    fields = {"seed": seed, "decisions": candidate.decisions, "checkpoint": f"checkpoints/{job.digest}/last.pt"}
    yield {"event": "asked", "trial": number, **costs, **fields}
    yield {"event": "began", "trial": number, "device": "CPU, 2 cores (x86_64)"}
    halving, scores = study.search.halving, {"synflow": 15.4 + number % 7, "zen": 179.0 - number % 11}
    if study.search.zero_cost:
        yield {"event": "scored", "trial": number, "scores": scores}
    curve = list(_curve(Random(number), costs["macs"] / 1e9, study.recipe.epochs))
    rung = halving.epochs[0] if halving else 0
    epochs = ({"event": "epoch", "trial": number, **epoch} for epoch in curve)
    if rung:
        yield from islice(epochs, rung)
        yield {"event": "paused", "trial": number, "curve": curve[:rung]}
        if number % 3:
            return
        yield {"event": "promoted", "trial": number}
    elif number % 10 == 9:
        yield {"event": "failed", "trial": number, "reason": f"ValueError: the loss of step {number} is not finite"}
        return
    yield from epochs
    yield {"event": "finished", "trial": number, "curve": curve}


def _curve(rng: Random, gmacs: float, epochs: int) -> Iterable[dict[str, Any]]:
    """Yield epochs whose accuracy grows with the cost, plus noise."""
    best = 40 + 20 * gmacs / (4 + gmacs) + rng.gauss(0, 2)
    for epoch in range(1, epochs + 1):
        top1 = best * (1 - 0.6**epoch) + rng.gauss(0, 0.5)
        scores = {"top1": top1, "top5": top1 + 20, "ema_top1": top1 - 1, "ema_top5": top1 + 19}
        times = {
            "seconds": 2.1 + rng.random(),
            "images_per_second": 400 + rng.random(),
            "seconds_waiting": rng.random(),
        }
        rest = {"parts": 1, "compile_seconds": None, "peak_memory_bytes": None}
        yield {"epoch": epoch, "loss": 2 - epoch / 10 + rng.random(), "lr": 0.001 / epoch, **scores, **times, **rest}
