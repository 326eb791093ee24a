"""Probes: that they do what a trial does, and what is made of their times."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hiri_search.language import parse_net
from hiri_search.training import loop
from hiri_search.training import probe as probe_module
from hiri_search.training.data.prepare import is_prepared, prepare
from hiri_search.training.job import DataSource, Epoch, Job, PreparedData
from hiri_search.training.probe import (
    PROBE_STEPS,
    ProbeError,
    TrialTiming,
    UndecodedImages,
    image_seconds,
    mean_timing,
    probe,
    probe_side_by_side,
    shrink_for_probe,
)
from hiri_search.training.recipe import Recipe

SPEC = parse_net("hrstem(hs=8) -> hr(8 e=4) -> cffn(16 e=4) -> t(32 e=2 d=16)").canonical_text
RECIPE = Recipe(epochs=3, batch=8, mixup=0.2, cutmix=1.0, erasing=0.2, distill_alpha=0.5, checkpointing=True)
JOB = Job(SPEC, 32, 4, 0, RECIPE, DataSource(train=64, val=16))
PREPARED = PreparedData(Path("nowhere"), tuple("abcd"), 64, 16)
EPOCH = Epoch(1, 1.0, 1e-3, 0, 0, 0, 0, 0.0, 0.0, 0.0, 1, None, None)


class Seen:
    """What passes through the steps and the looks of a training."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps: list[tuple[object, ...]] = []
        self.looks: list[tuple[object, ...]] = []
        step, evaluate = loop.Step.__call__, loop._evaluate

        def stepped(self_, state, images, labels, number, rng):
            self.steps.append((images.shape, images.dtype, images.stride(), self_.recipe.batch, state.ema is not None))
            return step(self_, state, images, labels, number, rng)

        def evaluated(model, own, batches, *, parts):
            self.looks += [(images.shape, images.dtype) for images, _ in batches.val()]
            return evaluate(model, own, batches, parts=parts)

        monkeypatch.setattr(loop.Step, "__call__", stepped)
        monkeypatch.setattr(loop, "_evaluate", evaluated)


def test_a_probe_makes_the_steps_and_looks_of_the_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    seen = Seen(monkeypatch)
    loop.train(JOB, prepare(JOB.data, 32, tmp_path, classes=4), tmp_path / "last.pt")
    steps, looks = set(seen.steps), set(seen.looks)
    seen.steps, seen.looks = [], []
    probe(*shrink_for_probe(JOB, PREPARED, tmp_path / "few"), seconds=0)
    assert set(seen.steps) == steps
    assert set(seen.looks) == looks, "both of the weights and of their average"
    assert len(seen.steps) == PROBE_STEPS * len(seen.looks) / 2


def test_a_probe_ends_when_its_time_is_over_and_leaves_nothing(tmp_path: Path):
    pace = probe(*shrink_for_probe(JOB, PREPARED, tmp_path), seconds=0)
    assert pace.step > 0
    assert pace.evaluate > 0
    assert [path.name for path in tmp_path.iterdir()] == ["32_8"]


def test_parts_are_means_of_the_epochs_behind_the_first():
    def told(at: float, training: float, whole: float) -> tuple[float, Epoch]:
        return at, replace(EPOCH, seconds=whole, images_per_second=16 / training)

    times = [told(5.0, 4.0, 4.5), told(6.0, 0.6, 0.8), told(7.2, 0.8, 1.0)]
    pace = probe_module._timing_of(1.0, times, 8, replace(PREPARED, train=16, val=10))
    assert pace == TrialTiming(*(pytest.approx(value) for value in (4.0 - 1.1, 0.35, 0.02, 0.2)))
    whole = pace.seconds(1, steps=2, val=10)
    assert whole == pytest.approx(4.0), "the first epoch, from the start of the training until it was told"
    assert pace.seconds(3, steps=2, val=10) == pytest.approx(4.0 + 2 * 1.1)


def test_scores_are_timed_where_they_are_wanted(tmp_path: Path):
    job, some = shrink_for_probe(JOB, PREPARED, tmp_path)
    assert probe(job, some, seconds=0, zero_cost=["naswot"]).zero_cost > 10 * probe(job, some, seconds=0).zero_cost


def test_a_mean_is_taken_part_by_part():
    assert mean_timing([TrialTiming(1, 2, 3, 4, 0), TrialTiming(3, 4, 5, 6, 1)]) == TrialTiming(2, 3, 4, 5, 0.5)


def test_noise_lies_as_decoded_images_do(tmp_path: Path):
    _, noise = shrink_for_probe(JOB, PREPARED, tmp_path / "few")
    kept = prepare(JOB.data, 32, tmp_path, classes=4)
    for split in ("train", "val"):
        made, true = (np.load(folder / f"{split}_images.npy") for folder in (noise.folder, kept.folder))
        assert made.shape[1:] == true.shape[1:]
        assert made.dtype == true.dtype
    assert (noise.train, noise.val) == (PROBE_STEPS * 8, 16)


def test_images_that_nobody_keeps_are_decoded_for_a_probe_too(tmp_path: Path):
    job, some = shrink_for_probe(JOB, replace(PREPARED, cache="none"), tmp_path)
    assert job.data == JOB.data
    assert (some.train, some.val, some.cache) == (PROBE_STEPS * 8, 16, "none")
    assert not list(tmp_path.iterdir())


def test_a_trial_that_would_fail_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(loop.Step, "__call__", lambda *given: torch.tensor(float("nan")))
    with pytest.raises(ProbeError, match="at side 32 fails: the loss is not finite"):
        probe(*shrink_for_probe(JOB, PREPARED, tmp_path))


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_each_process_begins_at_a_job_of_its_own_and_goes_through_all(processes: int):
    jobs = [(replace(JOB, seed=seed), PREPARED) for seed in range(5)]
    orders = [
        [job.seed for _, job, _ in probe_module._probe_order(jobs, number, processes)] for number in range(processes)
    ]
    assert [order[0] for order in orders] == list(range(processes))
    assert all(sorted(order) == list(range(5)) for order in orders)
    longest = max(range(5), key=lambda seed: min(order.index(seed) for order in orders))
    assert min(order.index(longest) for order in orders) <= 5 // processes, "soon each was begun by one"


def test_each_process_has_one_of_the_gpus_that_are_seen(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    seen = [probe_module._environment(number, 2)["CUDA_VISIBLE_DEVICES"] for number in range(3)]
    assert seen == ["4", "6", "4"]
    assert probe_module._environment(1, 0)["OMP_NUM_THREADS"] == "1"


@pytest.mark.slow
def test_probes_in_processes_of_their_own(tmp_path: Path):
    jobs = [shrink_for_probe(replace(JOB, recipe=replace(RECIPE, batch=batch)), PREPARED, tmp_path) for batch in (2, 4)]
    found = probe_side_by_side(jobs, [UndecodedImages(JOB.data, 32, 4)], processes=1, limit=0)
    assert list(found.timings) == [0], "there was no time for another"
    assert found.timings[0].step > 0
    assert found.import_seconds > 0
    assert len(found.image_seconds) == 1
    assert found.core_share is None or 0 < found.core_share <= 1


def test_a_image_takes_some_time():
    assert image_seconds(UndecodedImages(DataSource(train=3), 32, 4)) > 0


def test_what_is_decoded_is_known_without_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HIRI_SEARCH_CACHE", str(tmp_path))
    assert not is_prepared(JOB.data, 32, tmp_path, classes=4)
    assert is_prepared(JOB.data, 32, tmp_path, classes=4, cache="none")
    prepare(JOB.data, 32, tmp_path, classes=4)
    assert is_prepared(JOB.data, 32, tmp_path, classes=4)
    assert not is_prepared(JOB.data, 64, tmp_path, classes=4)
