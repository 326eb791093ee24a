"""The training loop of one trial, resumable after any epoch."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from io import StringIO
from itertools import chain
from pathlib import Path

import torch
from timm.utils import distribute_bn
from torch import nn

from hiri_search.system.concurrency import repeat_in_background
from hiri_search.system.files import atomic_write, retrying
from hiri_search.system.hardware import is_out_of_memory, joules, joules_between, training_device
from hiri_search.training.data.loader import Loader
from hiri_search.training.data.pixel_stores import Batch
from hiri_search.training.dense.dense_step import make_step
from hiri_search.training.inputs.ensure_local import HEARTBEAT_SECONDS
from hiri_search.training.inputs.study_images import open_batches
from hiri_search.training.job import Epoch, Job, PreparedData
from hiri_search.training.parallel.ranks import ONE_PROCESS, Ranks
from hiri_search.training.recipe import Recipe
from hiri_search.training.rng import Generators, epoch_generators, seed_globally
from hiri_search.training.score import EMA, TEST, Meter, SharedMeter, open_meters
from hiri_search.training.state import OutOfSharedMemory, TrainingError, TrainingState, initial_state
from hiri_search.training.step import Step, in_parts

_FINITE_CHECK_STEPS = 20  # steps between checks that the loss is finite; on CUDA each check synchronises
CURVE = "curve.csv"  # in the folder of the checkpoint


def train(
    job: Job,
    prepared: PreparedData,
    checkpoint: Path,
    *,
    until: int | None = None,
    epochs_done: int = 0,
    report: Callable[[Epoch], None] = lambda epoch: None,
    heartbeat: Callable[[], None] = lambda: None,
    shared_gpu: bool = False,
    ranks: Ranks = ONE_PROCESS,
) -> list[Epoch]:
    """Train to the last epoch, or to the end of epoch `until`; resume from the checkpoint if it exists.

    `report` is called after each epoch is saved. A resumed training first reports the epochs of its checkpoint, but not
    the first `epochs_done`, which the caller knows; then it trains only the remaining ones. `heartbeat` is called at
    every step. `shared_gpu` says that other trials use the same GPU; out of memory then raises OutOfSharedMemory.
    `ranks` are the processes that train the network together: all of them call this, and the first one alone reads
    and writes the checkpoint.

    The same job gives the same digits on the same machine, interrupted or not (on CUDA with `deterministic`).
    Raise TrainingError if the loss is not finite, or if not even two images fit into memory.
    """
    with _memory_errors(shared_gpu=shared_gpu):
        device = _device(job.recipe)
        batches = open_batches(job, prepared, device, ranks)
        seed_globally(job.seed, "weights")
        classes = len(prepared.classes)
        state = initial_state(job, classes, len(batches), device, ranks)
        state.load(checkpoint, device, ranks)
        for epoch in state.curve[epochs_done:]:  # the former worker may have died after the save and before the report
            report(epoch)
        step = make_step(job, classes, device, state.model, heartbeat=heartbeat, shared_gpu=shared_gpu, ranks=ranks)
        for number in range(len(state.curve) + 1, (until or job.recipe.epochs) + 1):
            state.curve.append(_epoch(number, state, step, batches, epoch_generators(job.seed, number, ranks.rank)))
            if ranks.is_first:
                state.save(checkpoint)
                retrying(partial(_write_curve, state.curve, checkpoint.with_name(CURVE)))
            report(state.curve[-1])
        return state.curve


@contextmanager
def _memory_errors(*, shared_gpu: bool) -> Iterator[None]:
    """Turn an out-of-memory error into OutOfSharedMemory or TrainingError."""
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        if shared_gpu:
            raise OutOfSharedMemory(f"the training does not fit into the shared memory: {error}") from error
        raise TrainingError(f"the training does not fit into memory: {error}") from error


def _device(recipe: Recipe) -> torch.device:
    device = training_device()
    if device.type == "cpu":
        torch.set_num_threads(1)  # one core per trial; and another summation order would change the last digit
    else:
        torch.use_deterministic_algorithms(recipe.deterministic)
        torch.backends.cudnn.benchmark = not recipe.deterministic
    return device


def _epoch(number: int, state: TrainingState, step: Step, batches: Loader, generators: Generators) -> Epoch:
    started, initial_joules = time.perf_counter(), joules(step.device)
    had_compiled = step.compile_seconds is not None
    loss, peak = _train_epoch(number, state, step, batches, generators)
    train_seconds, images = time.perf_counter() - started, len(batches) * step.recipe.batch
    train_joules = _energy(step, initial_joules)
    if step.ranks.size > 1 and not step.recipe.sync_bn:
        for network in (state.model, *([state.ema.module] if state.ema else [])):
            distribute_bn(network, step.ranks.size, reduce=True)
    waiting = batches.seconds_waiting
    scores, meters = _evaluate(state, step, batches.val)
    test_scores, errors, is_last = dict[str, float](), dict[str, float](), number == step.recipe.epochs
    if is_last and batches.prepared.test:
        test_scores, meters = _evaluate(state, step, batches.test)
    if is_last:
        errors = _standard_errors(meters, step, prefix=TEST if test_scores else "")
    return Epoch(
        epoch=number,
        loss=loss,
        lr=state.optimizer.param_groups[0]["lr"],
        scores=scores,
        test_scores=test_scores,
        standard_errors=errors,
        seconds=time.perf_counter() - started,
        images_per_second=images / train_seconds,
        seconds_waiting=waiting,
        parts=state.parts,
        compile_seconds=None if had_compiled else step.compile_seconds,
        peak_memory_bytes=peak,
        joules=_energy(step, initial_joules),
        images_per_joule=images / train_joules if train_joules else None,
    )


def _energy(step: Step, initial: float | None) -> float | None:
    """Return the joules of the GPUs of all processes since a reading of each; None where one has no reading."""
    values = step.ranks.gathered(joules_between(initial, joules(step.device)))
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _train_epoch(
    epoch: int, state: TrainingState, step: Step, batches: Loader, generators: Generators
) -> tuple[float, int | None]:
    """Return the mean loss, and the peak memory in bytes on CUDA."""
    cuda = step.device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats(step.device)
    state.model.train()
    total = torch.zeros((), device=step.device)
    for index, (images, labels) in enumerate(batches.train(generators.order, generators.augmentation), 1):
        number = (epoch - 1) * len(batches) + index
        state.schedule.step_update(number)
        total += step(state, images, labels, number, generators.mixing)
        if index % _FINITE_CHECK_STEPS == 0 or index == len(batches):
            loss = step.ranks.mean(total).item()  # the same in all processes, so that all go on or none
            if not math.isfinite(loss):
                raise TrainingError(f"the loss is not finite ({loss}) at epoch {epoch}, step {index}")
    return loss / len(batches), torch.cuda.max_memory_allocated(step.device) if cuda else None


def _evaluate(
    state: TrainingState, step: Step, split: Callable[[], Iterator[Batch]]
) -> tuple[dict[str, float], tuple[Meter, ...]]:
    """Return the scores of a split by name, with those of the averaged weights, and the meters of the last weights."""
    networks = [state.model, *([state.ema.module] if state.ema else [])]
    meters, *averaged = _measured(networks, step, split(), metrics=state.metrics, parts=state.parts)
    of_averaged = {EMA + name: value for each in averaged for name, value in _scores(each).items()}
    return _scores(meters) | of_averaged, meters


def _scores(meters: Sequence[Meter]) -> dict[str, float]:
    return {name: value for meter in meters for name, value in meter.scores().items()}


def _standard_errors(meters: Sequence[Meter], step: Step, *, prefix: str) -> dict[str, float]:
    """Return the standard errors over images; of AP on thousands of images, this takes minutes."""
    with repeat_in_background(step.heartbeat, every=HEARTBEAT_SECONDS):
        return {prefix + name: value for meter in meters for name, value in meter.standard_errors().items()}


@torch.no_grad()
def _measured(
    networks: Sequence[nn.Module],
    step: Step,
    batches: Iterator[Batch],
    *,
    metrics: Mapping[str, str],
    parts: int,
) -> list[tuple[Meter, ...]]:
    """Return the meters of each network on a split, whose batches are split as in training, and over processes."""
    all_meters = [open_meters(step.task, metrics) for _ in networks]
    for model in networks:
        model.eval()
    for images, targets in batches:
        divided = in_parts(images, parts)
        for part, part_targets in zip(divided, step.split(targets, divided), strict=True):
            for model, meters in zip(networks, all_meters, strict=True):
                with step.autocast():
                    outputs = step.outputs(model, part, part_targets)
                for meter in meters:
                    meter.add(outputs, part_targets)
        step.heartbeat()
    if step.ranks.size > 1:
        for meter in chain(*all_meters):
            assert isinstance(meter, SharedMeter), "several processes are refused for other tasks"
            meter.gather(step.ranks.gathered)
    return all_meters


def _write_curve(curve: Sequence[Epoch], path: Path) -> None:
    """Write the curve as CSV for human readers; the checkpoint holds the same curve."""
    text = StringIO(newline="")
    writer = csv.DictWriter(text, list(curve[-1].row()))  # it alone may have scores on test images
    writer.writeheader()
    writer.writerows(epoch.row() for epoch in curve)
    with atomic_write(path) as file:
        file.write(text.getvalue().encode())
