"""Ask-and-tell search over a space, rebuilt from the ledger at every start; and the list of an ablation."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Protocol

from hiri_search.language import Net
from hiri_search.language.space import Decisions, SearchSpace
from hiri_search.study.config.networks import Candidate, InvalidNetwork, StudyNetworks, network_of
from hiri_search.study.config.schema import Study
from hiri_search.study.ledger.events import NetworkSkipped
from hiri_search.study.ledger.trial import Trial
from hiri_search.study.search.history import History, Proposal
from hiri_search.study.search.objectives import counted_at, losses
from hiri_search.study.search.samplers.bayesian import BayesianSampler
from hiri_search.study.search.samplers.evolution import Evolution
from hiri_search.study.search.samplers.simple import CostFunction, GridSampler, RandomSampler, Sampler
from hiri_search.study.search.visited import UnvisitedSpace

Asked = tuple[int, Candidate, int]  # the number of a new trial, its network and its seed
MAX_INVALID = 100  # in a row: hardly any network of the space fits
Skip = Callable[[int, Decisions, str], None]


class AskTell(Protocol):
    """The asking side of a study. Trials are numbered as in the ledger."""

    def ask(self) -> Asked | None:
        """What to train next; None when there is no more to ask."""

    def tell(self, trial: Trial) -> None:
        """What a trial has come to."""

    def may_be_on_front(self, trial: Trial) -> bool:
        """Whether its network is, or may yet be, one of those that are looked for."""


class AblationList:
    """The networks of an ablation in the order of its file, each with all its seeds."""

    def __init__(self, networks: StudyNetworks, past: Sequence[Trial]) -> None:
        asked = {(trial.network.name, trial.asked.seed) for trial in past}
        pairs = ((row, seed) for row in networks.trained_rows for seed in networks.study.seeds)
        left = [(row, seed) for row, seed in pairs if (row.name, seed) not in asked]
        self._left: Iterator[Asked] = ((number, *pair) for number, pair in enumerate(left, len(past)))

    def ask(self) -> Asked | None:
        return next(self._left, None)

    def tell(self, trial: Trial) -> None:
        """Nothing depends on it."""

    def may_be_on_front(self, trial: Trial) -> bool:
        return True


@dataclass
class _Entry:
    """A network of a search, and what its trials came to by seed."""

    net: Net
    decisions: dict[str, int]
    trials: dict[int, Trial] = field(default_factory=dict)

    def proposal(self, seeds: Sequence[int], objectives: Sequence[str]) -> Proposal:
        """Known once all its seeds are in: then it is worth their mean."""
        ended = [trial for seed in seeds if (trial := self.trials.get(seed)) and trial.ended]
        if len(ended) < len(seeds):
            return Proposal(self.net, self.decisions)
        states = {trial.state for trial in ended}
        means = losses(ended, objectives) if states == {"finished"} else None
        if means is not None:
            return Proposal(self.net, self.decisions, "finished", means)
        stopped = "stopped" in states and "failed" not in states
        return Proposal(self.net, self.decisions, "stopped" if stopped else "failed")


class Search:
    """Networks taken from a space one by one, by what is known of those before."""

    def __init__(
        self,
        networks: StudyNetworks,
        past: Sequence[Trial],
        *,
        space: SearchSpace | None = None,
        costs: CostFunction | None = None,
        passed: Iterable[NetworkSkipped] = (),
        pass_over: Skip = lambda number, decisions, reason: None,
    ) -> None:
        """`space` and `costs` are those of the study where nothing else is given.

        `passed` are the networks that did not fit, as `pass_over` was told of them: where in the sequence, by which
        decisions, and why.
        """
        space = space or networks.space
        assert space is not None
        self.study, self._pass_over = (study := networks.study), pass_over
        self.unseen = UnvisitedSpace(space)
        self.past = History()  # all that was asked for, and what is known of it
        self._sampler = sampler_of(study, costs or counted_at(study.counted.side, study.counted.classes))
        self._places: dict[int, int] = {}  # in `past`, by the number of the trial
        self._entries: dict[int, _Entry] = {}  # by place; what was passed over has none
        self._waiting: deque[tuple[int, int]] = deque()  # places and seeds not asked for yet
        self._rebuild(past, {event.proposal: event.decisions for event in passed})

    def ask(self) -> Asked | None:
        """What to train next: all seeds of a network, then another network; None when there is no more to ask."""
        if not self._waiting:
            self._propose()
        if not self._waiting:
            return None
        place, seed = self._waiting.popleft()
        number = len(self._places)
        self._places[number] = place
        entry = self._entries[place]
        return number, network_of(self.study, entry.net, entry.decisions), seed

    def tell(self, trial: Trial) -> None:
        """What a trial has come to."""
        place = self._places[trial.number]
        entry = self._entries[place]
        entry.trials[trial.asked.seed] = trial
        self.past.learn(place, entry.proposal(self.study.seeds, self.study.search.objectives))

    def may_be_on_front(self, trial: Trial) -> bool:
        place = self._places[trial.number]
        return self.past[place].state == "running" or self.past.on_front(place)

    def _propose(self) -> None:
        """Another network, if there is one; what turns out not to fit is passed over. Misfit where that goes on."""
        for misfits in count():
            if len(self._entries) == self.study.search.networks or self.unseen.exhausted:
                return
            _, decisions = self._sampler.propose(self.unseen, self.past)
            try:
                network_of(self.study, *self.unseen.replay(decisions))
            except InvalidNetwork as error:
                if misfits == MAX_INVALID:
                    raise
                self._pass_over(len(self.past), decisions, str(error))
                self._pass_by(decisions)
            else:
                self._enter(decisions)
                return

    def _enter(self, decisions: Decisions) -> int:
        """The place of a network that is asked for herewith."""
        net, ordered = self.unseen.add(decisions)
        self._entries[place := len(self.past)] = _Entry(net, ordered)
        self._waiting.extend((place, seed) for seed in self.study.seeds)
        self.past.add(Proposal(net, ordered))
        return place

    def _pass_by(self, decisions: Decisions) -> None:
        self.past.add(Proposal(*self.unseen.add(decisions), "failed"))

    def _rebuild(self, past: Sequence[Trial], passed: Mapping[int, Decisions]) -> None:
        places: dict[frozenset[tuple[str, int]], int] = {}
        for trial in past:
            decisions = frozenset(trial.asked.decisions.items())
            if decisions not in places:
                self._pass_by_all(passed)
                places[decisions] = self._enter(dict(decisions))
            self._places[trial.number] = places[decisions]
            self._waiting.remove((places[decisions], trial.asked.seed))
            self.tell(trial)
        self._pass_by_all(passed)

    def _pass_by_all(self, passed: Mapping[int, Decisions]) -> None:
        """Those that were passed over before the next network."""
        while (decisions := passed.get(len(self.past))) is not None:
            self._pass_by(decisions)


def ask_tell(networks: StudyNetworks, past: Sequence[Trial], **search: Any) -> AskTell:
    """What an ablation or a search asks for; the keywords are those of a search."""
    return AblationList(networks, past) if networks.space is None else Search(networks, past, **search)


def sampler_of(study: Study, costs: CostFunction) -> Sampler:
    """The sampler of a study's word. StudyError where it needs what is not installed."""
    search = study.search
    match search.sampler:
        case "surrogate":
            return BayesianSampler(search.seed, search.objectives, costs)
        case "evolution":
            return Evolution(search.seed)
        case "random":
            return RandomSampler(search.seed)
        case "grid":
            return GridSampler()
    from hiri_search.study.search.samplers.optuna_sampler import OptunaSampler  # slow

    return OptunaSampler(search.sampler, search.seed, len(search.objectives))
