"""Sentence of a caption on whether the order of a study's trainings was measured to be that of longer ones."""

from __future__ import annotations

from typing import Any

from hiri_search.stats.order_verdict import OrderVerdict
from hiri_search.stats.rank_correlation import BAND_LEVEL
from hiri_search.study.calibration.proxy import measured_keys
from hiri_search.study.config.calibration import CalibrationNote
from hiri_search.study.config.identity import differences
from hiri_search.study.config.schema import StudyConfig

_MEANINGS = {
    OrderVerdict.PASSES: "The order of networks of like cost may be believed that far.",
    OrderVerdict.WEAK: "The order of networks of like cost is better than chance, and no more.",
    OrderVerdict.FAILS: "The order of networks of like cost is not to be believed.",
    OrderVerdict.TOO_FEW: "The order of networks of like cost is not to be believed.",
}


def calibration_sentence(study: StudyConfig) -> str:
    """Say what is known of the order of networks that trainings with these settings give."""
    if (note := study.calibration) is None:
        return "These settings were not calibrated: it is not known whether longer trainings give the same order."
    departures = _departures(study, note)
    measured = (
        f"Calibrated as {note.setting} on {note.data} ({note.date}): tau beyond cost with {note.reference} is"
        f" {note.tau_beyond_cost:.2f} ({BAND_LEVEL:.0%} interval {note.low:.2f} to {note.high:.2f};"
        f" {note.pairs} pairs of {note.networks} networks): {note.verdict}."
    )
    if departures:
        return f"{measured} But the settings of this study are other ones: {'; '.join(departures)}."
    return f"{measured} {_MEANINGS[note.verdict]}"


def _departures(study: StudyConfig, note: CalibrationNote) -> list[str]:
    """Return the settings of a study that are not those that were measured; more seeds are no departure."""
    own, measured = measured_keys(study), dict(note.measured)
    more_seeds = len(study.first_seeds) >= len(measured["seeds"])
    plain: Any = {"seeds": measured["seeds"]} if more_seeds else {}
    changed = differences(measured, own | plain)
    return changed + ([f"data.source: {note.data} -> {study.data.source}"] if study.data.source != note.data else [])
