"""Export of a study to Optuna: journal file or database."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.exceptions import DuplicatedStudyError, ExperimentalWarning, StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import BaseJournalBackend, JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from hiri_search.language.space import Decisions
from hiri_search.language.syntax_tree import Option
from hiri_search.study.config.networks import has_row
from hiri_search.study.config.schema import StudyConfig
from hiri_search.study.errors import StudyError
from hiri_search.study.ledger.events import Event, TrialAsked, TrialBegan, TrialFailed, TrialFinished, TrialStopped
from hiri_search.study.ledger.ledger import ledger_id, read_events, study_event, trials
from hiri_search.study.ledger.trial import Trial
from hiri_search.study.search.objectives import Objective, objectives_of
from hiri_search.study.search.samplers.optuna_sampler import OPTUNA_STATES, new_study
from hiri_search.study.search.search_space import are_numbers, taken_options
from hiri_search.system.files import Say, unfinished_path
from hiri_search.system.redaction import HIDDEN, redacted
from hiri_search.system.text import storable
from hiri_search.training.score import by_column

JOURNAL = "optuna.journal"
LEDGER_ATTRIBUTE = "hiri_search ledger"  # user attribute of an exported study: the ledger that it comes from
PROGRESS_TRIALS = 100  # trials between two progress messages: a trial costs a database about a hundred queries
MAX_NAMES = 100  # rows of an ablation up to which the trials show names; Optuna stores all names with each trial
_NETWORK_ATTRIBUTES = ("name", "key", "spec", "params", "macs")


@dataclass(frozen=True)
class Export:
    """A study as Optuna stores it, without confirmation trials: their longer trainings do not compare."""

    name: str
    ledger_id: str  # identifies the ledger; a moved or longer ledger keeps it
    objectives: tuple[Objective, ...]
    trials: Sequence[FrozenTrial]

    def create_study(self, storage: BaseStorage) -> optuna.Study:
        """Create the study in a storage, without its trials. DuplicatedStudyError if the name is taken."""
        directions = [StudyDirection.MAXIMIZE if each.up else StudyDirection.MINIMIZE for each in self.objectives]
        study = new_study(directions, study_name=self.name, storage=storage)
        study.set_user_attr(LEDGER_ATTRIBUTE, self.ledger_id)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            study.set_metric_names([each.name for each in self.objectives])
        return study


def read_export(folder: Path, *, name: str = "") -> Export:
    """Read the ledger of a results folder as an Export; its name is by default that of the folder. StudyError."""
    events = read_events(folder)
    study = StudyConfig.model_validate(study_event(events, folder).file)
    name = storable(name or folder.absolute().name)
    return build_export(study, trials(events), _times(events), name=name, ledger_id=ledger_id(events[0]))


def build_export(
    study: StudyConfig, past: Sequence[Trial], times: Mapping[int, _Times], *, name: str, ledger_id: str = ""
) -> Export:
    """Convert trials to Optuna's; `times` holds the start and end of trials by number, if known.

    Trials of rows that the study no longer has are left out.
    """
    past = [trial for trial in past if not trial.is_confirmation and has_row(study, trial.network)]
    params, scored = _params(study, past), (objectives_of(study), study.headline.name)
    distributions = {name: _distribution(options) for name, options in taken_options(params).items()}
    frozen = [
        _frozen_trial(trial, own, distributions, scored, times.get(trial.number))
        for trial, own in zip(past, params, strict=True)
    ]
    return Export(name, ledger_id, scored[0], frozen)


def to_file(export: Export, path: Path) -> JournalStorage:
    """Write a journal file atomically, in place of an old one. StudyError if the folder is not writable."""
    buffer = _JournalBuffer()
    export.create_study(JournalStorage(buffer)).add_trials(export.trials)
    unfinished = unfinished_path(path)
    try:
        JournalFileBackend(str(unfinished)).append_logs(buffer.logs)
        unfinished.replace(path)
    except OSError as error:
        with suppress(OSError):
            unfinished.unlink()
        advice = "give a database with --storage, or copy the folder"
        raise StudyError(f"{path} cannot be written ({error.strerror}); {advice}") from error
    return JournalStorage(JournalFileBackend(str(path)))


class _JournalBuffer(BaseJournalBackend):
    """A journal in memory: Optuna's journal file waits for the disk after every trial."""

    def __init__(self) -> None:
        self.logs: list[dict[str, Any]] = []

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        return self.logs[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self.logs += logs


@contextmanager
def in_database(export: Export, text: str, say: Say) -> Iterator[RDBStorage]:
    """Open a database with the export, which replaces an earlier one of the same ledger; other studies stay.

    An interrupted export leaves a part of the trials; the next one replaces it. StudyError, without the password.
    """
    url = _parse_url(text)
    with _database_errors(export, url):
        storage = RDBStorage(url.render_as_string(hide_password=False))
    try:
        with _database_errors(export, url):
            _remove_earlier(export, storage, _shown(url))
            _add_trials(export.create_study(storage), export.trials, say)
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _add_trials(study: optuna.Study, trials: Sequence[FrozenTrial], say: Say) -> None:
    for count, trial in enumerate(trials):
        if count and count % PROGRESS_TRIALS == 0:
            say(f"exported {count:,} of {len(trials):,} trials")
        study.add_trial(trial)


@contextmanager
def _database_errors(export: Export, url: URL) -> Iterator[None]:
    """Turn errors of the database and its driver into a StudyError without secrets."""
    try:
        yield
    except ImportError as error:
        raise StudyError(f"{_shown(url)}: {_driver_advice(url)}") from error
    except DuplicatedStudyError as error:
        advice = "wait until that export has ended"
        raise StudyError(f"another process is writing {export.name} into {_shown(url)}; {advice}") from error
    except (SQLAlchemyError, StorageInternalError, RuntimeError) as error:
        reason = str(error.__cause__ or error).strip().partition("\n")[0]
        for secret in (url.password, *url.query.values()):  # a driver may quote them outside a URL
            reason = reason.replace(str(secret), HIDDEN) if secret else reason
        raise StudyError(f"{_shown(url)} cannot be used: {redacted(reason)}") from error


def _shown(url: URL) -> str:
    return redacted(url.render_as_string(hide_password=False))


def _parse_url(text: str) -> URL:
    try:
        return make_url(text)
    except (ArgumentError, ValueError):
        examples = "postgresql+psycopg://USER@HOST/DATABASE or sqlite:////PATH/FILE.db"
        # The text and the error of the parser may hold a password: the message repeats neither.
        raise StudyError(f"--storage: expected the URL of a database, such as {examples}") from None


def _driver_advice(url: URL) -> str:
    if url.get_backend_name() == "postgresql":
        return 'write postgresql+psycopg://..., and install it with: pip install "hiri-search[postgres]"'
    return f"the Python package for {url.drivername} is not installed"


def _remove_earlier(export: Export, storage: RDBStorage, place: str) -> None:
    """Remove earlier exports of the same ledger, under any name. StudyError if another study has the name."""
    for old in storage.get_all_studies():
        if old.user_attrs.get(LEDGER_ATTRIBUTE) == export.ledger_id:
            optuna.delete_study(study_name=old.study_name, storage=storage)
        elif old.study_name == export.name:
            advice = "which is not from this ledger; give this export another name with --name"
            raise StudyError(f"{place} holds a study {export.name}, {advice}")


_Times = tuple[float, float | None]  # start and end of a trial, in seconds since 1970


def _times(events: Iterable[Event]) -> dict[int, _Times]:
    """Return start and end of trials by number, from events that have a time."""
    starts: dict[int, float] = {}
    ends: dict[int, float] = {}
    for event in events:
        if isinstance(event, TrialAsked | TrialBegan) and event.time is not None:
            starts.setdefault(event.trial, event.time)
            ends.pop(event.trial, None)
        elif isinstance(event, TrialFinished | TrialFailed | TrialStopped) and event.time is not None:
            ends[event.trial] = event.time
    return {number: (start, ends.get(number)) for number, start in starts.items()}


def _params(study: StudyConfig, past: Sequence[Trial]) -> list[Decisions]:
    """Return the parameters of each trial: its decisions, or the row of an ablation."""
    if study.space is not None:
        return [trial.asked.decisions for trial in past]
    names = [trial.network.name for trial in past]
    if len(study.nets or ()) <= MAX_NAMES:
        return [{"net": name} for name in names]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return [{"net": numbers[name]} for name in names]


def _distribution(options: Sequence[Option]) -> BaseDistribution:
    """Return the range of numbers: no sampler runs on the export, so gaps in the range do no harm."""
    return IntDistribution(min(options), max(options)) if are_numbers(options) else CategoricalDistribution(options)


def _frozen_trial(
    trial: Trial,
    params: Decisions,
    distributions: Mapping[str, BaseDistribution],
    scored: tuple[Sequence[Objective], str],
    times: _Times | None,
) -> FrozenTrial:
    objectives, score = scored
    values = [each.of(trial) for each in objectives] if trial.state == "finished" else [None]
    complete = None not in values
    frozen = optuna.create_trial(
        state=OPTUNA_STATES[trial.state if complete or trial.state != "finished" else "failed"],
        params=dict(params),
        distributions={name: distributions[name] for name in params},
        values=values if complete else None,  # type: ignore[arg-type]
        intermediate_values={epoch.epoch: value for epoch in trial.curve if (value := epoch.score(score)) is not None},
        user_attrs={name: getattr(trial.network, name) for name in _NETWORK_ATTRIBUTES}
        | {"trial": trial.number, "seed": trial.asked.seed}
        | (by_column({}, trial.curve[-1].test_scores) if trial.curve else {})
        | ({"reason": trial.reason} if trial.reason else {}),
    )
    if times:
        _set_times(frozen, *times)
    return frozen


def _set_times(frozen: FrozenTrial, start: float, end: float | None) -> None:
    """Set start and end of the training, in local time as Optuna expects."""
    frozen.datetime_start = datetime.fromtimestamp(start)
    if end and frozen.state.is_finished():
        frozen.datetime_complete = datetime.fromtimestamp(end)
