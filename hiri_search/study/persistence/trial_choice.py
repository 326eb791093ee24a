"""The trial of a results folder that a command or a recipe names: a number, a row with a seed, or the best one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path

from hiri_search.study.config.networks import has_row
from hiri_search.study.config.schema import StudyConfig
from hiri_search.study.errors import StudyError
from hiri_search.study.ledger.layout import CHECKPOINTS, LAST_CHECKPOINT
from hiri_search.study.ledger.trial import Trial
from hiri_search.study.persistence.checkpoints import checked_digest, existing
from hiri_search.system.text import first_names
from hiri_search.training.score import Score

BEST_TRIAL = "best"
_FORM = f"write the number of a trial, the name of a row, ROW:SEED, or {BEST_TRIAL}"


def find_trial(trials: Sequence[Trial], which: str, study: StudyConfig, score: Score) -> Trial:
    """Return the trial that a text names; of `best`, the finished one with the best score of its last epoch.

    Raises StudyError where there is none, or where several trials have the name.
    """
    if which == BEST_TRIAL:
        best = best_trial((trial for trial in trials if has_row(study, trial.network)), score)
        if best is None:
            raise StudyError(f"no trial has finished with {score.label}; let the study end first")
        return best
    found = [trial for trial in trials if which in (str(trial.number), f"{trial.network.name}:{trial.asked.seed}")]
    found = found or [trial for trial in trials if trial.network.name == which]
    if len(found) > 1:
        raise StudyError(f"{which!r} names several trials: {_listed(found)}; write the number of one")
    if not found:
        raise StudyError(f"there is no trial {which!r}{_near(trials, which)}; {_FORM}")
    return found[0]


def best_trial(trials: Iterable[Trial], score: Score) -> Trial | None:
    """Return the finished trial with the best score of its last epoch; None where none has it."""
    finished = [(trial, trial.curve[-1].score(score.name)) for trial in trials if trial.state == "finished"]
    losses = [(score.loss_sign * value, trial.number, trial) for trial, value in finished if value is not None]
    return min(losses, key=lambda each: each[:2])[2] if losses else None


def checkpoint_of(folder: Path, trial: Trial, study: StudyConfig, trials: Sequence[Trial]) -> Path:
    """Return the checkpoint of a finished trial. StudyError where it has not finished, or no checkpoint was kept."""
    if trial.state != "finished":
        done = f"{len(trial.curve)} of its epochs are trained" if trial.curve else "it has not been trained"
        raise StudyError(f"trial {trial.number} is {trial.state}: {done}; choose a trial that has finished")
    path = folder / CHECKPOINTS / checked_digest(folder, trial) / LAST_CHECKPOINT
    if path.is_file():
        return path
    kept = existing(folder)
    others = [other for other in trials if other.state == "finished" and checked_digest(folder, other) in kept]
    there = f"there are those of {_listed(others)}" if others else "there is none of any other trial either"
    raise StudyError(f"trial {trial.number} has no checkpoint in {folder}: {_reason(trial, study)}; {there}")


def _reason(trial: Trial, study: StudyConfig) -> str:
    if trial.network.merged_from:
        return f"it was merged from {trial.network.merged_from}, so export it from there"
    if trial.source and not trial.source.startswith("trial "):
        return f"its result was taken from {trial.source}, so export it from there"
    if study.storage:
        return f"it was removed, or is only in {study.storage}, from where a run of the study fetches it"
    if study.checkpoints == "all":
        return "it was removed by hand"
    return f"checkpoints: {study.checkpoints} keeps others; write checkpoints: all before a study runs"


def _near(trials: Iterable[Trial], which: str) -> str:
    names = list(dict.fromkeys(trial.network.name for trial in trials))
    numbers = [trial.number for trial in trials]
    there = f"trials have the numbers {min(numbers)} to {max(numbers)}" if numbers else "the folder has no trials"
    near = get_close_matches(which.rpartition(":")[0] or which, names, n=3, cutoff=0.3)
    return f": {there}" + (f", and networks are named {first_names(near)}" if near else "")


def _listed(trials: Sequence[Trial]) -> str:
    return first_names([f"{trial.number} ({trial.network.name}, seed {trial.asked.seed})" for trial in trials])
