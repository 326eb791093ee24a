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
from hiri_search.report.tables.ablation import comparison_caption, comparison_table, comparison_text
from hiri_search.report.tables.curves import AXES, COLOURS, published_points
from hiri_search.report.tables.networks import caption, inference_table
from hiri_search.report.tables.results import Results
from hiri_search.report.tables.search import confirmed_table, rank_agreement, volume_table, zero_cost_table
from hiri_search.stats.significance import mean_interval
from hiri_search.study.config.schema import Study
from hiri_search.study.ledger.values import CodeVersion

SIGNIFICANT_DIGITS = 6  # of a number
REPEATED = 0.5  # words that come again as often as this are kept once
TRIAL_COLUMNS = (
    *("trial", "seed", "state", "reason", "epochs", "top1", "ema_top1", "loss", "seconds", "device", "source"),
    "checkpoint",
)
CONFIRMATION_COLUMNS = (  # of its table, what there is room for
    *("name", "gflops", "short_epochs", "short_top1", "short_rank", "epochs", "top1", "spread", "low", "high", "rank"),
    "seeds",
)
MAX_COMPARED = 60  # rows, for each pair of which there is a test
NOT_RECORDED = "not kept by this ledger"


def page_content(results: Results) -> dict[str, Any]:
    """All that the page shows of a study, in values that JSON knows."""
    table = main_table(results)
    return {
        "title": results.study.title or "A study without a title",
        "search": results.is_search,
        "states": dict(Counter(str(row["state"]) for row in results.trials)),
        "cards": summary_cards(results, table),
        "facts": _facts(results),
        "caption": caption(results),
        "colours": COLOURS,
        "axes": AXES,
        "columns": [asdict(column) for column in columns_of(table)],
        "networks": columnar(table),
        "trials": _trials(results, table),
        "looks": _looks(results, table),
        "parts": _parts(results, table),
        "paper": _paper(results),
        "inference": _shown(inference_table(results)),
        "chance": 100 / results.started.images.classes,
        "comparisons": _comparisons(results),
        "planned": [[part.part, part.planned, part.took] for part in results.planned],
        **_of_a_search(results, table),
    }


def _facts(results: Results) -> list[tuple[str, str]]:
    """Return the study, its data, and the software and machine of its last run."""
    study, started = results.study, results.started
    images = started.images
    shown = {
        "Study": _asked(study),
        "Profile": started.profile,
        "Data": f"{study.data.source}: {images.train} images to train, {images.val} to validate,"
        f" {images.classes} classes",
        "Training": f"{study.recipe.epochs} epochs, {_plural(len(study.seeds), 'seed')}",
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
        return f"{code.commit[:12]}, {_plural(changed, 'file')} changed since" if changed else code.commit[:12]
    return f"not in git; version {code.version}, digest {code.digest}"


def _asked(study: Study) -> str:
    if study.space is None:
        return f"{_plural(len(study.nets or ()), 'network')}, named in the study file"
    search = study.search
    limits = ", ".join(f"{name} {limits}" for name, limits in study.within.items())
    within = f" within {limits}" if limits else ""
    return (
        f"{_plural(search.networks, 'network')} of a space{within}, by {search.sampler}"
        f" for {', '.join(search.objectives)}"
    )


def _plural(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _when(times: tuple[float, float] | None) -> str:
    if times is None:
        return ""
    first, last = (datetime.fromtimestamp(time, UTC) for time in times)
    same = first.date() == last.date()
    return f"{first:%Y-%m-%d %H:%M} to {last:{'%H:%M' if same else '%Y-%m-%d %H:%M'}} UTC"


def _trials(results: Results, table: pd.DataFrame) -> dict[str, Any]:
    """Every trial; `network` is its line in the main table, `second` whether it is of a second look."""
    line = {name: number for number, name in enumerate(table["name"])}
    rows = pd.DataFrame(list(results.trials), columns=list(TRIAL_COLUMNS))
    rows = rows.assign(
        network=[line[row["name"]] for row in results.trials],
        second=[row.get("confirms") is not None for row in results.trials],
    )
    curves = [[plain(round(top1, 2)) for top1 in row["curve"]] for row in results.trials]
    return {**columnar(rows), "curve": curves}


def _looks(results: Results, table: pd.DataFrame) -> list[dict[str, Any]]:
    """The top-1 of each seed, with mean, spread and interval, where a network has more than one; by look."""
    line = {name: number for number, name in enumerate(table["name"])}
    found = []
    for second, rows in ((False, results.first_trainings), (True, results.confirmations)):
        for name, scores in scores_by_name(rows).items():
            if len(scores) > 1:
                interval = mean_interval(scores)
                ends = {"low": interval.low, "high": interval.high} if interval else {"low": None, "high": None}
                middle = {"top1": float(np.mean(scores)), "spread": float(np.std(scores, ddof=1))}
                found.append(plain({"network": line[name], "second": second, "scores": scores, **middle, **ends}))
    return found


def _comparisons(results: Results) -> dict[str, Any]:
    """Of an ablation: which differences are shown, and how that was found."""
    few = not results.is_search and len(results.rows) <= MAX_COMPARED
    found = comparison_table(results) if few else pd.DataFrame()
    if found.empty:
        return {"caption": "", **_shown(found)}
    return {"caption": comparison_caption(results), **_shown(comparison_text(found))}


def _parts(results: Results, table: pd.DataFrame) -> dict[str, Any]:
    """The cost by part: each distinct part once, and for each network the numbers of its own."""
    known: dict[tuple[str, float, float], int] = {}
    lists = [
        [known.setdefault((name, float(params), float(gflops)), len(known)) for name, (params, gflops) in parts.items()]
        for parts in parts_of(results, table["name"])
    ]
    return {"of": [plain(list(part)) for part in known], "networks": lists}


def _paper(results: Results) -> dict[str, Any]:
    """The published points, for a panel of their own."""
    paper = published_points(results.study.table)
    columns = [name for name in ("curve", "network", "label", *paper.costs, "top1") if name in paper.points]
    return {"title": paper.title, "costs": paper.costs, "points": columnar(paper.points[columns])}


def _of_a_search(results: Results, table: pd.DataFrame) -> dict[str, Any]:
    confirmed = confirmed_table(results)
    volume = volume_table(results)
    return {
        "volume": [plain(100 * share) for share in volume["share"]],
        "confirmed": _shown(confirmed.reindex(columns=CONFIRMATION_COLUMNS) if len(confirmed) else confirmed),
        "believed": rank_agreement(confirmed) if len(confirmed) else "",
        "zero_cost": _shown(zero_cost_table(results)),
        "importances": {name: plain(dict(shares)) for name, shares in results.importances.items()},
        "decisions": _decisions(results, table),
    }


def _decisions(results: Results, table: pd.DataFrame) -> dict[str, Any]:
    """What was chosen for each network, by decision: its options in order, and for each network the number of one."""
    chosen: dict[str, Mapping[str, int | str]] = {}
    for row in results.first_trainings:
        chosen.setdefault(row["name"], results.decisions.get(row["trial"], {}))
    rows = [chosen.get(name, {}) for name in table["name"]]
    names = sorted({name for row in rows for name in row}, key=_order)
    found = {}
    for name in names:
        options = sorted({row[name] for row in rows if name in row}, key=lambda one: (isinstance(one, str), one))
        place = {option: number for number, option in enumerate(options)}
        found[name] = {"options": options, "at": [place[row[name]] if name in row else None for row in rows]}
    return found


def _order(name: str) -> tuple[Any, ...]:
    """By the part of the network, as numbers are ordered."""
    return tuple((0, int(word), "") if word.isdigit() else (1, 0, word) for word in name.split("."))


# ---- as values that JSON knows


def columnar(table: pd.DataFrame) -> dict[str, Any]:
    """By column; words that come again and again are kept once, as `of`, with their places, as `at`."""
    return {str(name): _column([plain(value) for value in table[name]]) for name in table}


def _column(values: list[Any]) -> Any:
    words = list(dict.fromkeys(values))
    if not all(isinstance(word, str) for word in words) or len(words) > REPEATED * len(values):
        return values
    place = {word: number for number, word in enumerate(words)}
    return {"of": words, "at": [place[value] for value in values]}


def _shown(table: pd.DataFrame) -> dict[str, Any]:
    """A small table, to be shown as it is."""
    return {
        "columns": list(map(str, table.columns)),
        "rows": [plain(list(row)) for row in table.itertuples(index=False)],
    }


def plain(value: Any) -> Any:
    """None for what is not a number, six digits of what is one."""
    if isinstance(value, float):  # first: most are, and there are hundreds of thousands
        return _number(value)
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, Sequence | np.ndarray) and not isinstance(value, str):
        return [plain(one) for one in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    return value if value is None or isinstance(value, int | str) else None if pd.isna(value) else str(value)


def _number(value: float) -> float | int | None:
    if not math.isfinite(value):
        return None
    short = float(f"{value:.{SIGNIFICANT_DIGITS}g}")
    return int(short) if short == int(short) else short
