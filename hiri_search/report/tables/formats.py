"""Tables as CSV, Markdown and LaTeX text."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

# Characters with a meaning in LaTeX.
ESCAPES = {
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"|": r"\textbar{}", "<": r"\textless{}", ">": r"\textgreater{}"},
    **{letter: "\\" + letter for letter in "&%$#_{}"},
}


def csv(table: pd.DataFrame) -> str:
    """Return CSV with all digits; missing values are empty."""
    return table.to_csv(index=False)


def markdown(table: pd.DataFrame) -> str:
    """Return Markdown with all digits; missing values are `-`."""
    cells = table.astype(object).where(table.notna(), "-")
    return str(cells.to_markdown(index=False, disable_numparse=True)) + "\n"


def latex(table: pd.DataFrame) -> str:
    """Return a booktabs tabular: numbers aligned to the right, missing values as `--`."""
    columns = "".join("r" if pd.api.types.is_numeric_dtype(dtype) else "l" for dtype in table.dtypes)
    lines = [_latex_line(table.columns), r"\midrule", *map(_latex_line, table.itertuples(index=False))]
    return "\n".join([rf"\begin{{tabular}}{{{columns}}}", r"\toprule", *lines, r"\bottomrule", r"\end{tabular}", ""])


def _latex_line(cells: object) -> str:
    return " & ".join(map(_latex_cell, cells)) + r" \\"  # type: ignore[call-overload]


def _latex_cell(value: object) -> str:
    return "--" if pd.isna(value) else escaped(str(value))  # type: ignore[call-overload]


def escaped(text: str) -> str:
    """Return `text` escaped for LaTeX, with arrows as arrow symbols."""
    return "".join(ESCAPES.get(letter, letter) for letter in text.replace("->", "→")).replace("→", r"$\to$")


FORMATS: dict[str, Callable[[pd.DataFrame], str]] = {"csv": csv, "markdown": markdown, "latex": latex}
