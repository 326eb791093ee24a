"""Report of a calibration as text: which setting is chosen, and its tables with rounded numbers."""

from __future__ import annotations

import numpy as np
import pandas as pd

from hiri_search.report.calibration.choice import AGREES, chosen_line
from hiri_search.report.calibration.epochs import STANDS, epoch_table, standing_table
from hiri_search.report.calibration.scores import CalibrationResults, seeds_text
from hiri_search.report.calibration.table import CEILING, SETTING, calibration_table
from hiri_search.report.tables.formats import markdown, markdown_text
from hiri_search.stats.order_verdict import OrderVerdict
from hiri_search.stats.rank_correlation import BAND_LEVEL, LIKE_COST, MIN_LIKE_ITEMS, MIN_TAU_BEYOND_COST
from hiri_search.stats.signal_to_noise import reachable_tau
from hiri_search.stats.significance import LEVEL


def calibration_text(results: CalibrationResults) -> str:
    """Return the report as Markdown."""
    head = [markdown_text(text) for text in (verdict_text(results), caption_text(results))]
    sections = [f"## {heading}\n\n{markdown(table)}" for heading, table in tables(results).items()]
    return "\n\n".join([f"# {markdown_text(results.title or 'Calibration')}", *head, *sections])


def verdict_text(results: CalibrationResults) -> str:
    """Return which setting is chosen, in words."""
    table = calibration_table(results)
    settings = table[table["kind"] == SETTING]
    reach = _reach(table, len(results.reference.seeds))
    if (line := chosen_line(table)) is None:
        too_few = len(settings) and (settings["verdict"].fillna(OrderVerdict.TOO_FEW) == OrderVerdict.TOO_FEW).all()
        if too_few:
            return f"Too few to tell: a verdict needs {MIN_LIKE_ITEMS} networks that have another one of like cost."
        return f"No setting passes the bar: the order of these short trainings is not to be believed.{reach}"
    interval = f"{BAND_LEVEL:.0%} interval {line['beyond_low']:.2f} to {line['beyond_high']:.2f}"
    cost = f"{line['hours']:.3g} hours, {line['of_reference']:.1%} of the reference"
    measured = f"tau beyond cost {line['tau_beyond_cost']:.2f} ({interval}), {cost}"
    found = f"{line['setting']} with {seeds_text(line['seeds'])}: {measured}"
    if line["verdict"] == OrderVerdict.PASSES:
        return f"The cheapest setting that passes the bar is {found}.{_luck(line, settings)}{reach}"
    return f"No setting passes the bar. The best of the weak ones is {found}.{reach}"


def _luck(chosen: pd.Series, settings: pd.DataFrame) -> str:
    """Return a warning about settings that pass although their own seeds hardly agree: luck to a good part."""
    if chosen["by_luck"]:
        ratio = f"(signal / noise {chosen['signal_to_noise']:.2f})"
        return f" Its own seeds hardly agree {ratio}, so that this is luck to a good part: give it more seeds."
    cheaper = settings[(settings["verdict"] == OrderVerdict.PASSES) & (settings["hours"] < chosen["hours"])]
    if cheaper.empty:
        return ""
    names = ", ".join(f"{line['setting']} with {seeds_text(line['seeds'])}" for _, line in cheaper.iterrows())
    return f" Not chosen, as its own seeds hardly agree (signal / noise below {AGREES}): {names}."


def _reach(table: pd.DataFrame, seeds: int) -> str:
    """Return which tau beyond cost a setting can reach at best, as the reference has noise too."""
    repeated = table[table["kind"] == CEILING]["tau_beyond_cost"].astype(float).mean()
    if pd.isna(repeated):
        unknown = "How well the reference repeats its own order with another seed is not known"
        return f" {unknown}: a noisy one makes every tau beyond cost smaller. Give it more seeds."
    reach = reachable_tau(repeated, seeds)
    noise = f"One seed of the reference repeats the order of another with a tau beyond cost of {repeated:.2f}"
    limit = f"against the mean of its {seeds} seeds a setting without any error would come to about {reach:.2f}"
    remedy = ", so that none can be expected to pass: give it more seeds" if reach < MIN_TAU_BEYOND_COST else ""
    return f" {noise}; {limit}{remedy}."


def caption_text(results: CalibrationResults) -> str:
    """Return what the reference is, and what the columns mean."""
    reference = results.reference
    started = reference.results.started
    return (
        f"Reference: {reference.description}, {reference.hours():.3g} hours, {len(reference.means())} networks,"
        f" validated on {started.images.val} images ({reference.results.study.data.source})."
        f" Tau: Kendall's tau with the means of the reference, with its {LEVEL:.0%} interval. Tau beyond cost: over the"
        f" pairs of networks whose GFLOPs differ by at most {LIKE_COST:.0%}, with its {BAND_LEVEL:.0%} interval. The"
        f" bar: this interval lies above 0 and the estimate is at least {MIN_TAU_BEYOND_COST}; weak: the first alone."
        f" Signal / noise: standard deviation between networks over that between seeds. Pairs / hour: pairs of like"
        f" cost in the order of the reference, minus those in the other order, for an hour of training. Hours: the sum"
        f" of the seconds of the trainings, on {started.device}."
    )


def tables(results: CalibrationResults) -> dict[str, pd.DataFrame]:
    """Return the tables of the report by heading, with rounded numbers as text."""
    return {
        "Settings": _settings(calibration_table(results)),
        "The epoch from which the order stands": _standing(results),
        "Networks": _networks(results),
    }


def _settings(table: pd.DataFrame) -> pd.DataFrame:
    scale = [
        None if pd.isna(width) else f"1/{width:.0f}, 1/{depth:.0f}"
        for width, depth in zip(table["width"], table["depth"], strict=True)
    ]
    shares = [
        None if pd.isna(hours) else f"{100 * hours:.1f}, {100 * work:.1f}"
        for hours, work in zip(table["of_reference"], table["work_of_reference"], strict=True)
    ]
    return pd.DataFrame(
        {
            "setting": table["setting"],
            "seeds": _rounded(table["seeds"], "{:.0f}"),
            "side": _rounded(table["side"], "{:.0f}"),
            "width, depth": scale,
            "epochs": _rounded(table["epochs"], "{:.0f}"),
            "images": _rounded(table["train_images"], "{:.0f}"),
            "networks": table["networks"],
            "hours": _rounded(table["hours"], "{:.3g}"),
            "% of reference: hours, multiply-adds": shares,
            "tau": _with_interval(table, "tau", "low", "high"),
            "tau beyond cost": _with_interval(table, "tau_beyond_cost", "beyond_low", "beyond_high"),
            "pairs": _rounded(table["pairs"], "{:.0f}"),
            "verdict": table["verdict"],
            "signal / noise": _rounded(table["signal_to_noise"], "{:.2f}"),
            "pairs / hour": _rounded(table["pairs_per_hour"], "{:.3g}"),
        }
    )


def _standing(results: CalibrationResults) -> pd.DataFrame:
    table = standing_table(epoch_table(results))
    return pd.DataFrame(
        {
            **table[["setting", "weights", "seeds"]],
            "epochs": table["epochs"],
            "measure": table["measure"],
            "after the last epoch": _rounded(table["final"], "{:.2f}"),
            f"at least {STANDS:.0%} of it from epoch": _rounded(table["stands_from"], "{:.0f}"),
            "share of the hours by then": _rounded(table["share"], "{:.0%}"),
        }
    )


def _networks(results: CalibrationResults) -> pd.DataFrame:
    """Return the networks, cheapest first, with their mean scores and the spread over seeds in the reference."""
    reference = results.reference
    costs, score = reference.networks, reference.results.score
    form, means = f"{{:.{score.digits}f}}", -score.loss_sign * reference.means().reindex(costs.index)
    specs = {str(row["name"]): row["spec"] for row in reference.results.counted}
    table = pd.DataFrame(
        {
            "network": costs.index,
            "band": [results.bands.get(name) for name in costs.index],
            "GFLOPs": _rounded(costs["gflops"], "{:.3f}"),
            "M params": _rounded(costs["params_m"], "{:.2f}"),
            f"{score.label}, reference": _rounded(means, form),
            "sd of seeds": _rounded(reference.scores.std(axis=1), form),
            "spec": [specs[name] for name in costs.index],
        }
    )
    return table.iloc[np.argsort(costs["gflops"].to_numpy(), kind="stable")]


def _rounded(column: pd.Series, form: str) -> list[str | None]:
    return [None if pd.isna(value) else form.format(value) for value in column]


def _with_interval(table: pd.DataFrame, *columns: str) -> list[str | None]:
    """Return a value with the ends of its interval, from three columns."""
    numbers = table[list(columns)].astype(float).to_numpy()
    return [None if np.isnan(value) else f"{value:.2f} ({low:.2f} to {high:.2f})" for value, low, high in numbers]
