"""Searches whose trainings are made up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hiri_search.language import Chooser, Net, Space
from hiri_search.study.config.networks import resolve
from hiri_search.study.config.schema import Study
from hiri_search.study.ledger.trial import Trial, TrialState
from hiri_search.study.search.search import AskTell, Search
from tests.study.records import epoch, network, new_trial

ROWS = """
nets:
  small: hr(32 e=4) -> hr(64 e=4)
  other: hr(32 e=4) -> cffn(64 e=4)
counted: {side: 64, classes: 10}
"""  # what an ablation in tests begins with


class Quiet:
    """A watcher that says nothing."""

    def say(self, text: str) -> None:
        pass

    def on_trial(self, trial: Trial) -> None:
        pass


WIDTHS = {"Hr": 2, "Cffn": 1, "Transformer": 5}
Fate = Callable[[int], TrialState]


def study(space: str, **search: Any) -> Study:
    return Study.model_validate({"space": space, "proxy": {"side": 64}, "counted": {"side": 64}, "search": search})


def costs(net: Net) -> dict[str, float]:
    """Made up, but of the network alone."""
    gmacs = sum(s.depth * WIDTHS[type(s).__name__] * (s.expansion + 1) for s in net.stages)
    return {"gmacs": float(gmacs), "mparams": float(sum(s.width for s in net.stages))}


def top1(net: Net, seed: int = 0) -> float:
    """More for what is dear, for how it begins, and for what its key happens to say."""
    return 50 + costs(net)["gmacs"] ** 0.5 + int(net.key[:2], 16) / 256 + WIDTHS[type(net.stages[0]).__name__] + seed


def begun(asked: tuple[int, Any, int], state: TrialState = "unfinished") -> Trial:
    number, candidate, seed = asked
    net = candidate.network
    cost = {"macs": int(costs(net)["gmacs"] * 1e9), "params": int(costs(net)["mparams"] * 1e6)}
    facts = network(candidate.name, key=net.key, spec=str(net), side=candidate.side, **cost)
    curve = [epoch(1, top1(net, seed))] if state == "finished" else []
    return new_trial(number, facts, seed=seed, decisions=candidate.decisions, state=state, curve=curve)


def carry_on(search: AskTell, trials: int, fate: Fate = lambda number: "finished") -> list[Trial]:
    """Ask for so many, or until there is no more, and tell each as soon as it is asked for."""
    done: list[Trial] = []
    while len(done) < trials and (asked := search.ask()):
        done.append(begun(asked, fate(asked[0])))
        if done[-1].state != "unfinished":
            search.tell(done[-1])
    return done


def searching(given: Study, past: Sequence[Trial] = (), **more: Any) -> Search:
    return Search(resolve(given), past, costs=costs, **more)


class Light:
    """A space without its networks of five blocks; it says so by sizes, or at the end of a walk alone."""

    def __init__(self, space: Space, *, foresees: bool) -> None:
        self.inside = [(net, decisions) for net, decisions in space.walks() if sum(s.depth for s in net.stages) < 5]
        self.space, self.foresees = space, foresees
        self.size = len(self.inside) if foresees else space.size

    def walk(self, choose: Chooser) -> tuple[Net, dict[str, int]]:
        found = self._walk(choose, {})
        return found if found in self.inside else self.walk(choose)

    def _walk(self, choose: Chooser, made: dict[str, int]) -> tuple[Net, dict[str, int]]:
        return self.space.walk(lambda *fork: self._choose(choose, made, *fork))

    def _choose(self, choose, made, name, options, sizes) -> int:
        ahead = [d for _, d in self.inside if made.items() <= d.items()]
        counts = tuple(sum(d.get(name) == index for d in ahead) for index in range(len(options)))
        made[name] = choose(name, options, counts if self.foresees else sizes)
        return made[name]
