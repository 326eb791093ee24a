"""calibration.json: the networks that a calibration has drawn, and the results folders of its settings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hiri_search.study.calibration.draw import CostBand, draw, drawn_from
from hiri_search.study.config.read import Calibration
from hiri_search.study.errors import StudyError
from hiri_search.study.ledger.layout import CALIBRATION
from hiri_search.study.ledger.values import JsonObject, from_json, to_json
from hiri_search.system.files import Say, atomic_write


@dataclass(frozen=True)
class CalibrationRecord:
    """The networks and the settings of a calibration; each setting has a results folder of its name beside the file."""

    title: str
    settings: tuple[str, ...]  # the reference is the last one
    bands: tuple[CostBand, ...] = ()  # empty: the networks are the rows of an ablation
    drawn_from: JsonObject | None = None  # what the draw depends on

    @property
    def drawn(self) -> dict[str, str]:
        """The spec of each drawn network by name, cheapest band first."""
        return {name: spec for band in self.bands for name, spec in band.networks.items()}


def read_calibration(folder: Path) -> CalibrationRecord:
    """Read the record of a calibration. StudyError where it cannot be read."""
    path = folder / CALIBRATION
    try:
        return from_json(CalibrationRecord, json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise StudyError(
            f"{path} cannot be read: {str(error).partition(chr(10))[0]}; restore it from a copy"
        ) from error


def record_of(calibration: Calibration, folder: Path, say: Say) -> CalibrationRecord:
    """Return the record of a calibration in a results folder; networks that were drawn there are not drawn again.

    StudyError where the folder has networks of another draw, or where the draw is not possible.
    """
    study, begun = calibration.study, (folder / CALIBRATION).is_file()
    old = read_calibration(folder) if begun else None
    if study.space is None:
        return CalibrationRecord(study.title, calibration.settings)
    question = to_json(drawn_from(study))
    if old is not None and old.drawn_from != question:
        changed = [name for name, value in question.items() if (old.drawn_from or {}).get(name) != value]
        problem = f"the networks of {folder} were drawn with other values of {', '.join(changed)}"
        raise StudyError(f"{problem}; undo the change, or give another folder with --results")
    bands = old.bands if old is not None else draw(study, say)
    return CalibrationRecord(study.title, calibration.settings, bands, question)


def write_record(record: CalibrationRecord, folder: Path) -> None:
    """Write the record into the folder of a calibration."""
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / CALIBRATION) as file:
        file.write(json.dumps(to_json(record), indent=2, ensure_ascii=False).encode() + b"\n")


def record_lines(record: CalibrationRecord) -> Iterator[str]:
    """Yield the drawn networks as text, by band."""
    for number, band in enumerate(record.bands, 1):
        yield f"band {number}: {band}"
        yield from (f"  {name}  {spec}" for name, spec in band.networks.items())
    yield f"settings: {', '.join(record.settings)}"
