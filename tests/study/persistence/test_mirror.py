"""Mirror in the storage: resuming from it, keeping it up to date, one driver at a time."""

from pathlib import Path

import pytest

from hiri_search.study.errors import StudyError
from hiri_search.study.ledger.events import FORMAT, LedgerStarted, TrialFailed
from hiri_search.study.ledger.json_lines import write_line
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
from tests.study.records import asked
from tests.study.search.searches import Quiet
from tests.study.waiting import wait_until


@pytest.fixture
def storage(tmp_path: Path) -> SharedFolder:
    (tmp_path / "shared").mkdir()
    storage = SharedFolder(tmp_path / "shared" / "results")
    storage.begin()
    return storage


@pytest.fixture(autouse=True)
def _frequent_uploads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror_module, "UPLOAD_SECONDS", 0.02)


def _lines(*reasons: str) -> bytes:
    """Return the lines of a ledger with one event for each reason."""
    events = [LedgerStarted(format=FORMAT), *(TrialFailed(trial=0, reason=reason) for reason in reasons)]
    return b"".join(write_line(event) + b"\n" for event in events)


def _folder(tmp_path: Path, content: bytes | None) -> Path:
    folder = tmp_path / "results"
    folder.mkdir()
    if content is not None:
        (folder / LEDGER).write_bytes(content)
    return folder


@pytest.mark.parametrize(
    ("local", "stored", "resumed"),
    [
        (None, None, b""),
        (None, _lines(), _lines()),
        (_lines(), _lines("a"), _lines("a")),
        (None, _lines("a", "b"), _lines("a", "b")),
        (_lines("a"), None, _lines("a")),
        (_lines("a", "b"), _lines("a"), _lines("a", "b")),
        (_lines("a"), _lines("a", "b"), _lines("a", "b")),
        (_lines("a") + b'{"event": "to', _lines("a", "b"), _lines("a", "b")),  # an incomplete line, as after a kill
    ],
)
def test_a_study_resumes_from_the_longer_ledger(
    local: bytes | None, stored: bytes | None, resumed: bytes, tmp_path: Path, storage: SharedFolder
):
    folder = _folder(tmp_path, local)
    if stored is not None:
        storage.write(stored, LEDGER)
    resume_from_storage(folder, storage)
    assert (folder / LEDGER).read_bytes() == resumed


def test_two_ledgers_that_diverge_are_an_error_and_stay_unchanged(tmp_path: Path, storage: SharedFolder):
    folder = _folder(tmp_path, _lines("a", "b", "local"))
    storage.write(_lines("a", "b", "stored"), LEDGER)
    with pytest.raises(StudyError, match=r"equal up to line 3 .* differ after it") as error:
        resume_from_storage(folder, storage)
    assert str(folder) in str(error.value)
    assert str(storage) in str(error.value)
    assert (folder / LEDGER).read_bytes() == _lines("a", "b", "local")
    assert storage.read(LEDGER) == _lines("a", "b", "stored")


def test_a_missing_storage_is_an_error_at_once(tmp_path: Path):
    with pytest.raises(StudyError, match="mount it, or create it"):
        resume_from_storage(_folder(tmp_path, None), SharedFolder(tmp_path / "nowhere" / "results"))


def test_the_results_folder_itself_is_no_storage(tmp_path: Path):
    with pytest.raises(StudyError, match="already contains"):
        storage_of(str(tmp_path), tmp_path / "results")
    assert storage_of(None, tmp_path / "results") is None


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return _folder(tmp_path, None)


def test_ledger_and_report_are_uploaded_during_the_run_and_at_its_end(folder: Path, storage: SharedFolder):
    with open_ledger(folder) as ledger:
        with mirroring(folder, storage, Quiet().say):
            for number in range(2):
                ledger.append(asked(number))
                wait_until(lambda: storage.read(LEDGER) == (folder / LEDGER).read_bytes())
            (folder / "report").mkdir()
            (folder / "report" / "table.csv").write_text("1")
            wait_until(lambda: storage.read("report/table.csv") == b"1")
            ledger.append(asked(2))
            (folder / "report" / "table.csv").write_text("12")
        assert storage.read(LEDGER) == (folder / LEDGER).read_bytes()
        assert read_events(folder) == [asked(number) for number in range(3)]
    assert storage.read("report/table.csv") == b"12"


def test_an_incomplete_line_is_not_uploaded(folder: Path, storage: SharedFolder):
    (folder / LEDGER).write_bytes(_lines("a") + b'{"event": "half')
    Mirror(folder, storage).upload()
    assert storage.read(LEDGER) == _lines("a")


def test_the_ledger_is_uploaded_before_a_checkpoint_is_removed(folder: Path, storage: SharedFolder):
    (folder / LEDGER).write_bytes(_lines("a"))
    storage.write(b"weights", "checkpoints/abc/last.pt")
    mirror = Mirror(folder, storage)
    present: list[bool] = []
    upload = mirror._upload_ledger
    mirror._upload_ledger = lambda: (present.append("abc" in mirror.trainings()), upload())[1]  # type: ignore[method-assign]
    mirror.remove("abc")
    mirror.upload()
    assert present == [True]
    assert mirror.trainings() == set()


def test_a_cancelled_removal_keeps_the_checkpoint(folder: Path, storage: SharedFolder):
    (folder / LEDGER).write_bytes(_lines("a"))
    storage.write(b"weights", "checkpoints/abc/last.pt")
    mirror = Mirror(folder, storage)
    mirror.remove("abc")
    mirror.keep("abc")
    mirror.upload()
    assert mirror.trainings() == {"abc"}


def test_a_storage_that_was_unreachable_is_complete_afterwards(folder: Path, storage: SharedFolder):
    messages: list[str] = []
    with open_ledger(folder) as ledger, mirroring(folder, storage, messages.append) as mirror:
        assert mirror
        storage.write(b"weights", "checkpoints/abc/last.pt")
        ledger.append(asked(0))
        away = storage.folder.with_name("away")
        storage.folder.rename(away)
        ledger.append(asked(1))
        mirror.remove("abc")
        wait_until(lambda: messages)
        away.rename(storage.folder)
        wait_until(lambda: len(messages) == 2)
        wait_until(lambda: mirror.trainings() == set())
    assert storage.read(LEDGER) == (folder / LEDGER).read_bytes()
    assert "not up to date" in messages[0]
    assert "again" in messages[1]


def test_the_last_driver_writes_and_the_earlier_one_stops(tmp_path: Path, storage: SharedFolder):
    (tmp_path / "b").mkdir()
    first, second = _folder(tmp_path, _lines("a")), _folder(tmp_path / "b", _lines("a", "b"))
    with mirroring(first, storage, Quiet().say) as mirror:
        assert mirror
        wait_until(lambda: storage.read(LEDGER) == _lines("a"))
        with mirroring(second, storage, Quiet().say):
            wait_until(lambda: mirror.replaced)
            assert "taken over by process" in mirror.replaced
            with pytest.raises(DriverReplaced):
                mirror.upload()
    assert storage.read(LEDGER) == _lines("a", "b")


def test_a_copy_is_moved_aside_under_another_name(folder: Path, storage: SharedFolder):
    assert move_stored_aside(folder, SharedFolder(storage.folder.with_name("none"))) is None
    storage.write(_lines("a"), LEDGER)
    name = move_stored_aside(folder, storage)
    assert name
    assert (storage.folder.with_name(name) / LEDGER).read_bytes() == _lines("a")
