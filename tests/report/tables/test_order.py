"""Order of the short trainings of a search, after each of their epochs, against the confirmations."""

from pathlib import Path
from typing import Any

import pytest

from hiri_search.report.page.page_data import page_content
from hiri_search.report.tables.order import short_and_long, short_order_table
from hiri_search.report.tables.results import Results
from hiri_search.report.write import write_all
from tests.report.examples import example_results, example_study

STUDY = example_study(title="A search", space="hr(32 e=4)*1..3", recipe={"epochs": 3, "warmup_epochs": 0}, seeds=1)
# Curve of the short training and scores of the confirmations, by network; a to d have like costs, so have e and f.
NETWORKS = {
    "a": (1.00, [4, 1, 1], [41, 43]),
    "b": (1.01, [3, 2, 2], [43, 45]),
    "c": (1.02, [2, 3, 4], [45, 47]),
    "d": (1.03, [1, 4, 3], [47, 49]),
    "e": (2.00, [9, 9, 9], [59, 61]),
    "f": (2.05, [8, 8, 8], [58, 60]),
    "g": (1.50, [9, 9, 9], []),
}


def _trial(number: int, name: str, curve: list[float], **facts: Any) -> dict[str, Any]:
    macs = int(NETWORKS[name][0] * 1e9)
    network = {"name": name, "key": name, "spec": name, "side": 448, "params": 10**6, "macs": macs, "core_macs": macs}
    trained = {"by_part": {}, "trained_spec": name, "trained_side": 64}
    scores = {"top1": curve[-1], "top5": None, "ema_top1": None, "ema_top5": None, "loss": 1.0}
    state = {"trial": number, "state": "finished", "reason": "", "source": "", "device": "", "checkpoint": None}
    curves = {"curve": curve, "ema_curve": []}
    return {**network, **trained, **scores, **curves, **state, "seed": 0, "epochs": len(curve), "seconds": 1.0, **facts}


def _results() -> Results:
    short = [_trial(number, name, curve) for number, (name, (_, curve, _)) in enumerate(NETWORKS.items())]
    pairs = [(name, score) for name, (_, _, scores) in NETWORKS.items() for score in scores]
    long = [
        _trial(number, name, [0.0] * 8 + [score], confirms=0, confirm_epochs=9)
        for number, (name, score) in enumerate(pairs, len(short))
    ]
    return example_results(STUDY, [*short, *long])


def test_short_and_long_scores_stand_beside_the_cost():
    table = short_and_long(_results()).set_index("name")
    assert list(table.index) == list("abcdef"), "g was not confirmed"
    assert table.loc["d", ["epochs", "gflops", "short", "long"]].tolist() == [9, 1.03, 3, 48]


def test_the_order_is_measured_after_each_epoch():
    """Of the 6 pairs of a to d and that of e and f, the epochs order 1, all and 6 rightly."""
    table = short_order_table(_results())
    assert list(table["after_epoch"]) == [1, 2, 3]
    assert list(table["tau_beyond_cost"]) == pytest.approx([(1 - 6) / 7, 1, (6 - 1) / 7], abs=1e-3)
    assert list(table["tau"]) == pytest.approx([(9 - 6) / 15, 1, (14 - 1) / 15], abs=1e-3)
    assert (table["pairs"] == 7).all()


def test_report_and_page_show_it(tmp_path: Path):
    written = write_all(_results(), tmp_path)
    assert written.failures == {}
    assert {"short_orders.csv", "short_long.png", "short_long.pdf"} <= {path.name for path in written.paths}
    content = page_content(_results())
    assert len(content["short_long"]["rows"]) == 6
    assert content["short_orders"]["columns"][:2] == ["epochs", "after_epoch"]


def test_without_confirmations_there_is_nothing_to_show():
    results = example_results(STUDY, [_trial(0, "a", [1, 2, 3])])
    assert short_and_long(results).empty
    assert short_order_table(results).empty
