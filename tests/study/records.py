"""Short constructors of ledger records for tests."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from hiri_search.study.config.schema import StudyConfig
from hiri_search.study.ledger.events import FORMAT, Event, LedgerStarted, StudyStarted, TrialAsked
from hiri_search.study.ledger.json_lines import write_line
from hiri_search.study.ledger.layout import LEDGER
from hiri_search.study.ledger.trial import Trial
from hiri_search.study.ledger.values import CodeVersion, ImageSet, NetworkFacts, StandIn
from hiri_search.training.job import Epoch

SPEC = "hrstem(hs=8) -> hr(8 e=4)"


def epoch(number: int = 1, top1: float = 50.0, *, more: dict[str, float] | None = None, **changes: Any) -> Epoch:
    """Return an epoch of a training on the CPU; `more` are scores beside top-1 and top-5."""
    plain = Epoch(
        number,
        loss=1.0,
        lr=0.1,
        scores={"top1": top1, "top5": min(100.0, top1 + 1), **(more or {})},
        seconds=1.0,
        images_per_second=100.0,
        seconds_waiting=0.0,
        parts=1,
        compile_seconds=None,
        peak_memory_bytes=None,
    )
    return replace(plain, **changes)


def network(name: str = "net", *, trained_macs: int = 1_000_000, **changes: Any) -> NetworkFacts:
    """Return a network with a stand-in."""
    plain = NetworkFacts(
        name,
        key=name,
        spec=SPEC,
        side=64,
        params=1_000,
        macs=2_000_000,
        core_macs=1_500_000,
        by_part={"stem": (10, 20)},
        stand_in=StandIn(SPEC, 32, 100, trained_macs),
    )
    return replace(plain, **changes)


def asked(trial: int = 0, net: NetworkFacts | None = None, *, seed: int = 0, **changes: Any) -> TrialAsked:
    """Return a new trial; without a checkpoint given, each trial is a training of its own."""
    net = net or network()
    plain = TrialAsked(trial=trial, network=net, seed=seed, checkpoint=f"checkpoints/{trial:016x}/last.pt")
    return replace(plain, **changes)


def study_started(study: StudyConfig | None = None, **changes: Any) -> StudyStarted:
    """Return the beginning of a run."""
    plain = StudyStarted(
        file=(study or StudyConfig.model_validate({"nets": {"net": SPEC}, "seeds": 1})).model_dump(mode="json"),
        profile="none",
        device="CPU, 2 cores",
        images=ImageSet(train=32, val=16, classes=4, fingerprints={"32": "images"}),
        code=CodeVersion(version=None, digest="0" * 16),
    )
    return replace(plain, **changes)


def new_trial(
    trial: int = 0,
    net: NetworkFacts | None = None,
    *,
    seed: int = 0,
    decisions: dict[str, int | str] | None = None,
    **changes: Any,
) -> Trial:
    """Return a trial in a given state."""
    return Trial(asked(trial, net, seed=seed, decisions=decisions or {}), **changes)


def append(folder: Path, *events: Event) -> None:
    """Append lines to a ledger without opening it."""
    with (folder / LEDGER).open("ab") as file:
        file.writelines(write_line(event) + b"\n" for event in events)


def write_ledger(folder: Path, events: Iterable[Event]) -> None:
    """Write a whole ledger: the format line and the lines of the events."""
    lines = (write_line(event) + b"\n" for event in (LedgerStarted(format=FORMAT), *events))
    (folder / LEDGER).write_bytes(b"".join(lines))
