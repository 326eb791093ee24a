"""manifest.json: how a results folder was made, derived from its ledger."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hiri_search.study.config.schema import StudyConfig
from hiri_search.study.errors import StudyError
from hiri_search.study.ledger.events import (
    AnyEvent,
    EpochEnded,
    Event,
    FolderMerged,
    NetworkCounted,
    Planned,
    RunEnded,
    StudyStarted,
    TrialAsked,
    TrialBegan,
    TrialFinished,
)
from hiri_search.study.ledger.layout import LEDGER
from hiri_search.study.ledger.ledger import LedgerContent, ledger_sum, of_kind, study_event, trials
from hiri_search.study.ledger.trial import Trial, network_row
from hiri_search.study.ledger.values import JsonObject, to_json
from hiri_search.system.files import atomic_write
from hiri_search.system.text import storable
from hiri_search.system.units import HOUR

MANIFEST = "manifest.json"
RUN_FIELDS = ("command", "code", "versions", "device", "machine", "profile", "images")
NETWORK_FIELDS = ("name", "key", "spec", "side", "params", "macs", "core_macs")
STAND_IN_FIELDS = ("trained_spec", "trained_side", "trained_params", "trained_macs")
ON_CPU = "CPU"  # start of the device name of a CPU
ABSENT = "(absent)"


def write_manifest(ledger: LedgerContent) -> Path:
    """Write the manifest of a results folder; return its path."""
    path = ledger.folder / MANIFEST
    with atomic_write(path) as file:
        file.write(json.dumps(storable(manifest(ledger)), indent=2, ensure_ascii=False).encode() + b"\n")
    return path


def manifest(ledger: LedgerContent) -> dict[str, Any]:
    """Return the manifest that follows from a ledger, as plain values. StudyError where the ledger is empty."""
    events = ledger.events
    started, all_trials = study_event(events, ledger.folder), trials(events)
    merged = {e.folder: _without(to_json(e), "event", "folder", "time") for e in of_kind(events, FolderMerged)}
    study = StudyConfig.model_validate(started.file)
    return {
        "title": study.title,
        "ledger": to_json(ledger.sum),
        "study": started.file,
        "seeds": sorted({trial.asked.seed for trial in all_trials}),
        "data": {"source": study.data.source, **to_json(started.images), "skipped": len(started.images.skipped)},
        "trials": dict(sorted(Counter(trial.state for trial in all_trials).items())),
        "spent": seconds_spent(events, all_trials),
        "networks": _networks(events),
        "runs": runs(events),
        **({"weights": started.weights} if started.weights else {}),
        **({"weights_adapted": started.adapted} if started.adapted else {}),
        **({"merged_from": merged} if merged else {}),
    }


def runs(events: Iterable[AnyEvent]) -> list[JsonObject]:
    """Return each run of a study: its environment, when it began, how long its events span, and whether it ended."""
    own = [event for event in events if not isinstance(event, Planned)]  # a plan does not belong to a run
    starts = [index for index, event in enumerate(own) if isinstance(event, StudyStarted)]
    return [_run(own[start:end]) for start, end in zip(starts, [*starts[1:], None], strict=True)]


def _run(events: Sequence[AnyEvent]) -> JsonObject:
    """Describe one run, with the trainings that it finishes in an hour.

    The time of its last event is all that is known of the end of a run that was killed.
    """
    started, times = to_json(events[0]), [event.time for event in events if event.time is not None]
    span: JsonObject = {}
    if times:
        span["began"] = datetime.fromtimestamp(times[0], UTC).isoformat(timespec="seconds")
        span["wall_seconds"] = seconds = round(max(times) - times[0], 3)
        finished = sum(isinstance(event, TrialFinished) and not event.source for event in events)
        span["trainings_per_hour"] = round(finished * HOUR / seconds, 3) if seconds else None
    ended = any(isinstance(event, RunEnded) for event in events)
    return {**span, "ended": ended, **{name: started[name] for name in RUN_FIELDS}}


def seconds_spent(events: Iterable[Event], all_trials: Iterable[Trial]) -> dict[str, Any]:
    """Return trial-seconds by device, including epochs that were trained twice, and joules where they were measured.

    Trials that share a GPU each count their own seconds, and all of the GPU's joules.
    """
    devices, seconds = {trial.number: trial.device for trial in all_trials}, defaultdict[str, float](float)
    joules: list[float] = []
    for event in events:
        if isinstance(event, TrialBegan):
            devices[event.trial] = event.device
        elif isinstance(event, EpochEnded):
            seconds[devices[event.trial]] += event.result.seconds
            joules += [event.result.joules] if event.result.joules is not None else []
    on_gpu = sum(value for device, value in seconds.items() if device and not device.startswith(ON_CPU))
    return {
        "trial_seconds": {device or "unknown": round(value, 3) for device, value in sorted(seconds.items())},
        "gpu_trial_seconds": round(on_gpu, 3),
        "joules": round(sum(joules), 3) if joules else None,
    }


def _networks(events: Iterable[Event]) -> list[dict[str, Any]]:
    """Return each network once, with its stand-in."""
    rows = (network_row(event.network) for event in events if isinstance(event, NetworkCounted | TrialAsked))
    facts = [{name: row.get(name) for name in (*NETWORK_FIELDS, *STAND_IN_FIELDS)} for row in rows]
    return list({tuple(network.values()): network for network in facts}.values())


def _without(facts: JsonObject, *names: str) -> JsonObject:
    return {name: value for name, value in facts.items() if name not in names}


def check_unchanged(ledger: LedgerContent) -> None:
    """StudyError where the ledger was changed after its manifest was written; added events are no change."""
    try:
        written = json.loads((ledger.folder / MANIFEST).read_text(encoding="utf-8"))["ledger"]
        lines, sha256 = int(written["lines"]), str(written["sha256"])
    except (OSError, ValueError, TypeError, LookupError):
        return  # no manifest to compare with; `verify` says so
    if ledger_sum(ledger.lines[:lines]).sha256 != sha256:
        way_out = f"`hiri-search verify {ledger.folder}` says more; restore the file from a copy"
        raise StudyError(f"{ledger.folder / LEDGER} was changed after {MANIFEST} was written; {way_out}")


def manifest_faults(ledger: LedgerContent) -> Iterator[str]:
    """Yield each difference between the manifest on disk and the one that follows from the ledger."""
    try:
        written = json.loads((ledger.folder / MANIFEST).read_text(encoding="utf-8"))
    except OSError:
        yield f"there is none; `hiri-search report {ledger.folder}` makes it"
        return
    except ValueError as error:
        yield f"it is no JSON: {error}"
        return
    yield from _differences("", json.loads(json.dumps(manifest(ledger))), written)


def _differences(name: str, expected: Any, written: Any) -> Iterator[str]:
    """Yield lines such as `runs.0.command is ..., and ... by the ledger`."""
    if isinstance(expected, list) and isinstance(written, list):
        expected, written = ({str(n): item for n, item in enumerate(items)} for items in (expected, written))
    if isinstance(expected, dict) and isinstance(written, dict):
        for key in dict.fromkeys([*expected, *written]):
            pair = (side.get(key, ABSENT) for side in (expected, written))
            yield from _differences(f"{name}.{key}".lstrip("."), *pair)
    elif expected != written:
        yield f"{name} is {written!r} there, and {expected!r} by the ledger"
