"""Bulk insert into Optuna's database tables."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, TypeAlias

import optuna
from optuna.distributions import distribution_to_json
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial
from sqlalchemy import Connection, MetaData, Table, delete, select

from hiri_search.system.files import Say

KNOWN = "v3.2.0.a"  # the version of Optuna's tables, as RDBStorage tells it
TOLD = 1_000  # trials between words of how far the slow way is
FINITE = "FINITE"  # Optuna's word beside a number; a ledger holds no others

Row: TypeAlias = dict[str, Any]


def add(storage: RDBStorage, study: optuna.Study, trials: Sequence[FrozenTrial], say: Say) -> None:
    """All trials of a study that has none, or none if it is interrupted."""
    if storage.get_current_version() != KNOWN:
        _one_by_one(study, trials, say)
        return
    tables = _tables(storage)
    with storage.engine.begin() as connection:
        numbers = _add_trials(connection, tables["trials"], study._study_id, trials)
        for name, rows in _by_table(numbers, trials).items():
            connection.execute(tables[name].insert(), rows)


def remove(storage: RDBStorage, study_id: int) -> None:
    """All trials of a study."""
    if storage.get_current_version() != KNOWN:
        return  # Optuna removes them with their study, one by one
    tables = _tables(storage)
    trials = tables["trials"]
    mine = select(trials.c.trial_id).where(trials.c.study_id == study_id)
    with storage.engine.begin() as connection:
        for table in tables.values():
            if table is not trials and "trial_id" in table.c:
                connection.execute(delete(table).where(table.c.trial_id.in_(mine)))
        connection.execute(delete(trials).where(trials.c.study_id == study_id))


def _one_by_one(study: optuna.Study, trials: Sequence[FrozenTrial], say: Say) -> None:
    for number, trial in enumerate(trials):
        if number and number % TOLD == 0:
            say(f"{number:,} of {len(trials):,} trials")
        study.add_trial(trial)


def _tables(storage: RDBStorage) -> dict[str, Table]:
    known = MetaData()
    known.reflect(storage.engine)
    return dict(known.tables)


def _add_trials(connection: Connection, table: Table, study_id: int, trials: Sequence[FrozenTrial]) -> dict[int, int]:
    """The database's numbers of trials by ours."""
    rows = [
        {
            "number": number,
            "study_id": study_id,
            "state": trial.state.name,
            "datetime_start": _utc(trial.datetime_start),
            "datetime_complete": _utc(trial.datetime_complete),
        }
        for number, trial in enumerate(trials)
    ]
    if rows:
        connection.execute(table.insert(), rows)
    asked = select(table.c.number, table.c.trial_id).where(table.c.study_id == study_id)
    return {number: trial_id for number, trial_id in connection.execute(asked)}


def _by_table(numbers: dict[int, int], trials: Sequence[FrozenTrial]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = defaultdict(list)
    for number, trial in enumerate(trials):
        for table, row in _rows(trial):
            found[table].append({"trial_id": numbers[number], **row})
    return found


def _rows(trial: FrozenTrial) -> Iterator[tuple[str, Row]]:
    """What belongs to one, and the table it belongs into."""
    for objective, value in enumerate(trial.values or ()):
        yield "trial_values", {"objective": objective, "value": value, "value_type": FINITE}
    for step, value in trial.intermediate_values.items():
        told = {"intermediate_value": value, "intermediate_value_type": FINITE}
        yield "trial_intermediate_values", {"step": step, **told}
    for name, chosen in trial.params.items():
        distribution = trial.distributions[name]
        value = distribution.to_internal_repr(chosen)
        told = {"param_value": value, "distribution_json": distribution_to_json(distribution)}
        yield "trial_params", {"param_name": name, **told}
    for key, attribute in trial.user_attrs.items():
        yield "trial_user_attributes", {"key": key, "value_json": json.dumps(attribute)}


def _utc(moment: datetime | None) -> datetime | None:
    """As Optuna writes it: of Greenwich, without saying so."""
    return moment and moment.astimezone(UTC).replace(tzinfo=None)
