"""Export of a study to Optuna: journal file or database."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
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

from hiri_search.language.syntax_tree import Options
from hiri_search.study.config.schema import Study
from hiri_search.study.errors import StudyError
from hiri_search.study.ledger.events import TIME, Event
from hiri_search.study.ledger.ledger import read_events, study_event, trials
from hiri_search.study.ledger.trial import Trial
from hiri_search.study.search.objectives import OBJECTIVES
from hiri_search.study.search.samplers.optuna_sampler import OPTUNA_STATES, new_study
from hiri_search.study.search.search_space import options_of
from hiri_search.system.files import Say

JOURNAL = "optuna.journal"
MARK = "hiri_search ledger"  # attribute of a study of Optuna's: which one it was made of
USER_ATTRIBUTES = ("name", "key", "spec", "seed", "params", "macs")
PROGRESS_TRIALS = 100  # trials between two progress messages: a trial costs a database about a hundred queries
START_EVENTS, END_EVENTS = ("asked", "began"), ("finished", "failed", "stopped")


@dataclass(frozen=True)
class Export:
    """What of a study Optuna is told; without a second look, whose longer trainings are no match for the others."""

    name: str
    mark: str  # of the ledger, wherever it lies
    objectives: tuple[str, ...]
    trials: Sequence[FrozenTrial]

    def enter(self, storage: BaseStorage) -> optuna.Study:
        """A study in there, still without trials. DuplicatedStudyError where one has its name."""
        ups = [OBJECTIVES[each].up for each in self.objectives]
        directions = [StudyDirection.MAXIMIZE if up else StudyDirection.MINIMIZE for up in ups]
        made = new_study(directions, study_name=self.name, storage=storage)
        made.set_user_attr(MARK, self.mark)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            made.set_metric_names(list(self.objectives))
        return made


def read_export(folder: Path, *, name: str = "") -> Export:
    """What the ledger of a results folder tells, under the folder's name where no other is given. StudyError."""
    events = read_events(folder, timed=True)
    study = Study.model_validate(study_event(events, folder)["file"])
    return export(study, trials(events), _times(events), name=name or folder.absolute().name, mark=_mark(events))


def export(study: Study, past: Sequence[Trial], times: Mapping[int, _Times], *, name: str, mark: str = "") -> Export:
    """Trials as Optuna's; `times` says when they began and ended, where that is known."""
    past = [trial for trial in past if not trial.is_confirmation]
    options, objectives = options_of(study, past), study.search.objectives
    distributions = {name: _distribution(each) for name, each in options.items()}
    frozen = [_frozen(trial, options, distributions, objectives, times.get(trial.number)) for trial in past]
    return Export(name, mark, objectives, frozen)


# ---- where it goes


def to_file(found: Export, path: Path) -> JournalStorage:
    """Made anew, and in its place when it is whole. StudyError where it cannot be written."""
    lines = _Lines()
    found.enter(JournalStorage(lines)).add_trials(found.trials)
    unfinished = path.with_suffix(".tmp")
    try:
        unfinished.unlink(missing_ok=True)
        JournalFileBackend(str(unfinished)).append_logs(lines.logs)
        unfinished.replace(path)
    except OSError as error:
        where = "give a database with --storage, or copy the folder"
        raise StudyError(f"{path} cannot be written ({error.strerror}); {where}") from error
    return JournalStorage(JournalFileBackend(str(path)))


class _Lines(BaseJournalBackend):
    """A journal that is not written yet: Optuna's own way waits for the disk behind each trial."""

    def __init__(self) -> None:
        self.logs: list[dict[str, Any]] = []

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        return self.logs[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self.logs += logs


@contextmanager
def in_database(found: Export, text: str, say: Say) -> Iterator[RDBStorage]:
    """A database with the export, which replaces an earlier one of the same ledger; other studies stay.

    An interrupted export leaves a part of the trials; the next one replaces it. StudyError without the password.
    """
    url = _url(text)
    with _explained(found, url):
        storage = RDBStorage(url.render_as_string(hide_password=False))
    try:
        with _explained(found, url):
            _make_room(found, storage, redacted_url(url))
            _add_trials(found.enter(storage), found.trials, say)
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _add_trials(study: optuna.Study, trials: Sequence[FrozenTrial], say: Say) -> None:
    """Add all trials to a study, and say progress of a long export."""
    for count, trial in enumerate(trials):
        if count and count % PROGRESS_TRIALS == 0:
            say(f"exported {count:,} of {len(trials):,} trials")
        study.add_trial(trial)


@contextmanager
def _explained(found: Export, url: URL) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise StudyError(f"{redacted_url(url)}: {_driver(url)}") from error
    except DuplicatedStudyError as error:
        raise StudyError(f"somebody else is writing {found.name} into {redacted_url(url)}; wait for that") from error
    except (SQLAlchemyError, StorageInternalError, RuntimeError) as error:
        reason = str(error.__cause__ or error).strip().partition("\n")[0]
        raise StudyError(f"{redacted_url(url)} cannot be used: {_without_secrets(reason, url)}") from error


def redacted_url(url: URL) -> str:
    """Without what nobody else may read."""
    return url.set(password=None, query={}).render_as_string()


def _url(text: str) -> URL:
    try:
        return make_url(text)
    except (ArgumentError, ValueError):
        like = "postgresql+psycopg://USER@HOST/DATABASE or sqlite:////PATH/FILE.db"
        # The text may hold a password: it is not repeated, and neither is what it was that could not be read.
        raise StudyError(f"--storage: this is no URL of a database; write one such as {like}") from None


def _without_secrets(text: str, url: URL) -> str:
    secrets = [url.password, *url.query.values()]
    for secret in (str(each) for each in secrets if each):
        text = text.replace(secret, "***")
    return text


def _driver(url: URL) -> str:
    if url.get_backend_name() == "postgresql":
        return 'write postgresql+psycopg://..., and install it with: pip install "hiri-search[postgres]"'
    return f"the Python package for {url.drivername} is not installed"


def _make_room(found: Export, storage: RDBStorage, where: str) -> None:
    """Remove what this ledger had there, under whatever name."""
    for old in storage.get_all_studies():
        if old.user_attrs.get(MARK) == found.mark:
            optuna.delete_study(study_name=old.study_name, storage=storage)
        elif old.study_name == found.name:
            other = "that is not of this ledger; give this one another name with --name"
            raise StudyError(f"{where} holds a study {found.name} {other}")


# ---- ours as Optuna's

_Times = tuple[float, float | None]  # when a trial began, and when it ended


def _mark(events: Sequence[Event]) -> str:
    """Of the ledger's first line, which no other has and no run changes."""
    return sha256(json.dumps(events[0], sort_keys=True).encode()).hexdigest()[:16]


def _times(events: Iterable[Event]) -> dict[int, _Times]:
    """Of the trials whose lines have times."""
    found: dict[int, _Times] = {}
    for event in events:
        if "trial" not in event or TIME not in event:
            continue
        number, time = event["trial"], event[TIME]
        if event["event"] in START_EVENTS:
            began = time if event["event"] == "asked" or number not in found else found[number][0]
            found[number] = (began, None)
        elif event["event"] in END_EVENTS and number in found:
            found[number] = (found[number][0], time)
    return found


def _distribution(options: Options) -> BaseDistribution:
    """Numbers as they are, for nothing is asked of this study: only looked at."""
    if isinstance(options[0], str):
        return CategoricalDistribution(options)
    return IntDistribution(min(options), max(options))


def _frozen(
    trial: Trial,
    options: Mapping[str, Options],
    distributions: Mapping[str, BaseDistribution],
    objectives: Sequence[str],
    times: _Times | None,
) -> FrozenTrial:
    decisions = trial.asked["decisions"]
    values = [OBJECTIVES[name].of(trial) for name in objectives] if trial.state == "finished" else [None]
    known = None not in values
    frozen = optuna.create_trial(
        state=OPTUNA_STATES[trial.state if known or trial.state != "finished" else "failed"],
        params={name: options[name][index] for name, index in decisions.items()},
        distributions={name: distributions[name] for name in decisions},
        values=values if known else None,  # type: ignore[arg-type]
        intermediate_values={epoch["epoch"]: epoch["top1"] for epoch in trial.curve},
        user_attrs={name: trial.asked[name] for name in USER_ATTRIBUTES}
        | ({"reason": trial.reason} if trial.reason else {}),
    )
    return _at(frozen, times)


def _at(frozen: FrozenTrial, times: _Times | None) -> FrozenTrial:
    """When it really was, as Optuna wants it: by the clock here."""
    if times:
        frozen.datetime_start = datetime.fromtimestamp(times[0])
    if times and times[1] and frozen.state.is_finished():
        frozen.datetime_complete = datetime.fromtimestamp(times[1])
    return frozen
