"""Optuna's samplers, and a study of ours as one of Optuna's."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.samplers import BaseGASampler, BaseSampler, GPSampler, NSGAIIISampler, NSGAIISampler, TPESampler
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from hiri_search.language.tree import Options
from hiri_search.study.candidates import space_of
from hiri_search.study.config import Study
from hiri_search.study.ledger import Trial
from hiri_search.study.objectives import OBJECTIVES, losses_after
from hiri_search.study.sampler import Proposal, dice
from hiri_search.study.unseen import Unseen, Walked, near

STATES = {
    "finished": TrialState.COMPLETE,
    "failed": TrialState.FAIL,
    "stopped": TrialState.PRUNED,
    "running": TrialState.RUNNING,
    "unfinished": TrialState.RUNNING,
    "paused": TrialState.RUNNING,
}


def _new_study(directions: Sequence[StudyDirection], **where: Any) -> optuna.Study:
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
        self.study = _new_study([StudyDirection.MINIMIZE] * objectives)
        self.numbers: list[int] = []  # Optuna's, by proposal
        self._open: set[int] = set()  # proposals that are not known to have ended
        self._sampler(0)

    def propose(self, unseen: Unseen, past: Sequence[Proposal]) -> Walked:
        self._enter(unseen, past)
        self.study.sampler = self._sampler(len(past))
        rng = dice(self.seed, len(past), "near")
        trial = self.study.ask()

        def choose(name: str, options: Options, sizes: tuple[int, ...]) -> int:
            return near(_suggested(trial, name, options), options, sizes, rng)

        walked = unseen.recorded(choose, rng)
        self.study.tell(trial, state=TrialState.FAIL)
        return walked

    def _sampler(self, number: int) -> BaseSampler:
        """Made anew for each question, so that the answer depends on the trials and the number alone."""
        return sampler(self.word, dice(self.seed, number).getrandbits(32))

    def _enter(self, unseen: Unseen, past: Sequence[Proposal]) -> None:
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
            self.study.tell(self.numbers[number], proposal.losses or None, state=STATES[proposal.state])

    def _add(self, unseen: Unseen, proposal: Proposal, asked: BaseSampler) -> None:
        distributions, params = choices(proposal.decisions, unseen.options)
        running = optuna.create_trial(state=TrialState.RUNNING, params=params, distributions=distributions)
        self.study.add_trial(running)
        trial = self.study.get_trials(deepcopy=False)[-1]
        self.numbers.append(trial.number)
        if isinstance(asked, BaseGASampler):  # which generation it is of, and the parents of that
            asked.get_parent_population(self.study, asked.get_trial_generation(self.study, trial))


def sampler(word: str, seed: int) -> BaseSampler:
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


# ---- looked back on

LEAST = 8  # trials; among fewer nothing is said of what matters
BEST, AT_LEAST = 0.1, 5  # the share of the best whose decisions are looked at, and how many of them there must be


def decided(study: Study, past: Sequence[Trial]) -> dict[int, dict[str, int | str]]:
    """What was chosen for each trial of a search, by its number and the name of the decision."""
    options = _options(study, past)
    return {
        trial.number: {name: options[name][index] for name, index in trial.asked["decisions"].items()} for trial in past
    }


def importances(study: Study, past: Sequence[Trial]) -> dict[str, dict[str, float]]:
    """How much each decision of a search sets its best tenth apart: by objective, and for all of them together.

    The shares add up to 1 (Optuna's PED-ANOVA, conditional decisions among them). Top-1 is that behind the epoch that
    all were to come to, so that who was stopped there counts too. Empty where that is known of too few.
    """
    names, halving = study.search.objectives, study.search.halving
    epochs = halving.epochs[0] if halving else study.recipe.epochs
    came = [trial for trial in past if len(trial.curve) >= epochs and not trial.is_second_look]
    known = [(trial, found) for trial in came if (found := losses_after(trial, epochs, names))]
    if len(known) < LEAST:
        return {}
    options = _options(study, [trial for trial, _ in known])
    looked = _new_study([StudyDirection.MINIMIZE] * len(names))
    for trial, found in known:
        distributions, params = choices(trial.asked["decisions"], options)
        looked.add_trial(optuna.create_trial(values=found, params=params, distributions=distributions))
    best = PedAnovaImportanceEvaluator(target_quantile=max(BEST, AT_LEAST / len(known)))
    targets: dict[str, Callable[[FrozenTrial], float] | None] = {
        name: partial(_value, index) for index, name in enumerate(names)
    }
    if len(names) > 1:
        targets["front"] = None  # by the order of domination
    return {name: _shares(best, looked, target) for name, target in targets.items()}


def _value(index: int, trial: FrozenTrial) -> float:
    return float(trial.values[index])


def _shares(
    evaluator: PedAnovaImportanceEvaluator, study: optuna.Study, target: Callable[[FrozenTrial], float] | None
) -> dict[str, float]:
    """Adding up to 1; all 0 where no decision tells anything."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that low values are taken to be good, as losses are
        found = evaluator.evaluate(study, target=target)
    whole = sum(found.values()) or 1.0
    return {name: value / whole for name, value in found.items()}


# ---- for the dashboard


def export(study: Study, past: Sequence[Trial], path: Path, *, name: str) -> None:
    """The trials as an Optuna journal, made anew: what `optuna-dashboard PATH` opens.

    Without those of a second look, whose longer trainings are no match for the others.
    """
    past = [trial for trial in past if not trial.is_second_look]
    path.unlink(missing_ok=True)
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(path)))
    names = study.search.objectives
    directions = [StudyDirection.MAXIMIZE if OBJECTIVES[each].up else StudyDirection.MINIMIZE for each in names]
    made = _new_study(directions, study_name=name, storage=storage)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        made.set_metric_names(list(names))
    options = _options(study, past)
    made.add_trials([_frozen(trial, options, names) for trial in past])


def _options(study: Study, past: Sequence[Trial]) -> Mapping[str, Options]:
    """Of every decision that was made."""
    if study.space is None:
        return {"net": tuple(study.nets or ())}
    known: dict[str, Options] = {}
    space = space_of(study)
    for trial in past:

        def choose(name: str, options: Options, sizes: tuple[int, ...]) -> int:
            known[name] = options
            return int(trial.asked["decisions"][name])  # noqa: B023 - used before the next trial

        space.decide(choose)
    return known


def _frozen(trial: Trial, options: Mapping[str, Options], names: Sequence[str]) -> FrozenTrial:
    distributions, params = choices(trial.asked["decisions"], options)
    values = [OBJECTIVES[name].of(trial) for name in names] if trial.state == "finished" else [None]
    known = None not in values
    return optuna.create_trial(
        state=STATES[trial.state] if known or trial.state != "finished" else TrialState.FAIL,
        params=params,
        distributions=distributions,
        values=values if known else None,  # type: ignore[arg-type]
        intermediate_values={epoch["epoch"]: epoch["top1"] for epoch in trial.curve},
        user_attrs={name: trial.asked[name] for name in ("name", "key", "spec", "seed", "params", "macs")},
    )
