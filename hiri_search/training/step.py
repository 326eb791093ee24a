"""One optimisation step: mixup, distillation targets, forward, backward, clip, update, EMA."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import accumulate, pairwise
from typing import Any, cast

import numpy as np
import torch
from timm.loss import SoftTargetCrossEntropy
from torch import Tensor, nn

from hiri_search.nets.eval_mode import bn_statistics, frozen_bn_statistics, restore
from hiri_search.nets.hirivit import HiriVit
from hiri_search.system.hardware import is_out_of_memory
from hiri_search.training.distill import distilled_targets, teacher_map
from hiri_search.training.mixup import Mixed, make_mixer
from hiri_search.training.parallel.ranks import ONE_PROCESS, Ranks, without_exchange
from hiri_search.training.parallel.sync_batchnorm import without_synchronised
from hiri_search.training.recipe import Recipe
from hiri_search.training.score import CLASSIFICATION
from hiri_search.training.state import TrainingError, TrainingState


class Step:
    """Optimisation steps of one training, and its predictions; of a classifier."""

    task = CLASSIFICATION

    def __init__(
        self,
        recipe: Recipe,
        classes: int,
        device: torch.device,
        model: nn.Module,
        *,
        heartbeat: Callable[[], None] = lambda: None,
        shared_gpu: bool = False,
        ranks: Ranks = ONE_PROCESS,
    ) -> None:
        self.recipe, self.device, self.ranks = recipe, device, ranks
        self.heartbeat, self.shared_gpu = heartbeat, shared_gpu
        self.mix = make_mixer(recipe, classes)
        self.loss = SoftTargetCrossEntropy()
        self.parallel = ranks.parallel(model)
        self.forward: Callable[[Tensor], Tensor] = self.parallel
        if recipe.compile:  # for fixed shapes, which is faster than code for dynamic shapes
            mode = "reduce-overhead" if recipe.cuda_graphs else None
            self.forward = torch.compile(self.parallel, dynamic=False, mode=mode)
        self.fitting_parts = 0  # number of parts per batch that is known to fit into memory; 0: not known yet
        self.compile_seconds: float | None = None  # of the first step, with `compile`

    def autocast(self) -> AbstractContextManager[None]:
        enabled = self.recipe.bf16 and self.device.type == "cuda"
        return torch.autocast("cuda", torch.bfloat16) if enabled else nullcontext()

    def __call__(
        self, state: TrainingState, images: Tensor, labels: Any, number: int, rng: np.random.RandomState
    ) -> Tensor:
        """Do step `number` of the training, counted from 1; return the loss as a tensor on the device.

        Of several processes, each returns the loss of its own images.
        """
        self.heartbeat()
        started = time.perf_counter()
        loss = self._gradients(state, *self.mixed(state, images, labels, rng))
        if self.recipe.clip:
            nn.utils.clip_grad_norm_(state.model.parameters(), self.recipe.clip)
        state.optimizer.step()
        if state.ema:
            state.ema.update(state.model, step=number)
        if self.recipe.compile and self.compile_seconds is None:
            loss.item()  # wait for the device, so that its work is counted too
            self.compile_seconds = time.perf_counter() - started
        return loss

    def mixed(
        self, state: TrainingState, images: Tensor, targets: Any, rng: np.random.RandomState
    ) -> tuple[Tensor, Any]:
        """Return the images of a step and their targets, from the batch and its labels."""
        mixed = self.mix(images, targets, rng)
        return mixed.images, self._targets(state, images, mixed)

    def split(self, targets: Any, parts: Sequence[Tensor]) -> list[Any]:
        """Return the targets of each part of the images; targets are a tensor or a list."""
        ends = accumulate(map(len, parts), initial=0)
        return [targets[start:end] for start, end in pairwise(ends)]

    def loss_of(self, images: Tensor, targets: Any) -> Any:
        """Return the mean loss of some images, a tensor."""
        return self.loss(self.forward(images), targets)

    def outputs(self, model: nn.Module, images: Tensor, targets: Any) -> Any:
        """Return what the meters of the task take: here logits (B, classes)."""
        return model(images)

    def _targets(self, state: TrainingState, images: Tensor, mixed: Mixed) -> Tensor:
        """Return the labels of the mixed images, combined with the teacher's map if `distill_alpha` < 1 (Eq. 5)."""
        alpha = self.recipe.distill_alpha
        if alpha == 1:
            return mixed.targets
        assert state.ema is not None
        teacher = cast(HiriVit, state.ema.module)
        with self.autocast():
            maps = self._in_fitting_parts(
                state, images, lambda parts: torch.cat([teacher_map(teacher, part) for part in parts])
            )
        return distilled_targets(mixed.targets, maps, mixed.mixing, images.shape[-1], alpha)

    def _gradients(self, state: TrainingState, images: Tensor, targets: Any) -> Tensor:
        """Compute the gradients of the batch, and return its mean loss."""
        if self.ranks.size > 1 and self.fitting_parts != state.parts:
            self._agree_on_parts(state, images, targets)

        def backward(parts: Sequence[Tensor]) -> Tensor:
            state.optimizer.zero_grad(set_to_none=True)
            statistics = None if self.fitting_parts == state.parts else bn_statistics(state.model)
            try:
                return self._backward(state.model, parts, self.split(targets, parts))
            except RuntimeError:
                if statistics is not None:  # which a failed attempt must not change
                    restore(state.model, statistics)
                raise

        loss = self._in_fitting_parts(state, images, backward)
        self.fitting_parts = state.parts
        return loss

    def _in_fitting_parts(
        self, state: TrainingState, images: Tensor, compute: Callable[[Sequence[Tensor]], Tensor]
    ) -> Tensor:
        """Compute with the images in `state.parts` parts; double the number of parts until they fit into memory."""
        while True:
            try:
                return compute(in_parts(images, state.parts))
            except RuntimeError as error:
                if not is_out_of_memory(error) or self.shared_gpu or self.ranks.size > 1:
                    raise  # alone on the GPU the batch may fit as a whole; other processes wait for these gradients
                problem = str(error)  # the error itself would keep the tensors of its traceback
            self._double_parts(state, images, problem)

    def _agree_on_parts(self, state: TrainingState, images: Tensor, targets: Any) -> None:
        """Double the number of parts until they fit into the memory of all processes.

        Each process tries it without the others: one that runs out of memory would let them wait for its gradients.
        """
        while errors := [text for text in self.ranks.gathered(self._memory_error(state, images, targets)) if text]:
            self._double_parts(state, images, errors[0])
        self.fitting_parts = state.parts

    def _memory_error(self, state: TrainingState, images: Tensor, targets: Any) -> str:
        """Return the error of gradients that do not fit into memory, or nothing; the training stays as it is."""
        statistics, devices = bn_statistics(state.model), [self.device] if self.device.type == "cuda" else []
        parts, apart = in_parts(images, state.parts), without_synchronised(state.model)
        try:
            with torch.random.fork_rng(devices), apart, without_exchange(self.parallel):
                self._backward(state.model, parts, self.split(targets, parts))
                _require_gradients(state.model)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            return str(error)  # the error itself would keep the tensors of its traceback
        finally:
            state.optimizer.zero_grad(set_to_none=True)
            restore(state.model, statistics)
        return ""

    def _double_parts(self, state: TrainingState, images: Tensor, error: str) -> None:
        """Double the number of parts. Raise TrainingError where a part would have one image: BatchNorm needs two."""
        if self.recipe.cuda_graphs:  # gradients are not added up between two passes of a graph
            problem = f"with recipe.cuda_graphs a batch must fit into memory: {error}"
            raise TrainingError(f"{problem}; remove recipe.cuda_graphs, or make recipe.batch smaller")
        if len(images) < 4 * state.parts:
            raise TrainingError(f"two images at a time do not fit into memory: {error}")
        state.parts *= 2
        torch.cuda.empty_cache()

    def _backward(self, model: nn.Module, images: Sequence[Tensor], targets: Sequence[Any]) -> Tensor:
        """Return the mean loss of the batch; each part is weighted by its number of images."""
        total = torch.zeros((), device=self.device)
        batch = sum(map(len, images))
        for number, (part, part_targets) in enumerate(zip(images, targets, strict=True), 1):
            if self.recipe.cuda_graphs:
                torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
            with nullcontext() if number == len(images) else without_exchange(self.parallel):
                with self.autocast():
                    loss = self.loss_of(part, part_targets) * (len(part) / batch)
                # Recomputed blocks must not update the BatchNorm statistics a second time.
                with frozen_bn_statistics(model) if self.recipe.checkpointing else nullcontext():
                    loss.backward()
            total += loss.detach()
        return total


def in_parts(images: Tensor, parts: int) -> Sequence[Tensor]:
    """Return the images in so many parts of equal size, up to one image, and none of them empty."""
    return images.tensor_split(min(parts, len(images)))


def _require_gradients(model: nn.Module) -> None:
    """Raise TrainingError for parameters without a gradient, for which the other processes would wait."""
    unused = [name for name, value in model.named_parameters() if value.requires_grad and value.grad is None]
    if unused:
        problem = f"the network does not use its parameters {', '.join(unused[:3])}"
        raise TrainingError(f"{problem}, which several processes cannot exchange; train it in one process")
