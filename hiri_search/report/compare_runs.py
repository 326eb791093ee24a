"""Two results folders side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hiri_search.report.tables.ablation import scale_of
from hiri_search.report.tables.formats import markdown
from hiri_search.report.tables.results import Results
from hiri_search.stats.significance import Comparison, compare_pairs
from hiri_search.stats.verdicts import in_words
from hiri_search.study.errors import StudyError
from hiri_search.system.units import GIGA, MEGA
from hiri_search.training.score import Score

# Key, side, name if the key alone is ambiguous (else empty), epochs of a confirmation (else 0).
RowKey = tuple[str, int, str, int]
Trials = Mapping[RowKey, Sequence[Mapping[str, Any]]]
COST_COLUMNS = ("params", "macs")
COMPARED_COLUMNS = (  # `a` and `b` are the scores
    *("network", "key", "side", "params_m", "gflops", "same_costs", "seeds", "a", "b"),
    *("difference", "low", "high", "p", "verdict"),
)


@dataclass(frozen=True)
class SideBySide:
    """The networks that two folders have in common, and the names of the others."""

    score: Score  # by which they are compared
    table: pd.DataFrame  # one row for each network that both folders have
    only_a: tuple[str, ...]  # names
    only_b: tuple[str, ...]


def side_by_side(a: Results, b: Results) -> SideBySide:
    """Compare the networks of two folders, matched by key and side.

    Scores are means over shared seeds; `difference` is B minus A, with its 95 % interval. `p` has Holm's correction
    over all rows that can be tested. Only finished trials count. StudyError where the folders have no score in common.
    """
    ambiguous, score = _ambiguous(a, b), _common_score(a, b)
    trials_a, trials_b = (_by_row(results, ambiguous) for results in (a, b))
    shared = [row for row in trials_a if row in trials_b]
    scores = {f"a {row}": _scores(trials_a[row], score) for row in shared}
    scores |= {f"b {row}": _scores(trials_b[row], score) for row in shared}
    comparisons = compare_pairs([(f"b {row}", f"a {row}") for row in shared], scores, scale_of(score))
    lines = [
        _line(trials_a[row][0], trials_b[row][0], scores[comparison.against], scores[comparison.row], comparison)
        for row, comparison in zip(shared, comparisons, strict=True)
    ]
    columns = [f"{score.name}_{name}" if name in ("a", "b") else name for name in COMPARED_COLUMNS]
    table = pd.DataFrame(lines, columns=list(COMPARED_COLUMNS)).set_axis(columns, axis="columns")
    return SideBySide(score, table, _names_missing_in(trials_b, trials_a), _names_missing_in(trials_a, trials_b))


def _common_score(a: Results, b: Results) -> Score:
    """Return the score that judges both folders, on the test images only where both have some."""
    ours, theirs = a.study.headline, b.study.headline
    if ours != theirs:
        problem = f"the first folder is judged by {ours.label}, the second one by {theirs.label}"
        raise StudyError(f"{problem}: they cannot be compared")
    return a.score if a.has_test == b.has_test else ours


def _ambiguous(*folders: Results) -> set[tuple[str, int]]:
    """Return pairs of key and side that several rows of one folder share: these rows are matched by name too."""
    ambiguous = set()
    for results in folders:
        rows = {(row["key"], row["side"], row["name"]) for row in results.all_trials}
        counts = Counter((key, side) for key, side, _ in rows)
        ambiguous |= {pair for pair, count in counts.items() if count > 1}
    return ambiguous


def _by_row(results: Results, ambiguous: set[tuple[str, int]]) -> Trials:
    rows: dict[RowKey, list[Mapping[str, Any]]] = {}
    for trial in results.all_trials:
        key, side = trial["key"], trial["side"]
        name = trial["name"] if (key, side) in ambiguous else ""
        rows.setdefault((key, side, name, trial.get("confirm_epochs") or 0), []).append(trial)
    return rows


def _scores(trials: Sequence[Mapping[str, Any]], score: Score) -> dict[int, float]:
    return {trial["seed"]: trial[score.name] for trial in trials if trial["state"] == "finished"}


def _line(
    trial_a: Mapping[str, Any],
    trial_b: Mapping[str, Any],
    scores_a: Mapping[int, float],
    scores_b: Mapping[int, float],
    comparison: Comparison,
) -> dict[str, Any]:
    shared = [seed for seed in scores_a if seed in scores_b]
    interval = comparison.interval
    return {
        "network": _name(trial_a),
        "key": trial_a["key"],
        "side": trial_a["side"],
        "params_m": trial_a["params"] / MEGA,
        "gflops": trial_a["macs"] / GIGA,
        "same_costs": all(trial_a[name] == trial_b[name] for name in COST_COLUMNS),
        "seeds": len(shared),
        "a": _mean(scores_a[seed] for seed in shared),
        "b": _mean(scores_b[seed] for seed in shared),
        "difference": comparison.gain,
        "low": interval.low if interval else None,
        "high": interval.high if interval else None,
        "p": comparison.p_holm,
        "verdict": in_words(comparison),
    }


def _mean(values: Iterator[float]) -> float | None:
    scores = list(values)
    return float(np.mean(scores)) if scores else None


def _name(trial: Mapping[str, Any]) -> str:
    epochs = trial.get("confirm_epochs")
    return f"{trial['name']} ({epochs:.0f} epochs)" if epochs else str(trial["name"])


def _names_missing_in(present: Trials, trials: Trials) -> tuple[str, ...]:
    """Return the names of the rows of `trials` that `present` lacks."""
    return tuple(_name(rows[0]) for row, rows in trials.items() if row not in present)


Changed = Sequence[tuple[str, str]]  # the subject, and `name: old -> new`


def as_text(compared: SideBySide, folders: tuple[str, str], changed: Changed) -> str:
    """Return Markdown: the changes, the rounded table, and the networks that only one folder has."""
    a, b = folders
    lines = [f"# {a} (A) and {b} (B)", "", "What changed from A to B:"]
    lines += [f"- {subject}: {change}" for subject, change in changed] or ["- nothing that the ledgers record"]
    lines += ["", _readable(compared) if len(compared.table) else "No network is in both."]
    for folder, names in ((a, compared.only_a), (b, compared.only_b)):
        lines += [f"Only in {folder}: {', '.join(names)}."] if names else []
    return "\n".join(lines).rstrip() + "\n"


def _readable(compared: SideBySide) -> str:
    table, points = (
        compared.table,
        (f"{compared.score.name}_a", f"{compared.score.name}_b", "difference", "low", "high"),
    )
    dropped = ["key", "same_costs"] if table["same_costs"].all() else ["key"]
    rounding = {"params_m": 3, "gflops": 3, "p": 4} | dict.fromkeys(points, compared.score.digits)
    return markdown(table.drop(columns=dropped).round(rounding))
