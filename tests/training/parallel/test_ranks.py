"""Several processes train one network as one process does."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hiri_search.language import parse_net
from hiri_search.training.data.prepare import prepare
from hiri_search.training.job import DataSource, Epoch, Job, PreparedData
from hiri_search.training.parallel.ranks import Ranks
from hiri_search.training.recipe import Recipe
from tests.training.parallel import together as processes
from tests.training.parallel.together import together

SPEC = parse_net("hrstem(hs=8) -> hr(8 e=4) -> cffn(16 e=4) -> t(32 e=2 d=16)").canonical_text
PLAIN = Recipe(epochs=3, batch=16, ema=0.9, warmup_epochs=0.5)
# The partners of the whole batch, the augmentation of each image, the teacher: all but stochastic depth.
MIXED = replace(PLAIN, mixup=0.2, cutmix=1.0, erasing=0.3, jitter=0.3, distill_alpha=0.5)
JOB = Job(SPEC, 32, 4, 0, PLAIN, DataSource("drawn", train=160, val=70))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    return prepare(JOB.data, JOB.side, tmp_path_factory.mktemp("images"), classes=JOB.classes)


@pytest.mark.parametrize("size", [2, 4])
def test_the_rows_of_all_processes_are_the_batch_and_partners_stay_together(size: int):
    rows = [Ranks(rank, size).batch_indices(16) for rank in range(size)]
    assert sorted(torch.cat(rows).tolist()) == list(range(16))
    assert all(torch.equal(15 - own, own.flip(0)) for own in rows)
    assert Ranks().batch_indices(16).tolist() == list(range(16))


@pytest.fixture
def few(prepared: PreparedData) -> PreparedData:
    """Images for three steps in an epoch."""
    return replace(prepared, train=48)


@pytest.mark.parametrize("recipe", [MIXED, replace(PLAIN, sync_bn=False)], ids=["synchronised", "not"])
def test_two_processes_have_the_weights_of_one_where_batchnorm_is_synchronised(recipe: Recipe, prepared: PreparedData):
    job = replace(JOB, recipe=recipe)
    (one,) = together(1, processes.ten_steps, job, prepared)
    two = together(2, processes.ten_steps, job, prepared)
    for alone, first, second in zip(one, *two, strict=True):
        differences = {name: np.abs(first[name] - value).max() for name, value in alone.items()}
        assert {value.dtype for value in alone.values()} == {np.dtype("float64"), np.dtype("int64")}
        assert (max(differences.values()) < 1e-8) == recipe.sync_bn, differences
        assert not recipe.sync_bn or all(np.array_equal(first[name], second[name]) for name in alone)


def _outcome(curve: list[Epoch]) -> list[Epoch]:
    """Return the curve without durations."""
    return [replace(epoch, seconds=0, images_per_second=0, seconds_waiting=0) for epoch in curve]


def _train(size: int, job: Job, images: PreparedData, folder: Path, until: int | None = None) -> list[Epoch]:
    first, *others = together(size, processes.trained, job, images, folder / "last.pt", until)
    assert all(_outcome(other) == _outcome(first) for other in others)
    return first


def test_a_training_goes_on_with_another_number_of_processes(few: PreparedData, tmp_path: Path):
    job = replace(JOB, recipe=replace(PLAIN, drop_path=0.1))
    alone = _train(1, job, few, tmp_path / "alone")
    lengths = [len(_train(size, job, few, tmp_path, until)) for until, size in ((1, 2), (2, 1))]
    curve = _train(2, job, few, tmp_path)
    assert [*lengths, len(curve)] == [1, 2, 3]
    assert [epoch.lr for epoch in curve] == [epoch.lr for epoch in alone]
    assert [epoch.loss for epoch in curve] == pytest.approx([epoch.loss for epoch in alone], abs=0.1)
    assert len((tmp_path / "curve.csv").read_text().splitlines()) == 4


def test_a_broken_training_of_two_processes_has_the_digits_of_an_unbroken_one(few: PreparedData, tmp_path: Path):
    job = replace(JOB, recipe=replace(MIXED, epochs=2, drop_path=0.1, checkpointing=True))
    unbroken = _train(2, job, few, tmp_path / "unbroken")
    _train(2, job, few, tmp_path / "broken", until=1)
    assert _outcome(_train(2, job, few, tmp_path / "broken")) == _outcome(unbroken)


def test_two_processes_measure_what_one_does(few: PreparedData, tmp_path: Path):
    """Also where their shares are unequal, and where one has no images."""
    job = replace(JOB, metrics=(("own", f"{processes.__name__}:in_order"),))
    (trained,) = _train(1, job, few, tmp_path, until=1)
    work = (processes.evaluated, job, [few, replace(few, val=20)], tmp_path / "last.pt")
    (alone,) = together(1, *work)
    assert together(2, *work) == [alone, alone]
    assert trained.scores == alone[0] != alone[1]
    assert set(alone[0]) == {"top1", "top5", "own", "ema_top1", "ema_top5", "ema_own"}


def test_all_processes_split_the_batch_alike_where_one_has_little_memory(few: PreparedData, tmp_path: Path):
    job = replace(JOB, recipe=replace(PLAIN, epochs=1, warmup_epochs=0))
    curves = together(2, processes.trained_with_little_memory, job, few, tmp_path / "last.pt")
    assert [epoch.parts for (epoch,) in curves] == [4, 4]
    steps = torch.load(tmp_path / "last.pt", weights_only=True)["model"]["head.bn.num_batches_tracked"]
    assert steps == 4 * 3, "failed attempts leave BatchNorm unchanged"


def test_a_loss_that_is_not_finite_in_one_process_ends_all_alike(few: PreparedData, tmp_path: Path):
    errors = together(2, processes.trained_to_nan, JOB, few, tmp_path / "last.pt")
    assert errors == ["TrainingError: the loss is not finite (nan) at epoch 1, step 3"] * 2


def test_a_parameter_that_a_network_does_not_use_is_named(few: PreparedData, tmp_path: Path):
    errors = together(2, processes.trained_with_unused, JOB, few, tmp_path / "last.pt")
    assert {error.partition(",")[0] for error in errors} == {
        "TrainingError: the network does not use its parameters extra"
    }


def test_without_sync_bn_all_processes_measure_the_mean_statistics(few: PreparedData, tmp_path: Path):
    job = replace(JOB, recipe=replace(PLAIN, epochs=1, warmup_epochs=0, sync_bn=False))
    (last,) = _train(2, job, few, tmp_path)
    assert together(2, processes.evaluated, job, [few], tmp_path / "last.pt") == [[last.scores]] * 2
