"""The training loop: results, interruption at any epoch, and the same digits for the same job."""

import csv
import math
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from hiri_search.language import parse_net
from hiri_search.nets.hirivit import HiriVit
from hiri_search.training import loop
from hiri_search.training import step as step_module
from hiri_search.training.data.prepare import prepare
from hiri_search.training.job import DataSource, Epoch, Job, PreparedData
from hiri_search.training.loop import train
from hiri_search.training.recipe import Recipe
from hiri_search.training.state import TrainingError, initial_state
from hiri_search.training.step import Step, in_parts

SPEC = parse_net("hrstem(hs=8) -> hr(8 e=4) -> cffn(16 e=4) -> t(32 e=2 d=16)").canonical_text
RECIPE = Recipe(epochs=3, batch=16, mixup=0.2, cutmix=1.0, erasing=0.2, drop_path=0.1, warmup_epochs=0.5)
Parts = tuple[torch.Tensor, ...]
Trained = tuple[list[Epoch], Path]
JOB = Job(SPEC, 32, 4, 0, RECIPE, DataSource("drawn", train=48, val=32))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    return prepare(JOB.data, JOB.side, tmp_path_factory.mktemp("images"), classes=JOB.classes)


@pytest.fixture(scope="module")
def trained(prepared: PreparedData, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Return the curve and the checkpoint of JOB, trained without interruption."""
    checkpoint = tmp_path_factory.mktemp("trained") / "last.pt"
    return train(JOB, prepared, checkpoint), checkpoint


def _outcome(curve: list[Epoch]) -> list[Epoch]:
    """Return the curve without durations."""
    return [replace(epoch, seconds=0, images_per_second=0, seconds_waiting=0) for epoch in curve]


def _weights(checkpoint: Path) -> list[torch.Tensor]:
    return list(torch.load(checkpoint, weights_only=True)["model"].values())


def test_throughput_is_told_for_each_watt(prepared: PreparedData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    watts = 50.0
    monkeypatch.setattr("hiri_search.training.loop.joules", lambda device: watts * time.perf_counter())
    for epoch in train(JOB, prepared, tmp_path / "last.pt"):
        assert epoch.images_per_joule == pytest.approx(epoch.images_per_second / watts, rel=0.1)
        assert epoch.joules == pytest.approx(watts * epoch.seconds, rel=0.1)


def test_each_epoch_is_reported_after_its_checkpoint_is_saved(prepared: PreparedData, tmp_path: Path):
    reported: list[int] = []

    def report(epoch: Epoch) -> None:
        assert len(torch.load(tmp_path / "last.pt", weights_only=True)["curve"]) == epoch.epoch
        reported.append(epoch.epoch)

    curve = train(JOB, prepared, tmp_path / "last.pt", report=report)
    assert reported == [1, 2, 3] == [epoch.epoch for epoch in curve]
    assert all(0 <= epoch.scores["top1"] <= epoch.scores["top5"] <= 100 for epoch in curve)


def test_a_stand_in_with_a_quarter_of_the_widths_has_twice_the_learning_rate():
    lrs = [
        initial_state(replace(JOB, width_divisor=divisor), 4, 10, torch.device("cpu")).schedule.base_values[0]
        for divisor in (1, 4)
    ]
    assert lrs == [RECIPE.lr, 2 * RECIPE.lr]


RATES = [  # of six steps in three epochs, as shares of the peak
    ("step 1 2", 0, [1, 1, 0.1, 0.1, 0.01, 0.01]),
    ("step 2", 1, [0.55, 1, 1, 1, 0.1, 0.1]),
    ("linear", 0, [0.85, 0.7, 0.55, 0.4, 0.25, 0.1]),
    ("linear", 1, [0.55, 0.7, 0.55, 0.4, 0.25, 0.1]),
    ("cosine", 0, [0.1 + 0.45 * (1 + math.cos(math.pi * step / 6)) for step in range(1, 7)]),
]


@pytest.mark.parametrize(("schedule", "warmup", "rates"), RATES)
def test_the_learning_rate_of_each_step(schedule: str, warmup: int, rates: list[float]):
    recipe = replace(RECIPE, lr=1, min_lr=0.1, schedule=schedule, warmup_epochs=warmup)
    state, seen = initial_state(replace(JOB, recipe=recipe), 4, 2, torch.device("cpu")), []
    for step in range(1, 7):
        state.schedule.step_update(step)
        seen.append(state.optimizer.param_groups[0]["lr"])
    assert seen == pytest.approx(rates)


def test_the_same_job_gives_the_same_digits_after_another_seed_gave_others(
    trained: Trained, prepared: PreparedData, tmp_path: Path
):
    torch.rand(17)
    other = train(replace(JOB, seed=1), prepared, tmp_path / "other.pt")
    second = train(JOB, prepared, tmp_path / "second.pt")
    assert _outcome(second) == _outcome(trained[0])
    pairs = zip(_weights(tmp_path / "second.pt"), _weights(trained[1]), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert other[-1].loss != second[-1].loss


def test_the_test_images_are_measured_after_the_last_epoch_alone(tmp_path: Path):
    job = replace(JOB, recipe=replace(RECIPE, ema=0.9), data=replace(JOB.data, test=24))
    images = prepare(job.data, job.side, tmp_path / "images", classes=job.classes)
    first, second, last = train(job, images, tmp_path / "last.pt")
    assert first.test_scores == second.test_scores == {}
    assert set(last.test_scores) == set(last.scores) == {"top1", "top5", "ema_top1", "ema_top5"}
    assert last.test_scores["top1"] * 24 / 100 == pytest.approx(round(last.test_scores["top1"] * 24 / 100))
    assert last.score("test_ema_top1") == last.test_scores["ema_top1"]


@pytest.mark.parametrize("last", [1, 2])
def test_an_interrupted_training_resumes_with_the_same_digits(
    trained: Trained, prepared: PreparedData, tmp_path: Path, last: int
):
    def stop(epoch: Epoch) -> None:
        if epoch.epoch == last:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(JOB, prepared, tmp_path / "interrupted.pt", report=stop)
    reported: list[int] = []
    interrupted_at = (tmp_path / "interrupted.pt").stat().st_mtime_ns
    curve = train(JOB, prepared, tmp_path / "interrupted.pt", report=lambda epoch: reported.append(epoch.epoch))
    assert (tmp_path / "interrupted.pt").stat().st_mtime_ns > interrupted_at
    assert reported == [1, 2, 3], "earlier epochs are reported again"
    assert _outcome(curve) == _outcome(trained[0])


def test_a_paused_training_resumes_with_the_same_digits(trained: Trained, prepared: PreparedData, tmp_path: Path):
    lengths = [len(train(JOB, prepared, tmp_path / "last.pt", until=epoch)) for epoch in (1, 2)]
    assert lengths == [1, 2]
    assert _outcome(train(JOB, prepared, tmp_path / "last.pt")) == _outcome(trained[0])


def test_a_finished_training_is_not_repeated(trained: Trained, prepared: PreparedData):
    curve, checkpoint = trained
    written = checkpoint.stat().st_mtime_ns
    assert train(JOB, prepared, checkpoint) == curve
    assert checkpoint.stat().st_mtime_ns == written


def test_a_loss_that_is_not_finite_fails_the_trial_and_names_the_step(
    prepared: PreparedData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(loop.Step, "__call__", lambda *args: torch.tensor(float("nan")))
    with pytest.raises(TrainingError, match=r"not finite \(nan\) at epoch 1, step 3"):
        train(JOB, prepared, tmp_path / "last.pt")


def test_training_learns(tmp_path: Path):
    """On four easy classes top-1 is well above chance; the moving average is close to the weights."""
    recipe = Recipe(epochs=10, batch=16, lr=4e-3, crop=0.6, ema=0.9)
    job = replace(JOB, recipe=recipe, data=DataSource(train=192, val=64))
    curve = train(job, prepare(job.data, 32, tmp_path, classes=4), tmp_path / "last.pt")
    assert curve[-1].loss < curve[0].loss - 0.1
    assert curve[-1].scores["top1"] > 35
    assert abs(curve[-1].scores["ema_top1"] - curve[-1].scores["top1"]) < 15


def test_without_a_moving_average_its_accuracy_is_none(prepared: PreparedData, tmp_path: Path):
    job = replace(JOB, recipe=replace(RECIPE, ema=0.0, epochs=1))
    assert "ema_top1" not in train(job, prepared, tmp_path / "last.pt")[0].scores


def test_different_jobs_have_different_digests():
    assert JOB.digest == replace(JOB).digest
    other_jobs = [replace(JOB, seed=1), replace(JOB, side=64), replace(JOB, recipe=replace(RECIPE, lr=1e-4))]
    assert len({JOB.digest, *(job.digest for job in other_jobs)}) == 4


def test_the_curve_is_written_to_the_folder_of_the_checkpoint(trained: Trained):
    curve, checkpoint = trained
    with checkpoint.with_name("curve.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(int(row["epoch"]), float(row["top1"])) for row in rows] == [
        (epoch.epoch, epoch.scores["top1"]) for epoch in curve
    ]


def test_the_time_of_an_epoch_includes_waiting_for_images(trained: Trained):
    for epoch in trained[0]:
        assert 0 < epoch.seconds_waiting < epoch.seconds


def test_a_batch_that_does_not_fit_is_computed_in_parts_and_the_curve_says_so(
    prepared: PreparedData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    original = Step._backward

    def backward(self: Step, model: nn.Module, images: Parts, targets: Parts) -> torch.Tensor:
        if len(images[0]) > 4:
            model(images[0])  # updates the BatchNorm statistics before the error
            raise torch.OutOfMemoryError("too large")
        return original(self, model, images, targets)

    monkeypatch.setattr(Step, "_backward", backward)
    curve = train(JOB, prepared, tmp_path / "last.pt")
    assert [epoch.parts for epoch in curve] == [4, 4, 4]
    assert torch.load(tmp_path / "last.pt", weights_only=True)["parts"] == 4, (
        "a resumed trial starts with parts that fit"
    )
    steps = torch.load(tmp_path / "last.pt", weights_only=True)["model"]["head.bn.num_batches_tracked"]
    assert steps == 4 * 9, "failed attempts leave BatchNorm unchanged"


def test_a_trial_fails_if_not_even_two_images_fit(
    prepared: PreparedData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def backward(*args: object) -> torch.Tensor:
        raise torch.OutOfMemoryError("too large")

    monkeypatch.setattr(Step, "_backward", backward)
    with pytest.raises(TrainingError, match="two images at a time do not fit into memory"):
        train(JOB, prepared, tmp_path / "last.pt")


def test_a_teacher_that_does_not_fit_is_computed_in_parts(
    prepared: PreparedData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    original = step_module.teacher_map

    def teacher_map(teacher: HiriVit, images: torch.Tensor) -> torch.Tensor:
        if len(images) > 8:
            raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")
        return original(teacher, images)

    monkeypatch.setattr(step_module, "teacher_map", teacher_map)
    job = replace(JOB, recipe=replace(RECIPE, ema=0.9, distill_alpha=0.5, epochs=1))
    assert [epoch.parts for epoch in train(job, prepared, tmp_path / "last.pt")] == [2]


def test_cuda_graphs_need_a_batch_that_fits(prepared: PreparedData):
    state = initial_state(JOB, 4, 2, torch.device("cpu"))
    step = Step(replace(RECIPE, compile=True, cuda_graphs=True), 4, torch.device("cpu"), state.model)
    with pytest.raises(TrainingError, match=r"no room; remove recipe\.cuda_graphs, or make recipe\.batch smaller"):
        step._double_parts(state, torch.randn(16, 3, 32, 32), "no room")


@pytest.mark.parametrize(("images", "parts", "sizes"), [(10, 4, [3, 3, 2, 2]), (22, 8, [3] * 6 + [2] * 2), (1, 4, [1])])
def test_parts_have_two_images_where_there_are_enough(images: int, parts: int, sizes: list[int]):
    assert [len(part) for part in in_parts(torch.empty(images, 3, 2, 2), parts)] == sizes


def test_parts_give_the_gradient_of_the_whole_batch(prepared: PreparedData):
    """The network has no BatchNorm, whose statistics would be those of a part."""
    spec = parse_net("vitstem -> t(16 e=2 d=8 norm=ln)").canonical_text
    images, targets = torch.randn(8, 3, 32, 32), torch.rand(8, 4)
    gradients = []
    for parts in (1, 3):
        torch.manual_seed(0)
        state = initial_state(replace(JOB, spec=spec), 4, 2, torch.device("cpu"))
        state.model.head.bn = torch.nn.Identity()
        state.parts = parts
        Step(RECIPE, 4, torch.device("cpu"), state.model.eval())._gradients(state, images, targets)
        gradients.append([p.grad for p in state.model.parameters() if p.grad is not None])
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(*gradients, strict=True))


def test_initial_weights_may_come_from_another_side_and_number_of_classes(trained: Trained):
    averaged = torch.load(trained[1], weights_only=True)["model_ema"]
    job = replace(JOB, side=64, recipe=replace(RECIPE, weights=str(trained[1])))
    for classes in (4, 7):
        weights = initial_state(job, classes, 3, torch.device("cpu")).model.state_dict()
        random = {name for name, value in averaged.items() if not torch.equal(weights[name], value)}
        assert random == (set() if classes == 4 else {"head.fc.weight", "head.fc.bias"})


def test_weights_of_another_network_fail_the_trial(trained: Trained, prepared: PreparedData, tmp_path: Path):
    other = parse_net("hrstem(hs=8) -> hr(8 e=4) -> cffn(16 e=4) -> t(32 e=3 d=16)").canonical_text
    job = replace(JOB, spec=other, recipe=replace(RECIPE, weights=str(trained[1])))
    with pytest.raises(TrainingError, match="another network's weights"):
        train(job, prepared, tmp_path / "last.pt")


def test_activation_checkpointing_changes_no_digit(trained: Trained, prepared: PreparedData, tmp_path: Path):
    """The BatchNorm statistics are included, although recomputed blocks see each batch twice."""
    curve = train(replace(JOB, recipe=replace(RECIPE, checkpointing=True)), prepared, tmp_path / "last.pt")
    assert _outcome(curve) == _outcome(trained[0])
    pairs = zip(_weights(tmp_path / "last.pt"), _weights(trained[1]), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize(
    "setting", [{"erasing": 0.5}, {"mixup": 0.8}, {"drop_path": 0.5}], ids=["augmentation", "mixing", "network"]
)
def test_one_changed_setting_leaves_other_random_draws_unchanged(
    setting: dict[str, float], prepared: PreparedData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The image order and the initial weights are the same for every augmentation, mixing and drop path."""
    batches: list[torch.Tensor] = []
    monkeypatch.setattr(
        Step, "__call__", lambda self, state, images, labels, *rest: batches.append(labels) or torch.ones(())
    )
    for number, recipe in enumerate((RECIPE, replace(RECIPE, **setting))):
        train(replace(JOB, recipe=recipe), prepared, tmp_path / f"{number}.pt")
    half = len(batches) // 2
    assert all(torch.equal(a, b) for a, b in zip(batches[:half], batches[half:], strict=True))
    assert all(torch.equal(a, b) for a, b in zip(_weights(tmp_path / "0.pt"), _weights(tmp_path / "1.pt"), strict=True))


def test_distill_alpha_1_gives_the_plain_loss_bit_for_bit(
    trained: Trained, prepared: PreparedData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("hiri_search.training.step.teacher_map", lambda *args: pytest.fail("the teacher was used"))
    job = replace(JOB, recipe=replace(RECIPE, distill_alpha=1.0))
    assert _outcome(train(job, prepared, tmp_path / "off.pt")) == _outcome(trained[0])


def test_distillation_changes_the_loss_and_is_repeatable(trained: Trained, prepared: PreparedData, tmp_path: Path):
    job = replace(JOB, recipe=replace(RECIPE, distill_alpha=0.5))
    curve = train(job, prepared, tmp_path / "last.pt")
    assert [epoch.loss for epoch in curve] != [epoch.loss for epoch in trained[0]]
    assert _outcome(curve) == _outcome(train(job, prepared, tmp_path / "second.pt"))
