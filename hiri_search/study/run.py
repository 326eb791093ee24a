"""Running a study: check, prepare data, count, benchmark, then train what the ledger lacks."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence, Set
from dataclasses import asdict
from functools import partial
from pathlib import Path

from hiri_search.cost.latency.benchmark import Latency, measure_latencies
from hiri_search.language import Network, TimmNetwork
from hiri_search.language.space import SearchSpace
from hiri_search.study.callbacks import ProgressCallback
from hiri_search.study.config.identity import canonical_form, incompatible_changes, study_record
from hiri_search.study.config.networks import StudyNetworks, covering_networks, resolve
from hiri_search.study.config.schema import Study
from hiri_search.study.dispatch.task import TrialSource
from hiri_search.study.errors import StudyError
from hiri_search.study.ledger.events import GO_ON, RUN_ENDED, Event
from hiri_search.study.ledger.layout import CHECKPOINTS, LEDGER
from hiri_search.study.ledger.ledger import Ledger, open_ledger
from hiri_search.study.ledger.lock import locked
from hiri_search.study.persistence.mirror import mirroring, resume_from_storage, storage_of
from hiri_search.study.provenance.environment import run_environment
from hiri_search.study.scheduler import TrialScheduler
from hiri_search.study.search.network_facts import PreparedBySide, fingerprints, network_costs
from hiri_search.study.search.search_space import search_space
from hiri_search.system.gc_control import gc_frozen
from hiri_search.system.hardware import describe_device, gpus
from hiri_search.training.data.datasets import check_augmentation
from hiri_search.training.data.prepare import prepare
from hiri_search.training.recipe import Recipe

IMAGE_FOLDER = "images"
WAY_OUT = (
    "put it back, give this one another folder with --results, or begin anew with --fresh"
    " (the old folder is kept under another name)"
)
Executor = Callable[[TrialSource], None]


def run(
    study: Study,
    folder: Path,
    execute: Executor,
    watcher: ProgressCallback,
    *,
    profile: str,
    retry_failed: bool = False,
    command: Sequence[str] = (),
) -> None:
    """Train what the ledger of `folder` lacks; everything finished is kept. `command` is noted there.

    StudyError where the folder is another process's or another study's; DataError where the images cannot be
    trained on; SpecError where a network does not fit. All before anything is trained.
    """
    clock = _PhaseClock("counting")
    _check_objectives(study)
    networks = resolve(study)
    space = _space(networks, watcher)
    storage = storage_of(study.storage, folder)
    if storage:
        resume_from_storage(folder, storage, watcher.say)
    with open_ledger(folder, watcher.say) as ledger:
        _check_same(study, ledger, folder)
        clock.begin("images")
        prepared = _prepare(study, networks.training_settings, folder / IMAGE_FOLDER, watcher)
        _check_same_images(study, ledger, prepared, folder)
        _write_start(study, ledger, prepared, profile, run_environment(command))
        clock.begin("counting")
        _count_networks(networks, ledger, prepared, watcher)
        clock.begin("inference")
        _time_networks(networks, ledger, watcher)
        clock.begin("trials")
        (folder / CHECKPOINTS).mkdir(exist_ok=True)
        with mirroring(folder, storage, watcher.say) as mirror:
            feed = TrialScheduler(
                networks, ledger, prepared, folder, watcher, space=space, retry_failed=retry_failed, mirror=mirror
            )
            with gc_frozen():
                execute(feed)
            if feed.trouble:
                raise StudyError(f"{feed.trouble}; {GO_ON}")
            ledger.append(RUN_ENDED, seconds=clock.seconds())


class _PhaseClock:
    """How long each part of a run takes."""

    def __init__(self, part: str) -> None:
        self._taken: dict[str, float] = {}
        self._part, self._began = part, time.perf_counter()

    def begin(self, part: str) -> None:
        """What was going on has come to its end."""
        now = time.perf_counter()
        self._taken[self._part] = self._taken.get(self._part, 0.0) + now - self._began
        self._part, self._began = part, now

    def seconds(self) -> dict[str, float]:
        """By part, until now."""
        self.begin(self._part)
        return self._taken


def _space(networks: StudyNetworks, watcher: ProgressCallback) -> SearchSpace | None:
    """What a search walks; whatever does not fit is said here."""
    if networks.space is None:
        return None
    study = networks.study
    for _ in covering_networks(study, networks.space):
        pass
    space = search_space(networks)
    if study.within:
        share = space.size / networks.space.size
        watcher.say(f"{space.size:,} networks lie within {study.constraints}, {share:.3%} of the space")
    return space


def _prepare(study: Study, trainings: Set[tuple[int, Recipe]], home: Path, watcher: ProgressCallback) -> PreparedBySide:
    """The images for all trainings, by side and recipe."""
    for side, recipe in trainings:
        check_augmentation(recipe, side)
    batch = max(recipe.batch for _, recipe in trainings)
    prepare_side = partial(
        prepare,
        study.data,
        home=home,
        classes=study.proxy.classes,
        batch=batch,
        cache=study.cache,
        say=watcher.say,
    )
    return {side: prepare_side(side) for side in sorted({side for side, _ in trainings})}


def _check_objectives(study: Study) -> None:
    if study.space is not None and "memory" in study.search.objectives and not gpus():
        raise StudyError("search.objectives: memory is measured on CUDA alone; leave it out")


def move_aside(folder: Path) -> Path | None:
    """Rename a results folder, so that a fresh one can begin; its new name, or None where there was none."""
    if not (folder / LEDGER).exists():
        return None
    aside = folder.with_name(f"{folder.name}.{time.strftime('%Y-%m-%dT%H-%M-%S')}")
    with locked(folder):
        folder.rename(aside)
    return aside


def _check_same(study: Study, ledger: Ledger, folder: Path) -> None:
    begun = _begun(ledger)
    changed = incompatible_changes(begun["meaning"], canonical_form(study)) if begun else []
    if changed:
        what = "\n  ".join(changed)
        raise StudyError(f"{folder} was begun with another study; what differs:\n  {what}\n{WAY_OUT}")


def _check_same_images(study: Study, ledger: Ledger, prepared: PreparedBySide, folder: Path) -> None:
    begun = _begun(ledger)
    if begun and not begun["images"]["keys"].items() <= fingerprints(prepared).items():
        raise StudyError(f"the images of {study.data.source} have changed since {folder} was begun\n{WAY_OUT}")


def _begun(ledger: Ledger) -> Event | None:
    """What the last run began with; None for the first one."""
    return next((event for event in reversed(ledger.events) if event["event"] == "study"), None)


def _write_start(study: Study, ledger: Ledger, prepared: PreparedBySide, profile: str, made_by: Event) -> None:
    """What is needed to make the report from the ledger alone, and how the numbers were got."""
    of_one = next(iter(prepared.values()))  # the same images at every side
    images = {"train": of_one.train, "val": of_one.val, "classes": len(of_one.classes)}
    ledger.append(
        "study",
        **study_record(study, profile),
        device=describe_device(),
        images=images | {"keys": fingerprints(prepared), "skipped": list(of_one.skipped)},
        **made_by,
    )


def _count_networks(
    networks: StudyNetworks, ledger: Ledger, prepared: PreparedBySide, watcher: ProgressCallback
) -> None:
    """The costs of an ablation's rows, trained or not; a network that does not fit its side is found here."""
    known = {event["name"] for event in ledger.events if event["event"] == "counted"}
    unknown = [row for row in networks.rows if row.name not in known]
    if any(isinstance(row.network, TimmNetwork) for row in unknown):
        watcher.say(f"counting {len(unknown)} networks")
    for facts in [network_costs(row, networks.study, prepared) for row in unknown]:
        ledger.append("counted", **facts)


def _time_networks(networks: StudyNetworks, ledger: Ledger, watcher: ProgressCallback) -> None:
    """Inference of an ablation's networks, on a machine that does nothing else yet."""
    study = networks.study
    if study.latency is None:
        return
    known = {(event["key"], event["side"]) for event in ledger.events if event["event"] == "timed"}
    unknown: dict[str, tuple[Network, int]] = {}
    for row in networks.rows:
        if (row.network.key, row.side) not in known:  # one that stands there twice is timed once
            known.add((row.network.key, row.side))
            unknown[row.name] = (row.network, row.side)
    if unknown:
        watcher.say(f"timing inference of {len(unknown)} networks")
    for name, latency in measure_latencies(unknown, study.latency, classes=study.counted.classes, say=watcher.say):
        if isinstance(latency, Latency):  # else it does not fit into memory, as has been said
            ledger.append("timed", key=unknown[name][0].key, **asdict(latency))
