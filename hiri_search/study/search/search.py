"""Ask-and-tell search over a space, rebuilt from the ledger at every start; and the list of an ablation."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Protocol

from hiri_search.language import Backbone
from hiri_search.language.space import Decisions, SearchSpace
from hiri_search.language.syntax_tree import Option
from hiri_search.study.config.networks import Candidate, InvalidNetwork, StudyNetworks, network_of, start_of
from hiri_search.study.config.schema import StudyConfig
from hiri_search.study.ledger.events import NetworkSkipped
from hiri_search.study.ledger.trial import Trial
from hiri_search.study.search.history import History, Proposal
from hiri_search.study.search.objectives import Objective, cost_function, losses, objectives_of
from hiri_search.study.search.samplers.bayesian import BayesianSampler
from hiri_search.study.search.samplers.evolution import Evolution
from hiri_search.study.search.samplers.simple import CostFunction, GridSampler, RandomSampler, Sampler, StartSampler
from hiri_search.study.search.search_space import check_counted, with_choices
from hiri_search.study.search.visited import UnvisitedSpace

Asked = tuple[int, Candidate, int]  # number of a new trial, its network, its seed
MAX_INVALID = 100  # consecutive proposals that do not fit, after which the search gives up
OnSkip = Callable[[int, Decisions, str], None]  # position of the proposal, its decisions, the reason


class AskTell(Protocol):
    """Ask-and-tell interface of a study. Trials have the numbers of the ledger, where confirmations have some too."""

    @property
    def exhausted(self) -> bool:
        """True if every network of a space was asked for."""

    def ask(self) -> Asked | None:
        """Return the next trial; None when the study is exhausted."""

    def tell(self, trial: Trial) -> None:
        """Report the state of a trial."""

    def may_be_on_front(self, trial: Trial) -> bool:
        """Return whether the network of a trial is on the Pareto front, or may still reach it."""


class AblationList:
    """Networks of an ablation in the order of its file, each with all its first seeds."""

    def __init__(self, networks: StudyNetworks, past: Sequence[Trial]) -> None:
        asked = {(trial.network.name, trial.asked.seed) for trial in past}
        pairs = ((row, seed) for row in networks.trained_rows for seed in networks.study.first_seeds)
        remaining = [(row, seed) for row, seed in pairs if (row.name, seed) not in asked]
        self._remaining: Iterator[Asked] = ((number, *pair) for number, pair in enumerate(remaining, len(past)))

    def ask(self) -> Asked | None:
        return next(self._remaining, None)

    @property
    def exhausted(self) -> bool:
        return False

    def tell(self, trial: Trial) -> None:
        """Do nothing: the order is fixed."""

    def may_be_on_front(self, trial: Trial) -> bool:
        return True


@dataclass
class _Entry:
    """A network of a search with its trials by seed."""

    net: Backbone
    decisions: Decisions
    trials: dict[int, Trial] = field(default_factory=dict)

    def proposal(self, seeds: Sequence[int], objectives: Sequence[Objective]) -> Proposal:
        """Return the state of the network: running until all seeds have ended, then with the mean losses."""
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
    """Search over a space: a sampler proposes each network from the history of the earlier ones.

    `space` and `costs` default to those of the study. Networks that do not fit are skipped: `on_skip` is called for
    each, and `skipped` holds the events of earlier runs. `past` may hold confirmations: they only take numbers.
    """

    def __init__(
        self,
        networks: StudyNetworks,
        past: Sequence[Trial],
        *,
        space: SearchSpace | None = None,
        costs: CostFunction | None = None,
        skipped: Iterable[NetworkSkipped] = (),
        on_skip: OnSkip = lambda position, decisions, reason: None,
    ) -> None:
        assert networks.space is not None
        self.study, self._on_skip = (study := networks.study), on_skip
        space = space or with_choices(networks.space, study)
        self.unvisited = UnvisitedSpace(space)
        self.history = History()
        self._objectives = objectives_of(study)
        sampler = sampler_of(study, costs or cost_function(study))
        start = tuple(candidate.decisions for candidate in start_of(study, networks.space))
        self._sampler = StartSampler(start, sampler) if start else sampler
        self._numbers = count(len(past))  # of the next trials
        self._positions: dict[int, int] = {}  # in the history, by trial number
        self._entries: dict[int, _Entry] = {}  # by position; skipped networks have no entry
        self._waiting: deque[tuple[int, int]] = deque()  # positions and seeds that are not asked for yet
        first = [trial for trial in past if not trial.is_confirmation]
        self._rebuild(first, {event.proposal: event.decisions for event in skipped})

    def ask(self) -> Asked | None:
        """Return the next trial: all seeds of a network, then another network; None when exhausted."""
        if not self._waiting:
            self._propose()
        if not self._waiting:
            return None
        position, seed = self._waiting.popleft()
        self._positions[number := next(self._numbers)] = position
        entry = self._entries[position]
        return number, network_of(self.study, entry.net, entry.decisions), seed

    @property
    def exhausted(self) -> bool:
        return self.unvisited.exhausted and not self._waiting

    def tell(self, trial: Trial) -> None:
        """Update the history by the state of a trial."""
        position = self._positions[trial.number]
        entry = self._entries[position]
        entry.trials[trial.asked.seed] = trial
        self.history.update(position, entry.proposal(self.study.first_seeds, self._objectives))

    def may_be_on_front(self, trial: Trial) -> bool:
        position = self._positions[trial.number]
        return self.history[position].state == "running" or self.history.on_front(position)

    def _propose(self) -> None:
        """Add the next network that fits and skip others. Raises InvalidNetwork after MAX_INVALID skips in a row."""
        for skips in count():
            if len(self._entries) == self.study.search.networks or self.unvisited.exhausted:
                return
            net, decisions = self._sampler.propose(self.unvisited, self.history)
            try:
                check_counted(self.study, network_of(self.study, net, decisions))
            except InvalidNetwork as error:
                if skips == MAX_INVALID:
                    raise
                self._on_skip(len(self.history), decisions, str(error))
                self._skip(decisions)
            else:
                self._add(decisions)
                return

    def _add(self, decisions: Decisions) -> int:
        """Add a network to the history and its seeds to the waiting trials; return its position."""
        net, ordered = self.unvisited.add(decisions)
        self._entries[position := len(self.history)] = _Entry(net, ordered)
        self._waiting.extend((position, seed) for seed in self.study.first_seeds)
        self.history.add(Proposal(net, ordered))
        return position

    def _skip(self, decisions: Decisions) -> None:
        self.history.add(Proposal(*self.unvisited.add(decisions), "failed"))

    def _rebuild(self, past: Sequence[Trial], skipped: Mapping[int, Decisions]) -> None:
        positions: dict[frozenset[tuple[str, Option]], int] = {}
        for trial in past:
            decisions = frozenset(trial.asked.decisions.items())
            if decisions not in positions:
                self._skip_again(skipped)
                positions[decisions] = self._add(dict(decisions))
            self._positions[trial.number] = positions[decisions]
            self._waiting.remove((positions[decisions], trial.asked.seed))
            self.tell(trial)
        self._skip_again(skipped)

    def _skip_again(self, skipped: Mapping[int, Decisions]) -> None:
        """Skip the networks that earlier runs skipped at the next positions."""
        while (decisions := skipped.get(len(self.history))) is not None:
            self._skip(decisions)


def ask_tell(networks: StudyNetworks, past: Sequence[Trial], **search: Any) -> AskTell:
    """Return the ask-and-tell object of a study; the keywords are those of `Search`, and unused for an ablation."""
    return AblationList(networks, past) if networks.space is None else Search(networks, past, **search)


def sampler_of(study: StudyConfig, costs: CostFunction) -> Sampler:
    """Return the sampler that a study names. Raises StudyError where its package is not installed."""
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
