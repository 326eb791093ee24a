r"""Tables as CSV, Markdown and LaTeX text, and the one place where names and other texts are escaped for each format.

CSV is for programs: every text stands there as it is, also one that begins with `=`, which a spreadsheet would compute
(import the columns as text). Markdown keeps every text but control characters, which are shown as escapes (`\x1b`);
LaTeX prints them so, too.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from csv import QUOTE_MINIMAL, QUOTE_NONNUMERIC

import pandas as pd

from hiri_search.system.text import printable

# Characters with a meaning in LaTeX.
LATEX = {
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"|": r"\textbar{}", "<": r"\textless{}", ">": r"\textgreater{}", "->": r"$\to$", "→": r"$\to$"},
    **{"`": "{`}", '"': "''{}", "'": "'{}", "-": "-{}"},
    **{letter: "\\" + letter for letter in "&%$#_{}"},
}
# Two hyphens or quotes would become another character.
_LATEX = re.compile(r"->|-(?=-)|'(?=['\"])|[\\~^|<>→`\"&%$#_{}]")
_LATEX_OPTION = re.compile(r"^\s*[*\[]")  # at the beginning of a row it would belong to the line break before it

# Characters with a meaning in Markdown, where they stand: an underscore inside a word and the * of `hr(8)*2` have none.
_MARKDOWN = re.compile(r"[\\`\[<|~$#]|&(?=#?\w+;)|(?<![^\W_])_|_(?![^\W_])|(?<!\))\*|\*(?!\d)")
_SPACE = r"[ \xa0\u1680\u2000-\u200a\u202f\u205f\u3000]"
_LOST_SPACE = re.compile(rf"^{_SPACE}+|{_SPACE}+$|  +|[\t\r]")  # readers drop it
LINE_BREAK = "<br>"


def csv(table: pd.DataFrame) -> str:
    """Return CSV with all digits; missing values are empty."""
    text = table.to_csv(index=False, quoting=QUOTE_MINIMAL)
    # Python does not quote a carriage return, which readers take for the end of a line.
    return table.to_csv(index=False, quoting=QUOTE_NONNUMERIC) if "\r" in text else text


def size_text(size: float | str) -> str:
    """Return the size of images as it is shown: a side, `224`, or width x height, `1600x1200`."""
    return size if isinstance(size, str) else f"{size:.0f}"


def markdown(table: pd.DataFrame) -> str:
    """Return Markdown with all digits; missing values are `-`."""
    cells = table.astype(object).where(table.notna(), "-")
    escaped = cells.map(lambda cell: markdown_text(cell) if isinstance(cell, str) else cell)
    named = escaped.set_axis([markdown_text(str(name)) for name in table], axis="columns")
    return str(named.to_markdown(index=False, disable_numparse=True)) + "\n"


def markdown_text(text: str) -> str:
    """Return a text escaped for Markdown, on one line: in a cell of a table, a heading or a paragraph."""
    lines = (_MARKDOWN.sub(r"\\\g<0>", line) for line in text.split("\n"))
    spaced = (_LOST_SPACE.sub(lambda match: "".join(f"&#{ord(space)};" for space in match[0]), line) for line in lines)
    return LINE_BREAK.join(map(printable, spaced))


def latex(table: pd.DataFrame) -> str:
    """Return a booktabs tabular: numbers aligned to the right, missing values as `--`."""
    columns = "".join("r" if pd.api.types.is_numeric_dtype(dtype) else "l" for dtype in table.dtypes)
    lines = [_latex_line(table.columns), r"\midrule", *map(_latex_line, table.itertuples(index=False))]
    return "\n".join([rf"\begin{{tabular}}{{{columns}}}", r"\toprule", *lines, r"\bottomrule", r"\end{tabular}", ""])


def _latex_line(cells: object) -> str:
    return " & ".join(map(_latex_cell, cells)) + r" \\"  # type: ignore[call-overload]


def _latex_cell(value: object) -> str:
    return "--" if pd.isna(value) else latex_text(str(value))  # type: ignore[call-overload]


def latex_text(text: str) -> str:
    """Return a text escaped for LaTeX, with arrows as arrow symbols."""
    escaped = _LATEX.sub(lambda match: LATEX[match[0]], printable(text))
    return _LATEX_OPTION.sub(r"{\g<0>}", escaped)


FORMATS: dict[str, Callable[[pd.DataFrame], str]] = {"csv": csv, "markdown": markdown, "latex": latex}
