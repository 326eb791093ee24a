"""Files of the report of a calibration."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from hiri_search.report.calibration.choice import chosen_proxy
from hiri_search.report.calibration.epochs import epoch_table
from hiri_search.report.calibration.figures import FIGURES, figure_file
from hiri_search.report.calibration.page import calibration_page
from hiri_search.report.calibration.scores import CalibrationResults
from hiri_search.report.calibration.table import calibration_table
from hiri_search.report.calibration.text import calibration_text
from hiri_search.report.figures import VECTOR
from hiri_search.report.tables.formats import csv
from hiri_search.report.write import PAGE, FileContent, Written, write_files

PROXY = "proxy.yaml"
TABLES: dict[str, Callable[[CalibrationResults], FileContent]] = {
    "calibration.csv": lambda results: csv(calibration_table(results)),
    "epochs.csv": lambda results: csv(epoch_table(results)),
    "calibration.md": calibration_text,
    PROXY: chosen_proxy,
}


def write_calibration(results: CalibrationResults, folder: Path, *, figures: bool = True) -> Written:
    """Write the report of a calibration into `folder`; without figures its tables and its proxy file alone.

    A proxy file of an earlier report is removed: what it says may hold no more.
    """
    (folder / PROXY).unlink(missing_ok=True)
    drawn = {f"{name}{suffix}": partial(figure_file, name, suffix) for name in FIGURES for suffix in (".png", VECTOR)}
    return write_files(TABLES | ({**drawn, PAGE: calibration_page} if figures else {}), results, folder)
