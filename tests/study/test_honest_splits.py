"""The test images choose nothing, and what is reported is measured on them."""

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from hiri_search.api.folders import read_results
from hiri_search.report.compare_runs import side_by_side
from hiri_search.report.page.page_data import page_content
from hiri_search.report.tables.networks import caption, network_table, paper_table, trial_table
from hiri_search.study.config.read import read_study
from hiri_search.study.dispatch.serial_dispatcher import run_serially
from hiri_search.study.dispatch.task import Heartbeat, Report, TrialTask
from hiri_search.study.ledger.events import EpochEnded, TrialAsked, TrialBegan, TrialFailed, TrialFinished, TrialPaused
from hiri_search.study.ledger.ledger import of_kind, read_events
from hiri_search.study.provenance.verify import verify
from hiri_search.study.run import run
from hiri_search.study.status import status
from hiri_search.training.job import Job
from tests.study.provenance.folders import changed, first, rewrite
from tests.study.records import epoch
from tests.study.search.searches import Quiet

SEARCH = """
space: hr(16|32 e=2|4) -> (cffn(32|64 e=2|4) | t(32|64 e=2|4 d=32))
search: {networks: 12, sampler: evolution, halving: {epochs: [1]}}
confirm: {top: 3, seeds: 1, epochs: x1}
counted: {side: 64, classes: 10}
proxy: {width: 4, side: 32, classes: 2}
data: {source: drawn, train: 32, val: 16, test: 16}
recipe: {epochs: 2, batch: 16, warmup_epochs: 0}
"""
ABLATION = "nets: {one: hr(32 e=4), two: hr(32 e=2)}\nseeds: 2\n" + SEARCH[SEARCH.index("counted") :]
Scores = Callable[[str], float]  # of a network, by its spec


def share(salt: str) -> Scores:
    """Return made-up scores, each a whole number of 16 images."""
    return lambda spec: zlib.crc32(f"{salt} {spec}".encode()) % 17 / 16 * 100


def of_network(job: Job) -> str:
    return f"{job.spec} {job.seed}"


def looked_up(
    folder: Path,
    text: str,
    val: Scores,
    test: Scores,
    *,
    of: Callable[[Job], str] = of_network,
    sets: Sequence[str] = (),
) -> Path:
    """Run a study with 16 test images whose scores are looked up by the text that `of` gives; return its folder.

    A training without a score fails.
    """

    def look_up(task: TrialTask, report: Report, heartbeat: Heartbeat, *, shared_gpu: bool) -> None:
        last, spec = task.job.recipe.epochs, of(task.job)
        if math.isnan(val(spec)):
            report(TrialFailed(trial=task.trial, reason="no score"))
            return
        curve = tuple(
            epoch(number, val(spec), more={"top5": 100.0}, test_scores={"top1": test(spec)} if number == last else {})
            for number in range(1, task.last_epoch + 1)
        )
        report(TrialBegan(trial=task.trial, device="CPU"))
        for each in curve[task.epochs_done :]:
            report(EpochEnded(trial=task.trial, result=each))
        report((TrialFinished if task.last_epoch == last else TrialPaused)(trial=task.trial, curve=curve))

    folder.mkdir(exist_ok=True)
    (folder / "study.yaml").write_text(text)
    study = read_study(folder / "study.yaml", sets=sets)
    run(study, folder, lambda source: run_serially(source, trial_function=look_up), Quiet(), profile="none")
    return folder


def _asked(folder: Path) -> list[tuple[str, int | None]]:
    return [(event.network.spec, event.confirms) for event in of_kind(read_events(folder), TrialAsked)]


def test_test_scores_choose_nothing(tmp_path: Path):
    first = looked_up(tmp_path / "a", SEARCH, share("a"), share("b"))
    other_test = looked_up(tmp_path / "b", SEARCH, share("a"), share("c"))
    swapped = looked_up(tmp_path / "c", SEARCH, share("b"), share("a"))
    assert _asked(first) == _asked(other_test)
    assert [spec for spec, confirms in _asked(first) if confirms is not None], "networks were confirmed"
    assert _asked(swapped) != _asked(first)
    assert read_results(first).losses == read_results(other_test).losses
    assert (
        network_table(read_results(first))["test_top1"].tolist()
        != network_table(read_results(other_test))["test_top1"].tolist()
    )


def test_results_are_reported_on_the_test_images(tmp_path: Path):
    folder = looked_up(tmp_path / "a", ABLATION, share("val"), share("test"))
    results = read_results(folder)
    table = trial_table(results)
    assert (table["test_top1"] != table["top1"]).any()
    expected = table.groupby("name")["test_top1"].mean()
    assert network_table(results).set_index("name")["test_top1"].to_dict() == expected.to_dict()
    assert "measured on 16 test images" in caption(results)
    content = page_content(results)
    assert (content["score"]["key"], content["score"]["head"]) == ("test_top1", "Test top-1 %")
    assert content["curve_score"]["label"] == "validation top-1"
    best = table.groupby("name", sort=False)["top1"].mean().idxmax()  # the choice is made on the validation images
    card = {"label": "Best network: test top-1", "value": f"{expected[best]:.2f} %"}
    assert content["cards"][0] == card | {"detail": f"{best}, chosen by validation"}
    assert {"test_top1", "gmacs"} < set(status(folder).front[0])
    assert "test_top1_a" in side_by_side(results, results).table
    on_val = replace(results, started=replace(results.started, images=replace(results.started.images, test=0)))
    assert "top1_a" in side_by_side(results, on_val).table, "only one of the two has test images"
    on_paper = replace(results, study=results.study.model_copy(update={"table": "8"}))
    assert {"test_top1", "paper_top1"} < set(paper_table(on_paper))


def test_verify_finds_a_trial_that_was_measured_on_the_test_images_too_early(tmp_path: Path):
    folder = looked_up(tmp_path / "a", ABLATION, share("val"), share("test"))
    assert not _curve_faults(folder)
    finished = first(read_events(folder), TrialFinished, 0)
    curve = tuple(replace(each, test_scores={"top1": 50.0}) for each in finished.curve)
    rewrite(folder, lambda events: changed(events, TrialFinished, 0, curve=curve), forged=True)
    assert any("measured on the test images after these epochs: [1, 2]" in fault for fault in _curve_faults(folder))


def _curve_faults(folder: Path) -> tuple[str, ...]:
    return next(finding.faults for finding in verify(folder) if finding.check == "curves")
