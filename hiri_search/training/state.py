"""Training state (model, optimizer, schedule, EMA, curve) and its checkpoint."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from timm.utils import ModelEmaV3
from torch import nn

from hiri_search.language import parse_network
from hiri_search.networks import build
from hiri_search.system.files import atomic_write, retrying
from hiri_search.training.job import Epoch, Job
from hiri_search.training.recipe import Recipe

UNREADABLE_SUFFIX = ".unreadable"  # ending of a checkpoint that was set aside
# What a file raises that is none of ours; what is not plain numbers and words is refused before anything of it is run.
BROKEN = (RuntimeError, EOFError, UnpicklingError, AttributeError, LookupError, TypeError, ValueError)


class TrialFailed(RuntimeError):
    """A training that cannot go on, with the reason in words."""


class OutOfSharedMemory(RuntimeError):
    """A training that does not fit beside the others on its device, and may fit alone."""


@dataclass
class TrainingState:
    """A training between two epochs: all of it is in its checkpoint, or follows from the number of the epoch."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: CosineLRScheduler  # where it stands follows from the number of the step alone
    ema: ModelEmaV3 | None
    parts: int = 1  # that a batch is computed in, one after the other, because the whole does not fit into memory
    curve: list[Epoch] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Kept whole: a kill leaves the old one or the new one. OSError where the storage stays full or away."""
        content: dict[str, Any] = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "model_ema": self.ema.module.state_dict() if self.ema else None,  # the word timm loads first
            "parts": self.parts,
            "curve": [asdict(epoch) for epoch in self.curve],
        }
        retrying(partial(_write, content, path))

    def load(self, path: Path, device: torch.device) -> None:
        """Go on from a checkpoint, if there is one; one that cannot be read is set aside, and as good as none."""
        retrying(path.parent.parent.stat)  # where its storage is away, it only looks as if there were none
        if not path.exists():
            return
        try:
            content = retrying(partial(torch.load, path, map_location=device, weights_only=True))
            curve = [Epoch(**epoch) for epoch in content["curve"]]
            weights = [content["model"], *([content["model_ema"]] if self.ema else [])]
            fitting = all(_shapes(found) == _shapes(self.model.state_dict()) for found in weights)
            fitting &= _slots(content["optimizer"]) == _slots(self.optimizer.state_dict())
        except BROKEN:
            fitting = False
        if not fitting:
            path.replace(path.with_suffix(UNREADABLE_SUFFIX))
            return
        self.model.load_state_dict(content["model"])
        self.optimizer.load_state_dict(content["optimizer"])
        if self.ema:
            self.ema.module.load_state_dict(content["model_ema"])
        self.parts, self.curve = content["parts"], curve


def curve_in(path: Path) -> list[dict[str, Any]] | None:
    """The epochs that a checkpoint holds; None where it is none of ours. Nothing in it is run."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        return [asdict(Epoch(**epoch)) for epoch in content["curve"]]
    except (OSError, *BROKEN):
        return None


def _shapes(weights: dict[str, torch.Tensor]) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in weights.items()}


def _slots(optimizer: dict[str, Any]) -> list[int]:
    """How many weights are in each group."""
    return [len(group["params"]) for group in optimizer["param_groups"]]


def _write(content: dict[str, Any], path: Path) -> None:
    with atomic_write(path) as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:  # what torch makes of a disk that is full
            raise error.__context__ if isinstance(error.__context__, OSError) else error from None


def initial_state(job: Job, classes: int, per_epoch: int, device: torch.device) -> TrainingState:
    """A training that has not begun; `per_epoch` steps make an epoch. TrialFailed where `weights` do not fit."""
    recipe = job.recipe
    model = build(parse_network(job.spec), job.side, classes=classes, drop_path=recipe.drop_path)
    if recipe.weights:
        _take(model, Path(recipe.weights))
    if recipe.checkpointing:
        model.set_grad_checkpointing(True)  # type: ignore[operator]
    model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = create_optimizer_v2(model, "adamw", lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True)
    ema = ModelEmaV3(model, decay=recipe.ema, use_warmup=recipe.ema_warmup) if recipe.ema else None
    return TrainingState(model, optimizer, _schedule(optimizer, recipe, per_epoch), ema)


def _take(model: nn.Module, path: Path) -> None:
    """The weights of a checkpoint, the averaged ones where it has them; a last layer of other classes begins anew."""
    content = torch.load(path.expanduser(), map_location="cpu", weights_only=True)
    weights, own = content.get("model_ema") or content["model"], model.state_dict()
    fitting = {name: value for name, value in weights.items() if name in own and own[name].shape == value.shape}
    missing = set(own) - set(fitting) - {"head.fc.weight", "head.fc.bias"}
    if missing or set(weights) - set(own):
        other = next(iter(sorted(missing or set(weights) - set(own))))
        raise TrialFailed(f"recipe.weights={path} holds another network's weights: {other} does not fit")
    model.load_state_dict(fitting, strict=False)


def _schedule(optimizer: torch.optim.Optimizer, recipe: Recipe, per_epoch: int) -> CosineLRScheduler:
    """Linear warm-up and a cosine, over steps."""
    return CosineLRScheduler(
        optimizer,
        t_initial=recipe.epochs * per_epoch,
        lr_min=recipe.min_lr,
        warmup_t=round(recipe.warmup_epochs * per_epoch),
        warmup_lr_init=recipe.min_lr,
        t_in_epochs=False,
    )
