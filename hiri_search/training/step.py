"""One optimisation step: mixup, distillation targets, forward, backward, clip, update, EMA."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import cast

import numpy as np
import torch
from timm.loss import SoftTargetCrossEntropy
from torch import Tensor, nn

from hiri_search.nets.eval_mode import bn_statistics, frozen_bn_statistics, restore
from hiri_search.nets.hirivit import HiriVit
from hiri_search.training.distill import distilled, teacher_map
from hiri_search.training.mixup import Mixed, mixer
from hiri_search.training.recipe import Recipe
from hiri_search.training.state import TrainingState, TrialFailed


class Step:
    """Steps of one training."""

    def __init__(
        self,
        recipe: Recipe,
        classes: int,
        device: torch.device,
        model: nn.Module,
        *,
        beat: Callable[[], None] = lambda: None,
        beside_others: bool = False,
    ) -> None:
        self.recipe, self.device = recipe, device
        self.beat, self.beside_others = beat, beside_others
        self.mix = mixer(recipe, classes)
        self.loss = SoftTargetCrossEntropy()
        self.forward = _compiled(model, recipe) if recipe.compile else model
        self.fitting = 0  # so many parts have been seen to fit into memory
        self.compile_seconds: float | None = None  # of the first step, where it compiles

    def autocast(self) -> AbstractContextManager[None]:
        on = self.recipe.bf16 and self.device.type == "cuda"
        return torch.autocast("cuda", torch.bfloat16) if on else nullcontext()

    def __call__(
        self, state: TrainingState, images: Tensor, labels: Tensor, number: int, rng: np.random.RandomState
    ) -> Tensor:
        """The loss, as a tensor on the device; `number` counts steps from the start of the training, from 1."""
        self.beat()
        started = time.perf_counter()
        mixed = self.mix(images, labels, rng)
        targets = self._targets(state, images, mixed)
        loss = self._gradients(state, mixed.images, targets)
        if self.recipe.clip:
            nn.utils.clip_grad_norm_(state.model.parameters(), self.recipe.clip)
        state.optimizer.step()
        if state.ema:
            state.ema.update(state.model, step=number)
        if self.recipe.compile and self.compile_seconds is None:
            loss.item()  # what the device still does belongs to it
            self.compile_seconds = time.perf_counter() - started
        return loss

    def _targets(self, state: TrainingState, images: Tensor, mixed: Mixed) -> Tensor:
        """The labels, and beside them what the teacher says of the images before they were mixed (Eq. 5)."""
        alpha = self.recipe.distill_alpha
        if alpha == 1:
            return mixed.targets
        assert state.ema is not None
        teacher = cast(HiriVit, state.ema.module)
        with self.autocast():
            maps = [teacher_map(teacher, part) for part in images.chunk(state.parts)]
        return distilled(mixed.targets, torch.cat(maps), mixed.mixing, images.shape[-1], alpha)

    def _gradients(self, state: TrainingState, images: Tensor, targets: Tensor) -> Tensor:
        """Of the whole batch, in as many parts as fit: where one does not, from anew in twice as many."""
        while True:
            state.optimizer.zero_grad(set_to_none=True)
            # An attempt that ends half-way is to leave nothing behind in BatchNorm.
            before = None if self.fitting == state.parts else bn_statistics(state.model)
            try:
                loss = self._backward(state.model, images.chunk(state.parts), targets.chunk(state.parts))
            except torch.OutOfMemoryError as error:
                if self.beside_others:
                    raise  # alone on the device it may fit as a whole
                if state.parts >= len(images) // 2:  # BatchNorm needs two images
                    raise TrialFailed(f"two images at a time do not fit into memory: {error}") from error
            else:
                self.fitting = state.parts
                return loss
            if before is not None:
                restore(state.model, before)
            state.parts *= 2
            torch.cuda.empty_cache()

    def _backward(self, model: nn.Module, images: tuple[Tensor, ...], targets: tuple[Tensor, ...]) -> Tensor:
        """The mean loss; each part counts by its share of the batch."""
        total = torch.zeros((), device=self.device)
        whole = sum(map(len, images))
        for part, wanted in zip(images, targets, strict=True):
            if self.recipe.cuda_graphs:
                torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
            with self.autocast():
                loss = self.loss(self.forward(part), wanted) * (len(part) / whole)
            # Blocks that are computed again see the same images again.
            with frozen_bn_statistics(model) if self.recipe.checkpointing else nullcontext():
                loss.backward()
            total += loss.detach()
        return total


def _compiled(model: nn.Module, recipe: Recipe) -> Callable[[Tensor], Tensor]:
    """Shapes are fixed: a general program for any batch would be slower."""
    return torch.compile(model, dynamic=False, mode="reduce-overhead" if recipe.cuda_graphs else None)
