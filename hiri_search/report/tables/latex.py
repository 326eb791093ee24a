"""Publication-ready LaTeX tables (booktabs)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import pandas as pd

from hiri_search.paper.published import paper_column
from hiri_search.report.tables.ablation import best_row, comparison_caption, comparisons, gain_head
from hiri_search.report.tables.confirmation import SHORT, confirmed_table, rank_agreement
from hiri_search.report.tables.formats import latex_text, size_text
from hiri_search.report.tables.networks import caption, front, network_table, paper_table
from hiri_search.report.tables.results import Results
from hiri_search.stats.significance import Comparison, Estimate, p_text
from hiri_search.training.score import Score

EMPTY_CELL = "--"
MAX_NAME = 32  # characters; longer names are broken into lines


@dataclass(frozen=True)
class LatexColumn:
    """A column of a printed table."""

    head: str  # LaTeX
    cells: Sequence[str]  # LaTeX
    align: str = "r"
    group: str = ""  # common head above neighbouring columns of the same group, with a rule below it


def paper_tex(results: Results) -> str:
    """Return the networks of a study next to the rows of its table in the paper."""
    table, best = paper_table(results), best_row(results)
    score, printed = results.score, results.published_scores[0]
    scores, head = _scores(table, score, best), latex_text(score.axis)
    columns = [
        _names(table["network"], best),
        *_sides(table["side"]),
        *_costs(table),
        LatexColumn("ours", scores, "l", head),
        *_settings(table),
        LatexColumn("paper", _numbers(table[paper_column(printed.name)], 1), "r", latex_text(printed.axis)),
    ]
    text = f"{_title(results)} {caption(results)}{_bold_caption(best, scores, score)}"
    return _float(columns, text, f"table{results.table_number}")


def network_tex(results: Results) -> str:
    """Return the networks of a study without a table of the paper; for a search, its Pareto front by GFLOPs."""
    table, best = network_table(results).rename(columns={"name": "network"}), best_row(results)
    score = results.score
    table = front(table, "gflops", score) if results.is_search else table
    scores = _scores(table, score, best)
    columns = [
        _names(table["network"], best),
        *_sides(table["side"]),
        LatexColumn("Params (M)", _numbers(table["params_m"], 1)),
        LatexColumn("GFLOPs", _numbers(table["gflops"], 1)),
        LatexColumn(latex_text(score.axis), scores, "l"),
        *_settings(table),
    ]
    selection = f" Pareto front of GFLOPs and {score.label}." if results.is_search else ""
    text = f"{_title(results)}{selection} {caption(results)}{_bold_caption(best, scores, score)}"
    return _float(columns, text, "networks")


def confirmed_tex(results: Results) -> str:
    """Return the confirmed networks of a search, with the agreement of their two orders."""
    table, score = confirmed_table(results).rename(columns={"name": "network"}), results.score
    head, short = latex_text(score.axis), _numbers(table[SHORT + results.curve_score.name], _digits(score))
    lengths = table["epochs"].unique()
    long = f"{lengths[0]} epochs" if len(lengths) == 1 else "longer"
    columns = [
        _names(table["network"]),
        LatexColumn("Params (M)", _numbers(table["params_m"], 1)),
        LatexColumn("GFLOPs", _numbers(table["gflops"], 1)),
        LatexColumn(f"{table['short_epochs'].iloc[0]} epochs", short, "r", latex_text(results.curve_score.axis)),
        LatexColumn(long, _scores(table, score, None), "l", head),
        *([LatexColumn("Epochs", list(map(str, table["epochs"])))] if len(lengths) > 1 else []),
    ]
    text = f"{_title(results)} Confirmation of networks of a search.{_intervals(score)} {rank_agreement(results)}"
    return _float(columns, text, "confirmed")


def comparison_tex(results: Results) -> str:
    """Return the comparisons of a study: gain, interval, p, and the seeds to add to show half a point."""
    rows, score = comparisons(results), results.score
    more_seeds = [_more_seeds(row) for row in rows]
    columns = [
        _names([row.row for row in rows]),
        LatexColumn("seeds", [str(row.seeds) for row in rows]),
        LatexColumn(gain_head(score), [_bold(_gain(row, score), row.significant) for row in rows], "l"),
        LatexColumn("$p$", [_p(row) for row in rows]),
        LatexColumn("more seeds", more_seeds),
    ]
    text = f"{_title(results)} {comparison_caption(results)}"
    text += " Bold: a difference is shown." if any(row.significant for row in rows) else ""
    worthwhile = f"{score.worthwhile} {score.difference_unit}"
    text += f" More seeds: seeds to add to show {worthwhile}." if set(more_seeds) - {EMPTY_CELL} else ""
    return _float(columns, text, "comparisons")


def _title(results: Results) -> str:
    """Return the title without the paper's number of the table, because LaTeX numbers this table anew."""
    title, number = (results.study.title or "Networks").rstrip("."), results.table_number
    title = title.removeprefix(f"Table {number}: ").removeprefix(f"Figure {number}: ")
    title = f"{title[:1].upper()}{title[1:]}"
    return f"{title}, compared with {_source(number)} of HIRI-ViT." if number else f"{title}."


def _source(table: str) -> str:
    return "Figure 1" if table == "1" else f"Table {table}"


def _intervals(score: Score) -> str:
    """Return the sentence on the intervals of a score."""
    finite = math.isfinite(score.low) and math.isfinite(score.high)
    clipped = f", clipped to {score.low:g}-{score.high:g} {score.unit}".rstrip() if finite else ""
    return f" In brackets: the confidence interval{clipped}."


def _bold_caption(best: str | None, cells: Sequence[str], score: Score) -> str:
    """Return the part of the caption that explains brackets and bold print."""
    intervals = _intervals(score) if any("[" in cell for cell in cells) else ""
    if best is None:
        return f"{intervals} No row is significantly better than every other row, so none is bold."
    return f"{intervals} Bold: better than every other row, by paired t-tests with Holm's correction for all pairs."


def _names(names: Iterable[str], best: str | None = None) -> LatexColumn:
    """Return the column of names; long names, such as specs, are broken into lines."""
    cells = [_bold(latex_text(name), name == best) for name in names]
    if all(len(name) <= MAX_NAME for name in names):
        return LatexColumn("", cells, "l")
    return LatexColumn("", [rf"\raggedright {cell}" for cell in cells], r"p{0.4\linewidth}")


def _sides(sides: pd.Series) -> list[LatexColumn]:
    """Return the column of sides if they differ; a common side is in the caption."""
    cells = [EMPTY_CELL if pd.isna(side) else size_text(side) for side in sides]
    return [LatexColumn("Side", cells)] if sides.nunique() > 1 else []


def _settings(table: pd.DataFrame) -> list[LatexColumn]:
    """Return the column of settings if a recipe has choices."""
    return [LatexColumn("Setting", list(map(latex_text, table["setting"])), "l")] if "setting" in table else []


def _costs(table: pd.DataFrame) -> list[LatexColumn]:
    return [
        LatexColumn(head, _numbers(table[name], 1), "r", group)
        for group, cost in (("Params (M)", "params_m"), ("GFLOPs", "gflops"))
        for head, name in (("ours", cost), ("paper", f"paper_{cost}"))
    ]


def _numbers(column: pd.Series, digits: int) -> list[str]:
    return [EMPTY_CELL if pd.isna(value) else f"{value:.{digits}f}" for value in column]


def _scores(table: pd.DataFrame, score: Score, best: str | None) -> list[str]:
    columns = zip(table["network"], table[score.name], table["low"], table["high"], strict=True)
    return [_bold(_score(score, *numbers), name == best) for name, *numbers in columns]


def _score(score: Score, value: float, low: float, high: float) -> str:
    """Return a score and its interval, clipped to what is possible: `52.4 [47.6, 57.1]`."""
    if pd.isna(value):
        return EMPTY_CELL
    shown = f"{{:.{_digits(score)}f}}".format
    return (
        shown(value)
        if pd.isna(low)
        else f"{shown(value)} [{shown(max(low, score.low))}, {shown(min(high, score.high))}]"
    )


def _digits(score: Score) -> int:
    """Return the decimals of a score in print: one fewer than elsewhere, but one where there is one."""
    return max(score.digits - 1, min(score.digits, 1))


def _gain(row: Comparison, score: Score) -> str:
    if row.gain is None:
        return EMPTY_CELL
    interval: Estimate | None = row.interval
    shown = f"{{:+.{_digits(score)}f}}".format
    return f"${shown(row.gain)}$" + (f" $[{shown(interval.low)}, {shown(interval.high)}]$" if interval else "")


def _p(row: Comparison) -> str:
    return EMPTY_CELL if row.p_holm is None else p_text(row.p_holm).removeprefix("p = ").replace("p < ", "$<$")


def _more_seeds(row: Comparison) -> str:
    return EMPTY_CELL if row.significant or row.more_seeds is None else f"{row.more_seeds:,}"


def _bold(cell: str, is_bold: bool) -> str:
    return rf"\textbf{{{cell}}}" if is_bold else cell


def _float(columns: Sequence[LatexColumn], text: str, label: str) -> str:
    rows = zip(*(column.cells for column in columns), strict=True)
    lines = [
        r"\begin{table}",
        r"\centering",
        r"\setlength{\belowcaptionskip}{6pt}",
        rf"\caption{{{latex_text(text)}}}",
        rf"\label{{tab:{label}}}",
        r"\small",
        r"\setlength{\tabcolsep}{4pt}",
        rf"\begin{{tabular}}{{@{{}}{''.join(column.align for column in columns)}@{{}}}}",
        r"\toprule",
        *_groups(columns),
        _line(column.head for column in columns),
        r"\midrule",
        *map(_line, rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(["% Needs \\usepackage{booktabs}.", *lines, ""])


def _groups(columns: Sequence[LatexColumn]) -> list[str]:
    """Return the line of group heads and their rules; nothing if no column has a group."""
    cells, rules, first = [], [], 1
    for group, members in groupby(columns, key=lambda column: column.group):
        width = len([*members])
        cells.append(rf"\multicolumn{{{width}}}{{c}}{{{group}}}" if group else " & ".join([""] * width))
        rules += [rf"\cmidrule(lr){{{first}-{first + width - 1}}}"] if group else []
        first += width
    return [_line(cells), "".join(rules)] if rules else []


def _line(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"
