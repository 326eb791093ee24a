"""Matplotlib figures: score against cost, Pareto fronts, hypervolume."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from io import BytesIO
from itertools import cycle
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.ticker import MaxNLocator

from hiri_search.report.tables.confirmation import confirmed_table
from hiri_search.report.tables.curves import AXES, CLOUD, COLOURS, COST_AXES, network_points, published_points
from hiri_search.report.tables.networks import front
from hiri_search.report.tables.order import short_and_long, short_order_table
from hiri_search.report.tables.results import Results
from hiri_search.report.tables.search import volume_table
from hiri_search.system.text import printable
from hiri_search.training.score import Score

HIRIVIT = "HIRI-ViT"  # the beginning of the names of its curves
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
FRONT_LINE = "Pareto front"
ON_FRONT, DOMINATED, CONFIRMED = "on the Pareto front", "dominated", "confirmation"  # labels of a search's points
MANY_POINTS = 1_000  # more points than this are drawn small, so that they do not cover each other
UNJOINED = (CLOUD, ON_FRONT, DOMINATED, CONFIRMED)  # points without a line between them

VECTOR = ".pdf"
TRUETYPE = 42  # font type; journals refuse matplotlib's default, Type 3
MAX_LABEL = 3  # characters; longer labels are not written next to their points
MAX_LEGEND = 40  # characters of a name in the legend
LEGEND_WIDTH = 15  # characters of the legend on an inch of the figure
literal_text = rc_context({"text.parse_math": False})  # a $ in a name is a $, not the beginning of a formula
Entries: TypeAlias = dict[str, Artist]  # of a legend: what stands for each name; any text may be a name
STYLE: dict[str, Any] = {"linewidth": 1.2, "markersize": 5}


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of a size in inches."""
    figure = Figure(figsize=(width, height), layout="constrained", dpi=200)
    FigureCanvasAgg(figure)
    return figure


def image(figure: Figure, suffix: str, *, dpi: float | None = None) -> bytes:
    """Return the figure in the format of a file's suffix; a PDF has its fonts embedded. `dpi`: pixels of an inch."""
    file = BytesIO()
    with rc_context({"pdf.fonttype": TRUETYPE}):
        metadata = {"CreationDate": None} if suffix == VECTOR else None
        figure.savefig(file, format=suffix.removeprefix("."), metadata=metadata, dpi=dpi or "figure")
    return file.getvalue()


def drawings(results: Results) -> dict[str, Callable[[Results], Figure]]:
    """Return the functions that draw the figures of a study, by the name of the file without its suffix."""
    figures: dict[str, Callable[[Results], Figure]] = {
        "pareto": pareto,
        published_points(results.table_number, results.published_scores[0]).stem: comparison,
    }
    figures |= {"hypervolume": hypervolume_over_trials} if results.is_search else {}
    return figures | ({"short_long": short_against_long} if results.confirmations else {})


@literal_text
def comparison(results: Results) -> Figure:
    """Draw the paper's published points, and below them this study's networks, each with its own scale."""
    paper = published_points(results.table_number, results.published_scores[0])
    networks, costs = network_points(results), paper.cost_columns
    figure = new_figure(11, 7.4)
    upper, lower = np.asarray(figure.subfigures(2, 1))
    top, bottom = (half.subplots(1, len(costs), sharey=True) for half in (upper, lower))
    published, ours = Entries(), Entries()
    for paper_axes, study_axes, cost in zip(top, bottom, costs, strict=True):
        published |= _draw_curves(paper_axes, paper.points, (cost, paper.column), _styles(paper.points))
        _finish(paper_axes, cost, missing="" if paper.points[cost].notna().any() else "not published")
        ours |= _draw_networks(study_axes, networks, cost, results.score)
    upper.suptitle(paper.title, fontsize=10)
    source = drawable(results.study.data.source, 2 * MAX_LEGEND)
    lower.suptitle(f"This study: short trainings (data: {source})", fontsize=10)
    labels = (paper.score.axis, results.score.axis)
    for half, panels, entries, label in zip((upper, lower), (top, bottom), (published, ours), labels, strict=True):
        panels[0].set_ylabel(label)
        add_legend(half, entries, width=11)
    return figure


@literal_text
def pareto(results: Results) -> Figure:
    """Draw this study's networks by GFLOPs and by parameters, with the Pareto front of each panel."""
    networks, confirmed = network_points(results), confirmed_table(results)
    figure, entries = new_figure(8, 4), Entries()
    panels = figure.subplots(1, 2, sharey=True)
    for axes, cost in zip(panels, ("gflops", "params_m"), strict=True):
        entries |= _draw_networks(axes, networks, cost, results.score)
        entries |= _draw_confirmed(axes, confirmed, networks, (cost, results.score.name))
    panels[0].set_ylabel(results.score.axis if results.confirmations else f"{results.score.axis}, short training")
    add_legend(figure, entries, width=8)
    return figure


@literal_text
def hypervolume_over_trials(results: Results) -> Figure:
    """Draw the dominated hypervolume after each finished trial, as a share of the final one."""
    table = volume_table(results)
    figure = new_figure(5.5, 3.6)
    axes = figure.subplots()
    axes.plot(table["trials"], 100 * table["share"], color=COLOURS[0], drawstyle="steps-post")
    axes.set_ylabel("Dominated hypervolume (% of the final one)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _finish(axes, "trials", missing="" if len(table) else "no trial has finished")
    return figure


@literal_text
def short_against_long(results: Results) -> Figure:
    """Draw confirmations against GFLOPs alone and against short trainings, and tau after each of their epochs."""
    scores, orders = short_and_long(results), short_order_table(results)
    figure, entries = new_figure(11, 3.8), Entries()
    by_cost, by_short, by_epoch = figure.subplots(1, 3)
    for number, (length, rows) in enumerate(scores.groupby("epochs")):
        style: dict[str, Any] = {"color": COLOURS[number % len(COLOURS)], "marker": "o", "linestyle": "none", **STYLE}
        by_cost.plot(rows["gflops"], rows["long"], **style)
        (entries[f"confirmation, {length} epochs"],) = by_short.plot(rows["short"], rows["long"], **style)
        order = orders[orders["epochs"] == length]
        for column, line in (("tau", "--"), ("tau_beyond_cost", "-")):
            lines: dict[str, Any] = {**style, "marker": ".", "linestyle": line}
            name = f"{column.replace('_', ' ')}, {length} epochs"
            (entries[name],) = by_epoch.plot(order["after_epoch"], order[column].astype(float), **lines)
    labels = (AXES["gflops"], f"Short training: {results.curve_score.axis}", "Epoch of the short trainings")
    for axes, label in zip((by_cost, by_short, by_epoch), labels, strict=True):
        add_grid(axes, label)
    by_cost.set_ylabel(f"Confirmation: {results.score.axis}")
    by_epoch.set_ylabel("Kendall's tau with the confirmations")
    by_epoch.xaxis.set_major_locator(MaxNLocator(integer=True))
    add_legend(figure, entries, width=11)
    return figure


def _draw_curves(
    axes: Axes, points: pd.DataFrame, columns: tuple[str, str], styles: Mapping[str, tuple[str, str]]
) -> Entries:
    """Draw the two columns of each curve's points in their order, joined, with error bars where the spread is known."""
    entries, (cost, score) = Entries(), columns
    for name, curve in points.dropna(subset=[cost, score]).groupby("curve", sort=False):
        colour, marker = styles[str(name)]
        is_hirivit = str(name).startswith(HIRIVIT)
        joined = name not in UNJOINED and (is_hirivit or "group" not in points)
        line = "-" if joined and is_hirivit else ":" if joined else "none"
        style: dict[str, Any] = {"color": colour, "marker": marker, "linestyle": line, **STYLE}
        if "group" in points:
            style |= {"markersize": 11, "zorder": 3} if is_hirivit else {"fillstyle": "none"}
        if "spread" in curve and curve["spread"].notna().any():
            bars = axes.errorbar(curve[cost], curve[score], yerr=curve["spread"].fillna(0), capsize=3, **style)
            entries[str(name)] = bars  # type: ignore[assignment]  # a container of artists, which a legend takes too
        else:
            small = {"markersize": 2} if len(curve) > MANY_POINTS else {}
            (entries[str(name)],) = axes.plot(curve[cost], curve[score], **style | small)
        for x, y, label in zip(curve[cost], curve[score], curve["label"], strict=True):
            if 0 < len(label) <= MAX_LABEL:
                axes.annotate(label, (x, y), (4, 4), textcoords="offset points", fontsize=8, color="#444444")
    return entries


def _draw_networks(axes: Axes, networks: pd.DataFrame, cost: str, score: Score) -> Entries:
    points, styles, entries = networks.dropna(subset=[cost, score.name]), _styles(networks), Entries()
    if cost in COST_AXES:  # a Pareto front has no meaning for rows and sides
        best = front(points, cost, score)
        (entries[FRONT_LINE],) = axes.plot(
            best[cost], best[score.name], "#999999", lw=1.2, drawstyle="steps-post", zorder=1
        )
        if (points["curve"] == CLOUD).all():
            curve = np.where(points.index.isin(best.index), ON_FRONT, DOMINATED)
            points = points.assign(curve=curve).sort_values("curve")
            styles = {ON_FRONT: (COLOURS[0], "o"), DOMINATED: ("#bbbbbb", "o")}
    entries |= _draw_curves(axes, points, (cost, score.name), styles)
    reason = "not measured" if len(networks.dropna(subset=[score.name])) else "no trial has finished"
    _finish(axes, cost, missing=reason if points.empty else "")
    return entries


def _draw_confirmed(axes: Axes, confirmed: pd.DataFrame, networks: pd.DataFrame, columns: tuple[str, str]) -> Entries:
    """Draw the confirmed networks of a search: mean and spread over seeds, at the unrounded cost."""
    if confirmed.empty:
        return {}
    costs = confirmed["name"].map(networks.set_index("name")[columns[0]])
    points = confirmed.assign(curve=CONFIRMED, label="", **{columns[0]: costs})
    return _draw_curves(axes, points, columns, {CONFIRMED: (COLOURS[1], "D")})


def _styles(points: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """Return a colour and a marker for each curve, the same in every panel; curves of a group have one colour."""
    groups = points["group"] if "group" in points else points["curve"]
    styles = dict(zip(groups.drop_duplicates(), zip(cycle(COLOURS), cycle(MARKERS), strict=False), strict=False))
    if "group" not in points:
        return styles
    pairs = zip(points["curve"], groups, strict=True)
    return {curve: (styles[group][0], "*" if curve.startswith(HIRIVIT) else "o") for curve, group in pairs}


def _finish(axes: Axes, cost: str, *, missing: str = "") -> None:
    """Add the label of a cost and the grid; `missing` is the reason if there are no points."""
    axes.text(0.5, 0.5, missing, transform=axes.transAxes, ha="center", va="center", color="#666666")
    add_grid(axes, AXES[cost])


def add_grid(axes: Axes, label: str) -> None:
    """Add the label of the horizontal axis, and the grid."""
    axes.set_xlabel(label)
    axes.grid(color="#e5e5e5", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def add_legend(figure: Any, entries: Entries, *, width: float) -> None:
    """Add one legend below the panels, with each name once; `width` is that of the figure in inches."""
    if not entries:
        return
    names = [drawable(name, MAX_LEGEND) for name in entries]
    columns = max(1, min(5, int(width * LEGEND_WIDTH / (max(map(len, names)) + 4))))
    # matplotlib leaves labels that begin with _ out: the names come after it has made the legend.
    style: dict[str, Any] = {"loc": "outside lower center", "ncols": columns, "fontsize": 8, "frameon": False}
    legend = figure.legend(entries.values(), ["name"] * len(entries), **style)
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_text(name)


@cache
def _characters() -> frozenset[int]:
    """Return the characters of the font of the figures."""
    return frozenset(get_font(findfont(FontProperties())).get_charmap())


def drawable(text: str, longest: int) -> str:
    r"""Return a text of the user as a figure can draw it: characters that the font lacks are escapes, `\u65e5`.

    matplotlib would draw them as boxes, from a font that takes ten seconds to embed in a PDF. A text of more than
    `longest` characters is cut.
    """
    known = _characters()
    drawn = "".join(c if ord(c) in known else c.encode("unicode_escape").decode() for c in printable(text))
    return drawn if len(drawn) <= longest else drawn[: longest - 1] + "…"
