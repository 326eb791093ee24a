"""Figures of a calibration: short against long scores, tau against hours, tau at each epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from hiri_search.report.calibration.epochs import epoch_table
from hiri_search.report.calibration.scores import WEIGHTS, CalibrationResults, aligned
from hiri_search.report.calibration.table import ALONE, SETTING, calibration_table
from hiri_search.report.figures import STYLE, Entries, add_grid, add_legend, image, literal_text, new_figure
from hiri_search.report.tables.curves import COLOURS
from hiri_search.stats.rank_correlation import BAND_LEVEL, MIN_TAU_BEYOND_COST

_PANELS = 4  # in a row of the scatter
_OTHER = "other networks"  # not drawn in a band
_TAU = f"Tau beyond cost ({BAND_LEVEL:.0%} interval)"


@literal_text
def scatter(results: CalibrationResults) -> Figure:
    """Draw the reference against GFLOPs alone, then against each setting; networks of one band have one colour."""
    reference = results.reference
    panels = {"GFLOPs alone": reference.networks["gflops"]} | {each.name: each.means() for each in results.settings}
    rows = -(-len(panels) // _PANELS)
    figure, entries = new_figure(3 * _PANELS, 3 * rows + 0.5), Entries()
    axes_of = np.atleast_2d(figure.subplots(rows, _PANELS, sharey=True, squeeze=False)).ravel()
    sign, score = -reference.results.score.loss_sign, reference.results.score
    for axes, (name, values) in zip(axes_of, panels.items(), strict=False):
        short, long = aligned(values, reference.means())
        flip = 1 if name == "GFLOPs alone" else sign
        entries |= _draw_bands(axes, flip * short, sign * long, results.bands)
        axes.set_title(name, fontsize=9)
        add_grid(axes, "GFLOPs" if name == "GFLOPs alone" else score.axis)
    for axes in axes_of[len(panels) :]:
        axes.set_visible(False)
    for axes in axes_of[::_PANELS]:
        axes.set_ylabel(f"Reference: {score.axis}")
    add_legend(figure, entries, width=3 * _PANELS)
    return figure


def _style(number: int, **more: Any) -> dict[str, Any]:
    return {"color": COLOURS[number % len(COLOURS)], **STYLE, **more}


def _draw_bands(axes: Axes, short: pd.Series, long: pd.Series, bands: Mapping[str, str]) -> Entries:
    names = list(dict.fromkeys(bands.values()))
    entries = Entries()
    for number, band in enumerate([*names, _OTHER]):
        members = [name for name in short.index if bands.get(name, _OTHER) == band]
        if members:
            style: dict[str, Any] = {
                "color": COLOURS[number % len(COLOURS)],
                "marker": "o",
                "linestyle": "none",
                **STYLE,
            }
            (entries[band],) = axes.plot(short[members], long[members], **style)
    return entries


@literal_text
def tau_over_hours(results: CalibrationResults) -> Figure:
    """Draw tau beyond cost of each setting and number of seeds over its hours, with the costs alone as lines."""
    table = calibration_table(results)
    figure, entries = new_figure(7, 4.5), Entries()
    axes = figure.subplots()
    lines = table[table["kind"] == SETTING].dropna(subset=["tau_beyond_cost"])
    for number, (name, line) in enumerate(lines.groupby("setting", sort=False)):
        tau = line["tau_beyond_cost"].astype(float)
        ends = [tau - line["beyond_low"], line["beyond_high"] - tau]
        style = _style(number, marker="o", capsize=3)
        entries[str(name)] = axes.errorbar(line["hours"], tau, yerr=ends, **style)  # type: ignore[assignment]
    alone = table[table["kind"] == ALONE].set_index("setting")["tau_beyond_cost"].dropna()
    for linestyle, name in (("--", "GFLOPs"), (":", "params")):
        if name in alone:
            entries[f"{name} alone"] = axes.axhline(float(alone[name]), color="#999999", linestyle=linestyle)
    entries["the bar"] = axes.axhline(MIN_TAU_BEYOND_COST, color="#000000", linewidth=0.8)
    if len(lines):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_ylabel(_TAU)
    add_grid(axes, "Hours of all trainings")
    add_legend(figure, entries, width=7)
    return figure


@literal_text
def tau_over_epochs(results: CalibrationResults) -> Figure:
    """Draw tau and tau beyond cost after each epoch, over the share of the setting's epochs."""
    table = epoch_table(results)
    colours = {name: COLOURS[number % len(COLOURS)] for number, name in enumerate(table["setting"].unique())}
    figure, entries = new_figure(9, 4.5), Entries()
    panels = figure.subplots(1, 2, sharey=True)
    for axes, column, label in zip(panels, ("tau", "tau_beyond_cost"), ("Tau", "Tau beyond cost"), strict=True):
        for (name, weights), line in table.groupby(["setting", "weights"], sort=False):
            entry, style = (str(name), "-") if weights == WEIGHTS[0] else (f"{weights} weights", "--")
            taus = line[column].astype(float)
            (entries[entry],) = axes.plot(
                100 * line["share"], taus, **STYLE, color=colours[name], marker=".", linestyle=style
            )
        axes.set_ylabel(label)
        add_grid(axes, "Epochs (% of the training)")
    add_legend(figure, entries, width=9)
    return figure


FIGURES: dict[str, Callable[[CalibrationResults], Figure]] = {
    "calibration_scatter": scatter,
    "calibration_hours": tau_over_hours,
    "calibration_epochs": tau_over_epochs,
}


@lru_cache(2 * len(FIGURES))  # the page shows them too
def figure_file(name: str, suffix: str, results: CalibrationResults) -> bytes:
    """Return a figure in the format of a file's suffix."""
    return image(FIGURES[name](results), suffix)
