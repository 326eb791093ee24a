"""Report of a calibration as text: which setting is chosen, and the table for people."""

from __future__ import annotations

import numpy as np
import pandas as pd

from hiri_search.report.calibration.scores import CalibrationResults
from hiri_search.report.calibration.table import SETTING, calibration_table
from hiri_search.report.tables.formats import markdown, markdown_text
from hiri_search.stats.rank_correlation import BAND_LEVEL, LIKE_COST, MIN_TAU_BEYOND_COST, OrderVerdict
from hiri_search.stats.significance import LEVEL


def chosen_setting(table: pd.DataFrame) -> pd.Series | None:
    """Return the cheapest line of a setting that passes the bar; None where none does."""
    passing = table[(table["kind"] == SETTING) & (table["verdict"] == OrderVerdict.PASSES)]
    return None if passing.empty else passing.sort_values("hours", kind="stable").iloc[0]


def best_weak_setting(table: pd.DataFrame) -> pd.Series | None:
    """Return the line of a setting with the largest tau beyond cost among those that are weak; None without any."""
    weak = table[(table["kind"] == SETTING) & (table["verdict"] == OrderVerdict.WEAK)]
    return None if weak.empty else weak.sort_values("beyond", ascending=False, kind="stable").iloc[0]


def verdict_text(table: pd.DataFrame) -> str:
    """Return which setting is chosen, in words."""
    if (line := chosen_setting(table)) is not None:
        return f"The cheapest setting that passes the bar is {_described(line)}."
    if (line := best_weak_setting(table)) is not None:
        return f"No setting passes the bar. The best of the weak ones is {_described(line)}."
    return "No setting passes the bar: the order of these short trainings is not to be believed."


def _described(line: pd.Series) -> str:
    beyond = f"{line['beyond']:.2f} ({BAND_LEVEL:.0%} interval {line['beyond_low']:.2f} to {line['beyond_high']:.2f})"
    cost = f"{line['hours']:.3g} hours, {line['of_reference']:.1%} of the reference"
    return f"{line['setting']} with {_seeds(line['seeds'])}: tau beyond cost {beyond}, {cost}"


def _seeds(number: float) -> str:
    return "1 seed" if number == 1 else f"{number:.0f} seeds"


def calibration_text(results: CalibrationResults) -> str:
    """Return the report as Markdown."""
    table, reference = calibration_table(results), results.reference
    study, images = reference.results.study, reference.results.started.images
    text = (
        f"Reference: {study.recipe.epochs} epochs on {images.train} images at {study.proxy.side} pixels,"
        f" {_seeds(len(reference.seeds))}, {reference.hours():.3g} hours, {len(reference.means())} networks."
        f" Tau: Kendall's tau with the means of the reference, with its {LEVEL:.0%} interval. Tau beyond cost: over the"
        f" pairs of networks whose GFLOPs differ by at most {LIKE_COST:.0%}, with its {BAND_LEVEL:.0%} interval. The"
        f" bar: this interval lies above 0 and the estimate is at least {MIN_TAU_BEYOND_COST}; weak: the first alone."
        f" Signal to noise: standard deviation between networks over that between seeds. Hours: the sum of the"
        f" trainings' seconds, on {reference.results.started.device}."
    )
    parts = [
        f"# {markdown_text(results.title or 'Calibration')}",
        markdown_text(verdict_text(table)),
        markdown_text(text),
    ]
    return "\n\n".join([*parts, markdown(text_table(table)), markdown(network_table_text(results))])


def text_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table of a calibration with rounded numbers, each with its interval."""
    return pd.DataFrame(
        {
            "setting": table["setting"],
            "seeds": _rounded(table["seeds"], "{:.0f}"),
            "side": _rounded(table["side"], "{:.0f}"),
            "width / depth": [
                f"1/{w:.0f}, 1/{d:.0f}" if w == w else None for w, d in zip(table["width"], table["depth"], strict=True)
            ],
            "epochs": _rounded(table["epochs"], "{:.0f}"),
            "images": _rounded(table["train_images"], "{:.0f}"),
            "hours": _rounded(table["hours"], "{:.3g}"),
            "of reference": _rounded(table["of_reference"], "{:.1%}"),
            "tau": _with_interval(table, "tau"),
            "tau beyond cost": _with_interval(table, "beyond"),
            "pairs": _rounded(table["like_pairs"], "{:.0f}"),
            "verdict": table["verdict"],
            "signal / noise": _rounded(table["signal_to_noise"], "{:.2f}"),
            "pairs / hour": _rounded(table["pairs_per_hour"], "{:.3g}"),
        }
    )


def _rounded(column: pd.Series, form: str) -> list[str | None]:
    return [None if pd.isna(value) else form.format(value) for value in column]


def _with_interval(table: pd.DataFrame, name: str) -> list[str | None]:
    numbers = table[[name, f"{name}_low", f"{name}_high"]].astype(float).to_numpy()
    return [None if np.isnan(value) else f"{value:.2f} ({low:.2f} to {high:.2f})" for value, low, high in numbers]


def network_table_text(results: CalibrationResults) -> pd.DataFrame:
    """Return the networks, cheapest first, with their mean scores and the spread over seeds in the reference."""
    reference = results.reference
    costs, score = reference.networks, reference.results.score
    sign = -score.loss_sign
    spread = reference.scores.std(axis=1)
    specs = {str(row["name"]): row["spec"] for row in reference.results.counted}
    table = pd.DataFrame(
        {
            "network": costs.index,
            "band": [results.bands.get(name) for name in costs.index],
            "GFLOPs": [f"{value:.3f}" for value in costs["gflops"]],
            "M params": [f"{value:.2f}" for value in costs["params_m"]],
            f"{score.label}, reference": _rounded(
                sign * reference.means().reindex(costs.index), f"{{:.{score.digits}f}}"
            ),
            "sd of seeds": _rounded(spread, f"{{:.{score.digits}f}}"),
            "spec": [specs[name] for name in costs.index],
        }
    )
    return table.iloc[np.argsort(costs["gflops"].to_numpy(), kind="stable")]
