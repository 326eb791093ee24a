"""Trial scheduler: which trial is next, and every event into the ledger."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hiri_search.language.space import SearchSpace
from hiri_search.study.callbacks import ProgressCallback
from hiri_search.study.config.networks import StudyNetworks
from hiri_search.study.dispatch.task import ENVIRONMENT_FAULT, TrialTask, Wait
from hiri_search.study.ledger import trial_cache
from hiri_search.study.ledger.events import Event
from hiri_search.study.ledger.layout import CHECKPOINTS
from hiri_search.study.ledger.ledger import Ledger, trials
from hiri_search.study.ledger.trial import Trial, training_digest
from hiri_search.study.persistence.checkpoints import CheckpointRetention, checkpoint_path
from hiri_search.study.persistence.mirror import Mirror
from hiri_search.study.plan.peak_memory import most_memory
from hiri_search.study.search import confirmation
from hiri_search.study.search.network_facts import PreparedBySide, fingerprints, network_facts
from hiri_search.study.search.search import ask_tell
from hiri_search.study.search.successive_halving import SuccessiveHalving
from hiri_search.system.gc_control import gc_disabled
from hiri_search.system.redaction import redacted, shortened
from hiri_search.training.job import Job, PreparedData

LOSSES = 2  # of its process, without an epoch in between, that a trial survives
LONGEST_REASON, LONGEST_TRACEBACK = 2_000, 8_000  # characters

UNSEEN = ("began", "scored")  # nothing that a table of trials shows
ASIDE = ("event", "trial", "seed", "checkpoint", "decisions")  # what a second look does not share with the first


class TrialScheduler:
    """Gives out what the ledger lacks, and writes down what is heard."""

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
        halving = study.search.halving
        self.ladder = SuccessiveHalving(halving, study.search.objectives) if halving and space else None
        for trial in self.trials.values():
            if retry_failed and trial.state == "failed":
                self._write(trial, "retried")
        self.known = trial_cache.from_other_folders(study.search.reuse, fingerprints(prepared)) | trial_cache.finished(
            self.trials.values()
        )
        self.search = ask_tell(networks, self._first_look(), **self._for_a_search(space))
        if self.ladder:
            for trial in self._first_look():
                self.ladder.update(trial)
        self.checkpoints = CheckpointRetention(
            study.checkpoints,
            folder,
            self.trials.values(),
            search=bool(space),
            stands=self.search.may_be_on_front,
            copies=mirror,
        )
        self.checkpoints.sweep()
        self._begun = [trial for trial in self.trials.values() if trial.state == "unfinished"]
        for trial in self._begun:
            trial.lost = 0  # what was wrong then may have been mended
        self.trouble = ""  # with the surroundings: no more is given out
        self._at_work: set[int] = set()
        # By digest: who is trained, or paused, and those that wait for what it comes to.
        self._leaders = {training_digest(trial): trial for trial in self.trials.values() if trial.state == "paused"}
        self._waiting: dict[str, list[Trial]] = {}
        self._longer: Iterator[tuple[Trial, int]] | None = None  # what a second look asks for, once that is known

    def _for_a_search(self, space: SearchSpace | None) -> dict[str, Any]:
        """What an ablation has no use for."""
        if space is None:
            return {}
        passed = [event for event in self.ledger.events if event["event"] == "passed"]
        return {"space": space, "skipped": passed, "on_skip": self._pass_over}

    def most_memory(self) -> tuple[Job, PreparedData]:
        """A training that asks for about as much memory as any."""
        classes = len(next(iter(self.prepared.values())).classes)
        job = most_memory(self.networks, self.space, classes)
        return job, self.prepared[job.side]

    # ---- what is next

    def next(self) -> TrialTask | Wait | None:
        """Nothing is trained twice."""
        self.trouble = self.trouble or (self.mirror.taken if self.mirror else "")
        while not self.trouble and (trial := self._next_trial()):
            self.watcher.on_trial(trial)
            if task := self._task(trial):
                return task
        more_may_come = self.ladder or self.study.confirm
        return Wait.WAIT if self._at_work and more_may_come and not self.trouble else None

    def _next_trial(self) -> Trial | None:
        """What a run before left unfinished, who goes on from a rung, what was never asked, then a second look."""
        if self._begun:
            return self._begun.pop(0)
        if trial := self._promoted() or self._ask():
            return trial
        if any(not self.trials[number].is_confirmation for number in self._at_work):
            return None  # what they come to decides the rest
        if trial := self._promoted(last=True):
            return trial
        self._stop_paused()
        return self._confirm()

    def _task(self, trial: Trial) -> TrialTask | None:
        """None where nothing need be trained, or the same is being trained."""
        digest = training_digest(trial)
        if digest in self.known:
            self._finish(trial, self.known[digest])
            return None
        if self._leaders.setdefault(digest, trial) is not trial:
            self._waiting.setdefault(digest, []).append(trial)
            return None
        self._at_work.add(trial.number)
        job = self.networks.job(trial.asked)
        until = self.ladder.next_rung(trial) if self.ladder and not trial.is_confirmation else None
        proxies = (
            () if trial.zero_cost or trial.is_confirmation or not self.study.space else self.study.search.zero_cost
        )
        checkpoint = checkpoint_path(self.folder, trial)
        storage = self.mirror.storage if self.mirror else None
        return TrialTask(trial.number, job, self.prepared[job.side], checkpoint, until, proxies, trial.alone, storage)

    def _first_look(self) -> list[Trial]:
        return [trial for trial in self.trials.values() if not trial.is_confirmation]

    def _promoted(self, *, last: bool = False) -> Trial | None:
        trial = self.ladder.promoted(last=last) if self.ladder else None
        if trial:
            self._write(trial, "promoted")
        return trial

    def _stop_paused(self) -> None:
        """Who still waits on a rung when all is over is not trained on."""
        paused = (trial for trial in self._leaders.values() if trial.state == "paused")
        for trial in sorted(paused, key=lambda trial: trial.number):
            self._write(trial, "stopped")
            self._ended(trial)
            self.watcher.on_trial(trial)

    def _ask(self) -> Trial | None:
        asked = self.search.ask()
        if asked is None:
            return None
        number, candidate, seed = asked
        known = network_facts(candidate, self.study, self.prepared)
        return self._begin(number, {**known, "seed": seed, "decisions": candidate.decisions})

    def _confirm(self) -> Trial | None:
        """One more of the longer trainings of the best networks."""
        second = self.study.confirm
        if second is None:
            return None
        epochs = second.epochs_for(self.study.recipe.epochs)
        if self._longer is None:  # all of the first look have ended, so it stays as it is
            best = confirmation.chosen(self._first_look(), second, self.study.search.objectives)
            self._longer = confirmation.missing(best, self.trials.values(), second.seeds, epochs)
        trial, seed = next(self._longer, (None, 0))
        if trial is None:
            return None
        known = {name: value for name, value in trial.asked.items() if name not in ASIDE}
        return self._begin(
            len(self.trials), {**known, "seed": seed, "confirms": trial.number, "confirm_epochs": epochs}
        )

    def _begin(self, number: int, known: dict[str, Any]) -> Trial:
        checkpoint = f"{CHECKPOINTS}/{self.networks.job(known).digest}/last.pt"
        asked = self.ledger.append("asked", trial=number, **known, checkpoint=checkpoint)
        trial = self.trials[number] = Trial(number, asked)
        self.checkpoints.asked(trial)
        return trial

    # ---- what is heard

    def on_event(self, event: Event) -> None:
        trial = self.trials[event["trial"]]
        if event["event"] == "epoch" and event["epoch"] <= len(trial.curve):
            return  # told again by a trial that goes on
        told = {name: value for name, value in event.items() if name not in ("event", "trial")}
        self._write(trial, event["event"], **told)
        if event["event"] in ("lost", "crowded"):
            self._again(trial, event)
        if trial.state != "unfinished":
            self._at_work.discard(trial.number)
        if trial.state == "finished":
            self.known |= trial_cache.finished([trial])
        if trial.ended:
            self._ended(trial)
        if event["event"] not in UNSEEN:
            self.watcher.on_trial(trial)

    def _again(self, trial: Trial, event: Event) -> None:
        """It goes on from its checkpoint, unless it was lost too often without an epoch in between."""
        self._at_work.discard(trial.number)
        if trial.lost <= LOSSES:
            self._begun.append(trial)
        elif event["fault"] == ENVIRONMENT_FAULT:
            self.trouble = f"trial {trial.number} cannot go on: {event['reason']}"
        else:
            self._write(trial, "failed", reason=f"lost {trial.lost} times without an epoch: {event['reason']}")

    def _ended(self, trial: Trial) -> None:
        """Tell the search, and end those that waited for it in the same way."""
        self._tell(trial)
        digest = training_digest(trial)
        self._leaders.pop(digest, None)
        for twin in self._waiting.pop(digest, []):
            if trial.state == "finished":
                self._finish(twin, self.known[digest])
            else:
                self._write(twin, trial.state, reason=f"as trial {trial.number}: {trial.reason}")
                self._tell(twin)
                self.watcher.on_trial(twin)

    def _finish(self, trial: Trial, known: trial_cache.CachedResult) -> None:
        """Without a training."""
        self._write(trial, "finished", curve=known.curve, source=known.source)
        self._tell(trial)
        self.watcher.on_trial(trial)

    def _tell(self, trial: Trial) -> None:
        if not trial.is_confirmation:
            self.search.tell(trial)
        self.checkpoints.ended(trial)

    def _pass_over(self, number: int, decisions: Mapping[str, int], reason: str) -> None:
        said = shortened(reason, LONGEST_REASON)
        self.ledger.append("passed", proposal=number, decisions=dict(decisions), reason=said)

    def _write(self, trial: Trial, event: str, **facts: Any) -> None:
        """On disk first, then in memory."""
        for name, longest in (("reason", LONGEST_REASON), ("traceback", LONGEST_TRACEBACK)):
            if name in facts:
                facts[name] = shortened(redacted(facts[name]), longest)
        trial.apply(self.ledger.append(event, trial=trial.number, **facts))
        if self.ladder and not trial.is_confirmation:
            self.ladder.update(trial)
