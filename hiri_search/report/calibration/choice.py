"""The setting that a calibration chooses, and its proxy file."""

from __future__ import annotations

from datetime import UTC, datetime

import pandas as pd

from hiri_search.report.calibration.scores import CalibrationResults, SettingScores
from hiri_search.report.calibration.table import SETTING, calibration_table
from hiri_search.stats.order_verdict import OrderVerdict
from hiri_search.study.calibration.proxy import proxy_file
from hiri_search.study.config.sections.calibration import CalibrationNote

AGREES = 0.5  # signal / noise; below it a fifth or less of the variance between single trainings is of the networks


def chosen_line(table: pd.DataFrame) -> pd.Series | None:
    """Return the cheapest line of a setting that passes the bar, or else the weak one with the largest tau beyond cost.

    Of lines that pass, one whose own seeds hardly agree is chosen only where all are such: it cannot repeat the order
    of the reference but by luck. None where no setting is at least weak.
    """
    settings = table[table["kind"] == SETTING]
    passing, weak = (settings[settings["verdict"] == verdict] for verdict in (OrderVerdict.PASSES, OrderVerdict.WEAK))
    if len(passing):
        by_luck = passing["signal_to_noise"].astype(float) < AGREES
        return passing.assign(by_luck=by_luck).sort_values(["by_luck", "hours"], kind="stable").iloc[0]
    return weak.sort_values("tau_beyond_cost", ascending=False, kind="stable").iloc[0] if len(weak) else None


def chosen_proxy(results: CalibrationResults) -> str | None:
    """Return the text of the proxy file of the chosen setting; None where none is chosen."""
    if (line := chosen_line(calibration_table(results))) is None:
        return None
    setting, reference = (next(each for each in results.settings if each.name == line["setting"]), results.reference)
    study = setting.results.study
    note = CalibrationNote(
        setting=setting.name,
        reference=reference.description,
        data=study.data.source,
        verdict=OrderVerdict(line["verdict"]),
        tau_beyond_cost=round(float(line["tau_beyond_cost"]), 3),
        low=round(float(line["beyond_low"]), 3),
        high=round(float(line["beyond_high"]), 3),
        pairs=int(line["pairs"]),
        networks=int(line["of_like_cost"]),
        hours=round(float(line["hours"]), 4),
        reference_hours=round(reference.hours(), 4),
        date=max(map(_last_day, (setting, reference))),
    )
    return proxy_file(study, int(line["seeds"]), note)


def _last_day(setting: SettingScores) -> str:
    times = setting.results.times
    return datetime.fromtimestamp(times[1], UTC).date().isoformat() if times else ""
