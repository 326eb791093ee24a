"""Functions for tests in several connected processes; a module of its own, so that they can import it."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import distributed

from hiri_search.training import loop
from hiri_search.training import state as state_module
from hiri_search.training.dense.dense_step import make_step
from hiri_search.training.inputs.study_images import open_batches
from hiri_search.training.job import Epoch, Job, PreparedData
from hiri_search.training.loop import train
from hiri_search.training.parallel.ranks import Ranks, find_store, joined, open_store
from hiri_search.training.rng import epoch_generators, seed_globally
from hiri_search.training.state import initial_state
from hiri_search.training.step import Step

HOST, SECONDS = "127.0.0.1", 60.0
Arrays = dict[str, NDArray[Any]]


def together(size: int, function: Callable[..., Any], *arguments: Any, gpus: int = 0) -> list[Any]:
    """Return what a function of ranks and arguments returns, or the text of its error, in each of `size` processes.

    They are on the CPU, or on the first `gpus` GPUs in turn; without one for each, gloo copies through the CPU.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    store = open_store(HOST, size, seconds=SECONDS)
    pipes = [context.Pipe(duplex=False) for _ in range(size)]
    processes = [
        context.Process(target=_run, args=(store.port, Ranks(rank, size), gpus, pipe, function, arguments))
        for rank, (_, pipe) in enumerate(pipes)
    ]
    for process in processes:
        process.start()
    try:
        assert all(ours.poll(SECONDS) for ours, _ in pipes), "a process gives no answer"
        return [ours.recv() for ours, _ in pipes]
    finally:
        for process in processes:
            process.kill()
            process.join()


def _run(
    port: int, ranks: Ranks, gpus: int, pipe: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(gpus)))
    os.environ["CUDA_VISIBLE_DEVICES"] = visible.split(",")[ranks.rank % gpus] if gpus else ""
    torch.set_num_threads(1)
    # Of the workers of loaders. It would be "forkserver" here: a server in each process, which imports all again.
    multiprocessing.set_start_method("fork", force=True)
    store = find_store(HOST, port, ranks.size, seconds=SECONDS)
    if 0 < gpus < ranks.size:  # NCCL takes no two processes on one GPU
        distributed.init_process_group("gloo", store=store, rank=ranks.rank, world_size=ranks.size)
        connected: AbstractContextManager[Any] = nullcontext()
    else:
        connected = joined(store, ranks, seconds=SECONDS)
    with connected:
        try:
            pipe.send(function(ranks, *arguments))
        except Exception as error:
            pipe.send(f"{type(error).__name__}: {error}")


def ten_steps(ranks: Ranks, job: Job, prepared: PreparedData) -> tuple[Arrays, Arrays]:
    """Return weights and buffers after ten steps in double precision, and their averages."""
    torch.set_default_dtype(torch.double)
    device = loop._device(job.recipe)
    batches = open_batches(job, prepared, device, ranks)
    seed_globally(job.seed, "weights")
    state = initial_state(job, len(prepared.classes), len(batches), device, ranks)
    step = make_step(job, len(prepared.classes), device, state.model, ranks=ranks)
    generators = epoch_generators(job.seed, 1, ranks.rank)
    state.model.train()
    for number, (images, labels) in enumerate(batches.train(generators.order, generators.augmentation), 1):
        state.schedule.step_update(number)
        step(state, images.double(), labels, number, generators.mixing)
    assert number == 10
    assert state.ema
    return _arrays(state.model), _arrays(state.ema.module)


def _arrays(network: torch.nn.Module) -> Arrays:
    return {name: value.cpu().numpy() for name, value in network.state_dict().items()}


def trained(ranks: Ranks, job: Job, prepared: PreparedData, checkpoint: Path, until: int | None) -> list[Epoch]:
    return train(job, prepared, checkpoint, until=until, ranks=ranks)


def trained_with_little_memory(ranks: Ranks, job: Job, prepared: PreparedData, checkpoint: Path) -> list[Epoch]:
    """Train where the last process has memory for two images at a time."""
    original = Step._backward

    def backward(self: Step, model: torch.nn.Module, images: Any, targets: Any) -> torch.Tensor:
        if ranks.rank == ranks.size - 1 and len(images[0]) > 2:
            raise torch.OutOfMemoryError("too large")
        return original(self, model, images, targets)

    Step._backward = backward  # type: ignore[method-assign]
    return train(job, prepared, checkpoint, ranks=ranks)


def trained_to_nan(ranks: Ranks, job: Job, prepared: PreparedData, checkpoint: Path) -> list[Epoch]:
    """Train where the loss of the last process alone is not finite."""
    original = Step.loss_of

    def loss_of(self: Step, images: torch.Tensor, targets: Any) -> Any:
        return original(self, images, targets) * (np.nan if ranks.rank == ranks.size - 1 else 1)

    Step.loss_of = loss_of  # type: ignore[method-assign]
    return train(job, prepared, checkpoint, ranks=ranks)


def trained_with_unused(ranks: Ranks, job: Job, prepared: PreparedData, checkpoint: Path) -> list[Epoch]:
    """Train a network with a parameter that it does not use."""
    original = state_module.build

    def build(*arguments: Any, **options: Any) -> torch.nn.Module:
        network = original(*arguments, **options)
        network.extra = torch.nn.Parameter(torch.zeros(1))
        return network

    state_module.build = build  # type: ignore[attr-defined]
    return train(job, prepared, checkpoint, ranks=ranks)


def evaluated(ranks: Ranks, job: Job, splits: Sequence[PreparedData], checkpoint: Path) -> list[dict[str, float]]:
    """Return the scores of the weights of a checkpoint, and of their average, on each validation split."""
    device = loop._device(job.recipe)
    state = initial_state(job, len(splits[0].classes), 1, device, ranks)
    state.load(checkpoint, device, ranks)
    step = make_step(job, len(splits[0].classes), device, state.model, ranks=ranks)
    return [loop._evaluate(state, step, open_batches(job, each, device, ranks).val)[0] for each in splits]


def in_order(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Return a metric that depends on the order of the images."""
    return float((labels * torch.arange(len(labels))).sum() + len(logits) / 1000)
