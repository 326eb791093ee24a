"""Continuing a results folder: what must be as it was when the folder was started."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from hiri_search.cost.latency.config import LatencyConfig
from hiri_search.cost.latency.torch_state import find_device
from hiri_search.study.config.identity import canonical_form, incompatible_changes, timing_machine
from hiri_search.study.config.networks import has_row
from hiri_search.study.config.schema import StudyConfig
from hiri_search.study.errors import StudyError
from hiri_search.study.ledger.events import StudyStarted, TrialAsked
from hiri_search.study.ledger.ledger import Ledger, LedgerContent, last_start, of_kind, read_lines
from hiri_search.study.ledger.values import JsonObject, changed_inputs, to_json
from hiri_search.study.provenance.environment import code
from hiri_search.study.provenance.manifest import check_unchanged
from hiri_search.study.search.initial_weights import InitialWeights, fingerprints_by_name
from hiri_search.study.search.network_facts import PreparedBySide, fingerprints
from hiri_search.system.files import Say
from hiri_search.system.hardware import find_machine

WAY_OUT = (
    "undo the change, give another folder with --results, or start again with --fresh"
    " (the old folder is renamed, not deleted)"
)


def check_same_study(study: StudyConfig, ledger: Ledger, folder: Path) -> None:
    """Raise StudyError where the ledger was changed after its manifest, or belongs to another study."""
    check_unchanged(LedgerContent(folder, read_lines(folder), ledger.events))
    started = last_start(ledger.events)
    if started is None:
        return
    earlier = [canonical_form(StudyConfig.model_validate(each.file)) for each in of_kind(ledger.events, StudyStarted)]
    changes = incompatible_changes(earlier, canonical_form(study))
    changes += [f"merged although {difference}" for difference in started.overlooked]
    if changes:
        listed = "\n  ".join(changes)
        way_out = f"{WAY_OUT}; a changed row may also get a new name" if study.nets else WAY_OUT
        raise StudyError(f"{folder} belongs to another study; the differences:\n  {listed}\n{way_out}")
    if study.searches_by_latency:
        _check_same_machine(study.latency or LatencyConfig(), started.machine, folder)


def _check_same_machine(config: LatencyConfig, before: JsonObject, folder: Path) -> None:
    """StudyError where inference times of a search would come from two machines, which do not compare."""
    old, new = timing_machine(before), timing_machine(to_json(find_machine(find_device(config))))
    if old != new:
        fault = f"the search of {folder} has measured ms_per_image on {old}, and this machine is {new}"
        raise StudyError(f"{fault}; continue it there, or give another folder with --results")


def say_left_out(study: StudyConfig, ledger: Ledger, say: Say) -> None:
    """Name the rows of an ablation that the study no longer has."""
    trials_by_row = Counter(e.network.name for e in of_kind(ledger.events, TrialAsked) if not has_row(study, e.network))
    if trials_by_row:
        rows, count = ", ".join(trials_by_row), sum(trials_by_row.values())
        trials = "1 trial stays" if count == 1 else f"{count} trials stay"
        say(f"the study no longer has {rows}: {trials} in the ledger, and the report leaves them out")


def check_same_images(study: StudyConfig, ledger: Ledger, prepared: PreparedBySide, folder: Path) -> None:
    """Raise StudyError where the images are not those of the ledger."""
    started = last_start(ledger.events)
    if started is None or started.images.fingerprints.items() <= fingerprints(prepared).items():
        return
    problem = f"the images of {study.data.source} have changed since {folder} was started"
    if started.code.digest != code().digest:
        commit = f" (commit {started.code.commit[:12]})" if started.code.commit else ""
        problem += f", or hiri_search {started.code.version}{commit}, which started it, read other files or pixels"
        problem += " from them than this version: then continue with that one"
    raise StudyError(f"{problem}\n{WAY_OUT}")


def check_same_weights(weights: Mapping[str, InitialWeights], ledger: Ledger, folder: Path) -> None:
    """Raise StudyError where initial weights are not those of the ledger."""
    for started in of_kind(ledger.events, StudyStarted):
        if changed := changed_inputs(started.weights, fingerprints_by_name(weights)):
            raise StudyError(f"the weights in {', '.join(changed)} have changed since {folder} was started\n{WAY_OUT}")
