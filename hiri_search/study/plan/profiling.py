"""Measured or modelled speed of each network of a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

from hiri_search.cost.flops import Cost
from hiri_search.study.config.networks import Candidate, StudyNetworks
from hiri_search.study.config.schema import Study
from hiri_search.study.dispatch.resources import TrialResources
from hiri_search.study.errors import StudyError
from hiri_search.study.plan.schedule import bit_reversed_order
from hiri_search.study.plan.time_model import TimeModel, Workload, fit, leave_one_out_error
from hiri_search.system import hardware
from hiri_search.training.data.prepare import is_prepared, prepare
from hiri_search.training.job import Job, PreparedData
from hiri_search.training.probe import ProbeError, TrialTiming, UndecodedImages, probe_side_by_side, shrink_for_probe
from hiri_search.training.recipe import Recipe

MAX_PROBED = 8  # networks of a space


@dataclass(frozen=True)
class ProfiledNetwork:
    """A network that a study trains, and what is known of it before."""

    candidate: Candidate
    job: Job  # of the first seed
    cost: Cost  # of the network that is counted
    work: Workload  # of the one that is trained: a image's forward pass

    @property
    def step_work(self) -> Workload:
        """Forward and twice that backward, and what the recipe asks for besides."""
        recipe = self.job.recipe
        passes = 3 + (recipe.distill_alpha < 1) + recipe.checkpointing
        return self.work * (passes * recipe.batch)


class StudyData:
    """The images of a study; none is decoded for what is told here, but a few are to see how long it takes."""

    def __init__(self, networks: StudyNetworks, home: Path) -> None:
        """DataError where they cannot be trained on, as far as that is seen without reading them."""
        study = networks.study
        self.study, self.home = study, home
        batch = max(recipe.batch for _, recipe in networks.training_settings)
        unread = replace(study.data, skip_corrupt=False)  # it would ask for all of them to be decoded
        look = partial(prepare, unread, home=home, classes=study.proxy.classes, batch=batch, cache="none")
        sides = sorted({side for side, _ in networks.training_settings})
        self.by_side = {side: replace(look(side), cache=study.cache) for side in sides}

    @property
    def any(self) -> PreparedData:
        """The same at every side."""
        return next(iter(self.by_side.values()))

    def epoch(self, recipe: Recipe) -> tuple[int, int]:
        """Steps, and images of the validation."""
        return self.any.train // recipe.batch, self.any.val

    @cached_property
    def missing(self) -> list[UndecodedImages]:
        """What is to be decoded before the trials."""
        data, classes = self.study.data, self.study.proxy.classes
        kept = partial(is_prepared, data, home=self.home, classes=classes, cache=self.study.cache)
        return [UndecodedImages(data, side, classes) for side in self.by_side if not kept(side)]

    def decoding(self, image_seconds: Sequence[float]) -> float:
        """Seconds until all that is missing is decoded on all cores, by what a image of each takes on one."""
        return (self.any.train + self.any.val) * sum(image_seconds) / hardware.cores()


@dataclass(frozen=True)
class SpeedTable:
    """How fast each network is trained."""

    timed: Mapping[Job, tuple[ProfiledNetwork, TrialTiming]]
    import_seconds: float  # until a new process could begin
    decoding: float  # seconds until all images are decoded
    share: float | None  # of a core that each trial had

    def of(self, net: ProfiledNetwork) -> TrialTiming:
        """As it was timed, or by the law of those that were."""
        if net.job in self.timed:
            return self.timed[net.job][1]
        return replace(self._mean, step=self._step(net.step_work), evaluate=self._look(net.work))

    @property
    def model_error(self) -> float | None:
        """Mean size of the relative errors for steps of networks left out of the law; None: too few for it."""
        errors = leave_one_out_error(*self._steps)
        return fmean(map(abs, errors)) if errors else None

    @cached_property
    def _mean(self) -> TrialTiming:
        return TrialTiming.mean([pace for _, pace in self.timed.values()])

    @cached_property
    def _step(self) -> TimeModel:
        return fit(*self._steps)

    @cached_property
    def _look(self) -> TimeModel:
        return fit([net.work for net, _ in self.timed.values()], [pace.evaluate for _, pace in self.timed.values()])

    @property
    def _steps(self) -> tuple[list[Workload], list[float]]:
        return [net.step_work for net, _ in self.timed.values()], [pace.step for _, pace in self.timed.values()]


def profile(study: Study, nets: Sequence[ProfiledNetwork], images: StudyData, slots: TrialResources) -> SpeedTable:
    """Of all networks of an ablation, as far as the time goes, or of some of a search. StudyError where one fails."""
    by_job = {net.job: net for net in nets}
    ordered = sorted(by_job.values(), key=lambda net: net.work.macs)
    most = None if study.space is None else MAX_PROBED
    chosen = [ordered[index] for index in islice(bit_reversed_order(len(ordered)), most)]
    proxies = study.search.zero_cost if study.space is not None else ()
    with TemporaryDirectory(prefix="hiri_search_plan_") as folder:
        jobs = [shrink_for_probe(net.job, images.by_side[net.job.side], Path(folder)) for net in chosen]
        try:
            found = probe_side_by_side(jobs, images.missing, processes=slots.count, zero_cost=proxies)
        except ProbeError as error:
            raise StudyError(str(error)) from error
    timed = {chosen[index].job: (chosen[index], pace) for index, pace in found.timings.items()}
    return SpeedTable(timed, found.import_seconds, images.decoding(found.image_seconds), found.core_share)
