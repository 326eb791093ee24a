"""Initial weights that a recipe takes from trials of another study: `RESULTS#TRIAL`, or `RESULTS` for each row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from hiri_search.language import DenseNetwork, Network, parse_network
from hiri_search.study.config.networks import resolve
from hiri_search.study.config.schema import StudyConfig
from hiri_search.study.errors import StudyError
from hiri_search.study.ledger.layout import LEDGER
from hiri_search.study.ledger.ledger import read_events, study_event, trials
from hiri_search.study.ledger.trial import Trial
from hiri_search.study.persistence.trial_choice import best_trial, checkpoint_of, find_trial
from hiri_search.system.files import Say, expanded
from hiri_search.system.text import first_names

_MARK = "#"  # between a results folder and a trial


@dataclass(frozen=True)
class _OtherStudy:
    """A results folder, whose checkpoints others begin from."""

    folder: Path
    study: StudyConfig
    trials: Sequence[Trial]

    @staticmethod
    def read(folder: Path) -> _OtherStudy:
        events = read_events(folder)
        study = StudyConfig.model_validate(study_event(events, folder).file)
        return _OtherStudy(folder, study, trials(events))

    def trial(self, which: str) -> Trial:
        """Return the trial that a text names, as for an export. StudyError."""
        return find_trial(self.trials, which, self.study, self.study.headline)

    def trial_of(self, network: Network) -> Trial:
        """Return the best trial of a network; of a dense network else that of its backbone. StudyError."""
        backbone = network.backbone if isinstance(network, DenseNetwork) else network
        specs = {trial.number: parse_network(trial.network.trained.spec) for trial in self.trials}
        for wanted in (network, backbone):
            alike = (trial for trial in self.trials if specs[trial.number] == wanted)
            if (best := best_trial(alike, self.study.headline)) is not None:
                return best
        known = first_names(list(dict.fromkeys(map(str, specs.values()))))
        problem = f"no finished trial there has trained {backbone}, but {known or 'nothing'}"
        raise StudyError(f"{problem}; write RESULTS{_MARK}TRIAL, or the same proxy: in both studies")

    def checkpoint(self, trial: Trial) -> str:
        """Return the path of its checkpoint. StudyError where it has none."""
        return str(checkpoint_of(self.folder, trial, self.study, self.trials))


def with_trial_weights(study: StudyConfig, say: Say = lambda text: None) -> StudyConfig:
    """Return the study with paths of checkpoints where its recipes name trials of other studies.

    `RESULTS#TRIAL` is a trial as for an export; `RESULTS` the best trial of the network of each row. StudyError, with
    the row, where there is none, or where its checkpoint was not kept. No code of a results folder is run.
    """
    read = cache(_OtherStudy.read)  # each folder once
    if study.space is not None:
        path = _path("", study.recipe.weights, None, read, say)
        return study.model_copy(update={"recipe": replace(study.recipe, weights=path)})
    rows = dict(study.nets or {})
    for candidate in resolve(study).trained_rows:
        recipe = candidate.recipe
        if (path := _path(f"{candidate.name}: ", recipe.weights, candidate.trained, read, say)) != recipe.weights:
            own = replace(recipe, weights=path)
            rows[candidate.name] = rows[candidate.name].model_copy(update={"recipe": own})
    return study.model_copy(update={"nets": rows})


def _path(row: str, text: str, network: Network | None, read: Callable[[Path], _OtherStudy], say: Say) -> str:
    """Return the path of the file that a recipe names: itself, or the checkpoint of a trial."""
    folder, _, which = text.rpartition(_MARK) if _MARK in text else (text, "", "")
    if not text or expanded(text).is_file() or not (which or (expanded(text) / LEDGER).is_file()):
        return text
    try:
        other = read(expanded(folder))
        if not which and network is None:
            raise StudyError(f"the networks of a search have no rows; write {text}{_MARK}TRIAL")
        trial = other.trial(which) if which else other.trial_of(network)  # type: ignore[arg-type]
        path = other.checkpoint(trial)
    except StudyError as error:
        raise StudyError(f"{row}recipe.weights={text}: {error}") from error
    say(f"{row}recipe.weights={text} is trial {trial.number} ({trial.network.name}, seed {trial.asked.seed})")
    return path
