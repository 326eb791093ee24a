"""The training loop of one trial, resumable after any epoch."""

from __future__ import annotations

import csv
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from io import StringIO
from pathlib import Path

import torch
from torch import Tensor, nn

from hiri_search.system.files import atomic_write, retrying
from hiri_search.system.hardware import joules, joules_between
from hiri_search.training.data.loader import Loader, open_loader
from hiri_search.training.job import Epoch, Job, PreparedData
from hiri_search.training.recipe import Recipe
from hiri_search.training.rng import Generators, epoch_generators, seed_globally
from hiri_search.training.state import OutOfSharedMemory, TrainingState, TrialFailed, initial_state
from hiri_search.training.step import Step

FINITE_EVERY = 20  # steps between looks at the loss: on CUDA each look waits for the device
CURVE = "curve.csv"  # beside the checkpoint


def train(
    job: Job,
    prepared: PreparedData,
    checkpoint: Path,
    *,
    until: int | None = None,
    report: Callable[[Epoch], None] = lambda epoch: None,
    beat: Callable[[], None] = lambda: None,
    beside_others: bool = False,
) -> list[Epoch]:
    """Train to the end, from the checkpoint if there is one; `report` hears of each epoch once it is safe.

    With `until`, only to the end of that epoch: called again, it goes on from there as if it had not stopped.

    Gone on with, it tells of the epochs before again, and trains only the others. `beat` is called at each step, as a
    sign of life. With `beside_others` the device is not this training's alone: what does not fit is then `Crowded`.

    The same job gives the same digits on the same machine, broken or unbroken (on CUDA with `deterministic`).
    TrialFailed where the loss is not finite, or where not even two images fit into memory.
    """
    with _memory(beside_others=beside_others):
        device = _device(job.recipe)
        batches = open_loader(job.data, prepared, side=job.side, recipe=job.recipe, device=device)
        seed_globally(job.seed, "weights")
        state = initial_state(job, len(prepared.classes), len(batches), device)
        state.load(checkpoint, device)
        for epoch in state.curve:  # whoever listened before may have died between the checkpoint and the telling
            report(epoch)
        step = Step(job.recipe, len(prepared.classes), device, state.model, beat=beat, beside_others=beside_others)
        for number in range(len(state.curve) + 1, (until or job.recipe.epochs) + 1):
            state.curve.append(_epoch(number, state, step, batches, epoch_generators(job.seed, number)))
            state.save(checkpoint)
            retrying(partial(_write_curve, state.curve, checkpoint.with_name(CURVE)))
            report(state.curve[-1])
        return state.curve


@contextmanager
def _memory(*, beside_others: bool) -> Iterator[None]:
    """What it means that something does not fit."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        if beside_others:
            raise OutOfSharedMemory(f"it does not fit into memory beside other trials: {error}") from error
        raise TrialFailed(f"it does not fit into memory: {error}") from error


def _device(recipe: Recipe) -> torch.device:
    if not torch.cuda.is_available():
        torch.set_num_threads(1)  # trials run side by side; and sums in another order would change the last digit
        return torch.device("cpu")
    # Read by cuBLAS when it starts; without it some of its products differ from one run to the next.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(recipe.deterministic)
    torch.backends.cudnn.benchmark = not recipe.deterministic
    return torch.device("cuda")


def _epoch(number: int, state: TrainingState, step: Step, batches: Loader, drawing: Generators) -> Epoch:
    started, energy = time.perf_counter(), joules(step.device)
    compiled_before = step.compile_seconds
    loss, peak = _train_epoch(number, state, step, batches, drawing)
    trained = time.perf_counter() - started
    waiting = batches.seconds_waiting
    top1, top5 = _evaluate(state.model, step, batches, parts=state.parts)
    ema1, ema5 = _evaluate(state.ema.module, step, batches, parts=state.parts) if state.ema else (None, None)
    return Epoch(
        epoch=number,
        loss=loss,
        lr=state.optimizer.param_groups[0]["lr"],
        top1=top1,
        top5=top5,
        ema_top1=ema1,
        ema_top5=ema5,
        seconds=time.perf_counter() - started,
        images_per_second=len(batches) * step.recipe.batch / trained,
        seconds_waiting=waiting,
        parts=state.parts,
        compile_seconds=step.compile_seconds if compiled_before is None else None,
        peak_memory_bytes=peak,
        joules=joules_between(energy, joules(step.device)),
    )


def _train_epoch(
    epoch: int, state: TrainingState, step: Step, batches: Loader, drawing: Generators
) -> tuple[float, int | None]:
    """The mean loss, and the most memory held at once where the device tells."""
    cuda = step.device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats(step.device)
    state.model.train()
    total = torch.zeros((), device=step.device)
    for index, (images, labels) in enumerate(batches.train(drawing.order, drawing.augmentation), 1):
        number = (epoch - 1) * len(batches) + index
        state.schedule.step_update(number)
        total += step(state, images, labels, number, drawing.mixing)
        if (index % FINITE_EVERY == 0 or index == len(batches)) and not math.isfinite(total.item()):
            raise TrialFailed(f"the loss is not finite ({total.item()}) at epoch {epoch}, step {index}")
    return total.item() / len(batches), torch.cuda.max_memory_allocated(step.device) if cuda else None


@torch.no_grad()
def _evaluate(model: nn.Module, step: Step, batches: Loader, *, parts: int) -> tuple[float, float]:
    """Top-1 and top-5 in percent of the whole split; what is trained in parts is also looked at in parts."""
    model.eval()
    hits = torch.zeros(2, device=step.device)
    seen = 0
    for images, labels in batches.val():
        with step.autocast():
            logits = torch.cat([model(part) for part in images.chunk(parts)])
        step.beat()
        hits += _hits(logits, labels)
        seen += len(labels)
    top1, top5 = (100 * hits / seen).tolist()
    return top1, top5


def _hits(logits: Tensor, labels: Tensor) -> Tensor:
    """How many images (B,) were right at once, and among the likeliest five: (2,)."""
    best = logits.topk(min(5, logits.shape[1])).indices  # (B, 5), the likeliest first
    right = best == labels[:, None]
    return torch.stack([right[:, 0].sum(), right.sum()])


def _write_curve(curve: Sequence[Epoch], path: Path) -> None:
    """For people; the checkpoint has it too."""
    text = StringIO(newline="")
    writer = csv.DictWriter(text, list(asdict(curve[0])))
    writer.writeheader()
    writer.writerows(asdict(epoch) for epoch in curve)
    with atomic_write(path) as file:
        file.write(text.getvalue().encode())
