"""A checkpoint here and its copy: which of them is gone on from, and when the copy is brought up to date."""

from pathlib import Path

import pytest

from hiri_search.study.persistence.checkpoint_sync import SyncedCheckpoint, synced
from hiri_search.system.storage import SharedFolder

NAME = "checkpoints/abc"


@pytest.fixture
def storage(tmp_path: Path) -> SharedFolder:
    found = SharedFolder(tmp_path / "shared" / "results")
    found.folder.parent.mkdir()
    found.begin()
    return found


@pytest.fixture
def here(tmp_path: Path) -> Path:
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
    ("mine", "stored", "gone_on_from"),
    [
        (0, 0, None),
        (2, 0, "weights of 2"),
        (0, 2, "stored weights of 2"),
        (1, 2, "stored weights of 2"),
        (2, 2, "weights of 2"),
        (3, 2, "weights of 3"),
    ],
)
def test_the_one_that_was_trained_for_longer_is_gone_on_from(
    mine: int, stored: int, gone_on_from: str | None, here: Path, storage: SharedFolder
):
    if mine:
        _save(here, mine)
    if stored:
        _store(storage, stored)
    with synced(here, storage) as found:
        assert found.here == here
        assert (here.read_text() if here.exists() else None) == gone_on_from


def test_a_copy_whose_curve_did_not_get_there_is_better_than_none(here: Path, storage: SharedFolder):
    _store(storage, 1, curve=False)
    with synced(here, storage):
        assert here.read_text() == "stored weights of 1"


def test_the_copy_is_brought_up_once_for_each_epoch_and_never_back(here: Path, storage: SharedFolder):
    _store(storage, 1)
    puts: list[str] = []

    class Noting(SharedFolder):
        def put(self, local: Path, name: str) -> None:
            puts.append(name)
            super().put(local, name)

    noting = Noting(storage.folder)
    _save(here, 3)
    with synced(here, noting) as found:
        for told_again in (1, 2, 3):
            found.upload(told_again)
        assert puts == [f"{NAME}/last.pt", f"{NAME}/curve.csv"]
        _save(here, 4)
        found.upload(4)
    assert len(puts) == 4
    assert storage.read(f"{NAME}/last.pt") == b"weights of 4"
    behind = SyncedCheckpoint(here, noting)
    behind.fetch()
    _save(here, 2)  # as where it could not be read, and began anew
    behind.upload(2)
    assert len(puts) == 4


def test_where_there_is_no_results_folder_it_is_kept_for_the_task_alone(tmp_path: Path, storage: SharedFolder):
    _store(storage, 2)
    place = tmp_path / "of another machine" / NAME / "last.pt"
    with synced(place, storage) as found:
        assert found.here.read_text() == "stored weights of 2"
        assert not found.here.is_relative_to(tmp_path)
    assert not found.here.exists()
    assert not place.parent.parent.parent.exists()


def test_without_a_storage_it_is_where_it_was(here: Path):
    with synced(here, None) as found:
        found.upload(1)
        assert found.here == here
