"""Report of a calibration: the table, the choice, the proxy file, the order after each epoch."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from hiri_search.report.calibration.choice import chosen_line, chosen_proxy
from hiri_search.report.calibration.epochs import epoch_table, standing_from, standing_table
from hiri_search.report.calibration.scores import SettingScores, ZeroCostScores
from hiri_search.report.calibration.table import calibration_table
from hiri_search.report.calibration.text import verdict_text
from hiri_search.report.calibration.write import PROXY, write_calibration
from hiri_search.report.tables.captions import calibration_sentence
from hiri_search.stats.order_verdict import OrderVerdict
from hiri_search.study.config.read import read_study
from tests.report.calibration.made_up import BANDS, Curves, calibration, setting

RANKS = dict(zip(BANDS, [3, 1, 4, 2, 5, 8, 6, 7, 10, 9, 11, 15, 13, 12, 14], strict=True))  # true order, by network


def _curves(sd: float = 0.0, *, seeds: int = 1, epochs: int = 1, swapped: int = 0) -> Curves:
    """Scores in the true order with noise; the order of the first `swapped` bands is the other way round."""
    rng = np.random.default_rng(1)
    sign = {name: -1 if int(name[1]) < swapped else 1 for name in BANDS}
    return {
        name: [[50 + sign[name] * RANKS[name] + sd * rng.normal() for _ in range(epochs)] for _ in range(seeds)]
        for name in BANDS
    }


REFERENCE = setting("reference", _curves(0.1, seeds=2), seconds=1000)
GOOD, BAD = setting("good", _curves(), seconds=100), setting("bad", _curves(swapped=3), seconds=10)
ONE_BAND_REVERSED = setting("one band reversed", _curves(swapped=1), seconds=5)
_SEVEN_WRONG = {**RANKS, **{name: -RANKS[name] for name in ("b0-0", "b0-1", "b0-2", "b0-3")}, "b1-0": 7, "b1-2": 8}
WEAK = setting("weak", {name: [[rank]] for name, rank in _SEVEN_WRONG.items()}, seconds=5)


def _line(setting: SettingScores, seeds: int = 1) -> pd.Series:
    table = calibration_table(calibration(REFERENCE, setting))
    return table[(table["setting"] == setting.name) & (table["seeds"] == seeds)].iloc[0]


def test_each_number_of_seeds_has_a_line_with_its_own_hours():
    table = calibration_table(calibration(REFERENCE, setting("noisy", _curves(3, seeds=3), seconds=60)))
    lines = table[table["setting"] == "noisy"]
    assert list(lines["seeds"]) == [1, 2, 3]
    assert list(lines["hours"]) == pytest.approx([0.25, 0.5, 0.75])
    assert list(lines["of_reference"]) == pytest.approx([0.03, 0.06, 0.09])
    assert list(lines["work_of_reference"]) == pytest.approx([0.5, 1, 1.5])


def test_hours_are_those_of_the_training_whose_curve_is_reused():
    trained = setting("noisy", _curves(3, seeds=3), seconds=60)
    hours = trained.hours()
    for row in trained.results.trials[::2]:
        row["seconds"], row["seconds_reused"] = 0, row["seconds"]
    assert trained.hours() == pytest.approx(hours)


def test_tau_is_that_of_the_means():
    noisy = setting("noisy", _curves(3, seeds=2))
    tau = stats.kendalltau(noisy.means(), REFERENCE.means()).statistic
    assert _line(noisy, 2)["tau"] == pytest.approx(tau)
    assert _line(noisy, 1)["tau"] != pytest.approx(tau)


def test_an_order_by_cost_alone_has_a_high_tau_and_none_beyond_cost():
    """Within each band the networks are in the wrong order, and the bands in the right one."""
    by_cost = {name: [[10 * int(name[1]) - RANKS[name] / 10]] for name in BANDS}
    line = _line(setting("by cost", by_cost))
    assert line["tau"] == pytest.approx((75 - 30) / 105)
    assert (line["tau_beyond_cost"], line["verdict"]) == (-1, OrderVerdict.FAILS)


def test_pairs_per_hour_count_the_pairs_of_like_cost():
    """Ten pairs in each band: 30 right ones in 15 trainings of 100 seconds; with a reversed band 20 - 10."""
    assert _line(GOOD)["pairs_per_hour"] == pytest.approx(30 / (1500 / 3600))
    assert _line(ONE_BAND_REVERSED)["pairs_per_hour"] == pytest.approx(10 / (75 / 3600))


def test_costs_and_zero_cost_scores_have_lines_too():
    zero_cost = {"zen": ZeroCostScores(pd.Series(RANKS, dtype="float64"), hours=0.5)}
    table = calibration_table(calibration(REFERENCE, GOOD, zero_cost=zero_cost)).set_index("setting")
    assert table.loc["GFLOPs", "tau_beyond_cost"] == pytest.approx(_beyond(BANDS))
    assert np.isnan(table.loc["params", "tau"]), "all networks have the same"
    assert (table.loc["zen", "tau"], table.loc["zen", "pairs_per_hour"]) == (1, 60)
    assert table.loc["reference: seed 0 against seed 1", "tau"] > 0.9


def _beyond(cost: Mapping[str, float]) -> float:
    pairs = [(a, b) for a in BANDS for b in BANDS if a < b and a[:2] == b[:2]]
    return sum(np.sign(cost[a] - cost[b]) * np.sign(RANKS[a] - RANKS[b]) for a, b in pairs) / len(pairs)


def test_a_seed_counts_when_every_network_has_finished_with_it():
    curves = {name: seeds if name != "b0-0" else [*seeds[:1], []] for name, seeds in _curves(1, seeds=2).items()}
    table = calibration_table(calibration(REFERENCE, setting("begun", curves)))
    assert list(table[table["setting"] == "begun"]["seeds"]) == [1]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            (GOOD, BAD, WEAK, setting("dear", _curves(), seconds=200)),
            "The cheapest setting that passes the bar is good",
        ),
        ((BAD, WEAK, ONE_BAND_REVERSED), "No setting passes the bar. The best of the weak ones is weak with 1 seed"),
        ((BAD, ONE_BAND_REVERSED), "No setting passes the bar: the order"),
    ],
)
def test_the_cheapest_setting_that_passes_is_chosen(settings: tuple[SettingScores, ...], expected: str):
    assert verdict_text(calibration(REFERENCE, *settings)).startswith(expected)


def test_a_setting_whose_seeds_disagree_passes_by_luck():
    curves = {name: [[50 + RANKS[name]], [50 - 0.8 * RANKS[name]]] for name in BANDS}
    lucky, steady = setting("lucky", curves), setting("steady", _curves(0.1, seeds=2), seconds=200)
    text = verdict_text(calibration(REFERENCE, lucky))
    assert text.startswith("The cheapest setting that passes the bar is lucky with")
    assert "Its own seeds hardly agree (signal / noise 0.00), so that this is luck to a good part" in text
    text = verdict_text(calibration(REFERENCE, lucky, steady))
    assert text.startswith("The cheapest setting that passes the bar is steady with 1 seed")
    assert (
        "Not chosen, as its own seeds hardly agree (signal / noise below 0.5): lucky with 1 seed, lucky with 2" in text
    )
    assert "of the reference. One seed of the reference repeats" in verdict_text(calibration(REFERENCE, steady))


def test_a_study_takes_the_proxy_file_of_the_chosen_setting(tmp_path: Path):
    results = calibration(REFERENCE, GOOD)
    assert write_calibration(results, tmp_path, figures=False).failures == {}
    (tmp_path / "study.yaml").write_text(
        "nets: {one: hr(32 e=4) -> t(64 e=4)}\ncounted: {side: 448}\nproxy: proxy.yaml\n"
    )
    study = read_study(tmp_path / "study.yaml")
    measured = GOOD.results.study
    assert (study.proxy, study.recipe, study.seeds) == (measured.proxy, measured.recipe, (0,))
    sentence = calibration_sentence(study)
    assert "Calibrated as good on drawn (1970-01-02): tau beyond cost" in sentence
    assert "is 1.00 (90% interval" in sentence
    assert sentence.endswith("networks): passes. The order of networks of like cost may be believed that far.")
    write_calibration(calibration(REFERENCE, BAD), tmp_path, figures=False)
    assert not (tmp_path / PROXY).exists(), "nothing is chosen any more"


def test_nothing_is_chosen_of_too_few_networks():
    few = {name: curves for name, curves in _curves().items() if name < "b1-4"}
    results = calibration(setting("reference", few), setting("good", few))
    assert set(calibration_table(results)["verdict"].dropna()) == {OrderVerdict.TOO_FEW}
    assert chosen_line(calibration_table(results)) is None
    assert chosen_proxy(results) is None
    assert verdict_text(results).startswith("Too few to tell: a verdict needs 10 networks")


@pytest.mark.parametrize(
    ("taus", "epoch"),
    [
        ([0.1, 0.5, 0.95, 0.9, 1.0], 3),
        ([1.0, 0.5, 1.0], 3),
        ([0.5, 0.5], 1),
        ([0.4, 0.0], None),
        ([0.4, -0.2], None),
        ([np.nan, 0.5], 2),
        ([0.5, np.nan], None),
    ],
)
def test_an_order_stands_from_the_epoch_after_the_last_one_below_nine_tenths(taus: list[float], epoch: int | None):
    assert standing_from(taus) == epoch


def test_the_order_after_each_epoch_is_compared_with_the_end_of_the_reference():
    late = {name: [[10.0, 50 - RANKS[name], 50 + RANKS[name], 50 + RANKS[name]]] for name in BANDS}
    table = epoch_table(calibration(REFERENCE, setting("late", late)))
    lines = table[table["setting"] == "late"]
    assert list(lines["tau_beyond_cost"]) == pytest.approx([0, -1, 1, 1], abs=0.3)
    standing = standing_table(table).set_index("setting")
    assert (standing.loc["late", "stands_from"], standing.loc["late", "share"]) == (3, 0.75)


def test_a_seed_of_the_reference_is_compared_with_the_others_alone():
    """Each seed has its own random order: against means that contain the seed itself, tau would be high."""
    rng = np.random.default_rng(0)
    noise = {name: [[rng.normal()] for _ in range(4)] for name in BANDS}
    lines = epoch_table(calibration(setting("reference", noise)))
    assert abs(lines["tau"].iloc[0]) < 0.2


def test_the_report_has_figures_and_a_page_without_scripts(tmp_path: Path):
    written = write_calibration(calibration(REFERENCE, GOOD, WEAK), tmp_path)
    assert written.failures == {}
    assert {path.suffix for path in written.paths} == {".csv", ".md", ".yaml", ".png", ".pdf", ".html"}
    page = (tmp_path / "index.html").read_text()
    assert page.count("<img ") == 3
    assert "<script" not in page


def test_averaged_weights_have_lines_of_their_own():
    """The last weights of the first of two epochs order the networks the wrong way round, their averages right."""
    curves = {name: [[50 - RANKS[name], 50 + RANKS[name]]] for name in BANDS}
    short = setting("short", curves, averaged={name: [[50 + RANKS[name]] * 2] for name in BANDS})
    standing = standing_table(epoch_table(calibration(REFERENCE, short))).set_index(["setting", "weights"])
    assert standing["stands_from"]["short"].to_dict() == {"last": 2, "averaged": 1}


def test_the_report_says_what_the_noise_of_the_reference_lets_a_setting_reach():
    noisy = {name: [[50 + RANKS[name]], [50 - RANKS[name]]] for name in BANDS}
    texts = {
        "one seed": verdict_text(calibration(setting("reference", {n: seeds[:1] for n, seeds in noisy.items()}), BAD)),
        "two that differ": verdict_text(calibration(setting("reference", noisy), BAD)),
        "two alike": verdict_text(calibration(REFERENCE, BAD)),
    }
    assert "with another seed is not known: a noisy one makes every tau beyond cost smaller" in texts["one seed"]
    assert "with a tau beyond cost of -1.00; against the mean of its 2 seeds" in texts["two that differ"]
    assert texts["two that differ"].endswith("about 0.00, so that none can be expected to pass: give it more seeds.")
    assert texts["two alike"].endswith("a setting without any error would come to about 1.00.")
