"""Files of the report of a calibration."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hiri_search.report.calibration.scores import CalibrationResults
from hiri_search.report.calibration.table import calibration_table
from hiri_search.report.calibration.text import calibration_text
from hiri_search.report.tables.formats import csv
from hiri_search.report.write import FileContent, Written, write_files

FILES: dict[str, Callable[[CalibrationResults], FileContent]] = {
    "calibration.csv": lambda results: csv(calibration_table(results)),
    "calibration.md": calibration_text,
}


def write_calibration(results: CalibrationResults, folder: Path) -> Written:
    """Write the tables of a calibration into `folder`."""
    return write_files(FILES, results, folder)
