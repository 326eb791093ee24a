"""A results folder read for the report, and the report written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hiri_search.report.tables.results import Results
    from hiri_search.study.ledger.events import Event
    from hiri_search.study.ledger.trial import Trial


def read_results(folder: Path) -> Results:
    from hiri_search.report.tables.results import Results
    from hiri_search.study.ledger.events import TIME
    from hiri_search.study.ledger.ledger import read_events, study_event, trials
    from hiri_search.study.persistence.checkpoints import without_removed

    events = read_events(folder, timed=True)
    times = [event.pop(TIME) for event in events if TIME in event]
    about, known = study_event(events, folder), trials(events)
    counted, timed = ([event for event in events if event["event"] == kind] for kind in ("counted", "timed"))
    return Results(
        about,
        without_removed(folder, [trial.row() for trial in known]),
        counted,
        timed=timed,
        planned=_planned(events),
        times=(times[0], times[-1]) if times else None,
        **(_searched(about, known) if about["file"].get("space") else {}),
    )


def _searched(about: Event, known: list[Trial]) -> dict[str, Any]:
    """What only a search has."""
    from hiri_search.study.config.networks import resolve
    from hiri_search.study.config.schema import Study
    from hiri_search.study.search.importance import chosen_options, importances
    from hiri_search.study.search.objectives import losses

    networks = resolve(study := Study.model_validate(about["file"]))
    first = [trial for trial in known if not trial.is_confirmation]
    finished = [[trial] for trial in first if trial.state == "finished"]
    found = [one for trial in finished if (one := losses(trial, study.search.objectives))]
    return {"losses": found, "decisions": chosen_options(networks, first), "importances": importances(networks, first)}


def _planned(events: list[Event]) -> list[tuple[str, float, float]]:
    from hiri_search.study.plan.plan import compared_with_run, last_plan

    plan = last_plan(events)
    return [(one.part, one.planned, one.took) for one in compared_with_run(plan, events)] if plan else []


def write_report(folder: Path, say: Callable[[str], None]) -> Counter[str]:
    """Write the report and the manifest; how many trials are in which state."""
    from hiri_search.report.write import write_all
    from hiri_search.study.provenance import manifest

    results = read_results(folder)
    for path in write_all(results, folder / "report"):
        say(f"wrote {path}")
    say(f"wrote {manifest.write_manifest(folder)}")
    return Counter(str(trial["state"]) for trial in results.trials)
