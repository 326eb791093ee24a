"""Running a study: check, prepare data, count, benchmark, then train what the ledger lacks."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from functools import partial
from pathlib import Path

from hiri_search.cost.flops import count
from hiri_search.cost.kind_check import check_trained
from hiri_search.cost.latency.benchmark import Latency, measure_latencies
from hiri_search.cost.latency.torch_state import find_configured_machine
from hiri_search.language import Network, SpecError, TimmNetwork
from hiri_search.language.dense_network import square_side
from hiri_search.language.space import SearchSpace
from hiri_search.study.callbacks import ProgressCallback
from hiri_search.study.config.choices import recipe_options, without_test
from hiri_search.study.config.networks import Candidate, StudyNetworks, resolve
from hiri_search.study.config.schema import StudyConfig
from hiri_search.study.config.sections.metrics import with_attributes
from hiri_search.study.continuing import (
    check_same_images,
    check_same_study,
    check_same_weights,
    say_left_out,
)
from hiri_search.study.dispatch.task import Dispatcher
from hiri_search.study.errors import StudyError
from hiri_search.study.ledger.events import (
    GO_ON,
    InferenceTimed,
    NetworkCounted,
    RunEnded,
    StudyStarted,
    timed_setting,
)
from hiri_search.study.ledger.layout import CHECKPOINTS, IMAGE_FOLDER, LEDGER
from hiri_search.study.ledger.ledger import Ledger, of_kind, open_ledger
from hiri_search.study.ledger.lock import locked
from hiri_search.study.ledger.values import ImageSet, to_json
from hiri_search.study.loggers.write import logging_runs, open_loggers
from hiri_search.study.persistence.mirror import mirroring, resume_from_storage, storage_of
from hiri_search.study.persistence.trial_weights import with_trial_weights
from hiri_search.study.provenance.environment import run_environment
from hiri_search.study.scheduler.scheduler import TrialScheduler
from hiri_search.study.search.initial_weights import InitialWeights, adaptations, check_weights, fingerprints_by_name
from hiri_search.study.search.network_facts import PreparedBySide, check_own_kinds, fingerprints, network_costs
from hiri_search.study.search.search_space import checked_space, covering_counted
from hiri_search.system.file_tree.archives import forget_archive
from hiri_search.system.files import Say
from hiri_search.system.hardware import describe_device, gpus
from hiri_search.training.data.datasets import check_augmentation
from hiri_search.training.data.image_folder import left_out
from hiri_search.training.data.sources.user_datasets import forget_datasets
from hiri_search.training.inputs.study_images import prepare_inputs
from hiri_search.training.recipe import Recipe
from hiri_search.training.score import MetricError, check_metrics


def run(
    study: StudyConfig,
    folder: Path,
    dispatch: Dispatcher,
    callback: ProgressCallback,
    *,
    profile: str,
    retry_failed: bool = False,
    command: Sequence[str] = (),
) -> None:
    """Train the trials that the ledger of `folder` lacks; finished trials stay. `command` is recorded in the ledger.

    StudyError where the folder is in use or belongs to another study, where initial weights or a metric of the user do
    not fit, or where a logger is not installed; UserCodeError where a function of the study is missing; DataError where
    the images cannot be trained on; SpecError where a network does not fit. All of these are raised before anything is
    trained.
    """
    clock, study = _PhaseClock("counting"), with_trial_weights(with_attributes(study), callback.say)
    loggers, networks = open_loggers(study.log, folder), resolve(study)
    check_own_kinds(study, networks.rows)
    space = _checked_space(networks, callback.say)
    trained = networks.trained_rows if space is None else covering_counted(study, space)
    weights = check_weights(trained, callback.say)
    if storage := storage_of(study.storage, folder):
        resume_from_storage(folder, storage, callback.say)
    with open_ledger(folder, callback.say) as ledger:
        check_same_study(study, ledger, folder)
        check_same_weights(weights, ledger, folder)
        say_left_out(study, ledger, callback.say)
        check_timm_sides(study, _uncounted(networks, ledger), callback.say)
        clock.begin("images")
        prepared = prepare_images(study, networks.training_settings, folder / IMAGE_FOLDER, callback.say)
        check_same_images(study, ledger, prepared, folder)
        for line in adaptations(weights, prepared):
            callback.say(line)
        _try_metrics(study, prepared)
        _write_start(study, ledger, prepared, weights, profile, command)
        clock.begin("counting")
        _count_networks(networks, ledger, prepared)
        clock.begin("inference")
        _time_networks(networks, ledger, callback.say)
        clock.begin("trials")
        (folder / CHECKPOINTS).mkdir(exist_ok=True)
        logging = logging_runs(loggers, ledger, folder, callback.say)
        with mirroring(folder, storage, callback.say) as mirror, logging:
            scheduler = TrialScheduler(
                networks, ledger, prepared, folder, callback, space=space, retry_failed=retry_failed, mirror=mirror
            )
            dispatch(scheduler)
            if scheduler.trouble:
                raise StudyError(f"{scheduler.trouble}; {GO_ON}")
            clock.begin()
            ledger.append(RunEnded(seconds=dict(clock.seconds), exhausted=scheduler.exhausted))


class _PhaseClock:
    """Seconds spent in each part of a run; a part may begin several times."""

    def __init__(self, part: str) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._part, self._began = part, time.perf_counter()

    def begin(self, part: str = "") -> None:
        """End the present part, and begin another one if the run goes on."""
        now = time.perf_counter()
        self.seconds[self._part] += now - self._began
        self._part, self._began = part, now


def _checked_space(networks: StudyNetworks, say: Say) -> SearchSpace | None:
    """Return the search space; None for an ablation.

    InvalidNetwork where an option does not fit the study; StudyError where an objective needs other hardware.
    """
    if networks.space is None:
        return None
    if "memory" in networks.study.search.objectives and not gpus():
        raise StudyError("search.objectives: memory is measured on CUDA GPUs only; leave it out")
    return checked_space(networks, say)


def _try_metrics(study: StudyConfig, prepared: PreparedBySide) -> None:
    """Raise StudyError where a metric of the user fails on random logits."""
    try:
        check_metrics(dict(study.measured), len(next(iter(prepared.values())).classes))
    except MetricError as error:
        raise StudyError(f"{error} (tried with random logits and labels before the trainings)") from error


def check_timm_sides(study: StudyConfig, candidates: Sequence[Candidate], say: Say) -> None:
    """Count the timm networks among rows at their sides, before images are prepared: only a pass shows what fits.

    SpecError, with the name of the row, where a network does not take its side or cannot be counted.
    """
    rows = [row for row in candidates if isinstance(row.network, TimmNetwork)]
    if rows:
        say(f"counting {len(rows)} networks of timm")
    for row in rows:
        try:
            count(row.network, row.side, classes=study.counted.classes)
            if row.trained:
                classes = study.proxy.classes or study.counted.classes
                count(row.trained, row.trained_side, classes=classes)
                if isinstance(row.trained, TimmNetwork):
                    check_trained(
                        row.trained,
                        row.trained_side,
                        classes=classes,
                        drop_path=row.recipe.drop_path,
                        checkpointing=row.recipe.checkpointing,
                    )
        except SpecError as error:
            raise SpecError(f"nets.{row.name}: {error}") from error


def prepare_images(study: StudyConfig, trainings: Set[tuple[int, Recipe]], home: Path, say: Say) -> PreparedBySide:
    """Return the images of a study at the side of each training. DataError where they cannot be trained on."""
    for side, recipe in trainings:
        check_augmentation(recipe, side)
    batch = max(recipe.batch for _, recipe in trainings)
    classes, cache = study.proxy.classes, study.cache
    prepare_side = partial(prepare_inputs, study.data, home=home, classes=classes, batch=batch, cache=cache, say=say)
    prepared = {side: prepare_side(side) for side in sorted({side for side, _ in trainings})}
    images = next(iter(prepared.values()))  # the same at every side
    if recipe_options(study.nets or {}) and not images.test:
        raise StudyError(f"data.{without_test(study.data)}")
    if study.data.kind in ("folder", "python") and cache != "none" and not images.transformed:
        forget_archive()  # otherwise trials of this process read it
        forget_datasets()
    for sentence in left_out(images.notes, images.skipped):
        say(sentence)
    return prepared


def move_aside(folder: Path) -> Path | None:
    """Rename a results folder, so that a study can start again; return the new path, or None where it has no ledger."""
    folder = Path(os.path.abspath(folder))  # with a name also where it is written as `..`; a link stays a link
    if not (folder / LEDGER).exists():
        return None
    aside = folder.with_name(f"{folder.name}.{time.strftime('%Y-%m-%dT%H-%M-%S')}")
    with locked(folder):
        folder.rename(aside)
    return aside


def _write_start(
    study: StudyConfig,
    ledger: Ledger,
    prepared: PreparedBySide,
    weights: Mapping[str, InitialWeights],
    profile: str,
    command: Sequence[str],
) -> None:
    """Record everything that the report needs, and the provenance of the results."""
    environment = run_environment(command)
    data = next(iter(prepared.values()))  # the same images at every side
    counts = (data.train, data.val, len(data.classes))
    images = ImageSet(*counts, fingerprints(prepared), tuple(data.skipped), data.notes, data.test)
    ledger.append(
        StudyStarted(
            file=study.model_dump(mode="json"),
            profile=profile,
            device=describe_device(),
            images=images,
            weights=fingerprints_by_name(weights),
            adapted=tuple(adaptations(weights, prepared)),
            code=environment.code,
            command=environment.command,
            versions=environment.versions,
            machine=environment.machine,
        )
    )


def _count_networks(networks: StudyNetworks, ledger: Ledger, prepared: PreparedBySide) -> None:
    """Count the rows of an ablation, trained or not. SpecError where a network does not fit its side."""
    for network in [network_costs(row, networks.study, prepared) for row in _uncounted(networks, ledger)]:
        ledger.append(NetworkCounted(network=network))


def _uncounted(networks: StudyNetworks, ledger: Ledger) -> list[Candidate]:
    """Return the rows of an ablation that the ledger has no costs of."""
    counted = {event.network.name for event in of_kind(ledger.events, NetworkCounted)}
    return [row for row in networks.rows if row.name not in counted]


def _time_networks(networks: StudyNetworks, ledger: Ledger, say: Say) -> None:
    """Time the inference of an ablation's rows, before trainings use the device."""
    study = networks.study
    if study.latency is None:
        return
    setting = timed_setting(study.latency, to_json(find_configured_machine(study.latency)))
    alike = (event for event in of_kind(ledger.events, InferenceTimed) if event.setting == setting)
    timed = {(event.key, event.side) for event in alike}
    missing: dict[str, tuple[Network, int]] = {}
    for row in networks.rows:
        if (timing := (row.network.key, square_side(row.side))) not in timed:  # a network with two rows is timed once
            timed.add(timing)
            missing[row.name] = (row.network, timing[1])
    if missing:
        say(f"timing inference of {len(missing)} networks")
    for name, latency in measure_latencies(missing, study.latency, classes=study.counted.classes, say=say):
        if isinstance(latency, Latency):  # else it does not fit into memory, as a message has said
            own = {"key": missing[name][0].key, "conditions": to_json(latency.conditions)}
            ledger.append(InferenceTimed(**vars(latency) | own))
