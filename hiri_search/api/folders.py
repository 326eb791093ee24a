"""Results folders: read for the report, and their report written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hiri_search.study.errors import StudyError

if TYPE_CHECKING:
    from hiri_search.report.calibration.scores import CalibrationResults
    from hiri_search.report.tables.results import Results
    from hiri_search.study.config.schema import StudyConfig
    from hiri_search.study.ledger.ledger import LedgerContent
    from hiri_search.study.ledger.trial import Trial


def read_results(folder: Path) -> Results:
    """Read a results folder. StudyError where its ledger cannot be read."""
    from hiri_search.study.ledger.ledger import read_ledger

    return results_of(read_ledger(folder))


def results_of(ledger: LedgerContent) -> Results:
    """Return the results that the report needs from a ledger."""
    from hiri_search.report.tables.results import Results, at_best_settings
    from hiri_search.study.config.networks import has_row, in_row_order
    from hiri_search.study.config.schema import StudyConfig
    from hiri_search.study.ledger.events import InferenceTimed, NetworkCounted
    from hiri_search.study.ledger.ledger import of_kind, study_event, trials
    from hiri_search.study.ledger.trial import network_row
    from hiri_search.study.persistence.checkpoints import without_removed
    from hiri_search.study.plan.plan import compared_with_run, last_plan
    from hiri_search.study.search.comparison_design import comparison_design
    from hiri_search.training.score import score_columns

    folder, events = ledger.folder, ledger.events
    started = study_event(events, folder)
    study = StudyConfig.model_validate(started.file)
    all_trials = [trial for trial in trials(events) if has_row(study, trial.network)]
    counted = in_row_order(study, (event.network for event in of_kind(events, NetworkCounted)))
    sides = {(network.key, network.side) for network in counted}
    columns = score_columns(study.scores, test=started.images.test > 0)
    times = [event.time for event in events if event.time is not None]
    results = Results(
        study,
        started,
        without_removed(folder, [trial.row(columns) for trial in all_trials]),
        [network_row(network) for network in counted],
        timed=[event for event in of_kind(events, InferenceTimed) if (event.key, event.side) in sides],
        planned=compared_with_run(plan, events) if (plan := last_plan(events)) else [],
        times=(times[0], times[-1]) if times else None,
        folder=folder,
        **(_search_results(study, all_trials) if study.space else {"stated": comparison_design(study, events)}),
    )
    return at_best_settings(results)


def _search_results(study: StudyConfig, all_trials: list[Trial]) -> dict[str, Any]:
    from hiri_search.study.search.importance import importances
    from hiri_search.study.search.objectives import losses, objectives_of

    first = [trial for trial in all_trials if not trial.is_confirmation]
    finished = [[trial] for trial in first if trial.state == "finished"]
    means = [values for trial in finished if (values := losses(trial, objectives_of(study)))]
    decisions = {trial.number: trial.asked.decisions for trial in first}
    return {"losses": means, "decisions": decisions, "importances": importances(study, first)}


def is_calibration(folder: Path) -> bool:
    """Return whether a folder holds the results folders of a calibration, not of one study."""
    from hiri_search.study.ledger.layout import CALIBRATION

    return (folder / CALIBRATION).is_file()


def read_calibration_results(folder: Path) -> CalibrationResults | None:
    """Read a calibration and the ledgers of its settings; None where the reference has not begun.

    StudyError where a file or a ledger of it cannot be read.
    """
    from hiri_search.report.calibration.scores import calibration_results
    from hiri_search.study.calibration.record import read_calibration
    from hiri_search.study.calibration.zero_cost import read_zero_cost
    from hiri_search.study.ledger.layout import LEDGER
    from hiri_search.study.ledger.ledger import last_start, read_ledger

    record = read_calibration(folder)
    ledgers = {name: read_ledger(folder / name) for name in record.settings if (folder / name / LEDGER).is_file()}
    results = {name: results_of(ledger) for name, ledger in ledgers.items() if last_start(ledger.events)}
    return calibration_results(record, results, read_zero_cost(folder))


def write_calibration_report(folder: Path, say: Callable[[str], None], *, figures: bool = True) -> bool:
    """Write the report of a calibration, once the reference has begun; return whether everything was written."""
    from hiri_search.report.calibration.write import write_calibration

    if (results := read_calibration_results(folder)) is None:
        say("the report follows when the reference has begun")
        return True
    written = write_calibration(results, folder / "report", figures=figures)
    for path in written.paths:
        say(f"wrote {path}")
    for why, paths in written.reasons.items():
        say(f"{', '.join(map(str, paths))} not written: {why}")
    return not written.failures


def write_report(folder: Path, say: Callable[[str], None]) -> tuple[Results, bool]:
    """Write the report and the manifest of a results folder, from one reading of its ledger.

    Return the results, and whether everything was written: a file that fails is said, and the others are written.
    StudyError where nothing can be written there, or the disk is full.
    """
    from hiri_search.report.write import write_all
    from hiri_search.study.ledger.ledger import read_ledger
    from hiri_search.study.provenance.manifest import MANIFEST, write_manifest

    results = results_of(ledger := read_ledger(folder))
    written = write_all(results, folder / "report")
    no_place = not written.paths
    with written.file(folder / MANIFEST):
        written.paths.append(write_manifest(ledger))
    for path in written.paths:
        say(f"wrote {path}")
    failures = [f"{', '.join(map(str, paths))} not written: {why}" for why, paths in written.reasons.items()]
    if no_place or written.disk_full:
        raise StudyError("\n".join(failures) + f"\nmake room, or give a copy of {folder} that can be written")
    for failure in failures:
        say(failure)
    return results, not failures
