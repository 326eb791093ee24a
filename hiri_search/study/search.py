"""Which network next: ask and tell, on an Optuna study that is rebuilt from the ledger at every start."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from hiri_search.study.candidates import Candidate, candidates, space_of
from hiri_search.study.config import Study
from hiri_search.study.ledger import Trial

OBJECTIVES = ["top1", "gmacs"]
DIRECTIONS = [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE]
STATES = {"finished": TrialState.COMPLETE, "failed": TrialState.FAIL, "unfinished": TrialState.RUNNING}


def _new_study(**where: Any) -> optuna.Study:
    """An empty Optuna study; it says nothing of itself."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    made = optuna.create_study(directions=DIRECTIONS, **where)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        made.set_metric_names(OBJECTIVES)
    return made


class Search:
    """The asking side of a study. Trials are numbered here as in the ledger."""

    def __init__(self, study: Study, past: Sequence[Trial]) -> None:
        self.space = None if study.space is None else space_of(study)
        self.names = tuple(study.nets or ())
        self.optuna = _new_study()
        self.optuna.add_trials([self._frozen(trial) for trial in past])
        asked = {(trial.asked["name"], trial.asked["seed"]) for trial in past}
        self._left = (
            (candidate, seed)
            for candidate in candidates(study)
            for seed in study.seeds
            if (candidate.name, seed) not in asked
        )

    def ask(self) -> tuple[int, Candidate, int] | None:
        """The number of a new trial, its network and its seed; None when there is no more to ask."""
        candidate, seed = next(self._left, (None, 0))
        if candidate is None:
            return None
        distributions, params = self._choices(candidate.decisions)
        self.optuna.enqueue_trial(params)
        return self.optuna.ask(distributions).number, candidate, seed

    def tell(self, trial: Trial) -> None:
        """What a trial has come to."""
        if self.optuna.trials[trial.number].state == TrialState.RUNNING:
            self.optuna.tell(trial.number, _values(trial), state=STATES[trial.state])

    def _frozen(self, trial: Trial) -> FrozenTrial:
        distributions, params = self._choices(trial.asked["decisions"])
        return optuna.create_trial(
            state=STATES[trial.state],
            params=params,
            distributions=distributions,
            values=_values(trial),
            intermediate_values={epoch["epoch"]: epoch["top1"] for epoch in trial.curve},
            user_attrs={name: trial.asked[name] for name in ("name", "key", "spec", "seed", "params", "macs")},
        )

    def _choices(self, decisions: Mapping[str, int]) -> tuple[dict[str, BaseDistribution], dict[str, Any]]:
        """Optuna's distributions of the decisions made, and what was chosen: numbers by rank, words by name."""
        if self.space is None:
            return {"net": CategoricalDistribution(self.names)}, {"net": self.names[decisions["net"]]}
        distributions: dict[str, BaseDistribution] = {}
        params: dict[str, Any] = {}

        def choose(name: str, options: tuple[int | str, ...], sizes: tuple[int, ...]) -> int:
            index = decisions[name]
            words = isinstance(options[0], str)
            distributions[name] = CategoricalDistribution(options) if words else IntDistribution(0, len(options) - 1)
            params[name] = options[index] if words else index
            return index

        self.space.decide(choose)
        return distributions, params


def _values(trial: Trial) -> list[float] | None:
    """By `OBJECTIVES`."""
    return [trial.curve[-1]["top1"], trial.asked["macs"] / 1e9] if trial.state == "finished" else None


def export(study: Study, past: Sequence[Trial], path: Path, *, name: str) -> None:
    """The study as an Optuna journal, made anew: what `optuna-dashboard PATH` opens."""
    path.unlink(missing_ok=True)
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(path)))
    made = _new_study(study_name=name, storage=storage)
    made.add_trials(Search(study, past).optuna.trials)
