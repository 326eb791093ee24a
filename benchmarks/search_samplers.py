"""Ours, Optuna's, BoTorch's and neps' samplers on a space of our language, as one ask-and-tell interface.

`plain` samplers are Optuna's with its defaults: unlike ours they may propose a network again, and learn the costs of
networks as they learn the accuracies. `botorch` is qLogNEHVI through optuna-integration, in the environment of the
project with both packages: `uv run --with botorch --with optuna-integration python benchmarks/search_quality.py ...`.
`neps` runs in an environment of its own (`neps_peer.py`), as no release of neps resolves with pandas 3.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any, Literal, Protocol, cast

import optuna
from many import epoch, network_facts
from search_problems import Problem

from hiri_search.language import Net, parse
from hiri_search.language.syntax_tree import Options
from hiri_search.study.config.networks import Candidate, resolve
from hiri_search.study.config.schema import StudyConfig
from hiri_search.study.ledger.events import TrialAsked
from hiri_search.study.ledger.trial import Trial
from hiri_search.study.search.search import Search
from hiri_search.study.search.search_space import all_options

OURS = ("surrogate", "evolution", "random", "tpe", "nsga2", "nsga3", "gp")
PLAIN = ("plain tpe", "plain nsga2", "plain gp", "botorch")
NEPS = "neps"
SLOW = ("gp", "plain gp", "botorch", NEPS)  # these take about a second to propose a network
SIDE = 512


class Asker(Protocol):
    """A search: `ask` returns the index of a network, `tell` takes its accuracy."""

    def ask(self) -> int: ...

    def tell(self, top1: float) -> None: ...

    def seconds(self) -> float:
        """Return the CPU seconds of the process that proposes."""


class Ours:
    """The search of the product; only the training is missing."""

    def __init__(self, sampler: str, problem: Problem, seed: int, trials: int) -> None:
        settings = {"sampler": sampler, "networks": trials, "seed": seed}
        sides = {"counted": {"side": SIDE}, "proxy": {"side": SIDE}}
        study = StudyConfig.model_validate({"space": problem.spec, "search": settings, **sides})
        self.problem, self.seconds = problem, time.process_time
        self.search = Search(resolve(study), [], costs=lambda net: self._costs(cast(Net, net)))

    def ask(self) -> int:
        task = self.search.ask()
        assert task is not None
        number, candidate, seed = task
        self.asked = self._asked(number, candidate, seed)
        return self.problem.index(cast(Net, candidate.network))

    def tell(self, top1: float) -> None:
        self.search.tell(Trial(self.asked, "finished", curve=[epoch(1, top1)]))

    def _costs(self, net: Net) -> dict[str, float]:
        index = self.problem.index(net)
        return {"gmacs": float(self.problem.gmacs[index]), "mparams": float(self.problem.mparams[index])}

    def _asked(self, number: int, candidate: Candidate, seed: int) -> TrialAsked:
        costs = self._costs(cast(Net, candidate.network))
        facts = network_facts(candidate, params=round(costs["mparams"] * 1e6), macs=round(costs["gmacs"] * 1e9))
        return TrialAsked(trial=number, network=facts, seed=seed, checkpoint="", decisions=dict(candidate.decisions))


class Plain:
    """A sampler of Optuna on the two objectives."""

    def __init__(self, sampler: str, problem: Problem, seed: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        directions: list[Literal["maximize", "minimize"]] = ["maximize", "minimize"]
        self.study = optuna.create_study(directions=directions, sampler=optuna_sampler(sampler, seed))
        self.problem, self.space, self.seconds = problem, parse(problem.spec), time.process_time

    def ask(self) -> int:
        self.trial = self.study.ask()
        self.index = self.problem.index(self.space.decide(self._choose))
        return self.index

    def tell(self, top1: float) -> None:
        self.study.tell(self.trial, [top1, float(self.problem.gmacs[self.index])])

    def _choose(self, name: str, options: Options, sizes: tuple[int, ...]) -> int:
        if isinstance(options[0], int):
            return self.trial.suggest_int(name, 0, len(options) - 1)
        return options.index(self.trial.suggest_categorical(name, options))


def optuna_sampler(name: str, seed: int) -> optuna.samplers.BaseSampler:
    if name == "botorch":
        from optuna_integration.botorch import BoTorchSampler, qnehvi_candidates_func

        sampler: optuna.samplers.BaseSampler = BoTorchSampler(candidates_func=qnehvi_candidates_func, seed=seed)
        return sampler
    samplers: Mapping[str, Callable[..., optuna.samplers.BaseSampler]] = {
        "plain tpe": optuna.samplers.TPESampler,
        "plain nsga2": optuna.samplers.NSGAIISampler,
        "plain gp": optuna.samplers.GPSampler,
    }
    return samplers[name](seed=seed)


class Neps:
    """neps' Bayesian optimisation in a child process; decisions that a network does not have are proposed in vain."""

    def __init__(self, problem: Problem, seed: int, python: Path) -> None:
        self.problem, self.space = problem, parse(problem.spec)
        options = all_options(self.space)
        self.names = list(options)
        command = [str(python), "-W", "ignore", str(Path(__file__).with_name("neps_peer.py"))]
        self.child = Popen(command, stdin=PIPE, stdout=PIPE, text=True, env=os.environ | {"PYTHONPATH": ""})
        loss, gmacs = problem.reference
        self._send({"options": list(options.values()), "reference": [-loss, -gmacs], "seed": seed})
        self.cpu = float(self._receive()["seconds"])
        self.told: list[float] = []

    def ask(self) -> int:
        if self.told:
            self._send(self.told)
        proposal = self._receive()
        self.cpu = proposal["seconds"]
        indices = dict(zip(self.names, proposal["indices"], strict=True))
        self.index = self.problem.index(self.space.decide(lambda name, options, sizes: indices[name]))
        return self.index

    def tell(self, top1: float) -> None:
        self.told = [top1, -float(self.problem.gmacs[self.index])]

    def seconds(self) -> float:
        return self.cpu

    def _send(self, message: object) -> None:
        assert self.child.stdin is not None
        print(json.dumps(message), file=self.child.stdin, flush=True)

    def _receive(self) -> dict[str, Any]:
        assert self.child.stdout is not None
        if not (line := self.child.stdout.readline()):
            raise RuntimeError("neps ended; its error is above")
        return cast(dict[str, Any], json.loads(line))

    def __del__(self) -> None:
        with suppress(Exception):
            self.child.kill()
            self.child.communicate()


def asker(sampler: str, problem: Problem, seed: int, trials: int, neps_python: Path) -> Asker:
    if sampler == NEPS:
        return Neps(problem, seed, neps_python)
    return Plain(sampler, problem, seed) if sampler in PLAIN else Ours(sampler, problem, seed, trials)
