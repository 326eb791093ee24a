"""A trial's checkpoint on its worker, synchronised with the storage."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path

from hiri_search.study.ledger.layout import CHECKPOINTS
from hiri_search.system.files import retrying
from hiri_search.system.storage import Storage
from hiri_search.system.temp_dir import temporary_directory
from hiri_search.training.loop import CURVE


class SyncedCheckpoint:
    """A local checkpoint and its copy in a storage, at most one epoch older. OSError if that stays unreachable."""

    def __init__(self, local: Path, storage: Storage | None) -> None:
        self.local = local
        self._storage, self._name = storage, f"{CHECKPOINTS}/{local.parent.name}"
        self._stored_epochs = 0  # epochs of the copy

    def fetch(self) -> None:
        """Download the copy if the local checkpoint is missing or older."""
        if self._storage is None:
            return
        self._stored_epochs = _epochs(retrying(partial(self._storage.read, f"{self._name}/{CURVE}")))
        if not self.local.exists() or self._stored_epochs > self._local_epochs():
            self.local.parent.mkdir(exist_ok=True)
            for path in (self.local, self.local.with_name(CURVE)):
                retrying(partial(self._storage.fetch, f"{self._name}/{path.name}", path))

    def upload(self, epoch: int) -> None:
        """Upload the local checkpoint if the copy is older than this epoch."""
        if self._storage is None or epoch <= self._stored_epochs:
            return
        for path in (self.local, self.local.with_name(CURVE)):  # the curve last: its length is the epoch of the copy
            if path.exists():
                retrying(partial(self._storage.put, path, f"{self._name}/{path.name}"))
        self._stored_epochs = max(epoch, self._local_epochs())

    def _local_epochs(self) -> int:
        path = self.local.with_name(CURVE)
        return _epochs(path.read_bytes() if path.exists() else None)


def _epochs(curve: bytes | None) -> int:
    """Return the number of epochs of a curve: its lines without the header."""
    return max(0, len((curve or b"").splitlines()) - 1)


@contextmanager
def synced(path: Path, storage: Storage | None) -> Iterator[SyncedCheckpoint]:
    """Download a checkpoint into the results folder, or into a temporary one on a machine without results folder.

    FileNotFoundError where there is neither a results folder nor a storage.
    """
    results = path.parent.parent.parent
    if not (storage or results.is_dir()):
        problem = f"on {platform.node()} there is no results folder {results}"
        raise FileNotFoundError(f"{problem}; put it on a disk that all nodes share, or add `storage:` to the study")
    with temporary_directory() if storage and not path.parent.parent.is_dir() else nullcontext() as folder:
        checkpoint = SyncedCheckpoint(folder / path.parent.name / path.name if folder else path, storage)
        checkpoint.fetch()
        yield checkpoint
