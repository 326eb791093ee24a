"""All storages behave alike: a shared folder, fsspec's memory file system and an S3 server."""

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
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty storage of each kind: a path or a URL."""
    if request.param == "path":
        return str(tmp_path)
    if request.param == "memory":
        return f"memory://{uuid4()}"
    request.getfixturevalue("server")
    return f"s3://{BUCKET}/{uuid4()}"


@pytest.fixture
def storage(root: str) -> Storage:
    storage = open_storage(root, "study")
    storage.begin()
    return storage


def test_a_file_is_stored_read_fetched_and_replaced(storage: Storage, tmp_path: Path):
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


def test_a_missing_file_reads_as_none(storage: Storage, tmp_path: Path):
    assert storage.read("ledger.jsonl") is None
    assert not storage.fetch("checkpoints/a/last.pt", tmp_path / "last.pt")
    assert not (tmp_path / "last.pt").exists()
    assert storage.folders("checkpoints") == set()
    storage.remove("checkpoints/a")


def test_a_folder_is_listed_and_removed_with_its_content_only(storage: Storage):
    for name in ("a/last.pt", "a/curve.csv", "ab/last.pt"):
        storage.write(b"x", f"checkpoints/{name}")
    assert storage.folders("checkpoints") == {"a", "ab"}
    storage.remove("checkpoints/a")
    assert storage.folders("checkpoints") == {"ab"}
    assert storage.read("checkpoints/ab/last.pt") == b"x"


def test_move_aside_renames_one_study_and_leaves_the_others(storage: Storage, root: str):
    other_study = open_storage(root, "study 2")
    other_study.begin()
    other_study.write(b"theirs", "ledger.jsonl")
    for name in ("ledger.jsonl", "checkpoints/a/last.pt"):
        storage.write(b"ours", name)
    assert storage.move_aside("study.before")
    aside = open_storage(root, "study.before")
    assert aside.read("ledger.jsonl") == aside.read("checkpoints/a/last.pt") == b"ours"
    assert not storage.move_aside("study.again")
    storage.begin()
    assert storage.read("ledger.jsonl") is None
    assert other_study.read("ledger.jsonl") == b"theirs"


def test_replacing_a_file_is_atomic(storage: Storage):
    storage.write(b"a" * 300_000, "ledger.jsonl")
    finished = threading.Event()

    def replace() -> None:
        for number in range(20):
            storage.write(b"ab"[number % 2 : number % 2 + 1] * 300_000, "ledger.jsonl")
        finished.set()

    thread = threading.Thread(target=replace)
    thread.start()
    while not finished.is_set():
        content = storage.read("ledger.jsonl")
        assert content is not None
        assert (len(content), len(set(content))) == (300_000, 1)
    thread.join()


# ---- unreachable storages


def test_a_stopped_server_raises_os_error_and_works_again_after_its_restart(server: Server, tmp_path: Path):
    storage = open_storage(f"s3://{BUCKET}/{uuid4()}", "study")
    storage.write(b"x", "ledger.jsonl")
    server.end()
    try:
        with pytest.raises(StorageUnreachable, match="studies"):
            storage.fetch("ledger.jsonl", tmp_path / "back")
    finally:
        server.begin()
    assert storage.read("ledger.jsonl") == b"x"


def test_a_shared_folder_that_is_not_mounted_raises_and_nothing_is_written_in_its_place(tmp_path: Path):
    storage = open_storage(str(tmp_path / "mount"), "study")
    with pytest.raises(StorageUnreachable, match="mount it, or create it"):
        storage.begin()
    (tmp_path / "mount").mkdir()
    storage.begin()
    storage.write(b"x", "ledger.jsonl")
    (tmp_path / "mount").rename(tmp_path / "unmounted")
    calls = (lambda: storage.read("a"), lambda: storage.folders("a"), lambda: storage.write(b"", "a"), storage.begin)
    for call in calls:
        with pytest.raises(OSError):  # noqa: PT011 - any OSError
            call()
    assert not (tmp_path / "mount").exists()


def test_a_missing_bucket_and_an_unknown_protocol_are_named(server: Server):
    with pytest.raises(StorageUnreachable, match="bucket"):
        open_storage("s3://missing/x", "study").write(b"", "driver")
    with pytest.raises(StorageUnreachable, match="nokind"):
        open_storage("nokind://x", "study").write(b"", "driver")


def test_a_missing_package_is_named_with_its_extra(server: Server, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("fsspec.core.url_to_fs", _raise_import_error)
    with pytest.raises(StorageUnreachable, match=r"hiri-search\[s3\]"):
        open_storage(f"s3://{BUCKET}/x", "study").read("driver")


def _raise_import_error(url: str) -> None:
    raise ImportError("Install s3fs to access S3")


def test_no_error_contains_a_secret(server: Server, monkeypatch: pytest.MonkeyPatch):
    def fail(url: str) -> None:
        raise RuntimeError(f"signed with {SECRET} at http://me:pw@host/?X-Amz-Signature=abc") from ValueError(SECRET)

    monkeypatch.setattr("fsspec.core.url_to_fs", fail)
    with pytest.raises(StorageUnreachable) as caught:
        open_storage(f"s3://{BUCKET}/x", "study").read("driver")
    assert SECRET not in str(caught.value)
    assert "pw" not in str(caught.value)
    assert "abc" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__, "a traceback would show the original error"
