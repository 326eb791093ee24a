"""A trial's checkpoint on its worker, synchronised with the storage."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from hiri_search.study.ledger.layout import CHECKPOINTS
from hiri_search.system.files import retrying
from hiri_search.system.storage import Storage
from hiri_search.system.temp_dir import temporary_directory
from hiri_search.training.loop import CURVE


class SyncedCheckpoint:
    """A checkpoint here and its copy in a storage, which is at most one epoch behind. OSError where that stays away."""

    def __init__(self, here: Path, storage: Storage | None) -> None:
        self.here = here
        self._storage, self._name = storage, f"{CHECKPOINTS}/{here.parent.name}"
        self._stored = 0  # epochs that the copy is of

    def fetch(self) -> None:
        """The copy takes the place of a checkpoint that is missing here, or older."""
        if self._storage is None:
            return
        self._stored = _epochs(retrying(partial(self._storage.read, f"{self._name}/{CURVE}")))
        if not self.here.exists() or self._stored > self._epochs_here():
            self.here.parent.mkdir(exist_ok=True)
            for path in (self.here, self.here.with_name(CURVE)):
                retrying(partial(self._storage.fetch, f"{self._name}/{path.name}", path))

    def upload(self, epoch: int) -> None:
        """The copy is at least of this epoch."""
        if self._storage is None or epoch <= self._stored:
            return
        for path in (self.here, self.here.with_name(CURVE)):  # the curve last: it says how far the copy is
            if path.exists():
                retrying(partial(self._storage.put, path, f"{self._name}/{path.name}"))
        self._stored = max(epoch, self._epochs_here())

    def _epochs_here(self) -> int:
        path = self.here.with_name(CURVE)
        return _epochs(path.read_bytes() if path.exists() else None)


def _epochs(curve: bytes | None) -> int:
    """A line for each, below the names."""
    return max(0, len((curve or b"").splitlines()) - 1)


@contextmanager
def synced(place: Path, storage: Storage | None) -> Iterator[SyncedCheckpoint]:
    """At its place in the results folder; on a machine that has none, in a folder that is there for the task alone."""
    if storage is None or place.parent.parent.is_dir():
        yield _fetched(SyncedCheckpoint(place, storage))
        return
    with temporary_directory() as folder:
        yield _fetched(SyncedCheckpoint(folder / place.parent.name / place.name, storage))


def _fetched(found: SyncedCheckpoint) -> SyncedCheckpoint:
    found.fetch()
    return found
