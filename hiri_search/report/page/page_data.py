"""The JSON that the page shows."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd

from hiri_search.report.page.columns import columns_of, main_table, parts_of, scores_by_name
from hiri_search.report.page.summary import summary_cards
from hiri_search.report.tables.ablation import comparison_caption, comparison_table, comparison_text, settings_table
from hiri_search.report.tables.confirmation import SHORT, confirmed_table, order_table, rank_agreement
from hiri_search.report.tables.curves import AXES, COLOURS, published_points
from hiri_search.report.tables.networks import caption, inference_table
from hiri_search.report.tables.order import short_and_long, short_order_table
from hiri_search.report.tables.results import Results
from hiri_search.report.tables.search import volume_table, zero_cost_table
from hiri_search.report.tables.splits import split_sentence, split_table
from hiri_search.stats.significance import mean_interval
from hiri_search.study.config.schema import StudyConfig
from hiri_search.study.ledger.values import CodeVersion
from hiri_search.study.search.objectives import objectives_of
from hiri_search.training.score import Score

SIGNIFICANT_DIGITS = 6
MAX_DISTINCT = 0.5  # a text column is stored by index if at most this share of its values is distinct
TRIAL_COLUMNS = (
    *("trial", "seed", "state", "reason", "epochs", "loss", "seconds", "device", "source"),
    *("confirms", "checkpoint"),
)
MAX_COMPARED = 60  # rows of an ablation; more rows have too many pairs to show
NOT_RECORDED = "not recorded"


def page_content(results: Results) -> dict[str, Any]:
    """Return everything that the page shows, as JSON values."""
    table = main_table(results)
    return {
        "title": results.study.title or "A study without a title",
        "search": results.is_search,
        "states": dict(Counter(str(row["state"]) for row in results.all_trials)),
        "cards": summary_cards(results, table),
        "facts": _facts(results),
        "caption": caption(results),
        "colours": COLOURS,
        "axes": AXES,
        "score": _score(results.score),
        "curve_score": _score(results.curve_score),
        "trial_scores": [_score(score) for score in trial_scores(results)],
        "columns": [asdict(column) for column in columns_of(table, results)],
        "networks": columnar(table),
        "trials": _trials(results, table),
        "seeds": _seeds(results, table),
        "parts": _parts(results, table),
        "paper": _paper(results),
        "inference": _small_table(inference_table(results)),
        "chance": results.score.chance(results.started.images.classes) if results.score.chance else None,
        "comparisons": _comparisons(results),
        "settings": _small_table(_settings(results)),
        "planned": [[part.part, part.planned, part.took] for part in results.planned],
        **_search(results, table),
    }


def trial_scores(results: Results) -> list[Score]:
    """Return the scores that the table of trials shows."""
    scores = (results.score, results.curve_score, results.ema_score, *results.other_scores)
    return list({score.name: score for score in scores}.values())


def _score(score: Score) -> dict[str, Any]:
    """Return what the page shows of a score."""
    shown = {name: getattr(score, name) for name in ("label", "title", "head", "axis", "unit", "digits", "up")}
    return {"key": score.name, "description": f"{score.title} on the {score.images}", **shown}


def _facts(results: Results) -> list[tuple[str, str]]:
    """Return the study, its data, and the software and machine of its last run."""
    study, started = results.study, results.started
    images = started.images
    shown = {
        "Study": _question(study),
        "Profile": started.profile,
        "Data": f"{study.data.source}: {images.train} training images, {images.val} validation images,"
        f" {f'{images.test} test images, ' * bool(images.test)}{images.classes} classes",
        "Training": f"{_plural(study.recipe.epochs, 'epoch')}, {results.seeds_text}",
        "Device": started.device,
        "When": _when(results.times),
        "Commit": _commit(started.code),
        "Command": started.command,
        "Versions": ", ".join(f"{name} {version}" for name, version in started.versions.items() if version),
    }
    return [(name, text or NOT_RECORDED) for name, text in shown.items()]


def _commit(code: CodeVersion) -> str:
    """Return the commit and the number of changed files; outside git, the version and digest."""
    if code.commit:
        changed = len(code.changed)
        return code.commit[:12] + (f", with uncommitted changes in {_plural(changed, 'file')}" if changed else "")
    return f"not in git; version {code.version}, digest {code.digest}"


def _question(study: StudyConfig) -> str:
    if study.space is None:
        return f"ablation of {_plural(len(study.nets or ()), 'network')}"
    search = study.search
    limits = ", ".join(f"{name} {limits}" for name, limits in study.within.items())
    within = f" within {limits}" if limits else ""
    networks, objectives = _plural(search.networks, "network"), ", ".join(search.objectives)
    return f"search for {networks} in a space{within}; sampler: {search.sampler}; objectives: {objectives}"


def _plural(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _when(times: tuple[float, float] | None) -> str:
    if times is None:
        return ""
    first, last = (datetime.fromtimestamp(time, UTC) for time in times)
    same = first.date() == last.date()
    return f"{first:%Y-%m-%d %H:%M} to {last:{'%H:%M' if same else '%Y-%m-%d %H:%M'}} UTC"


def _trials(results: Results, table: pd.DataFrame) -> dict[str, Any]:
    """Return all trials by column; `network` is the index in the main table."""
    index = {name: number for number, name in enumerate(table["name"])}
    columns = [*TRIAL_COLUMNS, *(score.name for score in trial_scores(results))]
    rows, digits = pd.DataFrame(list(results.trials), columns=columns), results.score.digits
    rows = rows.assign(network=[index[row["name"]] for row in results.trials])
    curves = [[plain(round(score, digits)) for score in row["curve"]] for row in results.trials]
    return {**columnar(rows), "curve": curves}


def _seeds(results: Results, table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the score of each seed, with mean, spread and interval, of networks with two seeds or more."""
    index = {name: number for number, name in enumerate(table["name"])}
    entries = []
    for is_confirmation, rows in ((False, results.first_trainings), (True, results.confirmations)):
        for name, scores in scores_by_name(rows, results.score).items():
            if len(scores) > 1:
                interval = mean_interval(scores)
                ends = {"low": interval.low, "high": interval.high} if interval else {"low": None, "high": None}
                mean = {results.score.name: float(np.mean(scores)), "spread": float(np.std(scores, ddof=1))}
                entry = {"network": index[name], "confirmation": is_confirmation, "scores": scores}
                entries.append(plain(entry | mean | ends))
    return entries


def _comparisons(results: Results) -> dict[str, Any]:
    """Return the comparisons of an ablation with their caption; empty for a search."""
    is_small = not results.is_search and len(results.rows) <= MAX_COMPARED
    comparisons = comparison_table(results) if is_small else pd.DataFrame()
    if comparisons.empty:
        return {"caption": "", **_small_table(comparisons)}
    return {"caption": comparison_caption(results), **_small_table(comparison_text(comparisons, results.score))}


def _settings(results: Results) -> pd.DataFrame:
    """Return the settings of the rows, with the values of each as text."""
    table = settings_table(results).drop(columns=list(results.recipe_options), errors="ignore")
    return table if table.empty else table.assign(chosen=np.where(table["chosen"], "yes", ""))


def _parts(results: Results, table: pd.DataFrame) -> dict[str, Any]:
    """Return the distinct parts with their costs, and for each network the indices of its parts."""
    index: dict[tuple[str, float, float], int] = {}
    networks = [
        [index.setdefault((name, float(params), float(gflops)), len(index)) for name, (params, gflops) in parts.items()]
        for parts in parts_of(results, table["name"])
    ]
    return {"values": [plain(list(part)) for part in index], "networks": networks}


def _paper(results: Results) -> dict[str, Any]:
    """Return the published points of the paper's panel."""
    paper = published_points(results.table_number, results.published_scores[0])
    shown = ("curve", "group", "network", "label", *paper.cost_columns, paper.column)
    points = columnar(paper.points[[name for name in shown if name in paper.points]])
    score = {**_score(paper.score), "key": paper.column, "digits": 1, "data": paper.training.data}
    return {
        **{"title": paper.title, "costs": paper.cost_columns, "points": points, "score": score},
        "length": f"{paper.training.length} of {paper.training.data}",
    }


def _search(results: Results, table: pd.DataFrame) -> dict[str, Any]:
    """Return the content of the sections that only a search has."""
    confirmed, score = confirmed_table(results), results.score.name
    volume = volume_table(results)
    short = SHORT + results.curve_score.name
    shown = ("name", "gflops", "short_epochs", short, "short_rank", "epochs", score, "spread", "low", "high")
    return {
        "volume": [plain(100 * share) for share in volume["share"]],
        "confirmed": _small_table(
            confirmed.reindex(columns=[*shown, "rank", "seeds"]) if len(confirmed) else confirmed
        ),
        "rank_agreement": rank_agreement(results),
        "short_long": _small_table(short_and_long(results)),
        "short_orders": _small_table(short_order_table(results)),
        "orders": _small_table(order_table(results)),
        "splits": _small_table(split_table(results)),
        "split_sentence": split_sentence(results),
        "zero_cost": _small_table(zero_cost_table(results)),
        "objectives": {objective.name: objective.label for objective in objectives_of(results.study)},
        "importances": {name: plain(dict(shares)) for name, shares in results.importances.items()},
        "decisions": _decisions(results, table),
    }


def _decisions(results: Results, table: pd.DataFrame) -> dict[str, Any]:
    """Return for each decision its options in order, and for each network the index of its option."""
    chosen: dict[str, Mapping[str, int | str]] = {}
    for row in results.first_trainings:
        chosen.setdefault(row["name"], results.decisions.get(row["trial"], {}))
    rows = [chosen.get(name, {}) for name in table["name"]]
    decisions = {}
    for name in sorted({name for row in rows for name in row}, key=_decision_order):
        options = sorted({row[name] for row in rows if name in row}, key=lambda value: (isinstance(value, str), value))
        index = {option: number for number, option in enumerate(options)}
        decisions[name] = {"options": options, "indices": [index[row[name]] if name in row else None for row in rows]}
    return decisions


def _decision_order(name: str) -> tuple[Any, ...]:
    """Return a sort key by the number of the part, then by name."""
    return tuple((0, int(word), "") if word.isdigit() else (1, 0, word) for word in name.split("."))


# ---- JSON values


def columnar(table: pd.DataFrame) -> dict[str, Any]:
    """Return the table by column; a text column with few distinct values as `values` and `indices`."""
    return {str(name): _column([plain(value) for value in table[name]]) for name in table}


def _column(values: list[Any]) -> Any:
    distinct = list(dict.fromkeys(values))
    if not all(isinstance(value, str) for value in distinct) or len(distinct) > MAX_DISTINCT * len(values):
        return values
    index = {value: number for number, value in enumerate(distinct)}
    return {"values": distinct, "indices": [index[value] for value in values]}


def _small_table(table: pd.DataFrame) -> dict[str, Any]:
    """Return a table by row."""
    return {
        "columns": list(map(str, table.columns)),
        "rows": [plain(list(row)) for row in table.itertuples(index=False)],
    }


def plain(value: Any) -> Any:
    """Return a JSON value: numbers with six significant digits, None for missing and infinite numbers."""
    if isinstance(value, float):  # tested first, because most of the hundreds of thousands of values are floats
        return _number(value)
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, Sequence | np.ndarray) and not isinstance(value, str):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    return value if value is None or isinstance(value, int | str) else None if pd.isna(value) else str(value)


def _number(value: float) -> float | int | None:
    if not math.isfinite(value):
        return None
    rounded = float(f"{value:.{SIGNIFICANT_DIGITS}g}")
    return int(rounded) if rounded == int(rounded) else rounded
