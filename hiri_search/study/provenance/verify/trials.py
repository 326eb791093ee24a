"""Checks of trials: none missing, none twice, each the training it claims."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import product

from hiri_search.language import SpecError
from hiri_search.study.ledger.events import NetworkSkipped, TrialAsked
from hiri_search.study.ledger.ledger import of_kind
from hiri_search.study.ledger.trial import Trial, training_digest
from hiri_search.study.provenance.record import Record
from hiri_search.study.provenance.verify.finding import Finding, Findings
from hiri_search.study.search import confirmation


def check_present(record: Record) -> Finding:
    """Numbers without gaps, nothing twice, nothing too much, and nothing missing where the last run has ended."""
    checked, missing = Findings.none(), list(_missing(record))
    checked.faults += [*_gaps(record), *_twice(record)]
    states = Counter(trial.state for trial in record.trials)
    checked.remarks.append(", ".join(f"{count:,} {state}" for state, count in states.items()) or "none yet")
    if record.ended:
        checked.faults += missing
        checked.faults += [f"trial {t.number} is {t.state}, though its run has ended" for t in _open(record)]
    elif record.started.merged_from:
        checked.remarks.append(f"merged; {len(missing):,} of what the study asks for are in none of the folders")
    else:
        checked.remarks.append(f"the last run has not ended: {len(missing):,} are not there yet")
    return checked.of("trials")


def _gaps(record: Record) -> Iterator[str]:
    known = {trial.number for trial in record.trials}
    for number in range(max(known, default=-1)):
        if number not in known:
            yield f"there is no trial {number}, though there are later ones: its lines are missing"
    asked = Counter(event.trial for event in of_kind(record.events, TrialAsked))
    yield from (f"trial {number} is asked for {times} times" for number, times in asked.items() if times > 1)


def _twice(record: Record) -> Iterator[str]:
    first: dict[tuple[object, ...], int] = {}
    for trial in record.trials:
        name, asked = trial.network.name, trial.asked
        same = first.setdefault((name, asked.seed, asked.confirm_epochs), trial.number)
        if same != trial.number:
            yield f"trial {trial.number} is that of trial {same} again: {name}, seed {asked.seed}"


def _open(record: Record) -> list[Trial]:
    return [trial for trial in record.trials if not trial.ended]


def _missing(record: Record) -> Iterator[str]:
    study = record.own.study
    first = [trial for trial in record.trials if not trial.is_confirmation]
    if study.space is None:
        rows = [row.name for row in record.own.row_by_name.values() if row.trained]
        asked = {(trial.network.name, trial.asked.seed) for trial in first}
        wanted = product(rows, study.seeds)
        yield from (
            f"there is no trial of {name!r} with seed {seed}" for name, seed in wanted if (name, seed) not in asked
        )
        return
    yield from _missing_of_a_search(record, first)
    if study.confirm and all(trial.ended for trial in first):
        best = confirmation.chosen(first, study.confirm, study.search.objectives)
        epochs = study.confirm.epochs_for(study.recipe.epochs)
        for trial, seed in confirmation.missing(best, record.trials, study.confirm.seeds, epochs):
            yield f"there is no confirmation of trial {trial.number} with seed {seed}"


def _missing_of_a_search(record: Record, first: list[Trial]) -> Iterator[str]:
    """Inside a budget there may be fewer networks than are asked for; how many, only a walk of all would tell."""
    study, space = record.own.study, record.own.networks.space
    assert space is not None
    seeds: dict[str, set[int]] = {}
    for trial in first:
        seeds.setdefault(trial.network.key, set()).add(trial.asked.seed)
    for key, there in seeds.items():
        yield from (f"there is no trial of network {key} with seed {seed}" for seed in study.seeds if seed not in there)
    skipped = len(of_kind(record.events, NetworkSkipped))
    most = min(study.search.networks, space.size - skipped)
    if len(seeds) < most and not study.within:
        yield f"{most:,} networks are asked for, and there are {len(seeds):,}"


def check_trainings(record: Record, *, code_digest: str) -> Finding:
    """Each trial names the training that follows from its study, network and seed; `code` is what runs here.

    Other versions may have named all of them otherwise.
    """
    checked = Findings.none()
    named = [(trial, _name(record, trial)) for trial in record.trials]
    other = [(trial, name) for trial, name in named if name != training_digest(trial)]
    if (
        other
        and len(other) == len(named)
        and all(source.code_digest != code_digest for source in record.source_by_folder.values())
    ):
        checked.remarks.append("not checked: another version of hiri_search has named them")
    else:
        checked.faults += [
            f"trial {trial.number} is named {training_digest(trial)}, and by its study, network and seed it is {name}"
            for trial, name in other
        ]
        checked.remarks.append(f"{len(named):,} are named by study, network and seed")
    return checked.of("trainings")


def _name(record: Record, trial: Trial) -> str:
    try:
        return record.source(trial.network).job(trial).digest
    except SpecError as error:
        return f"none ({error})"
