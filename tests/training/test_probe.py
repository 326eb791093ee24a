"""Probes: the same steps as a trial, and the timings computed from them."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

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
    probe,
    probe_side_by_side,
    shrink_for_probe,
)
from hiri_search.training.recipe import Recipe

SPEC = parse_net("hrstem(hs=8) -> hr(8 e=4) -> cffn(16 e=4) -> t(32 e=2 d=16)").canonical_text
RECIPE = Recipe(epochs=3, batch=8, mixup=0.2, cutmix=1.0, erasing=0.2, distill_alpha=0.5, checkpointing=True)
JOB = Job(SPEC, 32, 4, 0, RECIPE, DataSource(train=64, val=16))
PREPARED = PreparedData(Path("nowhere"), tuple("abcd"), 64, 16)
EPOCH = Epoch(1, 1.0, 1e-3, {}, 0.0, 0.0, 0.0, 1, None, None)


class Recorder:
    """Records the batches of the training steps and of the evaluations."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps: list[tuple[object, ...]] = []
        self.evaluations: list[tuple[object, ...]] = []
        step, scores = loop.Step.__call__, loop._measured

        def record_step(self_, state, images, labels, number, rng):
            self.steps.append((images.shape, images.dtype, images.stride(), self_.recipe.batch, state.ema is not None))
            return step(self_, state, images, labels, number, rng)

        def record_scores(networks, step, batches, **more):
            seen = list(batches)
            self.evaluations += [(images.shape, images.dtype, len(networks)) for images, _ in seen]
            return scores(networks, step, seen, **more)

        monkeypatch.setattr(loop.Step, "__call__", record_step)
        monkeypatch.setattr(loop, "_measured", record_scores)


def test_a_probe_makes_the_steps_and_evaluations_of_the_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    recorder = Recorder(monkeypatch)
    loop.train(JOB, prepare(JOB.data, 32, tmp_path, classes=4), tmp_path / "last.pt", until=1)
    steps, evaluations = set(recorder.steps), set(recorder.evaluations)
    recorder.steps, recorder.evaluations = [], []
    probe(*shrink_for_probe(JOB, PREPARED, tmp_path / "few"), seconds=0)
    assert set(recorder.steps) == steps
    assert set(recorder.evaluations) == evaluations
    assert len(recorder.steps) == PROBE_STEPS * len(recorder.evaluations)
    assert {networks for *_, networks in evaluations} == {2}, "the weights and their average"


def test_a_probe_ends_after_its_time_and_leaves_no_files(tmp_path: Path):
    timing = probe(*shrink_for_probe(JOB, PREPARED, tmp_path), seconds=0)
    assert timing.step > 0
    assert timing.evaluate > 0
    assert [path.name for path in tmp_path.iterdir()] == ["32_8"]


def test_parts_are_means_of_the_epochs_after_the_first():
    def report(at: float, training: float, total: float) -> tuple[float, Epoch]:
        return at, replace(EPOCH, seconds=total, images_per_second=16 / training)

    reports = [report(5.0, 4.0, 4.5), report(6.0, 0.6, 0.8), report(7.2, 0.8, 1.0)]
    timing = probe_module._timing_of(1.0, reports, 8, replace(PREPARED, train=16, val=10))
    assert timing == TrialTiming(*(pytest.approx(value) for value in (4.0 - 1.1, 0.35, 0.02, 0.2)))
    first_epoch = timing.seconds(1, steps=2, val=10)
    assert first_epoch == pytest.approx(4.0), "from the start of the training until the first report"
    assert timing.seconds(3, steps=2, val=10) == pytest.approx(4.0 + 2 * 1.1)


def test_zero_cost_scores_are_timed_if_requested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    clock, original = [0.0], probe_module.job_scores

    def scores_of_100_seconds(*args: Any) -> dict[str, float | None]:
        clock[0] += 100
        return original(*args)

    monkeypatch.setattr(probe_module, "job_scores", scores_of_100_seconds)
    monkeypatch.setattr(probe_module, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    job, small = shrink_for_probe(JOB, PREPARED, tmp_path)
    assert probe(job, small, seconds=0).zero_cost == 0
    assert probe(job, small, seconds=0, zero_cost=["naswot"]).zero_cost == 100


def test_a_mean_is_taken_part_by_part():
    assert TrialTiming.mean([TrialTiming(1, 2, 3, 4, 0), TrialTiming(3, 4, 5, 6, 1)]) == TrialTiming(2, 3, 4, 5, 0.5)


def test_noise_has_the_format_of_decoded_images(tmp_path: Path):
    _, noise = shrink_for_probe(JOB, PREPARED, tmp_path / "few")
    decoded = prepare(JOB.data, 32, tmp_path, classes=4)
    for split in ("train", "val"):
        fake, real = (np.load(folder / f"{split}_images.npy") for folder in (noise.folder, decoded.folder))
        assert fake.shape[1:] == real.shape[1:]
        assert fake.dtype == real.dtype
    assert (noise.train, noise.val) == (PROBE_STEPS * 8, 16)


def test_without_a_decode_cache_a_probe_decodes_the_original_images(tmp_path: Path):
    job, small = shrink_for_probe(JOB, replace(PREPARED, cache="none"), tmp_path)
    assert job.data == JOB.data
    assert (small.train, small.val, small.cache) == (PROBE_STEPS * 8, 16, "none")
    assert not list(tmp_path.iterdir())


def test_a_failing_trial_raises_probe_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(loop.Step, "__call__", lambda *args: torch.tensor(float("nan")))
    with pytest.raises(ProbeError, match="at side 32 fails: the loss is not finite"):
        probe(*shrink_for_probe(JOB, PREPARED, tmp_path))


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_each_process_begins_at_another_job_and_goes_through_all_jobs(processes: int):
    jobs = [(replace(JOB, seed=seed), PREPARED) for seed in range(5)]
    orders = [
        [job.seed for _, job, _ in probe_module._probe_order(jobs, number, processes)] for number in range(processes)
    ]
    assert [order[0] for order in orders] == list(range(processes))
    assert all(sorted(order) == list(range(5)) for order in orders)
    latest = max(range(5), key=lambda seed: min(order.index(seed) for order in orders))
    assert min(order.index(latest) for order in orders) <= 5 // processes, "every job comes early in some process"


def test_each_process_gets_one_of_the_visible_gpus(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    devices = [probe_module._environment(number, 2)["CUDA_VISIBLE_DEVICES"] for number in range(3)]
    assert devices == ["4", "6", "4"]
    assert probe_module._environment(1, 0)["OMP_NUM_THREADS"] == "1"


@pytest.mark.slow
def test_probes_in_separate_processes(tmp_path: Path):
    jobs = [shrink_for_probe(replace(JOB, recipe=replace(RECIPE, batch=batch)), PREPARED, tmp_path) for batch in (2, 4)]
    results = probe_side_by_side(jobs, [UndecodedImages(JOB.data, 32, 4)], processes=1, limit=0)
    assert list(results.timings) == [0], "the limit leaves time for one job only"
    assert results.timings[0].step > 0
    assert results.import_seconds > 0
    assert len(results.image_seconds) == 1
    assert results.core_share is None or 0 < results.core_share <= 1


def test_decoding_an_image_takes_time():
    assert image_seconds(UndecodedImages(DataSource(train=3), 32, 4)) > 0


def test_is_prepared_does_not_decode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HIRI_SEARCH_CACHE", str(tmp_path))
    assert not is_prepared(JOB.data, 32, tmp_path, classes=4)
    assert is_prepared(JOB.data, 32, tmp_path, classes=4, cache="none")
    prepare(JOB.data, 32, tmp_path, classes=4)
    assert is_prepared(JOB.data, 32, tmp_path, classes=4)
    assert not is_prepared(JOB.data, 64, tmp_path, classes=4)
