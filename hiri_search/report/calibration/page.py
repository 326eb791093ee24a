"""index.html of a calibration: one self-contained page without scripts."""

from __future__ import annotations

import html
from base64 import b64encode

import pandas as pd

from hiri_search.report.calibration.figures import FIGURES, figure_file
from hiri_search.report.calibration.scores import CalibrationResults
from hiri_search.report.calibration.text import caption_text, tables, verdict_text
from hiri_search.system.text import printable

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; font-size: 13px; margin: 1rem 0; display: block; overflow-x: auto }
th, td { padding: .3rem .6rem; border-bottom: 1px solid #ddd; text-align: left; vertical-align: top }
img { max-width: 100% } .verdict { font-size: 1.15rem; font-weight: 600 }
"""


def calibration_page(results: CalibrationResults) -> str:
    """Return the page: what is chosen, the tables and the figures."""
    title = _escaped(results.title or "Calibration")
    parts = [f"<h1>{title}</h1>", f'<p class="verdict">{_escaped(verdict_text(results))}</p>']
    parts += [f"<p>{_escaped(caption_text(results))}</p>"]
    parts += [f"<h2>{_escaped(heading)}</h2>{_table(table)}" for heading, table in tables(results).items()]
    parts += [_figure(name, figure_file(name, ".png", results)) for name in FIGURES]
    head = f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
    head += f"<title>{title}</title><style>{_STYLE}</style>"
    body = "\n".join(parts)
    return f"<!doctype html><html lang=en><head>{head}</head>\n<body>{body}</body></html>\n"


def _table(table: pd.DataFrame) -> str:
    cells = table.astype(object).where(table.notna(), "-")
    head = "".join(f"<th>{_escaped(name)}</th>" for name in table)
    rows = ("".join(f"<td>{_escaped(cell)}</td>" for cell in row) for row in cells.itertuples(index=False))
    return f"<table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"


def _figure(name: str, png: bytes) -> str:
    return f'<img alt="{_escaped(name)}" src="data:image/png;base64,{b64encode(png).decode()}">'


def _escaped(text: object) -> str:
    return html.escape(printable(str(text)))
