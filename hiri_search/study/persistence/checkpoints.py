"""Checkpoint retention: rules that keep checkpoints, and removal of all others."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from hiri_search.study.config.schema import StudyConfig
from hiri_search.study.errors import StudyError
from hiri_search.study.ledger.layout import CHECKPOINTS, LAST_CHECKPOINT, LEDGER, TRIAL_FOLDER
from hiri_search.study.ledger.trial import Trial, training_digest
from hiri_search.study.persistence.mirror import Mirror


def checked_digest(folder: Path, trial: Trial) -> str:
    """Return the training digest of a trial. StudyError if the ledger has another name for its checkpoint's folder."""
    digest = training_digest(trial)
    if not TRIAL_FOLDER.fullmatch(digest):
        fault = f"trial {trial.number} has an invalid folder name in {folder / LEDGER}"
        raise StudyError(f"{fault}; restore the ledger from a copy")
    return digest


def existing(folder: Path) -> set[str]:
    """Return the training digests that have a checkpoint in a results folder."""
    return {path.parent.name for path in (folder / CHECKPOINTS).glob(f"*/{LAST_CHECKPOINT}")}


def without_removed(folder: Path, rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows of trials with `checkpoint` set to None if that checkpoint was removed."""
    present = {f"{CHECKPOINTS}/{name}/{LAST_CHECKPOINT}" for name in existing(folder)}
    return [row | {"checkpoint": row["checkpoint"] if row.get("checkpoint") in present else None} for row in rows]


def remove_checkpoint(folder: Path, digest: str) -> None:
    """Remove the checkpoint folder of a training; no other function removes checkpoints."""
    assert TRIAL_FOLDER.fullmatch(digest), "a training digest"
    shutil.rmtree(folder / CHECKPOINTS / digest, ignore_errors=True)


class CheckpointRetention:
    """Removes checkpoints that no trial needs, by the rule `auto`, `all` or `none`.

    `auto` keeps the checkpoints of trials that can resume and those of a study's results. A trial can resume until it
    ends, and after a failure (`--retry-failed`). Results are all rows of an ablation; of a search, the networks on the
    Pareto front and the confirmation trials. `none` keeps a checkpoint until its trial ends. Trials with the same
    training share a checkpoint: it stays while one of them needs it.
    """

    def __init__(
        self,
        study: StudyConfig,
        folder: Path,
        trials: Iterable[Trial],
        *,
        may_be_on_front: Callable[[Trial], bool],
        mirror: Mirror | None = None,
    ) -> None:
        """`may_be_on_front` tells if the network of a finished search trial is or can still get on the Pareto front."""
        self._rule, self._search, self._folder = study.checkpoints, study.space is not None, folder
        self._may_be_on_front, self._mirror = may_be_on_front, mirror
        self._by_training: dict[str, list[Trial]] = defaultdict(list)  # by training digest
        self._replaceable: set[str] = set()  # digests kept only until another network dominates theirs
        for trial in trials:
            self.add(trial)

    def add(self, trial: Trial) -> None:
        """Add a trial; a copy of its checkpoint in the storage stays, even if its removal was requested."""
        self._by_training[training_digest(trial)].append(trial)
        if self._mirror:
            self._mirror.keep(training_digest(trial))

    def ended(self, trial: Trial) -> None:
        """Remove the checkpoints that no trial needs after the end of this trial."""
        self._remove_unwanted({training_digest(trial), *self._replaceable})

    def sweep(self) -> None:
        """Remove unneeded checkpoints and temporary files of a killed run, before any trial runs."""
        copied = self._mirror.trainings() if self._mirror and self._rule != "all" else set()
        self._remove_unwanted((existing(self._folder) | copied) & set(self._by_training))
        for unfinished in (self._folder / CHECKPOINTS).glob("*/*.tmp"):
            with suppress(OSError):
                unfinished.unlink()

    def _remove_unwanted(self, digests: Iterable[str]) -> None:
        if self._rule == "all":
            return
        for digest in digests:
            users = [trial for trial in self._by_training[digest] if self._needs(trial)]
            if self._search and users and all(self._is_replaceable(trial) for trial in users):
                self._replaceable.add(digest)
                continue
            self._replaceable.discard(digest)
            if not users and TRIAL_FOLDER.fullmatch(digest):
                remove_checkpoint(self._folder, digest)
                if self._mirror:
                    self._mirror.remove(digest)

    def _needs(self, trial: Trial) -> bool:
        if self._rule == "none" or not trial.ended:
            return not trial.ended
        return trial.state == "failed" or (
            trial.state == "finished" and (not self._is_replaceable(trial) or self._may_be_on_front(trial))
        )

    def _is_replaceable(self, trial: Trial) -> bool:
        """Return true if a later network can dominate this trial's, so that its checkpoint is removed."""
        return self._search and trial.state == "finished" and not trial.is_confirmation
