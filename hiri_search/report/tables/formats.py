"""Tables as CSV, Markdown and LaTeX text."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

# What LaTeX would take for its own.
ESCAPES = (
    {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {
        "|": r"\textbar{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
    }
    | {letter: "\\" + letter for letter in "&%$#_{}"}
)


def csv(table: pd.DataFrame) -> str:
    """Every digit there is; empty where nothing is known."""
    return table.to_csv(index=False)


def markdown(table: pd.DataFrame) -> str:
    """Every digit there is; `-` where nothing is known."""
    shown = table.astype(object).where(table.notna(), "-")
    return str(shown.to_markdown(index=False, disable_numparse=True)) + "\n"


def latex(table: pd.DataFrame) -> str:
    """A tabular of booktabs: numbers to the right, `--` where nothing is known."""
    numbers = [pd.api.types.is_numeric_dtype(kind) for kind in table.dtypes]
    columns = "".join("r" if number else "l" for number in numbers)
    lines = [_latex_line(table.columns), r"\midrule", *map(_latex_line, table.itertuples(index=False))]
    return "\n".join([rf"\begin{{tabular}}{{{columns}}}", r"\toprule", *lines, r"\bottomrule", r"\end{tabular}", ""])


def _latex_line(cells: object) -> str:
    return " & ".join(map(_latex_cell, cells)) + r" \\"  # type: ignore[call-overload]


def _latex_cell(value: object) -> str:
    return "--" if pd.isna(value) else escaped(str(value))  # type: ignore[call-overload]


def escaped(text: str) -> str:
    """As LaTeX sets it, arrows as arrows."""
    return "".join(ESCAPES.get(letter, letter) for letter in text.replace("->", "→")).replace("→", r"$\to$")


FORMATS: dict[str, Callable[[pd.DataFrame], str]] = {"csv": csv, "markdown": markdown, "latex": latex}
