"""Every kind of storage does the same: a shared folder, one that fsspec has in memory, and a server that speaks S3."""

import threading
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from hiri_search.system.storage import Storage, StorageUnreachable, open_storage
from tests.s3_server import BUCKET, SECRET, Server, serving


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture(params=["path", "memory", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """With nothing in it."""
    if request.param == "path":
        return str(tmp_path)
    if request.param == "memory":
        return f"memory://{uuid4()}"
    request.getfixturevalue("server")
    return f"s3://{BUCKET}/{uuid4()}"


@pytest.fixture
def storage(place: str) -> Storage:
    found = open_storage(place, "study")
    found.begin()
    return found


def test_what_is_put_is_read_fetched_and_replaced(storage: Storage, tmp_path: Path):
    local = tmp_path / "last.pt"
    for content in (b"first", b"second" * 100_000, b""):
        local.write_bytes(content)
        storage.put(local, "checkpoints/a/last.pt")
        assert storage.read("checkpoints/a/last.pt") == content
        assert storage.fetch("checkpoints/a/last.pt", tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == content
        storage.write(content, "ledger.jsonl")
        assert storage.read("ledger.jsonl") == content
    assert not list(tmp_path.rglob("*.tmp"))


def test_what_is_not_there_is_nothing(storage: Storage, tmp_path: Path):
    assert storage.read("ledger.jsonl") is None
    assert not storage.fetch("checkpoints/a/last.pt", tmp_path / "last.pt")
    assert not (tmp_path / "last.pt").exists()
    assert storage.folders("checkpoints") == set()
    storage.remove("checkpoints/a")


def test_a_folder_is_listed_and_removed_with_all_in_it_and_nothing_else(storage: Storage):
    for name in ("a/last.pt", "a/curve.csv", "ab/last.pt"):
        storage.write(b"x", f"checkpoints/{name}")
    assert storage.folders("checkpoints") == {"a", "ab"}
    storage.remove("checkpoints/a")
    assert storage.folders("checkpoints") == {"ab"}
    assert storage.read("checkpoints/ab/last.pt") == b"x"


def test_all_of_it_goes_aside_and_its_neighbours_stay(storage: Storage, place: str):
    neighbour = open_storage(place, "study 2")
    neighbour.begin()
    neighbour.write(b"theirs", "ledger.jsonl")
    for name in ("ledger.jsonl", "checkpoints/a/last.pt"):
        storage.write(b"ours", name)
    assert storage.move_aside("study.before")
    aside = open_storage(place, "study.before")
    assert aside.read("ledger.jsonl") == aside.read("checkpoints/a/last.pt") == b"ours"
    assert not storage.move_aside("study.again")
    storage.begin()
    assert storage.read("ledger.jsonl") is None
    assert neighbour.read("ledger.jsonl") == b"theirs"


def test_a_file_is_whole_while_it_is_replaced(storage: Storage):
    storage.write(b"a" * 300_000, "ledger.jsonl")
    over = threading.Event()

    def replace() -> None:
        for number in range(20):
            storage.write(b"ab"[number % 2 : number % 2 + 1] * 300_000, "ledger.jsonl")
        over.set()

    thread = threading.Thread(target=replace)
    thread.start()
    while not over.is_set():
        content = storage.read("ledger.jsonl")
        assert content is not None
        assert (len(content), len(set(content))) == (300_000, 1)
    thread.join()


# ---- away


def test_a_server_that_is_away_is_an_os_error_and_is_there_again_when_it_is_back(server: Server, tmp_path: Path):
    storage = open_storage(f"s3://{BUCKET}/{uuid4()}", "study")
    storage.write(b"x", "ledger.jsonl")
    server.end()
    try:
        with pytest.raises(StorageUnreachable, match="studies"):
            storage.fetch("ledger.jsonl", tmp_path / "back")
    finally:
        server.begin()
    assert storage.read("ledger.jsonl") == b"x"


def test_a_shared_folder_that_is_away_is_not_an_empty_one_and_nothing_is_written_in_its_place(tmp_path: Path):
    storage = open_storage(str(tmp_path / "mount"), "study")
    with pytest.raises(StorageUnreachable, match="mount it, or make it"):
        storage.begin()
    (tmp_path / "mount").mkdir()
    storage.begin()
    storage.write(b"x", "ledger.jsonl")
    (tmp_path / "mount").rename(tmp_path / "away")
    for do in (lambda: storage.read("a"), lambda: storage.folders("a"), lambda: storage.write(b"", "a"), storage.begin):
        with pytest.raises(OSError):  # noqa: PT011 - of any kind
            do()
    assert not (tmp_path / "mount").exists()


def test_a_bucket_that_is_not_there_and_a_kind_that_nobody_knows_are_said(server: Server):
    with pytest.raises(StorageUnreachable, match="bucket"):
        open_storage("s3://nobodys/x", "study").write(b"", "driver")
    with pytest.raises(StorageUnreachable, match="nokind"):
        open_storage("nokind://x", "study").write(b"", "driver")


def test_what_is_missing_for_a_kind_is_named(server: Server, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("fsspec.core.url_to_fs", _lacking)
    with pytest.raises(StorageUnreachable, match=r"hiri-search\[s3\]"):
        open_storage(f"s3://{BUCKET}/x", "study").read("driver")


def _lacking(url: str) -> None:
    raise ImportError("Install s3fs to access S3")


def test_no_error_holds_a_secret(server: Server, monkeypatch: pytest.MonkeyPatch):
    def fail(url: str) -> None:
        raise RuntimeError(f"signed with {SECRET} at http://me:pw@host/?X-Amz-Signature=abc") from ValueError(SECRET)

    monkeypatch.setattr("fsspec.core.url_to_fs", fail)
    with pytest.raises(StorageUnreachable) as away:
        open_storage(f"s3://{BUCKET}/x", "study").read("driver")
    assert SECRET not in str(away.value)
    assert "pw" not in str(away.value)
    assert "abc" not in str(away.value)
    assert away.value.__cause__ is None
    assert away.value.__suppress_context__, "no traceback shows what it came from"
