"""Tables and figures, from rows of trials."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from hiri_search.report.paper.published import TABLE_FILES, published
from hiri_search.report.tables.curves import AXES, COST_AXES, figure6_points, published_points
from hiri_search.report.tables.networks import caption, front, inference_table, network_table, paper_table
from hiri_search.report.write import write_all
from hiri_search.study.ledger.events import InferenceTimed
from tests.report.examples import example_results, example_study

ROWS = {"one": {"paper": "HR-HR-HR-T-T", "note": "said"}, "HR-HR-T-T-T": {}}
STUDY = example_study(ROWS, title="Mixes", table="8", seeds=2)


def _trial(number: int, name: str, seed: int, top1: float | None, *, macs: float = 4e9, state: str = "finished"):
    scores = {"top1": top1, "top5": top1, "ema_top1": None, "ema_top5": None, "loss": 1.0}
    costs = {"params": 30_000_000, "macs": int(macs), "core_macs": int(macs), "by_part": {}}
    facts = {"trial": number, "name": name, "key": f"key {name}", "spec": f"spec {name}", "seed": seed, **costs}
    facts |= {"side": 448, "trained_spec": f"small {name}", "trained_side": 64}
    curve = [] if top1 is None else [1.0, top1]
    return {**facts, "state": state, "reason": "", "epochs": len(curve), **scores, "seconds": 1.0, "curve": curve}


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
    for part in ("448 pixels", "widths divided by 4", "64 pixels", "100 images (drawn", "12.5 %", "1 unread"):
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
    table = pd.DataFrame({"cost": [3, 1, 2, 4, 1], "gain": [5.0, 2.0, 1.0, np.nan, 3.0]})
    best = front(table, "cost", "gain")
    assert list(zip(best["cost"], best["gain"], strict=True)) == [(1, 3.0), (3, 5.0)]


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
    assert len(paper.points.dropna(subset=["gflops", "top1"])) > 1
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
