"""Matplotlib figures: accuracy against cost, Pareto fronts, hypervolume."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hiri_search.report.tables.curves import AXES, CLOUD, COLOURS, COST_AXES, drawable, published_points
from hiri_search.report.tables.networks import front
from hiri_search.report.tables.results import Results
from hiri_search.report.tables.search import confirmed_table, volume_table

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
SIDES = ("on the front", "behind it")  # of a cloud, each in its own colour
CONFIRMED = "front, trained longer"
DENSE = 1_000  # points of a cloud, from which on they are drawn small, or they would be one blot
UNJOINED = (CLOUD, *SIDES, CONFIRMED)

VECTOR = ".pdf"
TRUETYPE = 42  # Type 3, matplotlib's default, is refused by journals

SHORT = 3  # characters: labels up to here are written beside their points


STYLE: dict[str, Any] = {"linewidth": 1.2, "markersize": 5}


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained", dpi=200)
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, *paths: Path) -> None:
    """Written beside, then renamed; the ending says the format. Fonts of a PDF are embedded, its text stays text."""
    with rc_context({"pdf.fonttype": TRUETYPE}):
        for path in paths:
            unfinished = path.with_suffix(f".tmp{path.suffix}")
            figure.savefig(unfinished, metadata={"CreationDate": None} if path.suffix == VECTOR else None)
            unfinished.replace(path)


def comparison(results: Results) -> Figure:
    """The paper's published points, and under them this study's: two scales, never mixed."""
    paper, networks = published_points(results.study.table), drawable(results)
    figure = _figure(11, 7.4)
    upper, lower = np.asarray(figure.subfigures(2, 1))
    top, bottom = upper.subplots(1, 3, sharey=True), lower.subplots(1, 3, sharey=True)
    for axes, other, cost in zip(top, bottom, paper.costs, strict=True):
        _draw_curves(axes, paper.points, cost, _styles(paper.points["curve"]))
        _finish(axes, cost, missing="" if paper.points[cost].notna().any() else "not published")
        _draw_networks(other, networks, cost)
    upper.suptitle(paper.title, fontsize=10)
    lower.suptitle(f"This study: short trainings on {results.study.data.source}", fontsize=10)
    for part, axes in ((upper, top), (lower, bottom)):
        axes[0].set_ylabel("Top-1 (%)")
        _legend(part, axes)
    return figure


def pareto(results: Results) -> Figure:
    """This study's networks by GFLOPs and by parameters, with the front of each."""
    networks = drawable(results)
    figure = _figure(8, 4)
    panels, confirmed = figure.subplots(1, 2, sharey=True), confirmed_table(results)
    for axes, cost in zip(panels, ("gflops", "params_m"), strict=True):
        _draw_networks(axes, networks, cost)
        _draw_longer(axes, confirmed, cost)
    panels[0].set_ylabel("Top-1 (%)" if results.confirmations else "Top-1 of the short training (%)")
    _legend(figure, panels)
    return figure


def hypervolume_over_trials(results: Results) -> Figure:
    """How much of what a search found in the end it had found when."""
    table = volume_table(results)
    figure = _figure(5.5, 3.6)
    axes = figure.subplots()
    axes.plot(table["trials"], 100 * table["share"], color=COLOURS[0], drawstyle="steps-post")
    axes.set_ylabel("Dominated hypervolume (% of the last)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _finish(axes, "trials", missing="" if len(table) else "no trial has finished")
    return figure


def _draw_curves(axes: Axes, points: pd.DataFrame, cost: str, styles: Mapping[str, tuple[str, str]]) -> None:
    """Each curve's points in the order they come in, joined, with what spread is known."""
    for name, curve in points.dropna(subset=[cost, "top1"]).groupby("curve", sort=False):
        colour, marker = styles[str(name)]
        line = "none" if name in UNJOINED else "-" if str(name).startswith("HIRI-ViT") else ":"
        look: dict[str, Any] = {"color": colour, "marker": marker, "linestyle": line, "label": name, **STYLE}
        if "spread" in curve and curve["spread"].notna().any():
            axes.errorbar(curve[cost], curve["top1"], yerr=curve["spread"].fillna(0), capsize=3, **look)
        else:
            dense = {"markersize": 2} if len(curve) > DENSE else {}
            axes.plot(curve[cost], curve["top1"], **look | dense)
        for x, y, label in zip(curve[cost], curve["top1"], curve["label"], strict=True):
            if 0 < len(label) <= SHORT:
                axes.annotate(label, (x, y), (4, 4), textcoords="offset points", fontsize=8, color="#444444")


def _draw_networks(axes: Axes, networks: pd.DataFrame, cost: str) -> None:
    known, styles = networks.dropna(subset=[cost, "top1"]), _styles(networks["curve"])
    if cost in COST_AXES:  # rows and sides are no costs
        best = front(known, cost, "top1")
        look: dict[str, Any] = {"color": "#999999", "linewidth": 1.2, "drawstyle": "steps-post"}
        axes.plot(best[cost], best["top1"], zorder=1, label="front", **look)
        if (known["curve"] == CLOUD).all():
            known = known.assign(curve=np.where(known.index.isin(best.index), *SIDES)).sort_values("curve")
            styles = dict(zip(SIDES, ((COLOURS[0], "o"), ("#bbbbbb", "o")), strict=True))
    _draw_curves(axes, known, cost, styles)
    why = "not measured" if len(networks.dropna(subset=["top1"])) else "no trial has finished"
    _finish(axes, cost, missing=why if known.empty else "")


def _draw_longer(axes: Axes, confirmed: pd.DataFrame, cost: str) -> None:
    """The second look at a search's best networks: means and spreads over seeds."""
    if len(confirmed):
        points = confirmed.assign(curve=CONFIRMED, label="")
        _draw_curves(axes, points, cost, {CONFIRMED: (COLOURS[1], "D")})


def _styles(names: pd.Series) -> dict[str, tuple[str, str]]:
    """A colour and a marker for each name, the same in every panel."""
    looks = zip(cycle(COLOURS), cycle(MARKERS), strict=False)
    return dict(zip(names.drop_duplicates(), looks, strict=False))


def _finish(axes: Axes, cost: str, *, missing: str = "") -> None:
    """Name and grid; `missing` says why there are no points."""
    axes.text(0.5, 0.5, missing, transform=axes.transAxes, ha="center", va="center", color="#666666")
    axes.set_xlabel(AXES[cost])
    axes.grid(color="#e5e5e5", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _legend(figure: Any, panels: Iterable[Axes]) -> None:
    """One legend under the panels, each name once."""
    entries: dict[str, Any] = {}
    for axes in panels:
        handles, labels = axes.get_legend_handles_labels()
        entries = dict(zip(labels, handles, strict=True)) | entries
    figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=5, fontsize=8, frameon=False)
