"""Trainings on CUDA: the same digits where they are promised, and every task and method."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hiri_search.language import DenseNetwork, parse_net, parse_network
from hiri_search.training.dense.dense_step import make_step
from hiri_search.training.inputs.study_images import open_batches, prepare_inputs
from hiri_search.training.job import DataSource, Epoch, Job, PreparedData
from hiri_search.training.loop import train
from hiri_search.training.recipe import Recipe
from hiri_search.training.state import initial_state
from tests.training.parallel.together import ten_steps, together, trained

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
BACKBONE = "hrstem(hs=8) -> hr(8 e=2) -> hr(16 e=2) -> t(32 e=2 d=16) -> t(32 e=2 d=16)"
EVERYTHING = Recipe(
    epochs=3, batch=16, mixup=0.2, cutmix=1.0, erasing=0.2, drop_path=0.1, jitter=0.3, distill_alpha=0.5, ema=0.9
)
PHOTO_JOB = Job(parse_net(BACKBONE).canonical_text, 64, 4, 0, EVERYTHING, DataSource("drawn", train=64, val=32))
DENSE = Recipe(epochs=2, batch=8, drop_path=0.1, ema=0.9, crop=0.5, warmup_epochs=0)
METHODS = {
    "retinanet": "boxes",
    "atss": "boxes",
    "gfl": "boxes",
    "sparse_rcnn": "boxes",
    "mask_rcnn": "masks",
    "cascade_rcnn": "masks",
    "upernet": "semantic",
}


def _job(method: str) -> Job:
    norms = "" if method == "sparse_rcnn" else " norm=bn"
    spec = parse_network(f"{method}(w=16{norms}):{BACKBONE}")
    assert isinstance(spec, DenseNetwork)
    return Job(
        spec.canonical_text, 64, None, 0, DENSE, DataSource("drawn", train=16, val=8, annotations=METHODS[method])
    )


def _outcome(curve: list[Epoch]) -> list[tuple[float, dict[str, float]]]:
    return [(epoch.loss, epoch.scores) for epoch in curve]


@pytest.mark.parametrize("bf16", [False, True])
def test_a_deterministic_training_resumes_with_the_same_digits(bf16: bool, tmp_path: Path) -> None:
    job = replace(PHOTO_JOB, recipe=replace(EVERYTHING, deterministic=True, bf16=bf16))
    prepared = prepare_inputs(job.data, job.side, tmp_path / "images", classes=job.classes)
    unbroken = train(job, prepared, tmp_path / "unbroken.pt")
    train(job, prepared, tmp_path / "paused.pt", until=1)
    assert _outcome(train(job, prepared, tmp_path / "paused.pt")) == _outcome(unbroken)


def _loss(job: Job, prepared: PreparedData, device: torch.device) -> float:
    """Return the loss of the first step in float32."""
    job = replace(job, recipe=replace(job.recipe, bf16=False, drop_path=0.0))
    batches = open_batches(job, prepared, device)
    torch.manual_seed(0)
    state = initial_state(job, len(prepared.classes), len(batches), torch.device("cpu"))
    if device.type == "cuda":
        state.model.to(device)
        state.ema = None
    step = make_step(job, len(prepared.classes), device, state.model)
    images, targets = next(iter(batches.train(torch.Generator().manual_seed(0), torch.Generator().manual_seed(0))))
    images, mixed = step.mixed(state, images, targets, np.random.RandomState(0))
    state.model.train()
    return float(step.loss_of(images, mixed).detach())


@pytest.mark.parametrize("method", METHODS)
def test_a_dense_method_has_the_loss_of_the_cpu_and_trains_on(method: str, tmp_path: Path) -> None:
    job = _job(method)
    prepared = prepare_inputs(job.data, job.side, tmp_path / "images", batch=job.recipe.batch)
    on_gpu, on_cpu = (_loss(job, prepared, torch.device(name)) for name in ("cuda", "cpu"))
    sampled = method in ("mask_rcnn", "cascade_rcnn")  # proposals are drawn on the device
    assert on_gpu == pytest.approx(on_cpu, rel=0.2 if sampled else 0.01)
    assert len(train(job, prepared, tmp_path / "last.pt", until=1)) == 1
    curve = train(job, prepared, tmp_path / "last.pt")
    assert curve[-1].epoch == 2
    assert np.isfinite(curve[-1].loss)
    assert curve[-1].peak_memory_bytes


@pytest.mark.parametrize("mixed", [False, True])
def test_two_processes_have_the_weights_of_one(mixed: bool, tmp_path: Path) -> None:
    """Over NCCL where there are two GPUs, else over gloo on one; BatchNorm is torch's synchronised one."""
    recipe = replace(EVERYTHING if mixed else Recipe(batch=16, ema=0.9), drop_path=0.0, bf16=False)
    job = replace(PHOTO_JOB, recipe=recipe, data=DataSource("drawn", train=160, val=32))
    prepared = prepare_inputs(job.data, job.side, tmp_path / "images", classes=job.classes)
    gpus = min(2, torch.cuda.device_count())
    (one,) = together(1, ten_steps, job, prepared, gpus=1)
    for alone, first, second in zip(one, *together(2, ten_steps, job, prepared, gpus=gpus), strict=True):
        # Images are augmented in single precision, in batches of other sizes; without synchronised BatchNorm it is 0.3.
        assert all(np.abs(first[name] - value).max() < 1e-3 for name, value in alone.items())
        assert all(np.array_equal(first[name], second[name]) for name in alone)


def test_two_processes_train_in_bf16_to_the_end(tmp_path: Path) -> None:
    prepared = prepare_inputs(PHOTO_JOB.data, PHOTO_JOB.side, tmp_path / "images", classes=PHOTO_JOB.classes)
    gpus = min(2, torch.cuda.device_count())
    curves = together(2, trained, PHOTO_JOB, prepared, tmp_path / "last.pt", None, gpus=gpus)
    assert _outcome(curves[0]) == _outcome(curves[1])
    assert len(curves[0]) == PHOTO_JOB.recipe.epochs
    assert np.isfinite(curves[0][-1].loss)
