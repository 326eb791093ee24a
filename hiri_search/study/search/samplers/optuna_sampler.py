"""Optuna's samplers (TPE, NSGA-II, NSGA-III, GP) behind the Sampler protocol."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseGASampler, BaseSampler, GPSampler, NSGAIIISampler, NSGAIISampler, TPESampler
from optuna.study import StudyDirection
from optuna.trial import TrialState

from hiri_search.language.choosers import nearest
from hiri_search.language.space import Decisions, Walked
from hiri_search.language.syntax_tree import Option, Options
from hiri_search.study.search.history import Proposal
from hiri_search.study.search.samplers.simple import rng_for
from hiri_search.study.search.search_space import are_numbers
from hiri_search.study.search.visited import UnvisitedSpace

OPTUNA_STATES = {
    "finished": TrialState.COMPLETE,
    "failed": TrialState.FAIL,
    "stopped": TrialState.PRUNED,
    "running": TrialState.RUNNING,
    "unfinished": TrialState.RUNNING,
    "paused": TrialState.RUNNING,
}


def new_study(directions: Sequence[StudyDirection], **options: Any) -> optuna.Study:
    """Create an empty Optuna study, without Optuna's log line; `options` are those of `optuna.create_study`."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(directions=directions, **options)


class OptunaSampler:
    """A sampler of Optuna on an Optuna study that holds the trials of the search.

    Optuna's suggestion may be a visited network, or break the cost constraints. The suggestion is therefore made on a
    throwaway trial, and the nearest allowed network is added to the Optuna study as a trial of its own.
    """

    def __init__(self, name: str, seed: int, objectives: int) -> None:
        self.name, self.seed = name, seed
        self.study = new_study([StudyDirection.MINIMIZE] * objectives)
        self.numbers: list[int] = []  # trial numbers of Optuna, by proposal
        self._open: set[int] = set()  # proposals that have not ended
        self._sampler(0)

    def propose(self, unvisited: UnvisitedSpace, history: Sequence[Proposal]) -> Walked:
        self._synchronise(unvisited, history)
        self.study.sampler = self._sampler(len(history))
        rng = rng_for(self.seed, len(history), "near")
        trial = self.study.ask()

        def choose(name: str, options: Options, sizes: tuple[int, ...]) -> int:
            return nearest(_suggested(trial, name, options), options, sizes, rng)

        walked = unvisited.walk(choose, rng)
        self.study.tell(trial, state=TrialState.FAIL)
        return walked

    def _sampler(self, number: int) -> BaseSampler:
        """Create a sampler for each proposal, so that the proposal depends on the trials and the number alone."""
        return optuna_sampler(self.name, rng_for(self.seed, number).getrandbits(32))

    def _synchronise(self, unvisited: UnvisitedSpace, history: Sequence[Proposal]) -> None:
        """Add new proposals and results to the Optuna study, in the order of a serial search."""
        for number in sorted(self._open):
            self._tell(number, history[number])
        for number in range(len(self.numbers), len(history)):
            self._add(unvisited, history[number], self._sampler(number))
            self._open.add(number)
            self._tell(number, history[number])

    def _tell(self, number: int, proposal: Proposal) -> None:
        if proposal.state != "running":
            self._open.remove(number)
            self.study.tell(self.numbers[number], proposal.losses or None, state=OPTUNA_STATES[proposal.state])

    def _add(self, unvisited: UnvisitedSpace, proposal: Proposal, sampler: BaseSampler) -> None:
        distributions, params = choices(proposal.decisions, unvisited.options)
        running = optuna.create_trial(state=TrialState.RUNNING, params=params, distributions=distributions)
        self.study.add_trial(running)
        trial = self.study.get_trials(deepcopy=False)[-1]
        self.numbers.append(trial.number)
        if isinstance(sampler, BaseGASampler):  # these calls store the trial's generation and its parents
            sampler.get_parent_population(self.study, sampler.get_trial_generation(self.study, trial))


def optuna_sampler(name: str, seed: int) -> BaseSampler:
    """Create the Optuna sampler that a study names."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        match name:
            case "tpe":
                return TPESampler(multivariate=True, group=True, constant_liar=True, seed=seed)
            case "nsga2":
                return NSGAIISampler(seed=seed)
            case "nsga3":
                return NSGAIIISampler(seed=seed)
            case _:
                return GPSampler(seed=seed, warn_independent_sampling=False)


def _suggested(trial: optuna.Trial, name: str, options: Options) -> int:
    """Return the suggested index: numeric options are suggested by rank, others by name."""
    if isinstance(options[0], int):
        return trial.suggest_int(name, 0, len(options) - 1)
    return options.index(trial.suggest_categorical(name, options))


def choices(
    decisions: Decisions, options: Mapping[str, Sequence[Option]]
) -> tuple[dict[str, BaseDistribution], dict[str, Any]]:
    """Return Optuna's distributions and parameter values of a network's decisions."""
    distributions: dict[str, BaseDistribution] = {}
    params: dict[str, Any] = {}
    for name, option in decisions.items():
        values, numbers = options[name], are_numbers(options[name])
        distributions[name] = IntDistribution(0, len(values) - 1) if numbers else CategoricalDistribution(values)
        params[name] = values.index(option) if numbers else option
    return distributions, params
