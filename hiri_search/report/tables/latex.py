"""Publication-ready LaTeX tables (booktabs)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import pandas as pd

from hiri_search.report.tables.ablation import best_row, comparison_caption, comparisons
from hiri_search.report.tables.formats import escaped
from hiri_search.report.tables.networks import caption, front, network_table, paper_table
from hiri_search.report.tables.results import Results
from hiri_search.report.tables.search import confirmed_table, rank_agreement
from hiri_search.stats.significance import Comparison, Estimate, p_text

EMPTY_CELL = "--"
INTERVALS = " In brackets: the interval, cut off where percents end."
LONG = 32  # letters: longer names are broken into lines


@dataclass(frozen=True)
class LatexColumn:
    """A column of a table in print."""

    head: str  # LaTeX; its group's head stands over it
    cells: Sequence[str]  # LaTeX
    align: str = "r"
    group: str = ""  # columns side by side of one group have one head, with a rule under it


def paper_tex(results: Results) -> str:
    """The networks of a study beside the rows of its table in the paper."""
    table, best = paper_table(results), best_row(results)
    scores = _scores(table, best)
    columns = [
        _names(table["network"], best),
        *_sides(table["side"]),
        *_costs(table),
        LatexColumn("ours", scores, "l", r"Top-1 (\%)"),
        LatexColumn("paper", _numbers(table["paper_top1"], 1), "r", r"Top-1 (\%)"),
    ]
    how = f"{_title(results)} {caption(results)}{_bold_caption(best, scores)}"
    return _float(columns, how, f"table{results.study.table}")


def network_tex(results: Results) -> str:
    """The networks of a study that is about no table of the paper; of a search those on the front of its GFLOPs."""
    table, best = network_table(results).rename(columns={"name": "network"}), best_row(results)
    searched = results.is_search
    table = front(table, "gflops", "top1") if searched else table
    scores = _scores(table, best)
    columns = [
        _names(table["network"], best),
        *_sides(table["side"]),
        LatexColumn("Params (M)", _numbers(table["params_m"], 1)),
        LatexColumn("GFLOPs", _numbers(table["gflops"], 1)),
        LatexColumn(r"Top-1 (\%)", scores, "l"),
    ]
    which = " Shown are the networks that no other beats in both GFLOPs and top-1." if searched else ""
    return _float(columns, f"{_title(results)}{which} {caption(results)}{_bold_caption(best, scores)}", "networks")


def confirmed_tex(results: Results) -> str:
    """The networks of a search that were looked at again, with what became of the order."""
    table = confirmed_table(results).rename(columns={"name": "network"})
    short, long = (f"{table[name].iloc[0]} epochs" for name in ("short_epochs", "epochs"))
    columns = [
        _names(table["network"]),
        LatexColumn("Params (M)", _numbers(table["params_m"], 1)),
        LatexColumn("GFLOPs", _numbers(table["gflops"], 1)),
        LatexColumn(short, _numbers(table["short_top1"], 1), "r", r"Top-1 (\%)"),
        LatexColumn(long, _scores(table, None), "l", r"Top-1 (\%)"),
    ]
    how = f"{INTERVALS.strip()} {rank_agreement(table)}"
    return _float(columns, f"{_title(results)} The best of a search, trained again. {how}", "confirmed")


def comparison_tex(results: Results) -> str:
    """The comparisons of a study: gain, interval, p, and the seeds that would show half a point."""
    found = comparisons(results)
    columns = [
        _names([one.row for one in found]),
        LatexColumn("seeds", [str(one.seeds) for one in found]),
        LatexColumn("gain (points)", [_bold(_gain(one), one.significant) for one in found], "l"),
        LatexColumn("$p$", [_p(one) for one in found]),
        LatexColumn("more seeds", [_more(one) for one in found]),
    ]
    shown = " Bold: a difference is shown." if any(one.significant for one in found) else ""
    more = " More seeds: so many would show 0.5 points, where none is shown."
    how = shown + (more if any(_more(one) != EMPTY_CELL for one in found) else "")
    return _float(columns, f"{_title(results)} {comparison_caption(results)}{how}", "comparisons")


def _title(results: Results) -> str:
    """Without the number that the paper gives to its table: this one will have another."""
    title, number = str(results.study.title or "Networks").rstrip("."), results.study.table
    named = title.removeprefix(f"Table {number}: ").removeprefix(f"Figure {number}: ")
    first = f"{named[:1].upper()}{named[1:]}"
    return f"{first}, beside {_source(number)} of HIRI-ViT." if number else f"{first}."


def _source(table: str) -> str:
    return "Figure 1" if table == "1" else f"Table {table}"


def _bold_caption(best: str | None, scores: Sequence[str]) -> str:
    """What brackets and bold letters say, where there are any."""
    intervals = INTERVALS if any("[" in score for score in scores) else ""
    if best is None:
        return f"{intervals} No row is shown to be better than every other one, so none is bold."
    return f"{intervals} Bold: better than every other row, by paired t-tests with Holm's correction for all pairs."


def _names(names: Iterable[str], best: str | None = None) -> LatexColumn:
    """Names, and specs where these are the names."""
    cells = [_bold(escaped(name), name == best) for name in names]
    if all(len(name) <= LONG for name in names):
        return LatexColumn("", cells, "l")
    return LatexColumn("", [rf"\raggedright {cell}" for cell in cells], r"p{0.4\linewidth}")


def _sides(sides: pd.Series) -> list[LatexColumn]:
    """Only where they differ; the caption says one."""
    return [LatexColumn("Side", _numbers(sides, 0))] if sides.nunique() > 1 else []


def _costs(table: pd.DataFrame) -> list[LatexColumn]:
    return [
        LatexColumn(head, _numbers(table[name], 1), "r", group)
        for group, cost in (("Params (M)", "params_m"), ("GFLOPs", "gflops"))
        for head, name in (("ours", cost), ("paper", f"paper_{cost}"))
    ]


def _numbers(column: pd.Series, digits: int) -> list[str]:
    return [EMPTY_CELL if pd.isna(value) else f"{value:.{digits}f}" for value in column]


def _scores(table: pd.DataFrame, best: str | None) -> list[str]:
    return [
        _bold(_score(top1, low, high), name == best)
        for name, top1, low, high in zip(table["network"], table["top1"], table["low"], table["high"], strict=True)
    ]


def _score(top1: float, low: float, high: float) -> str:
    """`52.4 [47.6, 57.1]`; an interval ends where percents do."""
    if pd.isna(top1):
        return EMPTY_CELL
    return f"{top1:.1f}" if pd.isna(low) else f"{top1:.1f} [{max(low, 0):.1f}, {min(high, 100):.1f}]"


def _gain(one: Comparison) -> str:
    if one.gain is None:
        return EMPTY_CELL
    interval: Estimate | None = one.interval
    return f"${one.gain:+.1f}$" + (f" $[{interval.low:+.1f}, {interval.high:+.1f}]$" if interval else "")


def _p(one: Comparison) -> str:
    return EMPTY_CELL if one.p_holm is None else p_text(one.p_holm).removeprefix("p = ").replace("p < ", "$<$")


def _more(one: Comparison) -> str:
    return EMPTY_CELL if one.significant or one.more_seeds is None else f"{one.more_seeds:,}"


def _bold(cell: str, chosen: bool) -> str:
    return rf"\textbf{{{cell}}}" if chosen else cell


def _float(columns: Sequence[LatexColumn], text: str, label: str) -> str:
    rows = zip(*(column.cells for column in columns), strict=True)
    lines = [
        r"\begin{table}",
        r"\centering",
        r"\setlength{\belowcaptionskip}{6pt}",
        rf"\caption{{{escaped(text)}}}",
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
    """The heads over the columns, and a rule under each; nothing where there are none."""
    cells, rules, at = [], [], 1
    for group, members in groupby(columns, key=lambda column: column.group):
        width = len([*members])
        cells.append(rf"\multicolumn{{{width}}}{{c}}{{{group}}}" if group else " & ".join([""] * width))
        rules += [rf"\cmidrule(lr){{{at}-{at + width - 1}}}"] if group else []
        at += width
    return [_line(cells), "".join(rules)] if rules else []


def _line(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"
