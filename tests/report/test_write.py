"""Tables and figures, from rows of trials."""

import errno
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from hiri_search.cli.main import main
from hiri_search.paper.published import PAPER_SCORE, TABLE_FILES, published
from hiri_search.report import write
from hiri_search.report.figures import image, pareto
from hiri_search.report.tables.curves import AXES, COST_AXES, figure6_points, published_points
from hiri_search.report.tables.networks import caption, front, inference_table, network_table, paper_table
from hiri_search.report.write import write_all
from hiri_search.study.ledger.events import InferenceTimed
from hiri_search.training.score import CLASSIFICATION
from tests.report.examples import example_results, example_study
from tests.study.records import asked, network, study_started, write_ledger

ROWS = {"one": {"paper": "HR-HR-HR-T-T", "note": "said"}, "HR-HR-T-T-T": {}}
TOP1 = CLASSIFICATION.scores[0]
STUDY = example_study(ROWS, title="Mixes", table="8", seeds=2)


def _trial(number: int, name: str, seed: int, top1: float | None, *, macs: float = 4e9, state: str = "finished"):
    scores = {"top1": top1, "top5": top1, "ema_top1": None, "ema_top5": None, "loss": 1.0}
    costs = {"params": 30_000_000, "macs": int(macs), "core_macs": int(macs), "by_part": {}}
    facts = {"trial": number, "name": name, "key": f"key {name}", "spec": f"spec {name}", "seed": seed, **costs}
    facts |= {"side": 448, "trained_spec": f"small {name}", "trained_side": 64}
    curve = [] if top1 is None else [1.0, top1]
    facts |= {"state": state, "reason": "", "epochs": len(curve), "curve": curve, "ema_curve": []}
    return {**facts, **scores, "seconds": 1.0}


TRIALS = [
    _trial(0, "one", 0, 40.0),
    _trial(1, "one", 1, 44.0),
    _trial(2, "HR-HR-T-T-T", 0, 50.0, macs=5e9),
    _trial(3, "HR-HR-T-T-T", 1, None, macs=5e9, state="failed"),
]
TIMED = InferenceTimed(
    **{"key": "key one", "side": 448, "batch": 1, "dtype": "float32", "compiled": False, "fused": True},
    **{"ms_per_image": 100.0, "images_per_second": 10.0, "spread": 0.01, "settled": True},
    **{"repeats": 3, "passes": 2, "rounds_ms": (99.0, 100.0, 101.0)},
    conditions={"machine": {"device": "a CPU"}},
)
RESULTS = example_results(STUDY, TRIALS, skipped=("a.jpg",), timed=[TIMED])


def test_the_score_of_a_network_is_the_mean_of_its_finished_trials():
    table = network_table(RESULTS).set_index("name")
    assert table.loc["one", "top1"] == 42.0
    assert table.loc["one", "spread"] == pytest.approx(np.std([40, 44], ddof=1))
    assert list(table["seeds"]) == [2, 1]
    assert list(table["failed"]) == [0, 1]


def test_the_paper_table_has_our_numbers_and_the_papers():
    table = paper_table(RESULTS).set_index("network")
    assert table.loc["one", "paper_gflops"] == 4.8
    assert table.loc["one", "gflops"] == 4.0
    assert list(table["rank"]) == [2, 1]
    assert list(table["paper_rank"]) == [2, 1]
    assert table.loc["one", "note"] == "said"


def test_the_caption_describes_networks_and_images():
    text = caption(RESULTS)
    left_out = "Unreadable images left out: 1 (a.jpg)."
    for part in ("448 pixels", "widths divided by 4", "64 pixels", "100 images (drawn", "12.5 %", left_out):
        assert part in text


def test_a_row_that_is_only_counted_has_costs_and_no_score():
    facts = {"name": "two", "key": "k", "spec": "s", "side": 224, "params": 10**6, "macs": 10**9}
    rows = {"one": ROWS["one"], "two": {"paper": "HR-HR-T-T-T", "train": False}}
    results = example_results(example_study(rows, table="8"), TRIALS[:2], counted=[facts])
    row = paper_table(results).set_index("network").loc["two"]
    assert (row["side"], row["gflops"], row["seeds"]) == (224, 1.0, 0)
    assert np.isnan(row["top1"])
    assert "not trained: two" in caption(results)


def test_a_network_at_two_sides_has_two_rows_with_their_own_inference_times():
    small, large = ({**TRIALS[0], "name": f"at {side}", "side": side} for side in (224, 448))
    table = network_table(example_results(example_study(["at 224", "at 448"]), [small, large], timed=[TIMED]))
    assert list(table["name"]) == ["at 224", "at 448"]
    assert np.isnan(table["ms"][0])
    assert table["ms"][1] == 100.0


def test_the_inference_table_names_the_machine():
    table = inference_table(RESULTS)
    assert list(table["name"]) == ["one"]
    assert list(table["conditions.machine.device"]) == ["a CPU"]


def test_the_front_has_the_non_dominated_rows():
    table = pd.DataFrame({"cost": [3, 1, 2, 4, 1, 3], "top1": [5.0, 2.0, 1.0, np.nan, 3.0, 5.0]})
    best = front(table, "cost", TOP1)
    assert list(zip(best["cost"], best["top1"], strict=True)) == [(1, 3.0), (3, 5.0), (3, 5.0)], "neither dominates"
    least = front(table, "cost", replace(TOP1, up=False))
    assert list(zip(least["cost"], least["top1"], strict=True)) == [(1, 2.0), (2, 1.0)]


MANY = [_trial(i, f"n{i}", 0, i, macs=i * 1e9) for i in range(1, 15)]


@pytest.mark.parametrize("trials", [TRIALS, [], TRIALS[3:], MANY])
def test_a_report_can_be_written_in_every_state_of_a_study(tmp_path: Path, trials: list[dict[str, Any]]):
    study = STUDY if trials is TRIALS else example_study([row["name"] for row in trials] or ["one"])
    for path in write_all(example_results(study, trials), tmp_path).paths:
        assert path.stat().st_size > 0
    assert not list(tmp_path.glob("*.tmp*"))
    with Image.open(tmp_path / "figure6.png") as image:
        assert min(image.size) > 1000


@pytest.mark.parametrize("table", ["", *TABLE_FILES])
def test_each_table_has_published_points(table: str):
    paper = published_points(table)
    assert set(paper.cost_columns) <= set(AXES)
    assert len(paper.points.dropna(subset=["gflops", PAPER_SCORE])) > 1
    assert {"curve", "label", *paper.cost_columns} <= set(paper.points)


@pytest.mark.parametrize("table", TABLE_FILES)
def test_every_table_of_the_paper_can_be_read(table: str):
    assert len(published(table)) > 0


def test_the_papers_curves_have_all_three_costs():
    points = figure6_points()
    assert points.groupby("curve")["gflops"].count().ge(2).all()
    assert {"HIRI-ViT @ 224", "HIRI-ViT @ 384", "HIRI-ViT @ 448", "Swin"} <= set(points["curve"])
    for cost in COST_AXES:
        assert points.dropna(subset=[cost]).groupby("curve").size().ge(1).all()


# ---- a report always comes

LEGENDS = [
    "_base",
    "__x__",
    "lr$_$x",
    r"$\frac$",
    "$",
    "",
    " ",
    "a\nb",
    "\x00",
    "\u202e",
    "漢字 \U0001f600",
    "x" * 10_000,
    "%s",
]


def test_every_name_is_in_the_legend_as_it_is():
    expected = [*LEGENDS[:7], r"a\nb", r"\x00", r"\u202e", r"\u6f22\u5b57" + " \U0001f600", "x" * 39 + "…", "%s"]
    for names, shown in ((LEGENDS[:7], expected[:7]), (LEGENDS[7:], expected[7:])):
        study = example_study({name: {"curve": name} for name in names})
        figure = pareto(example_results(study, [_trial(i, name, 0, 40.0 + i) for i, name in enumerate(names)]))
        assert [text.get_text() for text in figure.legends[0].get_texts()] == ["Pareto front", *shown]
        assert image(figure, ".pdf").startswith(b"%PDF")


def _without_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("_figure_of", None), ("image", b"image"), ("page", "page")):
        monkeypatch.setattr(write, name, lambda *args, value=value: value)


def _fails(*args: object, **kwargs: object) -> Any:
    raise RuntimeError("a bad name")


PARTS = {  # a function that fails, and the files that are not written then
    "caption": {"networks.md"},
    "csv": {"trials.csv", "dictionary.csv", "networks.csv", "comparisons.csv", "inference.csv"},
    "image": {"pareto.png", "pareto.pdf", "figure6.png", "figure6.pdf"},
    "page_content": {"index.html"},
    "_parquet": {"trials.parquet"},
}


@pytest.mark.parametrize("part", PARTS)
def test_a_file_that_cannot_be_made_is_named_and_the_others_are_written(
    part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    _without_drawing(monkeypatch)
    results = example_results(example_study(ROWS), TRIALS, timed=[TIMED])
    everything = {path.name for path in write_all(results, tmp_path / "all").paths}
    monkeypatch.setattr(write, part, _fails)
    written = write_all(results, tmp_path / "some")
    lacking = {path.name for path in written.failures}
    assert lacking == PARTS[part]
    assert {path.name for path in written.paths} == {path.name for path in (tmp_path / "some").iterdir()}
    assert {path.name for path in written.paths} == everything - lacking
    assert written.reasons.keys() == {"RuntimeError: a bad name"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a results folder without a report."""
    trial = asked(net=network("a|b"))
    write_ledger(tmp_path, [study_started(), trial])
    return tmp_path


def _full_disk(monkeypatch: pytest.MonkeyPatch, folder: Path, *, code: int, which: str = "") -> None:
    fsync = os.fsync

    def fails(number: int) -> None:
        if which in os.readlink(f"/proc/self/fd/{number}"):
            raise OSError(code, os.strerror(code))
        fsync(number)

    monkeypatch.setattr(os, "fsync", fails)


Harm = Callable[[pytest.MonkeyPatch, Path], object]
HARMS: dict[str, tuple[Harm, int, str]] = {  # what is wrong with the place, the exit code, the words
    "a file for the folder": (lambda _, folder: (folder / "report").write_text(""), 2, "File exists"),
    "a folder for a file": (lambda _, folder: (folder / "report/index.html").mkdir(parents=True), 1, "Is a directory"),
    "a link to nowhere": (lambda _, folder: (folder / "report").symlink_to("nowhere/there"), 2, "File exists"),
    "a full disk": (partial(_full_disk, code=errno.ENOSPC), 2, "No space left on device"),
    "a full disk for the page": (partial(_full_disk, code=errno.ENOSPC, which="index.html"), 2, "No space left"),
    "a quota": (partial(_full_disk, code=errno.EDQUOT), 2, "quota exceeded"),
    "a read-only disk": (partial(_full_disk, code=errno.EROFS), 2, "Read-only file system"),
    "one bad block": (partial(_full_disk, code=errno.EIO, which="pareto.png"), 1, "pareto.png not written: Input/out"),
}


@pytest.mark.parametrize("harm", HARMS)
def test_a_place_that_cannot_be_written_is_told_in_a_sentence(
    harm: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    _without_drawing(monkeypatch)
    do, code, words = HARMS[harm]
    do(monkeypatch, folder)
    with pytest.raises(SystemExit) as end:
        main(["report", str(folder)])
    told = capfd.readouterr()
    assert end.value.code == code
    assert words in (told.err if code == 2 else told.out)
    assert "Traceback" not in told.err
    assert not list(folder.rglob("*.tmp")), "nothing half written"


OLD_SETTINGS = [{"table": "10"}, {"table": "../x"}, {"title": "", "table": "table"}]


@pytest.mark.parametrize("settings", OLD_SETTINGS, ids=str)
def test_a_table_that_the_paper_does_not_have_is_left_out(
    settings: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(write, "image", lambda *args: b"image")
    study = example_study(ROWS).model_copy(update=settings)
    names = {path.name for path in write_all(example_results(study, TRIALS), tmp_path / "report").paths}
    assert {"networks.csv", "networks.md", "networks.tex", "figure6.png", "index.html"} <= names
    assert list(tmp_path.iterdir()) == [tmp_path / "report"]


def test_a_seed_beyond_64_bits_leaves_out_only_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    _without_drawing(monkeypatch)
    written = write_all(example_results(STUDY, [_trial(0, "one", 10**23, 40.0)]), tmp_path)
    assert {path.name for path in written.failures} <= {"trials.parquet"}


def test_two_reports_at_once_are_both_whole(folder: Path):
    results = example_results(example_study(ROWS), TRIALS)
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: write.write_tables(results, folder / "report"), range(6)))
    alone = write.write_tables(results, folder / "alone")
    assert [written.failures for written in both] == [{}] * 6
    for path in alone.paths:
        assert path.read_bytes() == (folder / "report" / path.name).read_bytes()
