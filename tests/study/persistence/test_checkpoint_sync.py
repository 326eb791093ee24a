"""A local checkpoint and its copy in the storage: which one training resumes from, and when the copy is updated."""

import re
from pathlib import Path

import pytest

from hiri_search.study.persistence.checkpoint_sync import SyncedCheckpoint, synced
from hiri_search.system.storage import SharedFolder

NAME = "checkpoints/abc"


@pytest.fixture
def storage(tmp_path: Path) -> SharedFolder:
    storage = SharedFolder(tmp_path / "shared" / "results")
    storage.folder.parent.mkdir()
    storage.begin()
    return storage


@pytest.fixture
def local(tmp_path: Path) -> Path:
    (tmp_path / "results" / NAME).mkdir(parents=True)
    return tmp_path / "results" / NAME / "last.pt"


def _curve(epochs: int) -> bytes:
    return b"epoch\n" + b"1\n" * epochs


def _save(path: Path, epochs: int) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(f"weights of {epochs}".encode())
    path.with_name("curve.csv").write_bytes(_curve(epochs))


def _store(storage: SharedFolder, epochs: int, *, curve: bool = True) -> None:
    storage.write(f"stored weights of {epochs}".encode(), f"{NAME}/last.pt")
    if curve:
        storage.write(_curve(epochs), f"{NAME}/curve.csv")


@pytest.mark.parametrize(
    ("local_epochs", "stored_epochs", "resumed"),
    [
        (0, 0, None),
        (2, 0, "weights of 2"),
        (0, 2, "stored weights of 2"),
        (1, 2, "stored weights of 2"),
        (2, 2, "weights of 2"),
        (3, 2, "weights of 3"),
    ],
)
def test_training_resumes_from_the_checkpoint_with_more_epochs(
    local_epochs: int, stored_epochs: int, resumed: str | None, local: Path, storage: SharedFolder
):
    if local_epochs:
        _save(local, local_epochs)
    if stored_epochs:
        _store(storage, stored_epochs)
    with synced(local, storage) as checkpoint:
        assert checkpoint.local == local
        assert (local.read_text() if local.exists() else None) == resumed


def test_a_copy_without_a_curve_replaces_a_missing_checkpoint(local: Path, storage: SharedFolder):
    _store(storage, 1, curve=False)
    with synced(local, storage):
        assert local.read_text() == "stored weights of 1"


def test_the_copy_is_uploaded_once_for_each_epoch_and_never_gets_older(local: Path, storage: SharedFolder):
    _store(storage, 1)
    puts: list[str] = []

    class RecordingFolder(SharedFolder):
        def put(self, path: Path, name: str) -> None:
            puts.append(name)
            super().put(path, name)

    recording = RecordingFolder(storage.folder)
    _save(local, 3)
    with synced(local, recording) as checkpoint:
        for epoch in (1, 2, 3):
            checkpoint.upload(epoch)
        assert puts == [f"{NAME}/last.pt", f"{NAME}/curve.csv"]
        _save(local, 4)
        checkpoint.upload(4)
    assert len(puts) == 4
    assert storage.read(f"{NAME}/last.pt") == b"weights of 4"
    restarted = SyncedCheckpoint(local, recording)
    restarted.fetch()
    _save(local, 2)  # as after an unreadable checkpoint, when training starts again
    restarted.upload(2)
    assert len(puts) == 4


def test_without_a_results_folder_the_checkpoint_is_in_a_temporary_folder(tmp_path: Path, storage: SharedFolder):
    _store(storage, 2)
    path = tmp_path / "another machine" / NAME / "last.pt"
    with synced(path, storage) as checkpoint:
        assert checkpoint.local.read_text() == "stored weights of 2"
        assert not checkpoint.local.is_relative_to(tmp_path)
    assert not checkpoint.local.exists()
    assert not path.parent.parent.parent.exists()


def test_without_a_storage_the_checkpoint_stays_in_the_results_folder(local: Path):
    with synced(local, None) as checkpoint:
        checkpoint.upload(1)
        assert checkpoint.local == local


def test_without_a_storage_and_a_results_folder_the_error_says_what_to_share(tmp_path: Path):
    away = tmp_path / "another machine"
    message = f"there is no results folder {away}; put it on a disk that all nodes share, or add `storage:`"
    with pytest.raises(FileNotFoundError, match=re.escape(message)), synced(away / NAME / "last.pt", None):
        pass
