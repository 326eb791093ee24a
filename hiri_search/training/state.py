"""Training state (model, optimizer, schedule, EMA, curve) and its checkpoint."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from timm.utils import ModelEmaV3
from torch import nn

from hiri_search.language import Network, parse_network
from hiri_search.nets.dense.body import body_of
from hiri_search.nets.weights_file import LOAD_ERRORS, Weights, WeightsError, half_file_is_no_disk_error, read_weights
from hiri_search.networks import build, fitted, pretrained_weights
from hiri_search.system.files import atomic_write, retrying
from hiri_search.training.job import Epoch, Job
from hiri_search.training.parallel.ranks import ONE_PROCESS, Ranks
from hiri_search.training.parallel.sync_batchnorm import synchronised
from hiri_search.training.recipe import Recipe

_UNREADABLE_SUFFIX = ".unreadable"  # of a checkpoint that could not be loaded and was renamed


class TrainingError(RuntimeError):
    """A training that cannot continue; the message gives the reason."""


class OutOfSharedMemory(RuntimeError):
    """A training that does not fit into GPU memory together with other trials, but may fit alone."""


@dataclass
class TrainingState:
    """Training state between two epochs; the checkpoint holds all that does not follow from the epoch number."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: CosineLRScheduler  # a function of the step number, so not in the checkpoint
    ema: ModelEmaV3 | None
    parts: int = 1  # into which a batch is split, because it does not fit into memory
    curve: list[Epoch] = field(default_factory=list)
    metrics: Mapping[str, str] = field(default_factory=dict)  # of the user: function (module:name) by name

    def save(self, path: Path) -> None:
        """Write the checkpoint atomically. Raise OSError if the storage stays full or unreachable."""
        content: dict[str, Any] = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "model_ema": self.ema.module.state_dict() if self.ema else None,  # the key that timm prefers
            "parts": self.parts,
            "curve": [asdict(epoch) for epoch in self.curve],
        }
        retrying(partial(_write, content, path), say=_say)

    def load(self, path: Path, device: torch.device, ranks: Ranks = ONE_PROCESS) -> None:
        """Load the checkpoint if it exists; rename an unreadable one and start without it.

        The first of several processes reads it for all.
        """
        content = ranks.from_first(lambda: self._fitting(path, device if ranks.size == 1 else torch.device("cpu")))
        if content is None:
            return
        self.model.load_state_dict(content["model"])
        self.optimizer.load_state_dict(content["optimizer"])
        if self.ema:
            self.ema.module.load_state_dict(content["model_ema"])
        self.parts, self.curve = content["parts"], [Epoch(**epoch) for epoch in content["curve"]]

    def _fitting(self, path: Path, device: torch.device) -> dict[str, Any] | None:
        """Return the checkpoint; None where there is none, or where it is unreadable and has got another name."""
        # While the storage is unreachable, the checkpoint only seems to be missing.
        retrying(partial(_require_folder, path.parent.parent), say=_say)
        if not path.exists():
            return None
        try:
            content: dict[str, Any] = retrying(partial(_read, path, device))
            for epoch in content["curve"]:
                Epoch(**epoch)
            saved = [content["model"], *([content["model_ema"]] if self.ema else [])]
            fits = all(_shapes(weights) == _shapes(self.model.state_dict()) for weights in saved)
            fits &= _group_sizes(content["optimizer"]) == _group_sizes(self.optimizer.state_dict())
        except LOAD_ERRORS:
            fits = False
        if not fits:
            path.replace(path.with_suffix(_UNREADABLE_SUFFIX))
            return None
        return content


def _read(path: Path, device: torch.device) -> Any:
    """Load a file; an OSError is a fault of the disk, to be retried."""
    with half_file_is_no_disk_error():
        return torch.load(path, map_location=device, weights_only=True)


def curve_in(path: Path) -> list[Epoch] | None:
    """Return the curve of a checkpoint, or None if the file is not a checkpoint. No code from the file is run."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        return [Epoch(**epoch) for epoch in content["curve"]]
    except (OSError, *LOAD_ERRORS):
        return None


def saved_weights(path: Path, *, ema: bool) -> tuple[list[Epoch], dict[str, torch.Tensor]]:
    """Return curve and weights of a checkpoint; with `ema` the averaged weights. No code from the file is run.

    Raises WeightsError where the file is damaged, or has no averaged weights.
    """
    try:
        content = _read(path, torch.device("cpu"))
        curve, weights = [Epoch(**epoch) for epoch in content["curve"]], content["model_ema" if ema else "model"]
    except LOAD_ERRORS as error:
        raise WeightsError(f"{path} is damaged, or no checkpoint of this version") from error
    if weights is None:
        raise WeightsError(f"{path} has no averaged weights, because recipe.ema is 0; leave out --ema")
    return curve, weights


def _shapes(weights: dict[str, torch.Tensor]) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in weights.items()}


def _group_sizes(optimizer: dict[str, Any]) -> list[int]:
    return [len(group["params"]) for group in optimizer["param_groups"]]


def _require_folder(checkpoints: Path) -> None:
    """Make the folder of all checkpoints again if it alone is gone; OSError while the results folder is unreachable.

    An empty results folder may be the mount point of a disk that is away: nothing is written below it.
    """
    if not checkpoints.exists() and any(checkpoints.parent.iterdir()):
        checkpoints.mkdir(exist_ok=True)
    checkpoints.stat()


def _say(text: str) -> None:
    """Show a message to the user of a run in this process; Ray keeps what its workers print."""
    with suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def _write(content: dict[str, Any], path: Path) -> None:
    _require_folder(path.parent.parent)
    with atomic_write(path) as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:  # raised by torch if the disk is full
            raise error.__context__ if isinstance(error.__context__, OSError) else error from None


def initial_state(
    job: Job, classes: int, steps_per_epoch: int, device: torch.device, ranks: Ranks = ONE_PROCESS
) -> TrainingState:
    """Return the state before the first step. Raise TrainingError if the weights of the recipe do not fit."""
    recipe = job.recipe
    model = build(parse_network(job.spec), job.side, classes=classes, drop_path=recipe.drop_path)
    if recipe.weights or recipe.pretrained:
        _load_initial_weights(model, job)
    if recipe.checkpointing:
        body = body_of(model)
        (body.features.model if body else model).set_grad_checkpointing(True)  # type: ignore[operator, union-attr]
    if ranks.size > 1 and recipe.sync_bn:
        model = synchronised(model)
    model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = create_optimizer_v2(model, "adamw", lr=job.lr, weight_decay=recipe.weight_decay, fused=True)
    ema = ModelEmaV3(model, decay=recipe.ema, use_warmup=recipe.ema_warmup) if recipe.ema else None
    return TrainingState(
        model, optimizer, _schedule(optimizer, recipe, steps_per_epoch), ema, metrics=dict(job.metrics)
    )


def initial_weights(network: Network, recipe: Recipe) -> Weights:
    """Return the weights from which a recipe begins. OSError, SpecError and WeightsError where they cannot be had."""
    return pretrained_weights(network, recipe.pretrained) if recipe.pretrained else read_weights(recipe.weights)


def _load_initial_weights(model: nn.Module, job: Job) -> None:
    """Load the weights of the recipe; a last layer for other classes keeps its initial ones."""
    network = parse_network(job.spec)
    try:
        weights = initial_weights(network, job.recipe)
        model.load_state_dict(fitted(weights, network, job.side, model), strict=False)
    except WeightsError as error:
        raise TrainingError(f"recipe.{error}") from error


def _schedule(optimizer: torch.optim.Optimizer, recipe: Recipe, steps_per_epoch: int) -> CosineLRScheduler:
    return CosineLRScheduler(
        optimizer,
        t_initial=recipe.epochs * steps_per_epoch,
        lr_min=recipe.min_lr,
        warmup_t=round(recipe.warmup_epochs * steps_per_epoch),
        warmup_lr_init=recipe.min_lr,
        t_in_epochs=False,
    )
