"""Mirror of ledger, report and checkpoints in a remote storage, written by one driver at a time."""

from __future__ import annotations

import os
import platform
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import takewhile
from pathlib import Path
from threading import Event, Lock, Thread

from hiri_search.study.errors import StudyError
from hiri_search.study.ledger.events import GO_ON
from hiri_search.study.ledger.layout import CHECKPOINTS, LEDGER, TRIAL_FOLDER
from hiri_search.study.ledger.ledger import open_ledger
from hiri_search.system.files import UNFINISHED, Say, atomic_write, retrying
from hiri_search.system.storage import Storage, open_storage

_REPORT_FOLDER = "report"
_DRIVER_FILE = "driver"  # names the driver that may write: the one that started last
UPLOAD_SECONDS = 3.0  # seconds between two uploads
_UPLOAD_SHARE = 0.1  # largest share of the time that uploads take


def move_stored_aside(folder: Path, storage: Storage) -> str | None:
    """Rename the copy of a results folder in a storage; return its new name, or None if there is no copy."""
    name = f"{folder.name}.{time.strftime('%Y-%m-%dT%H-%M-%S')}"
    with _storage_errors():
        return name if storage.move_aside(name) else None


class DriverReplaced(Exception):
    """Another driver has started on the same storage."""


def storage_of(place: str | None, folder: Path) -> Storage | None:
    """Return the storage of a results folder. StudyError if the storage is the folder itself."""
    if place is None:
        return None
    storage = open_storage(place, folder.absolute().name)
    if str(storage) == str(folder.absolute()):
        raise StudyError(f"storage: {place} already contains {folder}; give another place, or leave it out")
    return storage


def resume_from_storage(folder: Path, storage: Storage, say: Say = lambda text: None) -> None:
    """Copy the ledger of the storage if it is longer than the local one. StudyError if they diverge."""
    with _storage_errors():
        storage.begin()
    with _storage_errors(), open_ledger(folder, say):  # also locks the ledger and cuts an incomplete last line
        stored, local = storage.read(LEDGER), (folder / LEDGER).read_bytes()
        if stored is None or local.startswith(stored):
            return
        if not stored.startswith(local):
            raise StudyError(_divergence(folder, storage, local, stored))
        more = stored.count(b"\n") - local.count(b"\n")
        say(f"resuming from {storage}, whose ledger has {more:,} more lines than that of {folder}")
        with atomic_write(folder / LEDGER) as file:
            file.write(stored)


def _divergence(folder: Path, storage: Storage, local: bytes, stored: bytes) -> str:
    pairs = zip(local.splitlines(), stored.splitlines(), strict=False)
    common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    problem = f"{folder} and {storage} are equal up to line {common:,} of {LEDGER}, and differ after it"
    return f"{problem}; rename the one that you do not want to resume"


@contextmanager
def _storage_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StudyError(f"the storage cannot be used: {error}; {GO_ON}") from error


class Mirror:
    """Uploads new content of a results folder, and removes checkpoints in the storage that no trial needs."""

    def __init__(self, folder: Path, storage: Storage, *, driver: bytes | None = None) -> None:
        """With `driver`, upload only while the storage names this driver."""
        self.storage, self._folder, self._driver = storage, folder, driver
        self.replaced = ""  # message once another driver has replaced this one
        self._uploaded_bytes = -1  # size of the uploaded ledger
        self._uploaded_reports: dict[Path, tuple[int, int]] = {}  # modification time and size of uploaded report files
        self._to_remove: set[str] = set()  # training digests
        self._lock = Lock()

    def trainings(self) -> set[str]:
        """Return the training digests that have a checkpoint in the storage. StudyError if it is not reachable."""
        with _storage_errors():
            return retrying(partial(self.storage.folders, CHECKPOINTS))

    def remove(self, digest: str) -> None:
        """Remove the checkpoint of a training with the next upload, after the ledger lines that explain it."""
        assert TRIAL_FOLDER.fullmatch(digest), "a training digest"
        with self._lock:
            self._to_remove.add(digest)

    def keep(self, digest: str) -> None:
        """Cancel a removal: another trial with the same training needs the checkpoint."""
        with self._lock:
            self._to_remove.discard(digest)

    def upload(self) -> None:
        """Upload all new content. OSError if the storage is unreachable, DriverReplaced if another driver writes it."""
        self._check_driver()
        with self._lock:
            digests = set(self._to_remove)  # before the upload of the ledger, which explains these removals
        self._upload_ledger()
        self.upload_report()
        for digest in digests:
            self._remove(digest)

    def _check_driver(self) -> None:
        driver = self._driver and self.storage.read(_DRIVER_FILE)
        if driver != self._driver:
            name = (driver or b"another driver").decode(errors="replace").partition(",")[0]
            self.replaced = f"{self.storage} was taken over by {name}; this process stops"
            raise DriverReplaced

    def _upload_ledger(self) -> None:
        content = (self._folder / LEDGER).read_bytes()
        content = content[: content.rfind(b"\n") + 1]  # without an incomplete last line
        if len(content) != self._uploaded_bytes:
            self.storage.write(content, LEDGER)
            self._uploaded_bytes = len(content)

    def upload_report(self) -> None:
        """Upload the report files that have changed."""
        for path in sorted((self._folder / _REPORT_FOLDER).rglob("*")):
            if path.is_file() and path.suffix != UNFINISHED:
                stamp = path.stat().st_mtime_ns, path.stat().st_size
                if self._uploaded_reports.get(path) != stamp:
                    self.storage.put(path, path.relative_to(self._folder).as_posix())
                    self._uploaded_reports[path] = stamp

    def _remove(self, digest: str) -> None:
        with self._lock:
            if digest not in self._to_remove:
                return
            self._to_remove.discard(digest)
        try:
            self.storage.remove(f"{CHECKPOINTS}/{digest}")
        except OSError:
            self.remove(digest)
            raise


@contextmanager
def mirroring(folder: Path, storage: Storage | None, say: Say) -> Iterator[Mirror | None]:
    """Upload every few seconds and at the end; yield None without a storage. StudyError if it is not writable."""
    if storage is None:
        yield None
        return
    driver = f"process {os.getpid()} on {platform.node()}, {secrets.token_hex(8)}".encode(errors="backslashreplace")
    with _storage_errors():
        storage.write(driver, _DRIVER_FILE)
    mirror = Mirror(folder, storage, driver=driver)
    stop = Event()
    thread = Thread(target=_upload_repeatedly, args=[mirror, stop, say], name="mirror", daemon=True)
    thread.start()
    try:
        yield mirror
    finally:
        stop.set()
        thread.join()
        _upload_last(mirror, say)


def _upload_repeatedly(mirror: Mirror, stop: Event, say: Say) -> None:
    """Upload until `stop` is set; report once that the storage is unreachable, and once that it is back."""
    wait, failing = UPLOAD_SECONDS, False
    while not stop.wait(wait):
        started = time.monotonic()
        try:
            mirror.upload()
        except DriverReplaced:
            return
        except OSError as error:
            if not failing:
                say(f"the storage is not up to date: {error}; the upload is repeated until it succeeds")
            failing = True
        else:
            if failing:
                say(f"the storage is up to date again: {mirror.storage}")
            failing = False
        wait = max(UPLOAD_SECONDS, (time.monotonic() - started) / _UPLOAD_SHARE)


def _upload_last(mirror: Mirror, say: Say) -> None:
    try:
        retrying(mirror.upload, say=say)
    except DriverReplaced:
        say(mirror.replaced)
    except OSError as error:
        say(f"the storage lacks the last changes: {error}; the same command uploads them")


def upload_report(folder: Path, storage: Storage, say: Say) -> None:
    """Upload the report; say it if the storage stays unreachable."""
    try:
        retrying(Mirror(folder, storage).upload_report, say=say)
    except OSError as error:
        say(f"the storage lacks the report: {error}; the same command uploads it")
