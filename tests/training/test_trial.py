"""One training: what it gives, that it can be broken anywhere, and that the same job gives the same digits."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hiri_search.language import parse_net
from hiri_search.training import trial
from hiri_search.training.data import Prepared, prepare
from hiri_search.training.job import DataSource, Epoch, Job
from hiri_search.training.recipe import Recipe
from hiri_search.training.trial import TrialFailed, train

SPEC = parse_net("hrstem(hs=8) -> hr(8 e=4) -> cffn(16 e=4) -> t(32 e=2 d=16)").full
RECIPE = Recipe(epochs=3, batch=16, mixup=0.2, cutmix=1.0, erasing=0.2, drop_path=0.1, warmup_epochs=0.5)
JOB = Job(SPEC, 32, 4, 0, RECIPE, DataSource("drawn", train=48, val=32))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepare(JOB.data, JOB.side, tmp_path_factory.mktemp("pictures"), classes=JOB.classes)


def _outcome(curve: list[Epoch]) -> list[Epoch]:
    """But for how long it took."""
    return [replace(epoch, seconds=0, images_per_second=0) for epoch in curve]


def _weights(checkpoint: Path) -> list[torch.Tensor]:
    return list(torch.load(checkpoint, weights_only=True)["model"].values())


def test_each_epoch_is_told_once_it_is_safe(prepared: Prepared, tmp_path: Path):
    told: list[int] = []

    def hear(epoch: Epoch) -> None:
        assert len(torch.load(tmp_path / "last.pt", weights_only=True)["curve"]) == epoch.epoch
        told.append(epoch.epoch)

    curve = train(JOB, prepared, tmp_path / "last.pt", report=hear)
    assert told == [1, 2, 3] == [epoch.epoch for epoch in curve]
    assert all(0 <= epoch.top1 <= epoch.top5 <= 100 for epoch in curve)


def test_the_same_job_gives_the_same_digits_whatever_ran_before(prepared: Prepared, tmp_path: Path):
    first = train(JOB, prepared, tmp_path / "first.pt")
    torch.rand(17)
    train(replace(JOB, seed=1), prepared, tmp_path / "other.pt")
    again = train(JOB, prepared, tmp_path / "again.pt")
    assert _outcome(first) == _outcome(again)
    pairs = zip(_weights(tmp_path / "first.pt"), _weights(tmp_path / "again.pt"), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_another_seed_gives_another_training(prepared: Prepared, tmp_path: Path):
    curves = [train(replace(JOB, seed=seed), prepared, tmp_path / f"{seed}.pt") for seed in (0, 1)]
    assert curves[0][-1].loss != curves[1][-1].loss


@pytest.mark.parametrize("last", [1, 2])
def test_broken_behind_an_epoch_it_goes_on_as_if_unbroken(prepared: Prepared, tmp_path: Path, last: int):
    def stop(epoch: Epoch) -> None:
        if epoch.epoch == last:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(JOB, prepared, tmp_path / "broken.pt", report=stop)
    told: list[int] = []
    before = (tmp_path / "broken.pt").stat().st_mtime_ns
    curve = train(JOB, prepared, tmp_path / "broken.pt", report=lambda epoch: told.append(epoch.epoch))
    assert (tmp_path / "broken.pt").stat().st_mtime_ns > before
    assert told == [1, 2, 3], "those before are told again"
    assert _outcome(curve) == _outcome(train(JOB, prepared, tmp_path / "whole.pt"))


def test_a_finished_training_is_not_trained_again(prepared: Prepared, tmp_path: Path):
    curve = train(JOB, prepared, tmp_path / "last.pt")
    written = (tmp_path / "last.pt").stat().st_mtime_ns
    assert train(JOB, prepared, tmp_path / "last.pt") == curve
    assert (tmp_path / "last.pt").stat().st_mtime_ns == written


def test_a_loss_that_is_not_finite_ends_the_trial_with_its_place(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(trial._Step, "place", lambda self, images: images * float("nan"))
    with pytest.raises(TrialFailed, match=r"not finite \(nan\) at epoch 1, step 3"):
        train(JOB, prepared, tmp_path / "last.pt")


def test_training_learns(tmp_path: Path):
    """Four easy classes, well above chance; the moving average follows the weights."""
    recipe = Recipe(epochs=12, batch=16, lr=4e-3, crop=0.6, ema=0.9)
    job = replace(JOB, recipe=recipe, data=DataSource(train=256, val=64))
    curve = train(job, prepare(job.data, 32, tmp_path, classes=4), tmp_path / "last.pt")
    assert curve[-1].loss < curve[0].loss - 0.1
    assert curve[-1].top1 > 35
    assert curve[-1].ema_top1 is not None
    assert abs(curve[-1].ema_top1 - curve[-1].top1) < 15


def test_without_a_moving_average_there_is_none_to_tell(prepared: Prepared, tmp_path: Path):
    job = replace(JOB, recipe=replace(RECIPE, ema=0.0, epochs=1))
    assert train(job, prepared, tmp_path / "last.pt")[0].ema_top1 is None


def test_the_digest_names_the_job():
    assert JOB.digest == replace(JOB).digest
    others = [replace(JOB, seed=1), replace(JOB, side=64), replace(JOB, recipe=replace(RECIPE, lr=1e-4))]
    assert len({JOB.digest, *(job.digest for job in others)}) == 4
