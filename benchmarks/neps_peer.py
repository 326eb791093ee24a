"""Bayesian optimisation of neps as a child process of `search_quality.py`, in an environment of its own.

uv venv /tmp/neps && uv pip install --python /tmp/neps/bin/python neural-pipeline-search

Protocol, in lines of JSON: the first line read is the setup (the options of each parameter, the reference point, the
seed). Each line written is a proposal (an index for each parameter) with the CPU seconds of this process so far; each
later line read is its two values. No network of hiri_search, and no other package of the project, is imported here.

neps 0.17 maximises several objectives although its documentation says that it minimises them: told to minimise the
sums of all parameters, it proposes the largest. It is therefore told values to maximise, with the reference point.
"""

from __future__ import annotations

import json
import random
import sys
import time
import warnings

import neps
import numpy as np
import torch


def parameter(options: list[int | str]) -> object:
    """Return numbers by rank as an integer, and words as a category."""
    numbers = isinstance(options[0], int)
    return neps.Integer(lower=0, upper=len(options) - 1) if numbers else neps.Categorical(tuple(range(len(options))))


def main() -> None:
    warnings.simplefilter("ignore")
    lines, sys.stdout = sys.stdout, sys.stderr  # keeps what neps prints out of the protocol
    setup = json.loads(sys.stdin.readline())
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(setup["seed"])
    names = [f"p{number}" for number in range(len(setup["options"]))]
    space = type("Space", (neps.PipelineSpace,), dict(zip(names, map(parameter, setup["options"]), strict=True)))
    sampler = neps.AskAndTell(neps.algorithms.bayesian_optimization(space(), reference_point=setup["reference"]))
    print(json.dumps({"seconds": time.process_time()}), file=lines, flush=True)
    while True:
        trial = sampler.ask()
        answer = {"indices": [int(trial.config[name]) for name in names], "seconds": time.process_time()}
        print(json.dumps(answer), file=lines, flush=True)
        if not (line := sys.stdin.readline()):
            break
        sampler.tell(trial, {"objective_to_minimize": json.loads(line)})


if __name__ == "__main__":
    main()
