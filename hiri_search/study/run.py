"""Running a study: check, prepare data, count, benchmark, then train what the ledger lacks."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence, Set
from dataclasses import fields
from functools import partial
from pathlib import Path

from hiri_search.cost.latency.benchmark import Latency, measure_latencies
from hiri_search.language import Network, TimmNetwork
from hiri_search.language.space import SearchSpace
from hiri_search.study.callbacks import ProgressCallback
from hiri_search.study.config.identity import canonical_form, incompatible_changes
from hiri_search.study.config.networks import StudyNetworks, covering_networks, resolve
from hiri_search.study.config.schema import Study
from hiri_search.study.dispatch.task import TrialSource
from hiri_search.study.errors import StudyError
from hiri_search.study.ledger.events import GO_ON, InferenceTimed, NetworkCounted, RunEnded, StudyStarted
from hiri_search.study.ledger.layout import CHECKPOINTS, LEDGER
from hiri_search.study.ledger.ledger import Ledger, of_kind, open_ledger
from hiri_search.study.ledger.lock import locked
from hiri_search.study.ledger.values import ImageSet, to_json
from hiri_search.study.persistence.mirror import mirroring, resume_from_storage, storage_of
from hiri_search.study.provenance.environment import RunEnvironment, run_environment
from hiri_search.study.scheduler.scheduler import TrialScheduler
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
            scheduler = TrialScheduler(
                networks, ledger, prepared, folder, watcher, space=space, retry_failed=retry_failed, mirror=mirror
            )
            with gc_frozen():
                execute(scheduler)
            if scheduler.trouble:
                raise StudyError(f"{scheduler.trouble}; {GO_ON}")
            ledger.append(RunEnded(seconds=clock.seconds()))


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
    """StudyError where the folder belongs to another study."""
    started = _last_start(ledger)
    if started is None:
        return
    changed = incompatible_changes(canonical_form(Study.model_validate(started.file)), canonical_form(study))
    changed += [f"merged although {difference}" for difference in started.overlooked]
    if changed:
        what = "\n  ".join(changed)
        raise StudyError(f"{folder} belongs to another study; the differences:\n  {what}\n{WAY_OUT}")


def _check_same_images(study: Study, ledger: Ledger, prepared: PreparedBySide, folder: Path) -> None:
    started = _last_start(ledger)
    if started and not started.images.keys.items() <= fingerprints(prepared).items():
        raise StudyError(f"the images of {study.data.source} have changed since {folder} was begun\n{WAY_OUT}")


def _last_start(ledger: Ledger) -> StudyStarted | None:
    """Return the beginning of the last run; None before the first one."""
    return next(reversed(of_kind(ledger.events, StudyStarted)), None)


def _write_start(
    study: Study, ledger: Ledger, prepared: PreparedBySide, profile: str, environment: RunEnvironment
) -> None:
    """Record everything that the report needs, and how the numbers come about."""
    any_side = next(iter(prepared.values()))  # the same images at every side
    images = ImageSet(
        any_side.train, any_side.val, len(any_side.classes), fingerprints(prepared), tuple(any_side.skipped)
    )
    ledger.append(
        StudyStarted(
            file=study.model_dump(mode="json"),
            profile=profile,
            device=describe_device(),
            images=images,
            code=environment.code,
            command=environment.command,
            versions=environment.versions,
            machine=environment.machine,
        )
    )


def _count_networks(
    networks: StudyNetworks, ledger: Ledger, prepared: PreparedBySide, watcher: ProgressCallback
) -> None:
    """Count the rows of an ablation, trained or not; a network that does not fit its side is found here."""
    counted = {event.network.name for event in of_kind(ledger.events, NetworkCounted)}
    missing = [row for row in networks.rows if row.name not in counted]
    if any(isinstance(row.network, TimmNetwork) for row in missing):
        watcher.say(f"counting {len(missing)} networks")
    for network in [network_costs(row, networks.study, prepared) for row in missing]:
        ledger.append(NetworkCounted(network=network))


def _time_networks(networks: StudyNetworks, ledger: Ledger, watcher: ProgressCallback) -> None:
    """Time the inference of an ablation's rows, before any training disturbs it."""
    study = networks.study
    if study.latency is None:
        return
    timed = {(event.key, event.side) for event in of_kind(ledger.events, InferenceTimed)}
    missing: dict[str, tuple[Network, int]] = {}
    for row in networks.rows:
        if (row.network.key, row.side) not in timed:  # a network with two rows is timed once
            timed.add((row.network.key, row.side))
            missing[row.name] = (row.network, row.side)
    if missing:
        watcher.say(f"timing inference of {len(missing)} networks")
    for name, latency in measure_latencies(missing, study.latency, classes=study.counted.classes, say=watcher.say):
        if isinstance(latency, Latency):  # else it does not fit into memory, which was reported
            ledger.append(_timed(missing[name][0].key, latency))


def _timed(key: str, latency: Latency) -> InferenceTimed:
    values = {each.name: getattr(latency, each.name) for each in fields(latency) if each.name != "conditions"}
    return InferenceTimed(key=key, **values, conditions=to_json(latency.conditions))
