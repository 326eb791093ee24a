"""Several processes train one network on shards of WebDataset."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from hiri_search.training.data.prepare import prepare
from hiri_search.training.job import DataSource, Epoch, Job, PreparedData
from hiri_search.training.recipe import Recipe
from tests.training.data.shard_files import SIDE, write_shards
from tests.training.parallel import together as processes
from tests.training.parallel.test_ranks import SPEC
from tests.training.parallel.together import together

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
RECIPE = Recipe(epochs=2, batch=8, ema=0.9, warmup_epochs=0.5, mixup=0.2, jitter=0.3, drop_path=0.1, workers=1)


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A training on three shards, one of which two processes share."""
    pytest.importorskip("webdataset", reason="webdataset is not installed: the extra wds")
    source = write_shards(tmp_path_factory.mktemp("shards"), train=50, val=21, step=5)
    return Job(SPEC, SIDE, 2, 0, RECIPE, DataSource(source))


@pytest.fixture(scope="module")
def images(job: Job, tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    return prepare(job.data, SIDE, tmp_path_factory.mktemp("images"), classes=2, batch=RECIPE.batch)


def _train(size: int, job: Job, images: PreparedData, folder: Path, until: int | None = None) -> list[Epoch]:
    """Return the curve without durations, which all processes have alike."""
    curves = together(size, processes.trained, job, images, folder / "last.pt", until)
    assert not [curve for curve in curves if isinstance(curve, str)], curves
    first, *others = [
        [replace(epoch, seconds=0, images_per_second=0, seconds_waiting=0) for epoch in curve] for curve in curves
    ]
    assert all(other == first for other in others)
    return first


@pytest.fixture(scope="module")
def broken(job: Job, images: PreparedData, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Epoch]:
    """A training of two processes that has ended after its first epoch: its folder, and that epoch."""
    folder = tmp_path_factory.mktemp("broken")
    (first,) = _train(2, job, images, folder, until=1)
    return folder, first


def test_a_broken_training_on_shards_has_the_digits_of_an_unbroken_one(
    job: Job, images: PreparedData, broken: tuple[Path, Epoch], tmp_path: Path
):
    unbroken = _train(2, job, images, tmp_path / "unbroken")
    for name, size in (("two", 2), ("one", 1)):
        shutil.copytree(broken[0], tmp_path / name)
        first, second = _train(size, job, images, tmp_path / name)
        assert (first, second.lr) == (unbroken[0], unbroken[1].lr)
        assert second.loss == pytest.approx(unbroken[1].loss, abs=0.2), "another number of processes goes on with it"
        assert (second == unbroken[1]) == (size == 2)


def test_two_processes_measure_each_image_of_shards_once(job: Job, images: PreparedData, broken: tuple[Path, Epoch]):
    """Their shares of 21 images are unequal."""
    work = (processes.evaluated, job, [images], broken[0] / "last.pt")
    ((alone,),) = together(1, *work)
    assert together(2, *work) == [[alone], [alone]] == [[broken[1].scores]] * 2
    assert any(alone["top1"] == pytest.approx(100 * hits / 21) for hits in range(22))
