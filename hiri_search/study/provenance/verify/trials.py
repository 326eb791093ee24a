"""Checks of trials: none missing, none twice, and each with the training digest that follows from its study."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import product

from hiri_search.language import SpecError
from hiri_search.study.config.networks import has_row
from hiri_search.study.ledger.events import NetworkSkipped, TrialAsked
from hiri_search.study.ledger.ledger import of_kind
from hiri_search.study.ledger.trial import Trial, training_digest
from hiri_search.study.provenance.record import Record
from hiri_search.study.provenance.verify.finding import Finding, Findings
from hiri_search.study.search import confirmation
from hiri_search.study.search.added_seeds import AddedSeed, next_seed, replayed
from hiri_search.study.search.objectives import objectives_of
from hiri_search.study.search.search_space import with_choices


def check_present(record: Record) -> Finding:
    """Check that no trial number is missing, no trial is twice, and none is missing or open if the last run ended."""
    checked, missing = Findings(), list(_missing(record))
    checked.faults += [*_gaps(record), *_twice(record)]
    states = Counter(trial.state for trial in record.trials)
    checked.remarks.append(", ".join(f"{count:,} {state}" for state, count in states.items()) or "none yet")
    if record.ended:
        checked.faults += missing
        own = (trial for trial in record.trials if has_row(record.own.study, trial.network))
        unended = (trial for trial in own if not trial.ended)
        checked.faults += [f"trial {trial.number} is {trial.state}, although its run has ended" for trial in unended]
    elif record.started.merged_from:
        checked.remarks.append(f"merged; {len(missing):,} of what the study asks for are in none of the folders")
    else:
        checked.remarks.append(f"the last run has not ended: {len(missing):,} are not there yet")
    return checked.finding("trials")


def _gaps(record: Record) -> Iterator[str]:
    numbers = {trial.number for trial in record.trials}
    for number in range(max(numbers, default=-1)):
        if number not in numbers:
            yield f"there is no trial {number}, though there are later ones: its lines are missing"
    asked = Counter(event.trial for event in of_kind(record.events, TrialAsked))
    yield from (f"trial {number} is asked for {times} times" for number, times in asked.items() if times > 1)


def _twice(record: Record) -> Iterator[str]:
    first: dict[tuple[object, ...], int] = {}
    for trial in record.trials:
        name, asked = trial.network.name, trial.asked
        earliest = first.setdefault((name, asked.seed, asked.confirm_epochs), trial.number)
        if earliest != trial.number:
            yield f"trial {trial.number} is that of trial {earliest} again: {name}, seed {asked.seed}"


def _missing(record: Record) -> Iterator[str]:
    study = record.own.study
    first = [trial for trial in record.trials if not trial.is_confirmation]
    if study.space is None:
        rows = [row.name for row in record.own.networks.trained_rows]
        asked = {(trial.network.name, trial.asked.seed) for trial in first}
        missing = (pair for pair in product(rows, study.first_seeds) if pair not in asked)
        yield from (f"there is no trial of {name!r} with seed {seed}" for name, seed in missing)
        yield from _missing_added(record)
        return
    yield from _missing_in_search(record, first)
    if study.confirm and all(trial.ended for trial in first):
        chosen = confirmation.chosen(first, study.confirm, objectives_of(study))
        epochs = study.confirm.epochs_for(study.recipe.epochs)
        for trial, seed in confirmation.missing(chosen, record.trials, study.confirm.seeds, epochs):
            yield f"there is no confirmation of trial {trial.number} with seed {seed}"


def _missing_added(record: Record) -> Iterator[str]:
    study, trials = record.own.study, record.trials
    if study.auto_seeds and (added := next_seed(study, trials, record.events)):
        yield f"there is no trial of {added.row!r} with seed {added.seed}, which the rule of seeds: auto adds next"


def check_added(record: Record) -> Finding:
    """Check that the rule of `seeds: auto` adds each added seed to the lines of the ledger before it."""
    checked = Findings()
    if record.started.merged_from:
        checked.remarks.append("not checked: a merged ledger has lost the order of its trials")
        return checked.finding("added seeds")
    added = list(replayed(record.events))
    for asked, expected in added:
        if expected != AddedSeed(asked.network.name, asked.seed, asked.added_for or ("", "")):
            by_rule = f"{expected.row!r} with seed {expected.seed}" if expected else "none"
            checked.faults.append(f"trial {asked.trial} is an added seed, and the rule adds {by_rule} there")
    checked.remarks.append(f"{len(added):,} seeds are those that the rule adds")
    return checked.finding("added seeds")


def _missing_in_search(record: Record, first: list[Trial]) -> Iterator[str]:
    """Yield the missing trials of a search; under cost constraints the number of networks is not checked.

    The constrained space may have fewer networks than the study asks for, and counting them takes long.
    """
    study, space = record.own.study, record.own.networks.space
    assert space is not None
    seeds: dict[tuple[str, str], set[int]] = {}
    for trial in first:
        seeds.setdefault(trial.network.training, set()).add(trial.asked.seed)
    for (key, _), own in seeds.items():
        yield from (
            f"there is no trial of network {key} with seed {seed}" for seed in study.first_seeds if seed not in own
        )
    skipped = len(of_kind(record.events, NetworkSkipped))
    wanted = min(study.search.networks, with_choices(space, study).size - skipped)
    if len(seeds) < wanted and not study.within:
        yield f"{wanted:,} networks are asked for, and there are {len(seeds):,}"


def check_trainings(record: Record, *, code_digest: str) -> Finding:
    """Check that the training digest of each trial follows from its study, network and seed.

    Another version of hiri_search may compute other digests: if all differ and no run had `code_digest`, the digest of
    this version, they are not checked.
    """
    checked = Findings()
    digests = [(trial, _digest(record, trial)) for trial in record.trials]
    wrong = [(trial, digest) for trial, digest in digests if digest != training_digest(trial)]
    same_code = any(source.code_digest == code_digest for source in record.source_by_folder.values())
    if wrong and len(wrong) == len(digests) and not same_code:
        checked.remarks.append("not checked: another version of hiri_search has named them")
    else:
        checked.faults += [
            f"trial {trial.number} is named {training_digest(trial)}, and by its study, network and seed it is {digest}"
            for trial, digest in wrong
        ]
        checked.remarks.append(f"{len(digests):,} are named by study, network and seed")
    return checked.finding("trainings")


def _digest(record: Record, trial: Trial) -> str:
    try:
        return record.source(trial.network).job(trial).digest
    except SpecError as error:
        return f"none ({error})"
