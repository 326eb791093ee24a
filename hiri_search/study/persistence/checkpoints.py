"""Checkpoint retention: which are kept, and removal of the others."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, Protocol

from hiri_search.study.errors import StudyError
from hiri_search.study.ledger.layout import CHECKPOINTS, LAST_CHECKPOINT, TRIAL_FOLDER
from hiri_search.study.ledger.trial import Trial, training_digest

RetentionRule = Literal["auto", "all", "none"]


def checkpoint_path(folder: Path, trial: Trial) -> Path:
    """Where a trial of a results folder keeps its checkpoint. StudyError where the ledger names no such place."""
    if not TRIAL_FOLDER.fullmatch(training_digest(trial)):
        raise StudyError(f"trial {trial.number} has no place in {folder / CHECKPOINTS}: restore the ledger from a copy")
    return folder / CHECKPOINTS / training_digest(trial) / LAST_CHECKPOINT


def existing(folder: Path) -> set[str]:
    """The trainings of a results folder that have a checkpoint, by training_digest."""
    return {path.parent.name for path in (folder / CHECKPOINTS).glob(f"*/{LAST_CHECKPOINT}")}


def without_removed(folder: Path, rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of trials; their `checkpoint` is empty where there is none any more."""
    left = {f"{CHECKPOINTS}/{name}/{LAST_CHECKPOINT}" for name in existing(folder)}
    return [row | {"checkpoint": row["checkpoint"] if row.get("checkpoint") in left else None} for row in rows]


def remove_checkpoint(folder: Path, name: str) -> None:
    """All that a training left in a results folder: whatever is removed is removed here."""
    assert TRIAL_FOLDER.fullmatch(name), "the name of a training"
    shutil.rmtree(folder / CHECKPOINTS / name, ignore_errors=True)


class RemoteCopies(Protocol):
    """What a storage holds of them."""

    def trainings(self) -> set[str]:
        """Those that have one, by training_digest."""

    def wanted(self, name: str) -> None:
        """It stays, if it was to be removed."""

    def remove(self, name: str) -> None:
        """Soon."""


class CheckpointRetention:
    """Keeps those that somebody may want: by `auto` whoever may go on, and what a study found.

    A trial may go on while it has not ended, or has failed (`--retry-failed`). What an ablation finds are all its rows;
    what a search finds are the networks on its front, and those of the second look. `none` keeps them until the trial
    ends. Trials that are the same training share one: it stays as long as one of them wants it.
    """

    def __init__(
        self,
        rule: RetentionRule,
        folder: Path,
        trials: Iterable[Trial],
        *,
        search: bool,
        stands: Callable[[Trial], bool],
        copies: RemoteCopies | None = None,
    ) -> None:
        """`stands` says of a finished trial of a search whether its network is, or may yet be, on the front."""
        self._copies = copies
        self._rule, self._folder, self._search, self._stands = rule, folder, search, stands
        self._shared: dict[str, list[Trial]] = defaultdict(list)  # by training_digest
        self._may_fall: set[str] = set()  # of finished trials, kept as long as no other network beats theirs
        for trial in trials:
            self.asked(trial)

    def asked(self, trial: Trial) -> None:
        """Another trial."""
        self._shared[training_digest(trial)].append(trial)
        if self._copies:
            self._copies.wanted(training_digest(trial))

    def ended(self, trial: Trial) -> None:
        """Remove what nobody wants since this trial has ended."""
        self._settle({training_digest(trial), *self._may_fall})

    def sweep(self) -> None:
        """Remove what a run that was killed has left; to be called before any trial is at work."""
        copied = self._copies.trainings() if self._copies and self._rule != "all" else set()
        self._settle((existing(self._folder) | copied) & set(self._shared))
        for unfinished in (self._folder / CHECKPOINTS).glob("*/*.tmp"):
            with suppress(OSError):
                unfinished.unlink()

    def _settle(self, names: Iterable[str]) -> None:
        if self._rule == "all":
            return
        for name in names:
            wanting = [trial for trial in self._shared[name] if self._wants(trial)]
            if self._search and wanting and all(self._may(trial) for trial in wanting):
                self._may_fall.add(name)
                continue
            self._may_fall.discard(name)
            if not wanting and TRIAL_FOLDER.fullmatch(name):
                remove_checkpoint(self._folder, name)
                if self._copies:
                    self._copies.remove(name)

    def _wants(self, trial: Trial) -> bool:
        if self._rule == "none" or not trial.ended:
            return not trial.ended
        return trial.state == "failed" or (trial.state == "finished" and (not self._may(trial) or self._stands(trial)))

    def _may(self, trial: Trial) -> bool:
        """Whether another network may take its checkpoint's right to stay."""
        return self._search and trial.state == "finished" and not trial.is_confirmation
