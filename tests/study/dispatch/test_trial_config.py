"""Configs of Tune: flat and readable, and the same task comes back."""

from dataclasses import fields, replace
from pathlib import Path

from hiri_search.study.dispatch.trial_config import config_of, epoch_of, report_of, scores_of, task_of
from hiri_search.training.job import Epoch
from hiri_search.training.recipe import Recipe
from tests.study.dispatch.fake_work import ListedTrials
from tests.study.records import epoch


def test_a_task_comes_back_from_its_config(tmp_path: Path):
    (task,) = ListedTrials(tmp_path, 1).tasks
    unlike = replace(
        task,
        job=replace(
            task.job,
            seed=3,
            classes=None,
            recipe=Recipe(epochs=7, lr=0.5, auto_augment="x", bf16=False),
            metrics=(("ece", "my_package.metrics:ece"), ("other", "b:c")),
        ),
        on_epoch=("a:b", "c:d"),
        epochs_done=2,
        until=3,
        zero_cost=("zen", "synflow"),
        scores={"naswot": 1.5, "zen": None},
        alone=True,
    )
    for each in (task, unlike):
        assert task_of(config_of(each), each.job.data, each.files) == each


def test_a_config_has_plain_values_only(tmp_path: Path):
    (task,) = ListedTrials(tmp_path, 1).tasks
    config = config_of(task)
    assert {type(value) for value in config.values()} <= {int, float, str, bool, type(None)}
    assert {"spec", "side", "seed", "trial"} | {field.name for field in fields(Recipe)} <= config.keys()


def test_an_epoch_comes_back_from_its_report():
    ended, scores = epoch(3, top1=40.5, joules=2.5), {"zen": 1.5, "synflow": None}
    report = report_of(ended, scores)
    assert report["training_iteration"] == 3
    assert {field.name for field in fields(Epoch)} - {"test_scores"} <= report.keys()
    assert (report["top1"], report["top5"]) == (40.5, 41.5), "a searcher of Tune reads flat keys"
    with_more = report | {"time_this_iter_s": 1.0, "done": False, "config": {}}  # as Tune does
    assert epoch_of(with_more) == ended
    assert scores_of(with_more) == scores
    last = epoch(3, top1=40.5, test_scores={"top1": 30.0, "top5": 31.0}, standard_errors={"test_top1": 0.1 + 0.2})
    on_test = [report_of(each, {}, test=True) for each in (ended, last)]
    assert [report["test_top1"] for report in on_test] == [None, 30.0], "the same keys in all reports"
    assert on_test[0].keys() == on_test[1].keys()
    assert [epoch_of(report) for report in on_test] == [ended, last]
