"""Trial scheduler: hands out the trials that the ledger lacks, and records every event."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hiri_search.language.space import Decisions, SearchSpace
from hiri_search.study.callbacks import ProgressCallback, call_on_trial_end
from hiri_search.study.config.networks import StudyNetworks, has_row
from hiri_search.study.dispatch.task import StudyFiles, TrialTask, Wait
from hiri_search.study.ledger import events
from hiri_search.study.ledger.events import TrialAsked, TrialEvent, TrialLost, TrialOutOfMemory
from hiri_search.study.ledger.layout import CHECKPOINTS, LAST_CHECKPOINT
from hiri_search.study.ledger.ledger import Ledger, last_start, of_kind, trials
from hiri_search.study.ledger.trial import Trial
from hiri_search.study.ledger.trial_cache import CachedResult, from_other_folders
from hiri_search.study.ledger.values import NetworkFacts
from hiri_search.study.persistence.checkpoints import CheckpointRetention, checked_digest
from hiri_search.study.persistence.mirror import Mirror
from hiri_search.study.plan.peak_memory import most_memory
from hiri_search.study.scheduler.duplicates import Duplicates
from hiri_search.study.scheduler.queue import Confirmation, ExistingTrial, NewTrial, QueueStep, TrialQueue
from hiri_search.study.scheduler.retries import after_loss
from hiri_search.study.search.added_seeds import seconds_to_limit
from hiri_search.study.search.comparison_design import comparison_design
from hiri_search.study.search.network_facts import PreparedBySide, fingerprints, network_facts
from hiri_search.system.redaction import redacted, shortened
from hiri_search.training.job import Epoch, Job, PreparedData
from hiri_search.user_code import loaded_code

MAX_REASON, MAX_TRACEBACK = 2_000, 8_000  # characters
SILENT = (events.TrialBegan, events.TrialScored)  # events that no table of trials shows


@dataclass(eq=False)
class TrialScheduler:
    """The source of tasks for dispatchers; lives in the process that holds the ledger."""

    networks: StudyNetworks
    ledger: Ledger
    prepared: PreparedBySide
    folder: Path
    watcher: ProgressCallback
    space: SearchSpace | None
    retry_failed: bool = False
    mirror: Mirror | None = None
    trouble: str = field(default="", init=False)  # a fault of the environment: nothing more is handed out
    running: set[int] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        storage, code = self.mirror.storage if self.mirror else None, loaded_code(self.networks.study.code.files)
        self.files = StudyFiles(self.prepared, self.folder, storage, code)
        self.study, past = self.networks.study, trials(self.ledger.events)
        self.trials = {trial.number: trial for trial in past}
        self._prepare_unfinished()  # first, because the other parts read the states of the trials
        weights = started.weights if (started := last_start(self.ledger.events)) else {}
        cached = from_other_folders(self.study.search.reuse, fingerprints(self.prepared), weights)
        self.duplicates = Duplicates(past, cached)
        left, began = seconds_to_limit(self.study, self.ledger.events), time.monotonic()
        self.queue = TrialQueue(
            self.networks,
            self.trials,
            space=self.space,
            skipped=of_kind(self.ledger.events, events.NetworkSkipped),
            on_skip=self._skip,
            say=self.watcher.say,
            design=comparison_design(self.study, self.ledger.events),
            seconds_left=lambda: left - (time.monotonic() - began),
        )
        on_front, mirror = self.queue.search.may_be_on_front, self.mirror
        self.checkpoints = CheckpointRetention(self.study, self.folder, past, may_be_on_front=on_front, mirror=mirror)
        self.checkpoints.sweep()

    def _prepare_unfinished(self) -> None:
        """Retry failed trials if asked; forget earlier losses, whose cause may have been mended."""
        for trial in self.trials.values():
            if self.retry_failed and trial.state == "failed" and has_row(self.study, trial.network):
                retried = events.TrialRetried(trial=trial.number)
                self.ledger.append(retried)
                trial.apply(retried)
            if trial.state == "unfinished":
                trial.lost = 0

    def most_memory(self) -> tuple[Job, PreparedData]:
        """Return the training of the study that needs the most memory, by estimate."""
        classes = len(next(iter(self.prepared.values())).classes)
        job = most_memory(self.networks, self.space, classes)
        return job, self.prepared[job.side]

    @property
    def exhausted(self) -> bool:
        """True if a search has asked for every network of its space."""
        return self.queue.search.exhausted

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
            case ExistingTrial(trial, event):
                if event:
                    self._record(trial, event)
                if trial.ended:
                    self._ended(trial)
            case NewTrial(number, candidate, seed, added_for):
                asked = self._asked(number, network_facts(candidate, self.study, self.prepared), seed)
                trial = self._begin(replace(asked, decisions=dict(candidate.decisions), added_for=added_for))
            case Confirmation(first, seed, epochs):
                asked = self._asked(len(self.trials), first.network, seed, confirm_epochs=epochs)
                trial = self._begin(replace(asked, confirms=first.number))
        self.watcher.on_trial(trial)
        return None if trial.ended else trial

    def _asked(self, number: int, network: NetworkFacts, seed: int, confirm_epochs: int | None = None) -> TrialAsked:
        digest = self.networks.job(network, seed, epochs=confirm_epochs).digest
        path = f"{CHECKPOINTS}/{digest}/{LAST_CHECKPOINT}"
        return TrialAsked(trial=number, network=network, seed=seed, checkpoint=path, confirm_epochs=confirm_epochs)

    def _begin(self, asked: TrialAsked) -> Trial:
        self.ledger.append(asked)
        trial = self.trials[asked.trial] = Trial(asked)
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
            self.files,
            checked_digest(self.folder, trial),
            epochs_done=len(trial.curve),
            until=self.queue.next_rung(trial),
            zero_cost=self.study.search.zero_cost if first and not trial.zero_cost else (),
            scores=trial.zero_cost,
            on_epoch=self.study.callbacks.on_epoch,
            alone=trial.alone,
        )

    # ---- recording events

    def curve(self, trial: int) -> tuple[Epoch, ...]:
        """Return the recorded epochs of a trial."""
        return tuple(self.trials[trial].curve)

    def on_event(self, event: TrialEvent) -> None:
        """Record an event of a running trial and act on it."""
        trial = self.trials[event.trial]
        if isinstance(event, events.EpochEnded) and event.result.epoch <= len(trial.curve):
            return  # trained again without its checkpoint: the end of the trial reports the final digits
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
                self.watcher.say(f"trial {trial.number} was lost and goes on: {loss.reason}")
            case "end run":
                self.trouble = f"trial {trial.number} cannot go on: {loss.reason}"
            case "fail":
                reason = f"lost {trial.lost} times without an epoch: {loss.reason}"
                self._record(trial, events.TrialFailed(trial=trial.number, reason=reason))

    def _ended(self, trial: Trial) -> None:
        """Tell the search; the trials that waited for the same training end in the same way."""
        self._tell(trial)
        for duplicate in self.duplicates.release(trial):
            if result := self.duplicates.result(duplicate):
                self._take_over(duplicate, result)
                continue
            kind = events.TrialStopped if trial.state == "stopped" else events.TrialFailed
            self._record(duplicate, kind(trial=duplicate.number, reason=f"as trial {trial.number}: {trial.reason}"))
            self._tell(duplicate)
            self.watcher.on_trial(duplicate)

    def _take_over(self, trial: Trial, result: CachedResult) -> None:
        """Finish a trial with the result of the same training."""
        finished = events.TrialFinished(trial=trial.number, curve=tuple(result.curve), source=result.source)
        self._record(trial, finished)
        self._tell(trial)
        self.watcher.on_trial(trial)

    def _tell(self, trial: Trial) -> None:
        if not trial.is_confirmation:
            self.queue.search.tell(trial)
        self.checkpoints.ended(trial)
        for line in call_on_trial_end(self.study.callbacks.on_trial_end, trial):
            self.watcher.say(redacted(line))

    def _skip(self, number: int, decisions: Decisions, reason: str) -> None:
        reason = shortened(redacted(reason), MAX_REASON)
        self.ledger.append(events.NetworkSkipped(proposal=number, decisions=dict(decisions), reason=reason))
        named = ", ".join(f"{name}={option}" for name, option in decisions.items())
        self.watcher.say(f"skipped, because it cannot be trained: {named} ({reason.partition(chr(10))[0]})")

    def _record(self, trial: Trial, event: TrialEvent) -> None:
        """Write an event to disk, then apply it in memory."""
        event = _without_secrets(event)
        self.ledger.append(event)
        trial.apply(event)
        self.queue.update(trial)


def _without_secrets(event: TrialEvent) -> TrialEvent:
    limits = {"reason": MAX_REASON, "traceback": MAX_TRACEBACK}
    texts: dict[str, Any] = {
        name: shortened(redacted(getattr(event, name)), limit) for name, limit in limits.items() if hasattr(event, name)
    }
    return replace(event, **texts)
