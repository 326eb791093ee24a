"""Searches with made-up training results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hiri_search.language import Chooser, Net, Space
from hiri_search.language.space import Walked
from hiri_search.language.syntax_tree import Option
from hiri_search.study.config.networks import resolve
from hiri_search.study.config.schema import StudyConfig
from hiri_search.study.ledger.trial import Trial, TrialState
from hiri_search.study.search.search import AskTell, Search
from tests.study.records import epoch, network, new_trial

ROWS = """
nets:
  small: hr(32 e=4) -> hr(64 e=4)
  other: hr(32 e=4) -> cffn(64 e=4)
counted: {side: 64, classes: 10}
"""  # the first lines of an ablation in tests


class Quiet:
    """A progress callback that prints nothing."""

    def say(self, text: str) -> None:
        pass

    def on_trial(self, trial: Trial) -> None:
        pass


class Listener(Quiet):
    """A progress callback that remembers what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


WIDTHS = {"Hr": 2, "Cffn": 1, "Transformer": 5}
StateOf = Callable[[int], TrialState]  # state in which a trial ends, by its number


def study(space: str, **search: Any) -> StudyConfig:
    return StudyConfig.model_validate(
        {"space": space, "proxy": {"side": 64}, "counted": {"side": 64}, "search": search}
    )


def costs(net: Net) -> dict[str, float]:
    """Return made-up costs that depend on the network alone."""
    gmacs = sum(s.depth * WIDTHS[type(s).__name__] * (s.expansion + 1) for s in net.stages)
    return {"gmacs": float(gmacs), "mparams": float(sum(s.width for s in net.stages))}


def top1(net: Net, seed: int = 0) -> float:
    """Return a made-up accuracy: it grows with the cost, and depends on the first stage and the key."""
    return 50 + costs(net)["gmacs"] ** 0.5 + int(net.key[:2], 16) / 256 + WIDTHS[type(net.stages[0]).__name__] + seed


def trial_of(asked: tuple[int, Any, int], state: TrialState = "unfinished") -> Trial:
    number, candidate, seed = asked
    net = candidate.network
    cost = {"macs": int(costs(net)["gmacs"] * 1e9), "params": int(costs(net)["mparams"] * 1e6)}
    facts = network(candidate.name, key=net.key, spec=str(net), side=candidate.side, **cost)
    curve = [epoch(1, top1(net, seed))] if state == "finished" else []
    return new_trial(number, facts, seed=seed, decisions=candidate.decisions, state=state, curve=curve)


def carry_on(search: AskTell, trials: int, state_of: StateOf = lambda number: "finished") -> list[Trial]:
    """Ask for `trials` trials, or until the search is exhausted, and tell the state of each at once."""
    done: list[Trial] = []
    while len(done) < trials and (asked := search.ask()):
        done.append(trial_of(asked, state_of(asked[0])))
        if done[-1].state != "unfinished":
            search.tell(done[-1])
    return done


def search_of(study: StudyConfig, past: Sequence[Trial] = (), **more: Any) -> Search:
    return Search(resolve(study), past, costs=costs, **more)


class LightSpace:
    """A space restricted to networks of fewer than five blocks.

    With `exact_sizes` an option without such a network has size 0; otherwise a walk is rejected at its end.
    """

    def __init__(self, space: Space, *, exact_sizes: bool) -> None:
        self.allowed = [(net, decisions) for net, decisions in space.walks() if sum(s.depth for s in net.stages) < 5]
        self.space, self.exact_sizes = space, exact_sizes
        self.size = len(self.allowed) if exact_sizes else space.size

    def walk(self, choose: Chooser) -> Walked:
        walked = self._walk(choose, {})
        return walked if walked in self.allowed else self.walk(choose)

    def _walk(self, choose: Chooser, decided: dict[str, Option]) -> Walked:
        return self.space.walk(lambda *decision: self._choose(choose, decided, *decision))

    def _choose(self, choose, decided, name, options, sizes) -> int:
        matching = [d for _, d in self.allowed if decided.items() <= d.items()]
        counts = tuple(sum(d.get(name) == option for d in matching) for option in options)
        index = choose(name, options, counts if self.exact_sizes else sizes)
        decided[name] = options[index]
        return index
