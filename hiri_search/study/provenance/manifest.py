"""manifest.json: how a results folder was made, derived from its ledger."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hiri_search.study.ledger.checksums import RunningChecksum
from hiri_search.study.ledger.events import MERGED, RUN_ENDED, TIME, Event
from hiri_search.study.ledger.ledger import read_events, read_lines, study_event, trials
from hiri_search.study.ledger.trial import Trial
from hiri_search.system.files import atomic_write

MANIFEST = "manifest.json"
RUN_FIELDS = ("command", "code", "versions", "device", "machine", "profile", "images")
NETWORK_FIELDS = ("name", "key", "spec", "side", "params", "macs", "core_macs")
STAND_IN_FIELDS = ("trained_spec", "trained_side", "trained_params", "trained_macs")
ON_CPU = "CPU"  # how the name of a device begins that is no GPU


def write_manifest(folder: Path) -> Path:
    """Make it anew; where it lies."""
    path = folder / MANIFEST
    with atomic_write(path) as file:
        file.write(manifest_text(folder).encode())
    return path


def manifest_text(folder: Path) -> str:
    """What it should say by the ledger. StudyError where that cannot be read, or is empty."""
    return json.dumps(manifest(folder), indent=2, ensure_ascii=False) + "\n"


def manifest(folder: Path) -> dict[str, Any]:
    """In plain values; facts that ledgers of an earlier version do not tell are left out."""
    events = read_events(folder, timed=True)
    about, known = study_event(events, folder), trials(events)
    merged = {event["folder"]: _without(event, "event", "folder") for event in events if event["event"] == MERGED}
    return {
        "title": about["title"],
        "ledger": anchor(folder),
        "study": about["file"],
        "seeds": sorted({trial.asked["seed"] for trial in known}),
        "data": {"source": about["file"]["data"]["source"], **_without(about["images"], "skipped")},
        "trials": dict(sorted(Counter(trial.state for trial in known).items())),
        "spent": seconds_spent(events, known),
        "networks": list(_networks(events)),
        "runs": runs(events),
        **({"merged_from": merged} if merged else {}),
    }


def anchor(folder: Path) -> dict[str, Any]:
    """What a ledger is known again by: how many lines, and the sum of them all."""
    lines, sums = read_lines(folder), RunningChecksum()
    for line in lines:
        sums.added(line)
    return {"lines": len(lines), "sum": sums.last}


def runs(events: Sequence[Event]) -> list[dict[str, Any]]:
    """Each run of a study: what it was made by, when it began, how long it was seen to live, and whether it ended."""
    return [_run(*of_one) for of_one in _by_run(events)]


def _by_run(events: Iterable[Event]) -> Iterator[list[Event]]:
    """The events of each run; those of a plan before any are left out."""
    of_one: list[Event] = []
    for event in events:
        if event["event"] == "study" and of_one:
            yield of_one
            of_one = []
        if of_one or event["event"] == "study":
            of_one.append(event)
    if of_one:
        yield of_one


def _run(begun: Event, *rest: Event) -> dict[str, Any]:
    """The last of its lines tells how long it lived: one that was killed wrote nothing behind."""
    own = [event for event in rest if event["event"] != "planned"]
    times = [event[TIME] for event in (begun, *own) if TIME in event]
    return {
        **({"began": datetime.fromtimestamp(times[0], UTC).isoformat(timespec="seconds")} if times else {}),
        **({"wall_seconds": round(max(times) - times[0], 3)} if times else {}),
        "ended": any(event["event"] == RUN_ENDED for event in own),
        **{name: begun[name] for name in RUN_FIELDS if name in begun},
    }


def seconds_spent(events: Iterable[Event], known: Iterable[Trial]) -> dict[str, Any]:
    """What training took: trial-seconds by device, of epochs that were trained twice as well; joules where told.

    Trials that share a card each count their own seconds, and all of the card's joules.
    """
    devices, numbers = {trial.number: trial.device for trial in known}, defaultdict[str, float](float)
    told: list[float] = []
    for event in events:
        if event["event"] == "began":
            devices[event["trial"]] = event["device"]
        elif event["event"] == "epoch":
            numbers[devices[event["trial"]]] += event.get("seconds", 0.0)
            told += [event["joules"]] if event.get("joules") is not None else []
    on_gpu = sum(seconds for device, seconds in numbers.items() if device and not device.startswith(ON_CPU))
    by_device = {device or "unknown": round(seconds, 3) for device, seconds in sorted(numbers.items())}
    return {
        "trial_seconds": by_device,
        "gpu_trial_seconds": round(on_gpu, 3),
        "joules": round(sum(told), 3) if told else None,
    }


def _networks(events: Iterable[Event]) -> Iterator[dict[str, Any]]:
    """Each network once: as it is counted, and what is trained for it."""
    seen: set[tuple[Any, ...]] = set()
    for event in events:
        if event["event"] not in ("counted", "asked"):
            continue
        facts = {name: event.get(name) for name in (*NETWORK_FIELDS, *STAND_IN_FIELDS)}
        known = tuple(facts.values())
        if known not in seen:
            seen.add(known)
            yield facts


def _without(facts: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if name not in (*names, TIME)}


def manifest_faults(folder: Path) -> Iterator[str]:
    """Where the manifest that lies there is another than the ledger's."""
    try:
        found = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except OSError:
        yield f"there is none; `hiri-search report {folder}` makes it"
        return
    except ValueError as error:
        yield f"it is no JSON: {error}"
        return
    wanted = json.loads(manifest_text(folder))
    yield from _differences("", wanted, found)


def _differences(name: str, wanted: Any, found: Any) -> Iterator[str]:
    """`runs.0.command`: what is there, and what it is by the ledger."""
    if isinstance(wanted, list) and isinstance(found, list):
        wanted, found = ({str(n): one for n, one in enumerate(many)} for many in (wanted, found))
    if isinstance(wanted, dict) and isinstance(found, dict):
        for key in dict.fromkeys([*wanted, *found]):
            pair = (one.get(key, ABSENT) for one in (wanted, found))
            yield from _differences(f"{name}.{key}".lstrip("."), *pair)
    elif wanted != found:
        yield f"{name} is {found!r} there, and {wanted!r} by the ledger"


ABSENT = "(absent)"
