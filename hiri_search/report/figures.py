"""Accuracy against cost, drawn. What is drawn comes from `tables`; here are only lines and points."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
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

from hiri_search.report.paper import published
from hiri_search.report.search import confirmed_table, volume_table
from hiri_search.report.tables import Results, front, network_table

# Okabe and Ito's colours: told apart by colour-blind readers; markers tell the rest.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
NAMED = 10  # more networks than this are drawn as a cloud with its front, without names
CLOUD = "networks"
SIDES = ("on the front", "behind it")  # of a cloud, each in its own colour
LONGER = "front, trained longer"
DENSE = 1_000  # points of a cloud, from which on they are drawn small, or they would be one blot
UNJOINED = (CLOUD, *SIDES, LONGER)

VECTOR = ".pdf"
TRUETYPE = 42  # Type 3, matplotlib's default, is refused by journals

SHORT = 3  # characters: labels up to here are written beside their points

AXES = {
    "step": "Row, one change after the other",
    "side": "Side (pixels)",
    "gflops": "GFLOPs (multiply-adds)",
    "params_m": "Parameters (M)",
    "ms": "Inference (ms per image)",
    "trials": "Finished trials",
}
COSTS = ("gflops", "params_m", "ms")  # the panels of Figure 6

# Families of Table 2 with a small, a base and a large member: the curves of Figure 6.
FAMILIES = ("Swin", "PVTv2", "ConvNeXt", "CSWin", "DaViT", "iFormer", "Dual-ViT")
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


@dataclass(frozen=True)
class Paper:
    """What of the paper a study is drawn beside: points with curve, label, top1 and each of `costs`."""

    stem: str  # of the file's name
    title: str
    points: pd.DataFrame
    costs: tuple[str, ...] = COSTS


def beside(table: str) -> Paper:
    """What belongs beside a study of this table; Figure 6 where it has no picture of its own."""
    match table:
        case "1":
            points = published("1").rename(columns={"resolution": "side", "inference_ms": "ms"})
            points = points.assign(curve=points["network"], label="")
            return Paper("figure1", "The paper's Figure 1: ImageNet-1K, published", points, ("side", "gflops", "ms"))
        case "7":
            points = published("7").assign(curve="Table 7, row by row", ms=np.nan)
            points = points.assign(label=points.index, step=points["row"])
            return Paper("table7", "The paper's Table 7, published", points, ("step", "gflops", "ms"))
        case "9":
            points = published("9")
            points = points.assign(curve=points["network"], label="", ms=np.nan, side=points["resolution"])
            title = "The paper's Table 9, published: without the front at 224, with it at 448"
            return Paper("table9", title, points, ("side", "gflops", "ms"))
    return Paper("figure6", "The paper's Figure 6: ImageNet-1K, published", families())


def families() -> pd.DataFrame:
    """The paper's points of Figure 6: curve, gflops, params_m, ms (from images per second), top1."""
    table = published("2")
    table = table.assign(
        family=[name.rpartition("-")[0] for name in table["network"]], ms=1000 / table["throughput_img_s"]
    )
    ours = table["family"] == "HIRI-ViT"
    labels = [
        f"HIRI-ViT @ {side}" if own else family
        for own, family, side in zip(ours, table["family"], table["resolution"], strict=True)
    ]
    chosen = table.assign(curve=labels, label="")[ours | table["family"].isin(FAMILIES)]
    return chosen[["curve", "network", "label", *COSTS, "top1"]]


def comparison(results: Results) -> Figure:
    """The paper's published points, and under them this study's: two scales, never mixed."""
    paper, networks = beside(results.about["table"]), drawable(results)
    figure = _figure(11, 7.4)
    upper, lower = np.asarray(figure.subfigures(2, 1))
    top, bottom = upper.subplots(1, 3, sharey=True), lower.subplots(1, 3, sharey=True)
    for axes, other, cost in zip(top, bottom, paper.costs, strict=True):
        _draw_curves(axes, paper.points, cost, _styles(paper.points["curve"]))
        _finish(axes, cost, missing="" if paper.points[cost].notna().any() else "not published")
        _draw_networks(other, networks, cost)
    upper.suptitle(paper.title, fontsize=10)
    lower.suptitle(f"This study: short trainings on {results.about['file']['data']['source']}", fontsize=10)
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
    panels[0].set_ylabel("Top-1 (%)" if results.second_look else "Top-1 of the short training (%)")
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


def drawable(results: Results) -> pd.DataFrame:
    """The networks with a curve each (a few without one are one of their own; many are a cloud) and a label."""
    table, rows = network_table(results), results.about["rows"]
    table = table.assign(
        step=range(1, len(table) + 1), label=[rows.get(name, {}).get("paper") or "" for name in table["name"]]
    )
    if (table["curve"] == "").all():
        return table.assign(curve=table["name"] if len(table) <= NAMED else CLOUD)
    return table.assign(curve=table["curve"].where(table["curve"] != "", table["name"]))


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
    if cost in COSTS:  # rows and sides are no costs
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
        points = confirmed.assign(curve=LONGER, label="")
        _draw_curves(axes, points, cost, {LONGER: (COLOURS[1], "D")})


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
