"""The best learning rate of a stand-in by its width: what `Job.lr` is based on.

python benchmarks/width_scaling.py --widths 2 4 8 --seeds 0

One network is trained briefly on synthetic images, with its widths divided by each divisor n and at each learning
rate, by three rules:

- `plain`: one learning rate for all weights;
- `scaled`: n times the learning rate for all weights, and initial weights of matrices times the square root of n;
- `mup`: as `scaled`, but biases, norms and depthwise convolutions keep the learning rate (Yang et al. 2022, Table 3).

The table holds the training loss of the last epoch, which varies less between seeds than the accuracy.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import sqrt
from pathlib import Path
from statistics import mean
from typing import Any
from unittest.mock import patch

import torch
from timm.optim import create_optimizer_v2, param_groups_weight_decay
from torch import nn

from hiri_search.language import parse_net
from hiri_search.nets import hirivit
from hiri_search.system.cache_dir import user_cache
from hiri_search.training import state
from hiri_search.training.data.prepare import prepare
from hiri_search.training.job import DataSource, Job
from hiri_search.training.loop import train
from hiri_search.training.recipe import Recipe

NETWORK = "hr(32 e=4)*2 -> hr(64 e=4)*2 -> cffn(128 e=6)*2 -> t(320 e=5)*9 -> t(512 e=5)*4"  # HIRI-ViT-S
DEPTH, SIDE = 4, 192
RATES = {"plain": (1e-3, 2e-3, 4e-3, 8e-3), "scaled": (5e-4, 1e-3, 2e-3), "mup": (5e-4, 1e-3, 2e-3)}


@dataclass(frozen=True)
class Trained:
    """One training: its setting, the loss of its last epoch, and top-1 on the validation images."""

    divisor: int
    rule: str
    lr: float
    loss: float
    top1: float


def _is_matrix(parameter: nn.Parameter) -> bool:
    """Return whether the number of inputs of a weight is a width: not one (depthwise), nor three (the image)."""
    return parameter.ndim > 1 and parameter.shape[1] not in (1, 3)


def _groups(model: nn.Module, decay: float, vectors: float, matrices: float) -> Iterator[dict[str, Any]]:
    for group in param_groups_weight_decay(model, decay):
        for scale, wanted in ((vectors, False), (matrices, True)):
            chosen = [each for each in group["params"] if _is_matrix(each) == wanted]
            if chosen:
                yield {"params": chosen, "weight_decay": group["weight_decay"], "lr_scale": scale}


def _scaled_initial_weights(initialise: Any, scale: float, module: nn.Module, name: str = "") -> None:
    initialise(module, name)
    if isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1)):
        with torch.no_grad():
            module.weight.mul_(scale)


@contextmanager
def ruled(rule: str, divisor: int) -> Iterator[None]:
    """Train by a rule."""
    if rule == "plain":
        yield
        return
    vectors = 1 if rule == "mup" else divisor
    initialise = partial(_scaled_initial_weights, hirivit.initialise, sqrt(divisor))
    create = create_optimizer_v2

    def optimizer(model: nn.Module, name: str, *, lr: float, weight_decay: float, fused: bool) -> Any:
        groups = partial(_groups, decay=weight_decay, vectors=vectors, matrices=divisor)
        return create(model, name, lr=lr, weight_decay=weight_decay, fused=fused, param_group_fn=groups)

    with patch.object(hirivit, "initialise", initialise), patch.object(state, "create_optimizer_v2", optimizer):
        yield


def trained(divisor: int, rule: str, lr: float, seeds: list[int], given: argparse.Namespace) -> Trained:
    """Train the network with its widths divided by `divisor`; means over the seeds."""
    net = parse_net(NETWORK).scaled_down(width=divisor, depth=DEPTH)
    data = DataSource(train=given.images, val=1000)
    recipe = Recipe(epochs=1, batch=16, lr=lr, warmup_epochs=0.2, crop=0.8)
    prepared = prepare(data, SIDE, user_cache("images"))
    curves = []
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder, ruled(rule, divisor):
            checkpoint = Path(folder) / "checkpoints" / "job" / "last.pt"
            checkpoint.parent.mkdir(parents=True)
            curves.append(train(Job(str(net), SIDE, None, seed, recipe, data), prepared, checkpoint)[-1])
    return Trained(
        divisor, rule, lr, mean(epoch.loss for epoch in curves), mean(epoch.scores["top1"] for epoch in curves)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", type=int, nargs="+", default=[2, 4, 8], help="divisors of the widths")
    parser.add_argument("--rules", nargs="+", default=list(RATES), choices=list(RATES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--images", type=int, default=3000, help="training images: steps are a sixteenth of them")
    given = parser.parse_args()
    print("| widths divided by | rule | learning rate | training loss | top-1 (%) |\n|-|-|-|-|-|", flush=True)
    for divisor in given.widths:
        for rule in given.rules:
            for lr in RATES[rule]:
                result = trained(divisor, rule, lr, given.seeds, given)
                print(f"| {divisor} | {rule} | {lr:g} | {result.loss:.3f} | {result.top1:.1f} |", flush=True)


if __name__ == "__main__":
    main()
