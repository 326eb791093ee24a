"""The results of a study as DataFrames, figures and a page."""

from __future__ import annotations

import sys
from collections import Counter
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from hiri_search.api.folders import is_calibration, read_results
from hiri_search.report.figures import drawings, image
from hiri_search.report.tables.networks import caption
from hiri_search.report.write import networks_name, study_page, study_tables
from hiri_search.study.errors import StudyError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from hiri_search.report.tables.results import Results

PAGE_HEIGHT = 800  # pixels, in a notebook


def load_results(folder: str | Path) -> StudyResults:
    """Read the results folder of a study, at any time during the run or later. No code of the study is executed.

    StudyError where the folder has no ledger, or holds the folders of a calibration.
    """
    folder = Path(folder)
    if is_calibration(folder):
        raise StudyError(f"{folder} is a calibration; load one of its settings, such as {folder}/reference")
    return StudyResults(folder, read_results(folder))


class StudyResults:
    """The results of a study, as its ledger had them when they were read."""

    def __init__(self, folder: Path, results: Results) -> None:
        self.folder, self._results = folder, results

    def __repr__(self) -> str:
        states = Counter(str(row["state"]) for row in self._results.all_trials)
        trials = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
        return f"<StudyResults {self.folder}: {trials or 'no trials'}>"

    def _repr_html_(self) -> str:
        """Return the table of networks with its caption, for a notebook."""
        return f"<p>{escape(caption(self._results))}</p>{self.networks.to_html(index=False)}"

    @property
    def complete(self) -> bool:
        """True if every trial that has begun has finished, or was stopped by successive halving."""
        return all(row["state"] in ("finished", "stopped") for row in self._results.all_trials)

    @property
    def trials(self) -> pd.DataFrame:
        """Every trial: the content of trials.csv. `table("dictionary")` explains the columns."""
        return self.table("trials")

    @property
    def networks(self) -> pd.DataFrame:
        """The networks with their costs and scores, next to the rows of the paper's table if the study names one."""
        return self.table(networks_name(self._results))

    @property
    def tables(self) -> tuple[str, ...]:
        """Names of the tables."""
        return tuple(study_tables(self._results))

    def table(self, name: str) -> pd.DataFrame:
        """Return a table: the content of report/NAME.csv, such as table8, comparisons, trials or confirmed."""
        if name not in (made := study_tables(self._results)):
            raise StudyError(f"there is no table {name!r} of this study; its tables are {', '.join(made)}")
        return made[name](self._results).copy()  # the report keeps some of its tables

    @property
    def figures(self) -> tuple[str, ...]:
        """Names of the figures."""
        return tuple(drawings(self._results))

    def figure(self, name: str) -> Figure:
        """Draw a figure: that of report/NAME.png, such as pareto or figure6."""
        if name not in (made := drawings(self._results)):
            raise StudyError(f"there is no figure {name!r} of this study; its figures are {', '.join(made)}")
        _let_notebooks_show_figures()
        return made[name](self._results)

    def pareto(self) -> Figure:
        """Draw accuracy against cost, with the front of the networks that no other one dominates."""
        return self.figure("pareto")

    def page(self) -> Page:
        """Return the page of the study; a notebook shows it."""
        return Page(study_page(self._results))


def _let_notebooks_show_figures() -> None:
    """Let IPython show figures as it shows those of pyplot, unless it does already: ours are made without pyplot."""
    from matplotlib.figure import Figure

    if "IPython" in sys.modules and (shell := sys.modules["IPython"].get_ipython()) is not None:
        formatter = shell.display_formatter.formatters["image/png"]
        if Figure not in formatter.type_printers:
            formatter.for_type(Figure, lambda figure: image(figure, ".png"))


class Page:
    """The page of a study: one HTML file that needs no network."""

    def __init__(self, html: str) -> None:
        self.html = html

    def __repr__(self) -> str:
        return f"<Page of {len(self.html):,} characters; a notebook shows it, and save(FILE) writes it>"

    def _repr_html_(self) -> str:
        frame = f"width: 100%; height: {PAGE_HEIGHT}px; border: 0"
        return f'<iframe style="{frame}" srcdoc="{escape(self.html)}"></iframe>'

    def save(self, file: str | Path) -> Path:
        """Write the page to a file, and return its path."""
        path = Path(file)
        path.write_text(self.html, encoding="utf-8", errors="backslashreplace")
        return path
