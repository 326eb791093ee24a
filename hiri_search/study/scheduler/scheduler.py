"""Trial scheduler: hands out the trials that the ledger lacks, and records every event."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from hiri_search.language.space import SearchSpace
from hiri_search.study.callbacks import ProgressCallback
from hiri_search.study.config.networks import StudyNetworks
from hiri_search.study.dispatch.task import TrialTask, Wait
from hiri_search.study.ledger.events import (
    EpochEnded,
    NetworkSkipped,
    TrialAsked,
    TrialBegan,
    TrialEvent,
    TrialFailed,
    TrialFinished,
    TrialLost,
    TrialOutOfMemory,
    TrialPromoted,
    TrialRetried,
    TrialScored,
    TrialStopped,
)
from hiri_search.study.ledger.layout import CHECKPOINTS, LAST_CHECKPOINT
from hiri_search.study.ledger.ledger import Ledger, of_kind, trials
from hiri_search.study.ledger.trial import Trial
from hiri_search.study.ledger.trial_cache import CachedResult, from_other_folders
from hiri_search.study.ledger.values import NetworkFacts
from hiri_search.study.persistence.checkpoints import CheckpointRetention, checkpoint_path
from hiri_search.study.persistence.mirror import Mirror
from hiri_search.study.plan.peak_memory import most_memory
from hiri_search.study.scheduler.duplicates import Duplicates
from hiri_search.study.scheduler.queue import Confirm, Promote, QueueStep, Resume, Start, Stop, TrialQueue
from hiri_search.study.scheduler.retries import after_loss
from hiri_search.study.search.network_facts import PreparedBySide, fingerprints, network_facts
from hiri_search.study.search.search import ask_tell
from hiri_search.study.search.successive_halving import SuccessiveHalving
from hiri_search.system.gc_control import gc_disabled
from hiri_search.system.redaction import redacted, shortened
from hiri_search.training.job import Job, PreparedData

MAX_REASON, MAX_TRACEBACK = 2_000, 8_000  # characters

SILENT = (TrialBegan, TrialScored)  # events that no table of trials shows
AnyTrialEvent = TypeVar("AnyTrialEvent", bound=TrialEvent)


class TrialScheduler:
    """The source of tasks for executors; lives in the process that holds the ledger."""

    @gc_disabled()
    def __init__(
        self,
        networks: StudyNetworks,
        ledger: Ledger,
        prepared: PreparedBySide,
        folder: Path,
        watcher: ProgressCallback,
        *,
        space: SearchSpace | None,
        retry_failed: bool,
        mirror: Mirror | None = None,
    ) -> None:
        self.networks, self.study = networks, (study := networks.study)
        self.ledger, self.prepared = ledger, prepared
        self.folder, self.watcher, self.space, self.mirror = folder, watcher, space, mirror
        self.trials = {trial.number: trial for trial in trials(ledger.events)}
        self.running: set[int] = set()
        self.trouble = ""  # a fault of the environment: nothing more is handed out
        rules = study.search.halving
        self.halving = SuccessiveHalving(rules, study.search.objectives) if rules and space else None
        self._prepare_unfinished(retry_failed=retry_failed)
        self.duplicates = Duplicates(
            self.trials.values(), from_other_folders(study.search.reuse, fingerprints(prepared))
        )
        unfinished = [trial for trial in self.trials.values() if trial.state == "unfinished"]
        first = [trial for trial in self.trials.values() if not trial.is_confirmation]
        self.search = ask_tell(networks, first, **self._search_settings())
        self.queue = TrialQueue(study, self.trials, self.search, self.halving, unfinished)
        if self.halving:
            for trial in first:
                self.halving.update(trial)
        self.checkpoints = CheckpointRetention(
            study.checkpoints,
            folder,
            self.trials.values(),
            search=bool(space),
            may_be_on_front=self.search.may_be_on_front,
            copies=mirror,
        )
        self.checkpoints.sweep()

    def _prepare_unfinished(self, *, retry_failed: bool) -> None:
        """Retry failed trials if asked; forget earlier losses, whose cause may have been mended."""
        for trial in self.trials.values():
            if retry_failed and trial.state == "failed":
                self._record(trial, TrialRetried(trial=trial.number))
            if trial.state == "unfinished":
                trial.lost = 0

    def _search_settings(self) -> dict[str, Any]:
        if self.space is None:
            return {}
        return {"space": self.space, "skipped": of_kind(self.ledger.events, NetworkSkipped), "on_skip": self._skip}

    def most_memory(self) -> tuple[Job, PreparedData]:
        """Return the training of the study that needs the most memory, by estimate."""
        classes = len(next(iter(self.prepared.values())).classes)
        job = most_memory(self.networks, self.space, classes)
        return job, self.prepared[job.side]

    # ---- handing out tasks

    def next(self) -> TrialTask | Wait | None:
        """Return the next task; no training is handed out twice."""
        self.trouble = self.trouble or (self.mirror.replaced if self.mirror else "")
        while not self.trouble and (step := self.queue.next(self.running)):
            if (trial := self._take(step)) and (task := self._task(trial)):
                return task
        return Wait.WAIT if self.running and self.queue.may_grow and not self.trouble else None

    def _take(self, step: QueueStep) -> Trial | None:
        """Record a step of the queue; return the trial to train, if there is one."""
        match step:
            case Resume(trial):
                pass
            case Promote(trial):
                self._record(trial, TrialPromoted(trial=trial.number))
            case Stop(trial):
                self._record(trial, TrialStopped(trial=trial.number))
                self._ended(trial)
                self.watcher.on_trial(trial)
                return None
            case Start(number, candidate, seed):
                network = network_facts(candidate, self.study, self.prepared)
                trial = self._begin(number, network, seed, decisions=candidate.decisions)
            case Confirm(first, seed, epochs):
                trial = self._begin(len(self.trials), first.network, seed, confirms=first.number, confirm_epochs=epochs)
        self.watcher.on_trial(trial)
        return trial

    def _begin(
        self,
        number: int,
        network: NetworkFacts,
        seed: int,
        *,
        decisions: Mapping[str, int] | None = None,
        confirms: int | None = None,
        confirm_epochs: int | None = None,
    ) -> Trial:
        digest = self.networks.job(network, seed, epochs=confirm_epochs).digest
        asked = TrialAsked(
            trial=number,
            network=network,
            seed=seed,
            checkpoint=f"{CHECKPOINTS}/{digest}/{LAST_CHECKPOINT}",
            decisions=dict(decisions or {}),
            confirms=confirms,
            confirm_epochs=confirm_epochs,
        )
        self.ledger.append(asked)
        trial = self.trials[number] = Trial(asked)
        self.checkpoints.add(trial)
        return trial

    def _task(self, trial: Trial) -> TrialTask | None:
        """Return the training of a trial; None where its result is known, or the same training is running."""
        if result := self.duplicates.result(trial):
            self._take_over(trial, result)
            return None
        if self.duplicates.must_wait(trial):
            return None
        self.running.add(trial.number)
        asked = trial.asked
        job = self.networks.job(asked.network, asked.seed, epochs=asked.confirm_epochs)
        first = self.space is not None and not trial.is_confirmation
        return TrialTask(
            trial.number,
            job,
            self.prepared[job.side],
            checkpoint_path(self.folder, trial),
            until=self.halving.next_rung(trial) if self.halving and first else None,
            zero_cost=self.study.search.zero_cost if first and not trial.zero_cost else (),
            alone=trial.alone,
            storage=self.mirror.storage if self.mirror else None,
        )

    # ---- recording events

    def on_event(self, event: TrialEvent) -> None:
        """Record an event of a running trial and act on it."""
        trial = self.trials[event.trial]
        if isinstance(event, EpochEnded) and event.result.epoch <= len(trial.curve):
            return  # reported again by a trial that continues from a checkpoint
        self._record(trial, event)
        if isinstance(event, TrialLost | TrialOutOfMemory) or trial.state != "unfinished":
            self.running.discard(trial.number)
        match event:
            case TrialLost():
                self._lost(trial, event)
            case TrialOutOfMemory():
                self.queue.resumable.append(trial)
        if trial.ended:
            self._ended(trial)
        if not isinstance(event, SILENT):
            self.watcher.on_trial(trial)

    def _lost(self, trial: Trial, loss: TrialLost) -> None:
        match after_loss(trial, loss):
            case "retry":
                self.queue.resumable.append(trial)
            case "end run":
                self.trouble = f"trial {trial.number} cannot go on: {loss.reason}"
            case "fail":
                reason = f"lost {trial.lost} times without an epoch: {loss.reason}"
                self._record(trial, TrialFailed(trial=trial.number, reason=reason))

    def _ended(self, trial: Trial) -> None:
        """Tell the search; the trials that waited for the same training end in the same way."""
        self._tell(trial)
        for duplicate in self.duplicates.release(trial):
            if result := self.duplicates.result(duplicate):
                self._take_over(duplicate, result)
                continue
            kind = TrialStopped if trial.state == "stopped" else TrialFailed
            self._record(duplicate, kind(trial=duplicate.number, reason=f"as trial {trial.number}: {trial.reason}"))
            self._tell(duplicate)
            self.watcher.on_trial(duplicate)

    def _take_over(self, trial: Trial, result: CachedResult) -> None:
        """Finish a trial with the result of the same training."""
        self._record(trial, TrialFinished(trial=trial.number, curve=tuple(result.curve), source=result.source))
        self._tell(trial)
        self.watcher.on_trial(trial)

    def _tell(self, trial: Trial) -> None:
        if not trial.is_confirmation:
            self.search.tell(trial)
        self.checkpoints.ended(trial)

    def _skip(self, number: int, decisions: Mapping[str, int], reason: str) -> None:
        self.ledger.append(NetworkSkipped(proposal=number, decisions=dict(decisions), reason=_limited(reason)))

    def _record(self, trial: Trial, event: TrialEvent) -> None:
        """Write an event to disk, then apply it in memory."""
        event = _without_secrets(event)
        self.ledger.append(event)
        trial.apply(event)
        if self.halving and not trial.is_confirmation:
            self.halving.update(trial)


def _without_secrets(event: AnyTrialEvent) -> AnyTrialEvent:
    """Return the event with its texts redacted and shortened."""
    match event:
        case TrialFailed() | TrialLost():
            traceback = _limited(event.traceback, MAX_TRACEBACK)
            return replace(event, reason=_limited(event.reason), traceback=traceback)
        case TrialStopped() | TrialOutOfMemory():
            return replace(event, reason=_limited(event.reason))
    return event


def _limited(text: str, longest: int = MAX_REASON) -> str:
    return shortened(redacted(text), longest)
