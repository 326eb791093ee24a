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
from hiri_search.language.space import Walked
from hiri_search.language.syntax_tree import Options
from hiri_search.study.search.history import Proposal
from hiri_search.study.search.samplers.simple import rng_for
from hiri_search.study.search.visited import UnvisitedSpace

OPTUNA_STATES = {
    "finished": TrialState.COMPLETE,
    "failed": TrialState.FAIL,
    "stopped": TrialState.PRUNED,
    "running": TrialState.RUNNING,
    "unfinished": TrialState.RUNNING,
    "paused": TrialState.RUNNING,
}


def new_study(directions: Sequence[StudyDirection], **where: Any) -> optuna.Study:
    """An empty Optuna study; it says nothing of itself."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(directions=directions, **where)


class OptunaSampler:
    """One of Optuna's samplers, asked on a study that holds what was really asked for.

    Optuna answers on a trial that is thrown away, for its answer may lead to a network that was asked for already, or
    out of a budget. The network taken instead, the nearest, enters its study as a trial of its own.
    """

    def __init__(self, word: str, seed: int, objectives: int) -> None:
        self.word, self.seed = word, seed
        self.study = new_study([StudyDirection.MINIMIZE] * objectives)
        self.numbers: list[int] = []  # Optuna's, by proposal
        self._open: set[int] = set()  # proposals that are not known to have ended
        self._sampler(0)

    def propose(self, unseen: UnvisitedSpace, past: Sequence[Proposal]) -> Walked:
        self._enter(unseen, past)
        self.study.sampler = self._sampler(len(past))
        rng = rng_for(self.seed, len(past), "near")
        trial = self.study.ask()

        def choose(name: str, options: Options, sizes: tuple[int, ...]) -> int:
            return nearest(_suggested(trial, name, options), options, sizes, rng)

        walked = unseen.walk(choose, rng)
        self.study.tell(trial, state=TrialState.FAIL)
        return walked

    def _sampler(self, number: int) -> BaseSampler:
        """Made anew for each question, so that the answer depends on the trials and the number alone."""
        return optuna_sampler(self.word, rng_for(self.seed, number).getrandbits(32))

    def _enter(self, unseen: UnvisitedSpace, past: Sequence[Proposal]) -> None:
        """Bring Optuna's study up to what is known, in the order that it became known in a serial search."""
        for number in sorted(self._open):
            self._tell(number, past[number])
        for number in range(len(self.numbers), len(past)):
            self._add(unseen, past[number], self._sampler(number))
            self._open.add(number)
            self._tell(number, past[number])

    def _tell(self, number: int, proposal: Proposal) -> None:
        if proposal.state != "running":
            self._open.remove(number)
            self.study.tell(self.numbers[number], proposal.losses or None, state=OPTUNA_STATES[proposal.state])

    def _add(self, unseen: UnvisitedSpace, proposal: Proposal, asked: BaseSampler) -> None:
        distributions, params = choices(proposal.decisions, unseen.options)
        running = optuna.create_trial(state=TrialState.RUNNING, params=params, distributions=distributions)
        self.study.add_trial(running)
        trial = self.study.get_trials(deepcopy=False)[-1]
        self.numbers.append(trial.number)
        if isinstance(asked, BaseGASampler):  # which generation it is of, and the parents of that
            asked.get_parent_population(self.study, asked.get_trial_generation(self.study, trial))


def optuna_sampler(word: str, seed: int) -> BaseSampler:
    """Optuna's sampler of this name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        match word:
            case "tpe":
                return TPESampler(multivariate=True, group=True, constant_liar=True, seed=seed)
            case "nsga2":
                return NSGAIISampler(seed=seed)
            case "nsga3":
                return NSGAIIISampler(seed=seed)
            case _:
                return GPSampler(seed=seed, warn_independent_sampling=False)


def _suggested(trial: optuna.Trial, name: str, options: Options) -> int:
    """Numbers by rank, whose order Optuna keeps; words by name."""
    if isinstance(options[0], int):
        return trial.suggest_int(name, 0, len(options) - 1)
    return options.index(trial.suggest_categorical(name, options))


def choices(
    decisions: Mapping[str, int], options: Mapping[str, Options]
) -> tuple[dict[str, BaseDistribution], dict[str, Any]]:
    """Optuna's distributions of the decisions made, and what was chosen."""
    distributions: dict[str, BaseDistribution] = {}
    params: dict[str, Any] = {}
    for name, index in decisions.items():
        words = isinstance(options[name][0], str)
        distributions[name] = (
            CategoricalDistribution(options[name]) if words else IntDistribution(0, len(options[name]) - 1)
        )
        params[name] = options[name][index] if words else index
    return distributions, params
