"""Training steps and predictions of dense networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hiri_search.language import DenseNetwork, parse_network
from hiri_search.training.dense.scores import TASKS
from hiri_search.training.dense.sources.annotated_source import DenseTarget
from hiri_search.training.dense.transforms import in_original, logits_in_original
from hiri_search.training.job import Job
from hiri_search.training.parallel.ranks import ONE_PROCESS, Ranks
from hiri_search.training.score import LearningTask
from hiri_search.training.state import TrainingState
from hiri_search.training.step import Step


class DenseStep(Step):
    """Optimisation steps of a dense network, which computes its own losses from lists of targets."""

    def mixed(
        self, state: TrainingState, images: Tensor, targets: Any, rng: np.random.RandomState
    ) -> tuple[Tensor, Any]:
        return images, targets

    def loss_of(self, images: Tensor, targets: list[DenseTarget]) -> Tensor:
        losses: dict[str, Tensor] = self.forward(images, [_plain(target) for target in targets])  # type: ignore
        return torch.stack([loss.float() for loss in losses.values()]).sum()

    def outputs(self, model: nn.Module, images: Tensor, targets: list[DenseTarget]) -> list[Any]:
        """Return detections, or logits, of each image in pixels of its original, which its target knows."""
        sizes = [tuple(target["size"].tolist()) for target in targets]
        return in_originals(model(images), sizes, images.shape[-1])


def in_originals(outputs: Sequence[Any], sizes: Sequence[tuple[int, int]], side: int) -> list[Any]:
    """Return detections, or logits, of letterboxed images of `side` pixels in those of their originals."""
    return [
        (logits_in_original if isinstance(output, Tensor) else in_original)(output, side, size)
        for output, size in zip(outputs, sizes, strict=True)
    ]


def make_step(
    job: Job,
    classes: int,
    device: torch.device,
    model: nn.Module,
    *,
    heartbeat: Callable[[], None] = lambda: None,
    shared_gpu: bool = False,
    ranks: Ranks = ONE_PROCESS,
) -> Step:
    """Return the optimisation steps of a job, whatever its task."""
    kind = DenseStep if job.data.annotations else Step
    step = kind(job.recipe, classes, device, model, heartbeat=heartbeat, shared_gpu=shared_gpu, ranks=ranks)
    step.task = job_task(job)
    return step


def job_task(job: Job) -> LearningTask:
    """Return what a job is trained for, with the scores that its network can have: masks are found by some methods."""
    network = parse_network(job.spec)
    finds_masks = isinstance(network, DenseNetwork) and network.method.masks
    return TASKS["boxes" if job.data.annotations == "masks" and not finds_masks else job.data.annotations]


def _plain(target: DenseTarget) -> DenseTarget:
    """Return what a method reads of a target."""
    return {name: values for name, values in target.items() if name not in ("size", "area")}
