"""Accuracy against cost, drawn. What is drawn comes from `tables`; here are only lines and points."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hiri_search.report.paper import published
from hiri_search.report.tables import Results, front, network_table

# Okabe and Ito's colours: told apart by colour-blind readers; markers tell the rest.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
NAMED = 10  # more networks than this are drawn as a cloud with its front, without names

# Cost columns and how their axes are called; the order of Figure 6.
COSTS = {"gflops": "GFLOPs (multiply-adds)", "params_m": "Parameters (M)", "ms": "Inference (ms per image)"}

# Families of Table 2 with a small, a base and a large member: the curves of Figure 6.
FAMILIES = ("Swin", "PVTv2", "ConvNeXt", "CSWin", "DaViT", "iFormer", "Dual-ViT")
STYLE: dict[str, Any] = {"linewidth": 1.2, "markersize": 5}


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained", dpi=200)
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Written beside, then renamed."""
    unfinished = path.with_suffix(".tmp.png")
    figure.savefig(unfinished)
    unfinished.replace(path)


def curves() -> pd.DataFrame:
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
    chosen = table.assign(curve=labels)[ours | table["family"].isin(FAMILIES)]
    return chosen[["curve", "network", *COSTS, "top1"]]


def figure6(results: Results) -> Figure:
    """Three panels of the paper's published curves, and under them three of this study: two scales, never mixed."""
    networks = network_table(results)
    figure = _figure(11, 7.4)
    upper, lower = np.asarray(figure.subfigures(2, 1))
    top, bottom = upper.subplots(1, 3, sharey=True), lower.subplots(1, 3, sharey=True)
    for axes, other, cost in zip(top, bottom, COSTS, strict=True):
        _draw_curves(axes, curves(), cost)
        _draw_networks(other, networks, cost)
    upper.suptitle("The paper: ImageNet-1K, published", fontsize=10)
    lower.suptitle(f"This study: short trainings on {results.about['file']['data']['source']}", fontsize=10)
    for part, axes in ((upper, top), (lower, bottom)):
        axes[0].set_ylabel("Top-1 (%)")
        _legend(part, axes)
    return figure


def pareto(results: Results) -> Figure:
    """This study's networks by GFLOPs and by parameters, with the front of each."""
    networks = network_table(results)
    figure = _figure(8, 4)
    panels = figure.subplots(1, 2, sharey=True)
    for axes, cost in zip(panels, ("gflops", "params_m"), strict=True):
        _draw_networks(axes, networks, cost)
    panels[0].set_ylabel("Top-1 of the short training (%)")
    _legend(figure, panels)
    return figure


def _draw_curves(axes: Axes, points: pd.DataFrame, cost: str) -> None:
    styles = _styles(points["curve"].drop_duplicates())
    for name, curve in points.dropna(subset=[cost]).groupby("curve", sort=False):
        ordered = curve.sort_values(cost)
        colour, marker = styles[str(name)]
        own = str(name).startswith("HIRI-ViT")
        line = "-" if own else ":"
        axes.plot(ordered[cost], ordered["top1"], line, color=colour, marker=marker, label=name, **STYLE)
    _finish(axes, cost)


def _draw_networks(axes: Axes, networks: pd.DataFrame, cost: str) -> None:
    known = networks.dropna(subset=[cost, "top1"])
    best = front(known, cost, "top1")
    axes.plot(
        best[cost],
        best["top1"],
        color="#999999",
        linewidth=1.2,
        zorder=1,
        label="front",
        drawstyle="steps-post",
    )
    if len(networks) > NAMED:
        axes.plot(known[cost], known["top1"], "o", color=COLOURS[5], markersize=4, label="networks")
    else:
        _draw_named(axes, known, cost, _styles(networks["name"]))
    _finish(axes, cost)
    if known.empty:
        what = "not measured" if len(networks.dropna(subset=["top1"])) else "no trial has finished"
        axes.text(0.5, 0.5, what, transform=axes.transAxes, ha="center", va="center", color="#666666")


def _draw_named(axes: Axes, known: pd.DataFrame, cost: str, styles: Mapping[str, tuple[str, str]]) -> None:
    for row in known.to_dict("records"):
        colour, marker = styles[row["name"]]
        spread = 0.0 if pd.isna(row["spread"]) else row["spread"]
        axes.errorbar(
            row[cost],
            row["top1"],
            yerr=spread,
            fmt=marker,
            color=colour,
            capsize=3,
            label=row["name"],
            **STYLE,
        )


def _styles(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """A colour and a marker for each name, the same in every panel."""
    return {name: style for name, style in zip(names, zip(cycle(COLOURS), cycle(MARKERS), strict=False), strict=False)}


def _finish(axes: Axes, cost: str) -> None:
    axes.set_xlabel(COSTS[cost])
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
