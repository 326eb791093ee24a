"""One training of one network on one device, that can be killed at any moment and go on."""

from __future__ import annotations

import hashlib
import math
import os
import random
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timm.data import Mixup
from timm.loss import SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset

from hiri_search.language import parse_network
from hiri_search.nets.networks import build
from hiri_search.training.data import SPLITS, Prepared, open_split
from hiri_search.training.job import Epoch, Job
from hiri_search.training.mixing import mixer
from hiri_search.training.recipe import Recipe

FINITE_EVERY = 20  # steps between looks at the loss: on CUDA each look waits for the device


class TrialFailed(RuntimeError):
    """A training that cannot go on, with the reason in words."""


@dataclass
class _State:
    """What changes during a training, and what a checkpoint therefore holds."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: CosineLRScheduler  # where it stands follows from the number of the step alone
    ema: ModelEmaV3 | None
    curve: list[Epoch] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Written whole, then renamed: a kill leaves the old one or the new one."""
        content: dict[str, Any] = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "model_ema": self.ema.module.state_dict() if self.ema else None,  # the word timm loads first
            "curve": [asdict(epoch) for epoch in self.curve],
        }
        unfinished = path.with_suffix(f".{os.getpid()}.tmp")
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(content, unfinished)
        unfinished.replace(path)

    def load(self, path: Path, device: torch.device) -> None:
        content = torch.load(path, map_location=device, weights_only=True)
        self.model.load_state_dict(content["model"])
        self.optimizer.load_state_dict(content["optimizer"])
        if self.ema:
            self.ema.module.load_state_dict(content["model_ema"])
        self.curve = [Epoch(**epoch) for epoch in content["curve"]]


def train(
    job: Job, prepared: Prepared, checkpoint: Path, *, report: Callable[[Epoch], None] = lambda epoch: None
) -> list[Epoch]:
    """Train to the end, from the checkpoint if there is one; `report` hears of each epoch once it is safe.

    Gone on with, it tells of the epochs before again, and trains only the others.

    The same job gives the same digits on the same machine, broken or unbroken. TrialFailed where the loss is
    not finite.
    """
    device = _device()
    _seed(job.seed, "weights")
    train_split, val_split = (open_split(job.data, prepared, name, side=job.side, recipe=job.recipe) for name in SPLITS)
    per_epoch = len(train_split) // job.recipe.batch  # type: ignore[arg-type]
    state = _begin(job, len(prepared.classes), per_epoch, device)
    if checkpoint.exists():
        state.load(checkpoint, device)
        for epoch in state.curve:  # whoever listened before may have died between the checkpoint and the telling
            report(epoch)
    step = _Step(job.recipe, len(prepared.classes), device, per_epoch)
    for number in range(len(state.curve) + 1, job.recipe.epochs + 1):
        # Each epoch has randomness of its own, so that one gone on with draws what the unbroken one would have.
        generator = _seed(job.seed, f"epoch {number}")
        state.curve.append(_epoch(number, state, step, _loaders(train_split, val_split, job.recipe, generator)))
        state.save(checkpoint)
        report(state.curve[-1])
    return state.curve


def _device() -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda")
    torch.set_num_threads(1)  # trials run side by side; and sums in another order would change the last digit
    return torch.device("cpu")


def _seed(seed: int, purpose: str) -> torch.Generator:
    """Seed everything that draws, for one purpose; the generator is for the order of the pictures."""
    value = int.from_bytes(hashlib.sha256(f"{seed} {purpose}".encode()).digest()[:4], "big")
    random.seed(value)
    np.random.seed(value)
    torch.manual_seed(value)
    return torch.Generator().manual_seed(value)


def _begin(job: Job, classes: int, per_epoch: int, device: torch.device) -> _State:
    model = build(parse_network(job.spec), job.side, classes=classes, drop_path=job.recipe.drop_path)
    model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = create_optimizer_v2(model, "adamw", lr=job.recipe.lr, weight_decay=job.recipe.weight_decay, fused=True)
    ema = ModelEmaV3(model, decay=job.recipe.ema, use_warmup=True) if job.recipe.ema else None
    return _State(model, optimizer, _schedule(optimizer, job.recipe, per_epoch), ema)


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


Batches = DataLoader[tuple[Tensor, Tensor]]


def _loaders(train: Dataset[Any], val: Dataset[Any], recipe: Recipe, order: torch.Generator) -> tuple[Batches, Batches]:
    stream = isinstance(train, IterableDataset)
    loader = partial(DataLoader, num_workers=recipe.workers, pin_memory=torch.cuda.is_available())
    return (
        # A stream has an order of its own.
        loader(train, batch_size=recipe.batch, shuffle=not stream, drop_last=True, generator=order),
        loader(val, batch_size=2 * recipe.batch, shuffle=False, drop_last=False),
    )


class _Step:
    """One step of a training: forward, backward, clip, move, average."""

    def __init__(self, recipe: Recipe, classes: int, device: torch.device, per_epoch: int) -> None:
        self.recipe, self.device, self.per_epoch = recipe, device, per_epoch
        self.mix: Mixup = mixer(recipe, classes)
        self.loss = SoftTargetCrossEntropy()

    def autocast(self) -> AbstractContextManager[None]:
        on = self.recipe.bf16 and self.device.type == "cuda"
        return torch.autocast("cuda", torch.bfloat16) if on else nullcontext()

    def place(self, images: Tensor) -> Tensor:
        return images.to(self.device, memory_format=torch.channels_last, non_blocking=True)

    def __call__(self, state: _State, images: Tensor, labels: Tensor, number: int) -> Tensor:
        """The loss, as a tensor on the device; `number` counts steps from the start of the training, from 1."""
        images, targets = self.mix(self.place(images), labels.to(self.device))
        with self.autocast():
            loss = self.loss(state.model(images), targets)
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self.recipe.clip:
            nn.utils.clip_grad_norm_(state.model.parameters(), self.recipe.clip)
        state.optimizer.step()
        if state.ema:
            state.ema.update(state.model, step=number)
        return loss.detach()  # type: ignore[no-any-return]


def _epoch(number: int, state: _State, step: _Step, loaders: tuple[Batches, Batches]) -> Epoch:
    started = time.perf_counter()
    loss = _train_epoch(number, state, step, loaders[0])
    trained = time.perf_counter() - started
    top1, top5 = _evaluate(state.model, step, loaders[1])
    ema1, ema5 = _evaluate(state.ema.module, step, loaders[1]) if state.ema else (None, None)
    return Epoch(
        epoch=number,
        loss=loss,
        lr=state.optimizer.param_groups[0]["lr"],
        top1=top1,
        top5=top5,
        ema_top1=ema1,
        ema_top5=ema5,
        seconds=time.perf_counter() - started,
        images_per_second=step.per_epoch * step.recipe.batch / trained,
    )


def _train_epoch(epoch: int, state: _State, step: _Step, batches: Batches) -> float:
    """The mean loss."""
    state.model.train()
    total = torch.zeros((), device=step.device)
    for index, (images, labels) in enumerate(batches, 1):
        number = (epoch - 1) * step.per_epoch + index
        state.schedule.step_update(number)
        total += step(state, images, labels, number)
        if (index % FINITE_EVERY == 0 or index == step.per_epoch) and not math.isfinite(total.item()):
            raise TrialFailed(f"the loss is not finite ({total.item()}) at epoch {epoch}, step {index}")
    return total.item() / step.per_epoch


@torch.no_grad()
def _evaluate(model: nn.Module, step: _Step, batches: Batches) -> tuple[float, float]:
    """Top-1 and top-5 in percent of the whole split."""
    model.eval()
    hits = torch.zeros(2, device=step.device)
    for images, labels in batches:
        with step.autocast():
            logits = model(step.place(images))
        best = logits.topk(min(5, logits.shape[1])).indices  # (B, 5), the likeliest first
        right = best == labels.to(step.device)[:, None]
        hits += torch.stack([right[:, 0].sum(), right.sum()])
    top1, top5 = (100 * hits / len(batches.dataset)).tolist()  # type: ignore[arg-type]
    return top1, top5
