"""Tables and figures, from the rows of a ledger."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from hiri_search.report.figures import COSTS, curves
from hiri_search.report.paper import NAMES, published
from hiri_search.report.tables import Results, caption, front, network_table, paper_table
from hiri_search.report.write import write

FILE = {
    "counted": {"side": 448, "classes": 1000},
    "proxy": {"width": 4, "depth": 3, "side": 64, "classes": None},
    "recipe": {"epochs": 5},
    "data": {"source": "drawn"},
    "seeds": [0, 1],
}
ABOUT: dict[str, Any] = {
    "title": "Mixes",
    "table": "8",
    "rows": {"one": {"paper": "HR-HR-HR-T-T", "note": "said"}, "HR-HR-T-T-T": {"paper": None, "note": ""}},
    "file": FILE,
    "pictures": {"train": 100, "val": 50, "classes": 8, "skipped": ["a.jpg"]},
    "device": "CPU, 2 cores",
    "profile": "laptop",
}


def _trial(number: int, name: str, seed: int, top1: float | None, *, macs: float = 4e9, state: str = "finished"):
    scores = {"top1": top1, "top5": top1, "ema_top1": None, "ema_top5": None, "loss": 1.0}
    costs = {"params": 30_000_000, "macs": int(macs), "core_macs": int(macs)}
    facts = {"trial": number, "name": name, "key": f"key {name}", "spec": f"spec {name}", "seed": seed, **costs}
    curve = [] if top1 is None else [1.0, top1]
    return {**facts, "state": state, "reason": "", "epochs": len(curve), **scores, "seconds": 1.0, "curve": curve}


TRIALS = [
    _trial(0, "one", 0, 40.0),
    _trial(1, "one", 1, 44.0),
    _trial(2, "HR-HR-T-T-T", 0, 50.0, macs=5e9),
    _trial(3, "HR-HR-T-T-T", 1, None, macs=5e9, state="failed"),
]
RESULTS = Results(ABOUT, TRIALS, {"key one": {"ms": 100.0}})


def test_a_network_is_the_mean_of_its_finished_trials():
    table = network_table(RESULTS).set_index("name")
    assert table.loc["one", "top1"] == 42.0
    assert table.loc["one", "spread"] == pytest.approx(np.std([40, 44], ddof=1))
    assert list(table["seeds"]) == [2, 1]
    assert list(table["failed"]) == [0, 1]


def test_the_papers_row_stands_beside_ours_unbent():
    table = paper_table(RESULTS).set_index("mix")
    assert table.loc["one", "paper_gflops"] == 4.8
    assert table.loc["one", "gflops"] == 4.0
    assert list(table["rank"]) == [2, 1]
    assert list(table["paper_rank"]) == [2, 1]
    assert table.loc["one", "note"] == "said"


def test_the_caption_says_what_was_trained_on_what():
    text = caption(RESULTS)
    for part in ("448 pixels", "widths divided by 4", "64 pixels", "100 pictures of drawn", "12.5 %", "1 unread"):
        assert part in text


def test_the_front_is_what_no_other_beats():
    table = pd.DataFrame({"cost": [3, 1, 2, 4, 1], "gain": [5.0, 2.0, 1.0, np.nan, 3.0]})
    best = front(table, "cost", "gain")
    assert list(zip(best["cost"], best["gain"], strict=True)) == [(1, 3.0), (3, 5.0)]


MANY = [_trial(i, f"n{i}", 0, i, macs=i * 1e9) for i in range(1, 15)]


@pytest.mark.parametrize("trials", [TRIALS, [], TRIALS[3:], MANY])
def test_a_report_can_be_written_at_any_time(tmp_path: Path, trials: list[dict[str, Any]]):
    about = ABOUT if trials is TRIALS else {**ABOUT, "table": "", "rows": {}}
    for path in write(Results(about, trials, {}), tmp_path):
        assert path.stat().st_size > 0
    assert not list(tmp_path.glob("*.tmp*"))
    with Image.open(tmp_path / "figure6.png") as picture:
        assert min(picture.size) > 1000


@pytest.mark.parametrize("table", NAMES)
def test_every_table_of_the_paper_can_be_read(table: str):
    assert len(published(table)) > 0


def test_the_papers_curves_have_all_three_costs():
    points = curves()
    assert points.groupby("curve")["gflops"].count().ge(2).all()
    assert {"HIRI-ViT @ 224", "HIRI-ViT @ 384", "HIRI-ViT @ 448", "Swin"} <= set(points["curve"])
    for cost in COSTS:
        assert points.dropna(subset=[cost]).groupby("curve").size().ge(1).all()
