"""Runs of MLflow: one for each trial, found again by its tags."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from hiri_search.study.config.sections.loggers import MlflowConfig
from hiri_search.study.loggers.run_record import RunRecord
from hiri_search.system.redaction import redacted

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

# Set where the user has not. MLflow's own retries could make a run twice; ours look for it first.
_SETTINGS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
_PREFIX = "hiri_search."  # of our tags
_LEDGER, _TRIAL, _DIGEST = f"{_PREFIX}ledger", f"{_PREFIX}trial", f"{_PREFIX}digest"
_ENDED = {"finished": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}  # MLflow's status by state of a trial
_MOST_METRICS, _MOST_PARAMETERS = 1000, 100  # that one request may have
_INVALID = re.compile(r"[^\w./ :-]")  # characters that the name of a parameter may not have
_Item = TypeVar("_Item")
_Values: TypeAlias = dict[tuple[str, int], float]  # by name and step


@dataclass
class _OpenRun:
    """A run that is written: what MLflow holds of it."""

    id: str
    values: _Values
    state: object = field(default=None)  # tags and status


class MlflowLogger:
    """Writes runs to a tracking server, or to any other place that MLflow's tracking URI may name.

    A run that is there is continued: MLflow is asked what it holds, and only the rest is written. One that holds other
    values, because an epoch was trained again, is deleted and written anew.
    """

    label = "MLflow"

    def __init__(self, config: MlflowConfig, study: str) -> None:
        for name, value in _SETTINGS.items():
            os.environ.setdefault(name, value)
        self._config, self._study = config, study
        self._found: dict[str, Run] | None = None  # runs by the id of their record; None: not searched yet
        self._open: dict[str, _OpenRun] = {}  # by the id of their record

    @cached_property
    def _client(self) -> MlflowClient:
        from mlflow import MlflowClient

        return MlflowClient(self._config.uri)

    @property
    def destination(self) -> str:
        """The tracking URI, without secrets."""
        return redacted(self._client.tracking_uri)

    def write(self, run: RunRecord) -> None:
        """Bring a run up to date. MlflowException where the server does not answer, or refuses it."""
        try:
            there = self._open.get(run.id) or self._opened(run)
            if there is None:
                return
            if self._holds_other_values(there, run):
                self._client.delete_run(there.id)
                there = self._open[run.id] = self._made(run)
            self._write_values(there, run)
            self._write_state(there, run)
        except BaseException:  # the server may have done all the same what it was asked: look again
            self._found, _ = None, self._open.pop(run.id, None)
            raise
        if not run.running:
            del self._open[run.id]
            if self._found is not None:  # a later event of the trial finds the run that was made here
                self._found[str(run.trial.number)] = self._client.get_run(there.id)

    def close(self) -> None:
        """Do nothing: no connection stays open."""

    @cached_property
    def _experiment(self) -> str:
        """The id of the experiment, which is made where there is none."""
        name = self._config.experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME") or self._study
        found = self._client.get_experiment_by_name(name)
        return str(found.experiment_id if found else self._client.create_experiment(name))

    def _opened(self, run: RunRecord) -> _OpenRun | None:
        """Return the run of a trial, found or made; None where it is complete."""
        if self._found is None:
            self._found = {}
            for each in self._search(run.ledger):
                if self._found.setdefault(each.data.tags[_TRIAL], each) is not each:
                    self._client.delete_run(each.info.run_id)  # made twice: the first answer was lost
        found = self._found.get(str(run.trial.number))
        if found and found.data.tags.get(_DIGEST) == run.digest:
            return None
        self._open[run.id] = self._read(found, run) if found else self._made(run)
        return self._open[run.id]

    def _search(self, ledger: str) -> Iterator[Run]:
        """Yield the runs of all trials of a ledger."""
        token, wanted = None, f"tags.`{_LEDGER}` = '{ledger}'"
        while True:
            page = self._client.search_runs([self._experiment], wanted, max_results=1000, page_token=token)
            yield from page
            if not (token := page.token):
                return

    def _made(self, run: RunRecord) -> _OpenRun:
        tags = {f"{_PREFIX}{name}": text for name, text in run.tags.items()}
        made = self._client.create_run(self._experiment, _milliseconds(run.began), tags, run.name)
        self._write_parameters(made, run)
        return _OpenRun(made.info.run_id, {})

    def _read(self, found: Run, run: RunRecord) -> _OpenRun:
        self._write_parameters(found, run)
        histories = (self._client.get_metric_history(found.info.run_id, name) for name in found.data.metrics)
        return _OpenRun(
            found.info.run_id, {(each.key, each.step): each.value for history in histories for each in history}
        )

    def _write_parameters(self, there: Run, run: RunRecord) -> None:
        """Write the parameters that a run lacks; they never change."""
        from mlflow.entities import Param

        named = {_INVALID.sub("_", name): str(value) for name, value in run.parameters.items()}
        missing = [Param(name, text) for name, text in named.items() if name not in there.data.params]
        for some in _chunks(missing, _MOST_PARAMETERS):
            self._client.log_batch(there.info.run_id, params=some)

    def _holds_other_values(self, there: _OpenRun, run: RunRecord) -> bool:
        wanted = {(name, point.step): value for point in run.curve for name, value in point.values.items()}
        return any(not math.isclose(value, wanted.get(key, math.nan)) for key, value in there.values.items())

    def _write_values(self, there: _OpenRun, run: RunRecord) -> None:
        """Write the values that a run lacks, in the order of the epochs."""
        from mlflow.entities import Metric

        missing = [
            Metric(name, value, _milliseconds(point.time), point.step)
            for point in run.curve
            for name, value in point.values.items()
            if (name, point.step) not in there.values
        ]
        for some in _chunks(missing, _MOST_METRICS):
            self._client.log_batch(there.id, metrics=some)
            there.values |= {(each.key, each.step): each.value for each in some}

    def _write_state(self, there: _OpenRun, run: RunRecord) -> None:
        """Write tags and status; the digest comes last, when all else is there."""
        from mlflow.entities import RunTag

        status = _ENDED.get(run.trial.state, "RUNNING" if run.running else "SCHEDULED")
        state = (run.tags, status)
        if state == there.state:
            return
        if status in _ENDED.values():
            self._client.set_terminated(there.id, status, _milliseconds(run.changed))
        else:
            self._client.update_run(there.id, status)
        tags = [RunTag(f"{_PREFIX}{name}", text) for name, text in run.tags.items()]
        self._client.log_batch(there.id, tags=tags)
        if not run.running:
            self._client.set_tag(there.id, _DIGEST, run.digest)
        there.state = state


def _milliseconds(seconds: float) -> int:
    return round(1000 * seconds)


def _chunks(items: Sequence[_Item], size: int) -> Iterator[Sequence[_Item]]:
    return (items[start : start + size] for start in range(0, len(items), size))
