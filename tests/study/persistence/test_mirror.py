"""The ledger in the storage: taken up from there, brought up to date there, one driver at a time."""

import json
import time
from pathlib import Path

import pytest

from hiri_search.study.errors import StudyError
from hiri_search.study.ledger.layout import LEDGER
from hiri_search.study.ledger.ledger import open_ledger, read_events
from hiri_search.study.persistence import mirror as mirror_module
from hiri_search.study.persistence.mirror import (
    DriverReplaced,
    Mirror,
    mirroring,
    move_stored_aside,
    resume_from_storage,
    storage_of,
)
from hiri_search.system.storage import SharedFolder
from tests.study.search.searches import Quiet


@pytest.fixture
def storage(tmp_path: Path) -> SharedFolder:
    (tmp_path / "shared").mkdir()
    found = SharedFolder(tmp_path / "shared" / "results")
    found.begin()
    return found


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror_module, "UPLOAD_SECONDS", 0.02)


def _lines(*words: str) -> bytes:
    return b"".join(json.dumps({"event": word}).encode() + b"\n" for word in words)


def _folder(tmp_path: Path, content: bytes | None) -> Path:
    folder = tmp_path / "results"
    folder.mkdir()
    if content is not None:
        (folder / LEDGER).write_bytes(content)
    return folder


@pytest.mark.parametrize(
    ("here", "stored", "then"),
    [
        (None, None, b""),
        (None, _lines("a", "b"), _lines("a", "b")),
        (_lines("a"), None, _lines("a")),
        (_lines("a", "b"), _lines("a"), _lines("a", "b")),
        (_lines("a"), _lines("a", "b"), _lines("a", "b")),
        (_lines("a") + b'{"event": "to', _lines("a", "b"), _lines("a", "b")),  # torn, as by a kill
    ],
)
def test_what_goes_on_is_the_longer_one(
    here: bytes | None, stored: bytes | None, then: bytes, tmp_path: Path, storage: SharedFolder
):
    folder = _folder(tmp_path, here)
    if stored is not None:
        storage.write(stored, LEDGER)
    resume_from_storage(folder, storage)
    assert (folder / LEDGER).read_bytes() == then


def test_two_that_went_apart_are_refused_and_left_as_they_are(tmp_path: Path, storage: SharedFolder):
    folder = _folder(tmp_path, _lines("a", "b", "here"))
    storage.write(_lines("a", "b", "there"), LEDGER)
    with pytest.raises(StudyError, match=r"up to line 2 .* went on apart") as refused:
        resume_from_storage(folder, storage)
    assert str(folder) in str(refused.value)
    assert str(storage) in str(refused.value)
    assert (folder / LEDGER).read_bytes() == _lines("a", "b", "here")
    assert storage.read(LEDGER) == _lines("a", "b", "there")


def test_a_storage_that_is_not_there_is_said_at_once(tmp_path: Path):
    with pytest.raises(StudyError, match="mount it, or create it"):
        resume_from_storage(_folder(tmp_path, None), SharedFolder(tmp_path / "nowhere" / "results"))


def test_the_results_folder_itself_is_no_storage(tmp_path: Path):
    with pytest.raises(StudyError, match="lies anyway"):
        storage_of(str(tmp_path), tmp_path / "results")
    assert storage_of(None, tmp_path / "results") is None


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return _folder(tmp_path, None)


def _until(holds) -> None:
    end = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_what_is_written_down_is_there_soon_and_at_the_end(folder: Path, storage: SharedFolder):
    with open_ledger(folder) as ledger:
        with mirroring(folder, storage, Quiet().say):
            for word in ("a", "b"):
                ledger.append(word)
                _until(lambda: storage.read(LEDGER) == (folder / LEDGER).read_bytes())
            (folder / "report").mkdir()
            (folder / "report" / "table.csv").write_text("1")
            _until(lambda: storage.read("report/table.csv") == b"1")
            ledger.append("c")
            (folder / "report" / "table.csv").write_text("12")
        assert storage.read(LEDGER) == (folder / LEDGER).read_bytes()
        assert [event["event"] for event in read_events(folder)] == ["a", "b", "c"]
    assert storage.read("report/table.csv") == b"12"


def test_half_a_line_is_not_brought_there(folder: Path, storage: SharedFolder):
    (folder / LEDGER).write_bytes(_lines("a") + b'{"event": "half')
    Mirror(folder, storage).upload()
    assert storage.read(LEDGER) == _lines("a")


def test_nothing_is_removed_there_before_the_ledger_there_says_why(folder: Path, storage: SharedFolder):
    (folder / LEDGER).write_bytes(_lines("a"))
    storage.write(b"weights", "checkpoints/abc/last.pt")
    mirror = Mirror(folder, storage)
    seen: list[bool] = []
    bring = mirror._bring_ledger
    mirror._bring_ledger = lambda: (seen.append("abc" in mirror.trainings()), bring())[1]  # type: ignore[method-assign]
    mirror.remove("abc")
    mirror.upload()
    assert seen == [True]
    assert mirror.trainings() == set()


def test_what_is_wanted_again_meanwhile_stays(folder: Path, storage: SharedFolder):
    (folder / LEDGER).write_bytes(_lines("a"))
    storage.write(b"weights", "checkpoints/abc/last.pt")
    mirror = Mirror(folder, storage)
    mirror.remove("abc")
    mirror.wanted("abc")
    mirror.upload()
    assert mirror.trainings() == {"abc"}


def test_a_storage_that_is_away_for_a_while_lacks_nothing_afterwards(folder: Path, storage: SharedFolder):
    said: list[str] = []
    with open_ledger(folder) as ledger, mirroring(folder, storage, said.append) as mirror:
        assert mirror
        storage.write(b"weights", "checkpoints/abc/last.pt")
        ledger.append("a")
        away = storage.folder.with_name("away")
        storage.folder.rename(away)
        ledger.append("b")
        mirror.remove("abc")
        _until(lambda: said)
        away.rename(storage.folder)
        _until(lambda: len(said) == 2)
        _until(lambda: mirror.trainings() == set())
    assert storage.read(LEDGER) == (folder / LEDGER).read_bytes()
    assert "not up to date" in said[0]
    assert "again" in said[1]


def test_who_began_last_has_it_and_the_other_one_writes_nothing_more(tmp_path: Path, storage: SharedFolder):
    (tmp_path / "b").mkdir()
    first, second = _folder(tmp_path, _lines("a")), _folder(tmp_path / "b", _lines("a", "b"))
    with mirroring(first, storage, Quiet().say) as mine:
        assert mine
        _until(lambda: storage.read(LEDGER) == _lines("a"))
        with mirroring(second, storage, Quiet().say):
            _until(lambda: mine.taken)
            assert "taken over by process" in mine.taken
            with pytest.raises(DriverReplaced):
                mine.upload()
    assert storage.read(LEDGER) == _lines("a", "b")


def test_what_is_begun_anew_leaves_the_old_one_under_another_name(folder: Path, storage: SharedFolder):
    assert move_stored_aside(folder, SharedFolder(storage.folder.with_name("none"))) is None
    storage.write(_lines("a"), LEDGER)
    name = move_stored_aside(folder, storage)
    assert name
    assert (storage.folder.with_name(name) / LEDGER).read_bytes() == _lines("a")
