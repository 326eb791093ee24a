"""Studies for Ray Tune: a trainable and a parameter space for a Tuner of your own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import chdir, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any, Protocol, TypeAlias

from ray import tune

from hiri_search.language import uniform
from hiri_search.language.choosers import nearest
from hiri_search.language.space import SearchSpace
from hiri_search.language.syntax_tree import Options
from hiri_search.study.config.networks import Candidate, StudyNetworks, network_of, resolve
from hiri_search.study.config.read import read_study
from hiri_search.study.config.schema import StudyConfig
from hiri_search.study.config.sections.metrics import with_attributes
from hiri_search.study.dispatch.trial_config import RECIPE_FIELDS, report_of
from hiri_search.study.errors import StudyError
from hiri_search.study.ledger.layout import IMAGE_FOLDER, LAST_CHECKPOINT
from hiri_search.study.ledger.values import NetworkFacts
from hiri_search.study.persistence.trial_weights import with_trial_weights
from hiri_search.study.run import check_timm_sides, prepare_images
from hiri_search.study.search.initial_weights import adaptations, check_weights
from hiri_search.study.search.network_facts import PreparedBySide, check_own_kinds, network_costs
from hiri_search.study.search.search_space import all_options, checked_space, covering_counted, search_space
from hiri_search.system.files import Say
from hiri_search.system.hardware import free_gpu_memory
from hiri_search.system.temp_dir import temporary_directory
from hiri_search.training.data.datasets import check_augmentation
from hiri_search.training.data.prepare import require_one_batch
from hiri_search.training.inputs.ensure_local import ensure_local
from hiri_search.training.job import Epoch, Job, PreparedData
from hiri_search.training.loop import train
from hiri_search.training.zero_cost import job_scores
from hiri_search.user_code import UserCode, loaded_code

Config: TypeAlias = dict[str, Any]


class _HasConfig(Protocol):
    @property
    def config(self) -> StudyConfig: ...


# A study, `hiri_search.Study` included, or the path of its file.
Readable: TypeAlias = StudyConfig | str | Path | _HasConfig
_NET, _SEED, _SIDE = "net", "seed", "side"
_PATIENCE = 100  # walks after which no wish is left in a network that must be within constraints
_NO_MEASUREMENT = "within: ms_per_image is measured, which other trials of a Tuner disturb; leave it out"


def trainable(study: Readable, *, folder: str | Path = "results", say: Say = print) -> Callable[[Config], None]:
    """Return a function of a config that trains one network as the study does, and reports each epoch to Tune.

    A config has the keys of `param_space`, and may have `seed`, `side` (of the training, in pixels) and any field of
    the recipe. Each report has the columns of the study's own trials, and `spec`, `params` and `macs` of the counted
    network. Each report has a checkpoint, from which Tune continues a trial.

    The images are prepared now. They are stored in `folder` only where the user's cache cannot be written. Raises
    StudyError, SpecError or DataError for every mistake in the study that would stop a training.
    """
    study = with_trial_weights(with_attributes(_read(study)), say)
    networks = resolve(study)
    trained: Iterable[Candidate] = networks.trained_rows
    if networks.space is not None:
        if "ms_per_image" in study.within:
            raise StudyError(_NO_MEASUREMENT)
        space = checked_space(networks, say)  # workers do it again, with the costs that it leaves in the cache
        trained = covering_counted(study, space)
    check_own_kinds(study, networks.rows)
    check_timm_sides(study, networks.rows, say)
    weights = check_weights(trained, say)
    home = Path(folder).absolute() / IMAGE_FOLDER
    prepared = prepare_images(study, networks.training_settings, home, say)
    for line in adaptations(weights, prepared):
        say(line)
    trainings = _Trainings(study, prepared, home, Path.cwd(), loaded_code(study.code.files))

    def network(config: Config) -> None:  # a closure, because Tune takes no object; its name is in Tune's folders
        trainings.run(config)

    return network


def param_space(study: Readable, *, grid: bool = True) -> Config:
    """Return the domains of a study's networks, for `Tuner(param_space=...)`.

    Of an ablation: each row with each seed; without `grid`, choices of both for a searcher, which takes no grid. Of a
    search: a choice for each decision of its space, by the decision's name, and for each key of a recipe with choices.
    """
    study = _read(study)
    networks = resolve(study)
    if networks.space is not None:
        every = {**all_options(networks.space), **study.choices}
        return {name: tune.choice(list(options)) for name, options in every.items()}
    domain = tune.grid_search if grid else tune.choice
    return {_NET: domain([row.name for row in networks.trained_rows]), _SEED: domain(list(study.first_seeds))}


def _read(study: Readable) -> StudyConfig:
    if isinstance(study, str | Path):
        return read_study(Path(study))
    return study if isinstance(study, StudyConfig) else study.config


@dataclass(frozen=True)
class _Trainings:
    """The trainings of a study by config. Parsed networks and counts are not pickled: each worker makes its own."""

    study: StudyConfig
    prepared: PreparedBySide
    home: Path  # for images at other sides
    working_folder: Path  # of the driver, to which paths of the study are relative
    code: UserCode

    @cached_property
    def networks(self) -> StudyNetworks:
        return resolve(self.study)

    @cached_property
    def space(self) -> SearchSpace:
        return search_space(self.networks)

    @cached_property
    def options(self) -> Mapping[str, Options]:
        space = self.networks.space
        return all_options(space) if space else {_NET: tuple(row.name for row in self.networks.trained_rows)}

    def run(self, config: Config) -> None:
        """Train the network of a config. StudyError where the config has a mistake, before anything is trained."""
        self.code.load()
        self._check_keys(config)
        with chdir(self.working_folder) if self.working_folder.is_dir() else nullcontext():
            candidate = self._candidate(config)
            network = network_costs(candidate, self.study, self.prepared)
            job = self._job(network, config)
            images = self._images(job)
            zero_cost = self.study.search.zero_cost if self.study.space else ()
            try:
                scores = job_scores(job, images, zero_cost) if zero_cost else {}
                costs = {"spec": network.spec, "params": network.params, "macs": network.macs}
                _train(job, images, lambda epoch: report_of(epoch, scores, test=images.test > 0) | costs)
            finally:
                free_gpu_memory()  # the next trial may run in this process

    def _check_keys(self, config: Config) -> None:
        known = (*self.options, _SEED, _SIDE, *RECIPE_FIELDS)
        if unknown := [key for key in config if key not in known]:
            problem = f"config: {', '.join(unknown)} {'is' if len(unknown) == 1 else 'are'} not known"
            networks, recipe = ", ".join(self.options), ", ".join(RECIPE_FIELDS)
            raise StudyError(f"{problem}; write {networks}, {_SEED}, {_SIDE}, or a field of the recipe: {recipe}")
        for name, value in config.items():
            if name in self.options:
                _check_option(name, value, self.options[name])

    def _candidate(self, config: Config) -> Candidate:
        if self.networks.space is not None:
            return network_of(self.study, *self.space.walk(_WantedOptions(config)))
        if _NET not in config:
            raise StudyError(f"config: {_NET} is missing; write {_listed(self.options[_NET])}")
        return next(row for row in self.networks.trained_rows if row.name == config[_NET])

    def _job(self, network: NetworkFacts, config: Config) -> Job:
        job = self.networks.job(network, config.get(_SEED, self.study.first_seeds[0]))
        recipe = replace(job.recipe, **{name: config[name] for name in RECIPE_FIELDS if name in config})
        return replace(job, side=config.get(_SIDE, job.side), recipe=recipe)

    def _images(self, job: Job) -> PreparedData:
        """Return the images of a job on this machine, prepared now where the config has a side of its own."""
        if job.side not in self.prepared:
            return prepare_images(self.study, {(job.side, job.recipe)}, self.home, print)[job.side]
        check_augmentation(job.recipe, job.side)
        require_one_batch(self.prepared[job.side].train, job.recipe.batch)
        return ensure_local(self.prepared[job.side], job, lambda: None, print)


def _check_option(name: str, value: Any, options: Options) -> None:
    if value not in options:
        raise StudyError(f"config: {name}={value} is not possible; write {_listed(options)}")


def _listed(options: Options) -> str:
    return " or ".join(map(str, options))


class _WantedOptions:
    """Chooser of the options of a config: each where it is allowed, and the nearest one elsewhere.

    A walk is repeated where only its end shows that the network is not within the constraints. Repeated walks take
    more and more options at random.
    """

    def __init__(self, config: Config) -> None:
        self._config, self._rng = config, Random(0)
        self._made: set[str] = set()  # decisions of this walk
        self._repeats = 0

    def __call__(self, name: str, options: Options, sizes: tuple[int, ...]) -> int:
        if name not in self._config:
            raise StudyError(f"config: the decision {name} is missing; write {_listed(options)}")
        if name in self._made:
            self._made.clear()
            self._repeats += 1
        self._made.add(name)
        if self._rng.random() < self._repeats / _PATIENCE:
            return uniform(self._rng)(name, options, sizes)
        return nearest(options.index(self._config[name]), options, sizes, self._rng)


def _train(job: Job, images: PreparedData, report: Callable[[Epoch], Config]) -> None:
    """Train from Tune's checkpoint, or from the beginning; each epoch is a report with a checkpoint."""
    with _latest_checkpoint() as path:

        def on_epoch(epoch: Epoch) -> None:
            tune.report(report(epoch), checkpoint=tune.Checkpoint.from_directory(path.parent))

        train(job, images, path, epochs_done=job.recipe.epochs, report=on_epoch)  # Tune has the epochs before it


@contextmanager
def _latest_checkpoint() -> Iterator[Path]:
    """Yield the path of the checkpoint in a temporary folder, where it is if Tune has one."""
    with temporary_directory() as temporary:
        folder = temporary / "checkpoint"
        folder.mkdir()
        if stored := tune.get_checkpoint():
            stored.to_directory(folder)
        yield folder / LAST_CHECKPOINT
