"""Measured or modelled speed of each network of a study."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

from hiri_search.cost.flops import Cost
from hiri_search.study.config.networks import Candidate, StudyNetworks
from hiri_search.study.config.schema import StudyConfig
from hiri_search.study.dispatch.resources import TrialResources
from hiri_search.study.errors import StudyError
from hiri_search.study.plan.schedule import bit_reversed_order
from hiri_search.study.plan.time_model import TimeModel, Workload, fit, leave_one_out_error
from hiri_search.system import hardware
from hiri_search.training.data.decode_cache import cache_folder
from hiri_search.training.data.prepare import stored_side
from hiri_search.training.inputs.study_images import has_prepared, prepare_inputs
from hiri_search.training.job import Job, PreparedData
from hiri_search.training.probe import ProbeError, TrialTiming, UndecodedImages, probe_side_by_side, shrink_for_probe
from hiri_search.training.recipe import Recipe
from hiri_search.user_code import loaded_code

MAX_PROBED = 8  # networks of a space


@dataclass(frozen=True)
class ProfiledNetwork:
    """A network of a study with its costs and its training."""

    candidate: Candidate
    job: Job  # training of the stand-in with the first seed
    cost: Cost  # of the counted network
    work: Workload  # forward pass of the stand-in for one image
    params: int  # of the stand-in

    @property
    def step_work(self) -> Workload:
        """Workload of a training step: forward, backward (twice the forward), teacher and recomputation."""
        recipe = self.job.recipe
        passes = 3 + (recipe.distill_alpha < 1) + recipe.checkpointing
        return self.work * (passes * recipe.batch)

    @property
    def checkpoint_bytes(self) -> int:
        """Size of a checkpoint: the weights, two moments of AdamW for each, and their average, in fp32."""
        return 4 * self.params * (3 + (self.job.recipe.ema > 0))


class StudyData:
    """The images of a study, not decoded."""

    def __init__(self, networks: StudyNetworks, home: Path) -> None:
        """DataError where the images cannot be trained on, as far as that is known without reading them."""
        study = networks.study
        self.study, self.home = study, home
        batch = max(recipe.batch for _, recipe in networks.training_settings)
        # skip_corrupt needs all images to be decoded: no part of a plan, unless trials decode them themselves.
        undecoded = study.cache == "none" or study.data.kind == "timm"
        data = replace(study.data, skip_corrupt=study.data.skip_corrupt and undecoded)
        prepare_side = partial(prepare_inputs, data, home=home, classes=study.proxy.classes, batch=batch, cache="none")
        sides = sorted({side for side, _ in networks.training_settings})
        self.by_side = {side: replace(prepare_side(side), cache=study.cache) for side in sides}

    @property
    def any_side(self) -> PreparedData:
        """The images at one of the sides; classes and number of images are the same at all sides."""
        return next(iter(self.by_side.values()))

    def epoch_size(self, recipe: Recipe) -> tuple[int, int]:
        """Return the training steps and the measured images of an epoch; the test images are shared out over epochs."""
        images = self.any_side
        return images.train // recipe.batch, images.val + images.test // recipe.epochs

    @cached_property
    def undecoded(self) -> list[UndecodedImages]:
        """Images that a run must decode before the trials, by side."""
        data, classes = self.study.data, self.study.proxy.classes
        is_decoded = partial(has_prepared, data, home=self.home, classes=classes, cache=self.study.cache)
        return [UndecodedImages(data, side, classes) for side in self.by_side if not is_decoded(side)]

    @property
    def decoded_bytes(self) -> int:
        """Size of the images that a run must decode, on the disk."""
        return sum(self.any_side.counts.values()) * sum(3 * stored_side(each.side) ** 2 for each in self.undecoded)

    @property
    def free_bytes(self) -> int:
        """Space on the disk of decoded images."""
        return shutil.disk_usage(cache_folder(self.home)).free

    def decoding_seconds(self, image_seconds: Sequence[float]) -> float:
        """Return the time to decode `undecoded` on all cores, from the time of one image of each on one core."""
        return sum(self.any_side.counts.values()) * sum(image_seconds) / hardware.cores()


@dataclass(frozen=True)
class SpeedTable:
    """Timing of each network: measured, or from a time model."""

    timed: Mapping[Job, tuple[ProfiledNetwork, TrialTiming]]
    import_seconds: float  # start of a process: Python, torch and timm
    decoding_seconds: float
    core_share: float | None  # share of a core that each probe had; None on a GPU
    memory: int | None = None  # most bytes of a training: on its GPU, else in main memory

    def timing(self, network: ProfiledNetwork) -> TrialTiming:
        """Return the measured timing, or the estimate of the time model."""
        if network.job in self.timed:
            return self.timed[network.job][1]
        mean, step, evaluate = self._models
        return replace(mean, step=step(network.step_work), evaluate=evaluate(network.work))

    @property
    def model_error(self) -> float | None:
        """Mean absolute relative error of steps, leave-one-out; None for too few timed networks."""
        errors = leave_one_out_error(*self._steps)
        return fmean(map(abs, errors)) if errors else None

    @cached_property
    def _models(self) -> tuple[TrialTiming, TimeModel, TimeModel]:
        """Mean timing, and the time models of a training step and of the evaluation of an image."""
        networks, timings = zip(*self.timed.values(), strict=True)
        evaluation = fit([network.work for network in networks], [timing.evaluate for timing in timings])
        return TrialTiming.mean(timings), fit(*self._steps), evaluation

    @property
    def _steps(self) -> tuple[list[Workload], list[float]]:
        works = [network.step_work for network, _ in self.timed.values()]
        return works, [timing.step for _, timing in self.timed.values()]


def profile(
    study: StudyConfig, networks: Sequence[ProfiledNetwork], images: StudyData, slots: TrialResources
) -> SpeedTable:
    """Time networks within the time limit; of a search, at most MAX_PROBED. StudyError where a training fails.

    Where several processes train a network, each timed one has its share of the batch, and waits for no other.
    """
    by_job = {network.job: network for network in networks}
    ordered = sorted(by_job.values(), key=lambda network: network.work.macs)
    limit = None if study.space is None else MAX_PROBED
    chosen = [ordered[index] for index in islice(bit_reversed_order(len(ordered)), limit)]
    scores = study.search.zero_cost if study.space is not None else ()
    with TemporaryDirectory(prefix="hiri_search_plan_") as folder:
        shares = [_share(net.job, slots.processes) for net in chosen]
        jobs = [shrink_for_probe(job, images.by_side[job.side], Path(folder)) for job in shares]
        processes = slots.count * slots.processes
        try:
            code = loaded_code(study.code.files)
            probes = probe_side_by_side(jobs, images.undecoded, processes=processes, zero_cost=scores, code=code)
        except ProbeError as error:
            raise StudyError(str(error)) from error
    shared = {index: replace(one, evaluate=one.evaluate / slots.processes) for index, one in probes.timings.items()}
    timed = {chosen[index].job: (chosen[index], timing) for index, timing in shared.items()}
    decoding_seconds = images.decoding_seconds(probes.image_seconds)
    return SpeedTable(timed, probes.import_seconds, decoding_seconds, probes.core_share, probes.memory)


def _share(job: Job, processes: int) -> Job:
    """Return a job with the part of the batch that one of its processes trains on."""
    return replace(job, recipe=replace(job.recipe, batch=job.recipe.batch // processes))
