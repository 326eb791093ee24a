"""Two results folders side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hiri_search.report.tables.formats import markdown
from hiri_search.report.tables.results import Results
from hiri_search.stats.significance import Comparison, compare_pairs, in_words
from hiri_search.system.units import GIGA, MEGA

RowKey = tuple[str, int, str, int]  # key, side, name where the key alone does not tell, epochs of a second look or 0
Trials = Mapping[RowKey, Sequence[Mapping[str, Any]]]
COST_COLUMNS = ("params", "macs")
COMPARED_COLUMNS = (
    *("network", "key", "side", "params_m", "gflops", "same_costs", "seeds", "top1_a", "top1_b"),
    *("difference", "low", "high", "p", "says"),
)


@dataclass(frozen=True)
class SideBySide:
    """What two folders have in common, and what they have not."""

    table: pd.DataFrame  # a row for each network of both
    only_a: tuple[str, ...]  # names
    only_b: tuple[str, ...]


def side_by_side(one: Results, other: Results) -> SideBySide:
    """Each network of both, by key and side: mean top-1 over shared seeds, and B less A with its 95 % interval.

    `p` is Holm's over all rows that can be tested. Only finished trials count.
    """
    rows = _rows(one, other)
    ours, theirs = (_by_row(results, rows) for results in (one, other))
    both = [row for row in ours if row in theirs]
    scores = {f"a {row}": _scores(ours[row]) for row in both} | {f"b {row}": _scores(theirs[row]) for row in both}
    found = compare_pairs([(f"b {row}", f"a {row}") for row in both], scores)
    lines = [
        _line(ours[row][0], theirs[row][0], scores[one.against], scores[one.row], one)
        for row, one in zip(both, found, strict=True)
    ]
    table = pd.DataFrame(lines, columns=list(COMPARED_COLUMNS))
    return SideBySide(table, _names(ours, theirs), _names(theirs, ours))


def _rows(*both: Results) -> set[tuple[str, int]]:
    """Keys and sides that stand for one row alone in each folder: others are told apart by their names."""
    counts = [Counter({(row["key"], row["side"]): 0 for row in results.trials}) for results in both]
    for results, names in zip(both, counts, strict=True):
        names.update(pair[:2] for pair in {(row["key"], row["side"], row["name"]) for row in results.trials})
    return {pair for names in counts for pair, count in names.items() if count > 1}


def _by_row(results: Results, several: set[tuple[str, int]]) -> Trials:
    found: dict[RowKey, list[Mapping[str, Any]]] = {}
    for trial in results.trials:
        key, side = trial["key"], trial["side"]
        name = trial["name"] if (key, side) in several else ""
        found.setdefault((key, side, name, trial.get("confirm_epochs") or 0), []).append(trial)
    return found


def _scores(trials: Sequence[Mapping[str, Any]]) -> dict[int, float]:
    return {trial["seed"]: trial["top1"] for trial in trials if trial["state"] == "finished"}


def _line(
    ours: Mapping[str, Any],
    theirs: Mapping[str, Any],
    before: Mapping[int, float],
    after: Mapping[int, float],
    found: Comparison,
) -> dict[str, Any]:
    shared = [seed for seed in before if seed in after]
    interval = found.interval
    return {
        "network": _name(ours),
        "key": ours["key"],
        "side": ours["side"],
        "params_m": ours["params"] / MEGA,
        "gflops": ours["macs"] / GIGA,
        "same_costs": all(ours[name] == theirs[name] for name in COST_COLUMNS),
        "seeds": len(shared),
        "top1_a": _mean(before[seed] for seed in shared),
        "top1_b": _mean(after[seed] for seed in shared),
        "difference": found.gain,
        "low": interval.low if interval else None,
        "high": interval.high if interval else None,
        "p": found.p_holm,
        "says": in_words(found),
    }


def _mean(values: Iterator[float]) -> float | None:
    known = list(values)
    return float(np.mean(known)) if known else None


def _name(trial: Mapping[str, Any]) -> str:
    epochs = trial.get("confirm_epochs")
    return f"{trial['name']} ({epochs:.0f} epochs)" if epochs else str(trial["name"])


def _names(those: Trials, others: Trials) -> tuple[str, ...]:
    return tuple(_name(trials[0]) for row, trials in those.items() if row not in others)


Changed = Sequence[tuple[str, str]]  # of what, and `name: old -> new`


def as_text(found: SideBySide, folders: tuple[str, str], changed: Changed) -> str:
    """As Markdown: what changed, then the table, rounded, then what only one of them has."""
    one, other = folders
    lines = [f"# {one} (A) and {other} (B)", "", "What changed from A to B:"]
    lines += [f"- {what}: {how}" for what, how in changed] or ["- nothing that the ledgers tell of"]
    lines += ["", _readable(found.table) if len(found.table) else "No network is in both."]
    for folder, names in ((one, found.only_a), (other, found.only_b)):
        lines += [f"Only in {folder}: {', '.join(names)}."] if names else []
    return "\n".join(lines).rstrip() + "\n"


def _readable(table: pd.DataFrame) -> str:
    shown = table.drop(columns=["key", *([] if not table["same_costs"].all() else ["same_costs"])])
    return markdown(shown.round({"params_m": 3, "gflops": 3, "p": 4} | dict.fromkeys(POINTS, 2)))


POINTS = ("top1_a", "top1_b", "difference", "low", "high")
