"""A training that is killed at any moment and resumed gives the same digits as an uninterrupted one."""

import multiprocessing
import random
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from hiri_search.language import parse_net
from hiri_search.training.inputs.study_images import prepare_inputs
from hiri_search.training.job import DataSource, Job, PreparedData
from hiri_search.training.loop import train
from hiri_search.training.recipe import Recipe

TIME_COLUMNS = ("seconds", "images_per_second", "seconds_waiting")
# Everything that has a state: distillation from the average, mixing, stochastic depth, BatchNorm.
RECIPE = Recipe(
    epochs=6, batch=16, mixup=0.2, cutmix=1.0, erasing=0.2, drop_path=0.1, jitter=0.3, distill_alpha=0.5, ema=0.9
)
SPEC = parse_net("hrstem(hs=8) -> hr(8 e=4)*2 -> cffn(16 e=4)*2 -> t(32 e=2 d=16)*2").canonical_text
JOB = Job(SPEC, 64, 4, 0, RECIPE, DataSource("drawn", train=128, val=64))
# Dropout, samples of proposals, augmentation of boxes and masks, a step of the learning rate.
BACKBONE = "hrstem(hs=8) -> hr(8 e=2) -> hr(16 e=2) -> t(32 e=2 d=16) -> t(32 e=2 d=16)"
DENSE_RECIPE = Recipe(
    epochs=2,
    batch=8,
    drop_path=0.1,
    jitter=0.3,
    ema=0.9,
    crop=0.5,
    min_scale=0.6,
    warmup_epochs=0,
    schedule="step 1",
)
DENSE = {
    method: Job(
        f"{method}(w=16 norm=bn):{BACKBONE}",
        *(64, None, 0, DENSE_RECIPE),
        DataSource("drawn", train=16, val=8, annotations=annotations),
    )
    for method, annotations in {"mask_rcnn": "masks", "upernet": "semantic"}.items()
}


def _train(job: Job, prepared: PreparedData, checkpoint: Path) -> None:
    train(job, prepared, checkpoint)


def _kill_at_random(job: Job, prepared: PreparedData, checkpoint: Path, longest: float, rng: random.Random) -> bool:
    """Train in a process and kill it at a random moment; return False if the training ended earlier."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "timm", "hiri_search.training.loop"])
    process = context.Process(target=_train, args=(job, prepared, checkpoint))
    process.start()
    process.join(rng.uniform(0, longest))
    alive = process.is_alive()
    process.kill()
    process.join()
    return alive


def _content(checkpoint: Path) -> dict[str, Any]:
    """Return the checkpoint without durations."""
    content: dict[str, Any] = torch.load(checkpoint, weights_only=True)
    curve = [{name: value for name, value in epoch.items() if name not in TIME_COLUMNS} for epoch in content["curve"]]
    return content | {"curve": curve}


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_equal(a[name], b[name]) for name in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(_equal, a, b))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else bool(a == b)


@pytest.mark.slow
@pytest.mark.parametrize(("job", "kills_in_all"), [(JOB, 20), *((job, 5) for job in DENSE.values())])
def test_random_kills_change_no_digit(job: Job, kills_in_all: int, tmp_path: Path):
    prepared = prepare_inputs(job.data, job.side, tmp_path / "images", classes=job.classes)
    started = time.perf_counter()
    train(job, prepared, tmp_path / "uninterrupted" / "last.pt")
    longest = time.perf_counter() - started + 1  # a process needs some time to start
    uninterrupted = _content(tmp_path / "uninterrupted" / "last.pt")
    seed = time.time_ns()
    print(f"kill times drawn with seed {seed}")
    rng = random.Random(seed)
    kills = rounds = 0
    while kills < kills_in_all:
        rounds += 1
        checkpoint = tmp_path / f"{rounds}" / "last.pt"
        while _kill_at_random(job, prepared, checkpoint, longest, rng):
            kills += 1
            print(f"kill {kills}, after {len(_content(checkpoint)['curve']) if checkpoint.exists() else 0} epochs")
        assert _equal(_content(checkpoint), uninterrupted), f"round {rounds}, {kills} kills so far"


@pytest.mark.parametrize("method", DENSE)
def test_a_dense_training_that_goes_on_from_its_checkpoint_has_the_same_digits(method: str, tmp_path: Path):
    job = DENSE[method]
    prepared = prepare_inputs(job.data, job.side, tmp_path / "images")
    train(job, prepared, tmp_path / "whole" / "last.pt")
    for until in (1, 2):
        train(job, prepared, tmp_path / "parts" / "last.pt", until=until)
    whole, parts = (_content(tmp_path / name / "last.pt") for name in ("whole", "parts"))
    assert _equal(whole, parts)
    assert [len(content["curve"]) for content in (whole, parts)] == [2, 2]


def test_the_comparison_detects_one_changed_weight_or_digit(tmp_path: Path):
    prepared = prepare_inputs(JOB.data, JOB.side, tmp_path / "images", classes=JOB.classes)
    train(JOB, prepared, tmp_path / "last.pt", until=1)
    first, second = (_content(tmp_path / "last.pt") for _ in range(2))
    assert _equal(first, second)
    second["model"]["head.fc.bias"][0] += 1e-6
    assert not _equal(first, second)
    second["model"] = first["model"]
    second["curve"][0]["loss"] += 1e-9
    assert not _equal(first, second)
