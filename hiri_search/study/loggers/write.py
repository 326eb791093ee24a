"""Runs of loggers written from the ledger: while a study runs, in threads, or afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Protocol

from hiri_search.study.config.sections.loggers import LogConfig
from hiri_search.study.errors import StudyError
from hiri_search.study.ledger.events import Event
from hiri_search.study.ledger.layout import CALIBRATION, TENSORBOARD
from hiri_search.study.ledger.ledger import Ledger, read_events
from hiri_search.study.loggers.mlflow_logger import MlflowLogger
from hiri_search.study.loggers.run_record import RunRecord, RunRecords
from hiri_search.study.loggers.tensorboard_logger import TensorboardLogger
from hiri_search.study.loggers.wandb_logger import WandbLogger
from hiri_search.system.files import Say
from hiri_search.system.redaction import redacted, shortened

RETRY_SECONDS = 30.0  # between attempts while a logger fails
CLOSE_SECONDS = 60.0  # that the end of a study waits for a logger that writes nothing
_LONGEST_REASON = 300  # characters of an error


class RunLogger(Protocol):
    """Shows trials as runs in one tool."""

    label: str  # of the tool

    @property
    def destination(self) -> str:
        """Where the runs are, for a message."""

    def write(self, run: RunRecord) -> None:
        """Make the run of a trial as its record says; what is there already is not written twice.

        Whatever it raises, a later call tries again.
        """

    def close(self) -> None:
        """End what is open."""


def open_loggers(config: LogConfig, folder: Path) -> list[RunLogger]:
    """Return the loggers of a study with this results folder. StudyError where a package or a key is missing."""
    check_installed(config)
    loggers: list[RunLogger] = []
    if config.tensorboard is not False:
        loggers.append(TensorboardLogger(folder / TENSORBOARD))
    if config.mlflow is not False:
        loggers.append(MlflowLogger(config.mlflow, study_name(folder)))
    if config.wandb is not False:
        loggers.append(WandbLogger(config.wandb, study_name(folder), folder))
    return loggers


def check_installed(config: LogConfig) -> None:
    """Raise StudyError where the package of a logger is missing."""
    for package in config.names:
        if find_spec(package) is None:
            raise StudyError(f"log: {package} is not installed: pip install 'hiri-search[{package}]'")


def study_name(folder: Path) -> str:
    """Return the name of a results folder; of a setting of a calibration, with that of the calibration."""
    folder = folder.absolute()
    is_setting = (folder.parent / CALIBRATION).is_file()
    return f"{folder.parent.name}.{folder.name}" if is_setting else folder.name


def write_runs(loggers: Sequence[RunLogger], folder: Path, say: Say) -> None:
    """Write the runs of a results folder, as its ledger has them. StudyError where a logger fails."""
    records = RunRecords(study_name(folder), read_events(folder), active=False)
    for logger in loggers:
        say(f"{len(records.trials)} runs for {logger.label}: {logger.destination}")
        try:
            for trial in records.trials:
                logger.write(records.snapshot(trial))
            logger.close()
        except Exception as error:
            raise StudyError(f"{logger.label} cannot be written: {_reason(error)}; the same command goes on") from error
        say(f"{logger.label} has them all")


@contextmanager
def logging_runs(loggers: Sequence[RunLogger], ledger: Ledger, folder: Path, say: Say) -> Iterator[None]:
    """Write the runs of a study while it runs, from the events of its ledger, and what earlier runs have not written.

    No fault of a logger ends the study: it is said once, and the logger tries again.
    """
    if not loggers:
        yield
        return
    records = RunRecords(study_name(folder), read_events(folder), active=True)
    threads = [_LoggerThread(logger, records.snapshot, say) for logger in loggers]

    def tell(trials: Sequence[int]) -> None:
        for trial in trials:
            for thread in threads:
                thread.changed.put(trial)

    def on_event(event: Event) -> None:
        if (trial := records.apply(event)) is not None:
            tell([trial])

    tell(records.trials)
    ledger.listener = on_event
    try:
        yield
    finally:
        ledger.listener = None
        tell(records.end())
        for thread in threads:
            thread.finish()
            if thread.left:
                say(f"{thread.logger.label} lacks {len(thread.left)} runs; `hiri-search log {folder}` writes them")


class _LoggerThread(Thread):
    """Writes the runs of one logger: a server that does not answer keeps nobody waiting."""

    def __init__(self, logger: RunLogger, snapshot: Callable[[int], RunRecord], say: Say) -> None:
        super().__init__(name=f"logger {logger.label}", daemon=True)
        self.logger, self._snapshot, self._say = logger, snapshot, say
        self.changed: SimpleQueue[int | None] = SimpleQueue()  # numbers of trials; None: the study has ended
        self.left: dict[int, int] = {}  # trials to write, and how often each of them has failed
        self._written = 0  # runs
        self._retry_at = 0.0  # by the monotonic clock; 0: the logger does not fail
        self.start()

    def run(self) -> None:
        going_on = True
        while going_on:
            going_on = self._receive()
            if not going_on or time.monotonic() >= self._retry_at:
                self._write()
        try:
            self.logger.close()
        except Exception as error:
            self._say(f"{self.logger.label}: {_reason(error)}")

    def finish(self) -> None:
        """End the thread when all is written, or when nothing was written for `CLOSE_SECONDS`."""
        self.changed.put(None)
        written = -1
        while self.is_alive() and self._written > written:
            written = self._written
            self.join(CLOSE_SECONDS)

    def _receive(self) -> bool:
        """Wait for changes, or for the next attempt; return false where the study has ended."""
        wait = max(0.0, self._retry_at - time.monotonic()) if self._retry_at else None
        try:
            trial = self.changed.get(timeout=wait)
            while trial is not None:
                self.left.setdefault(trial, 0)
                trial = self.changed.get_nowait()
            return False
        except Empty:
            return True

    def _write(self) -> None:
        """Write all changed runs, those that have failed before last; two failures one after the other end this."""
        failed = 0
        for trial in sorted(self.left, key=lambda trial: (self.left[trial], trial)):
            try:
                self.logger.write(self._snapshot(trial))
            except Exception as error:
                self.left[trial] += 1
                failed += 1
                if not self._retry_at:
                    self._say(f"{self.logger.label} cannot be written, and the study goes on: {_reason(error)}")
                self._retry_at = time.monotonic() + RETRY_SECONDS
                if failed == 2:
                    return
            else:
                failed = 0
                self._written += 1
                del self.left[trial]
        if self._retry_at and not self.left:
            self._retry_at = 0.0
            self._say(f"{self.logger.label} is up to date again")


def _reason(error: Exception) -> str:
    """Return the first line of an error, without secrets."""
    text = str(error).strip().partition("\n")[0] or type(error).__name__
    return redacted(shortened(text, _LONGEST_REASON))
