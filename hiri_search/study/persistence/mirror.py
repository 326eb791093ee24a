"""Mirror of ledger, report and checkpoints in a remote storage, with one driver at a time."""

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
from hiri_search.system.files import Say, atomic_write, retrying
from hiri_search.system.storage import Storage, open_storage

REPORT_FOLDER = "report"
DRIVER_FILE = "driver"  # who may write: whoever began last
UPLOAD_SECONDS = 3.0  # seconds between looks
UPLOAD_SHARE = 0.1  # of the time that is spent on bringing it up to date, at most


def move_stored_aside(folder: Path, storage: Storage) -> str | None:
    """Rename what a storage holds of a results folder; its new name, or None where there is nothing."""
    name = f"{folder.name}.{time.strftime('%Y-%m-%dT%H-%M-%S')}"
    with _reachable():
        return name if storage.move_aside(name) else None


class DriverReplaced(Exception):
    """Another driver has begun since."""


def storage_of(place: str | None, folder: Path) -> Storage | None:
    """The storage of a results folder; StudyError where it is the folder itself."""
    if place is None:
        return None
    found = open_storage(place, folder.absolute().name)
    if str(found) == str(folder.absolute()):
        raise StudyError(f"storage: {place} is where {folder} lies anyway; give another place, or leave it out")
    return found


def resume_from_storage(folder: Path, storage: Storage, say: Say = lambda text: None) -> None:
    """Go on from the storage where it knows more than the results folder.

    StudyError where each knows what the other does not, or where the storage is not there.
    """
    with _reachable():
        storage.begin()
    with _reachable(), open_ledger(folder, say):  # cut to whole lines, and nobody else's
        stored, here = storage.read(LEDGER), (folder / LEDGER).read_bytes()
        if stored is None or here.startswith(stored):
            return
        if not stored.startswith(here):
            raise StudyError(_parted(folder, storage, here, stored))
        more = stored.count(b"\n") - here.count(b"\n")
        say(f"going on from {storage}, which has {more:,} more lines than {folder}")
        with atomic_write(folder / LEDGER) as file:
            file.write(stored)


def _parted(folder: Path, storage: Storage, here: bytes, stored: bytes) -> str:
    lines = zip(here.splitlines(), stored.splitlines(), strict=False)
    common = sum(1 for _ in takewhile(lambda both: both[0] == both[1], lines))
    found = f"{folder} and {storage} are the same study up to line {common:,} of {LEDGER}, and went on apart from there"
    return f"{found}; rename the one that is not to be gone on with"


@contextmanager
def _reachable() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StudyError(f"the storage cannot be used: {error}; {GO_ON}") from error


class Mirror:
    """Brings what is new to the storage; what trials no longer want there is removed."""

    def __init__(self, folder: Path, storage: Storage, *, driver: bytes | None = None) -> None:
        """With `driver`, only as long as nobody else has written another one."""
        self.storage, self._folder, self._driver = storage, folder, driver
        self.taken = ""  # over, by whom
        self._length = -1  # of the ledger there
        self._seen: dict[Path, tuple[int, int]] = {}  # of the report: time and size
        self._doomed: set[str] = set()
        self._lock = Lock()

    def trainings(self) -> set[str]:
        """Those that have something in the storage, by digest. StudyError where it is away."""
        with _reachable():
            return retrying(partial(self.storage.folders, CHECKPOINTS))

    def remove(self, name: str) -> None:
        """All that a training left there, once the ledger there says why."""
        assert TRIAL_FOLDER.fullmatch(name), "the name of a training"
        with self._lock:
            self._doomed.add(name)

    def wanted(self, name: str) -> None:
        """By another trial that is the same training."""
        with self._lock:
            self._doomed.discard(name)

    def upload(self) -> None:
        """All that is new. OSError where the storage is away; Taken where it is another driver's."""
        self._demand_ours()
        with self._lock:
            doomed = set(self._doomed)  # by what is in the ledger by now
        self._bring_ledger()
        self.upload_report()
        for name in doomed:
            self._remove(name)

    def _demand_ours(self) -> None:
        found = self._driver and self.storage.read(DRIVER_FILE)
        if found != self._driver:
            who = (found or b"another driver").decode(errors="replace").partition(",")[0]
            self.taken = f"{self.storage} was taken over by {who}, and this one stops"
            raise DriverReplaced

    def _bring_ledger(self) -> None:
        content = (self._folder / LEDGER).read_bytes()
        content = content[: content.rfind(b"\n") + 1]  # the last line may be half written
        if len(content) != self._length:
            self.storage.write(content, LEDGER)
            self._length = len(content)

    def upload_report(self) -> None:
        """The files of the report that have changed."""
        for path in sorted((self._folder / REPORT_FOLDER).rglob("*")):
            if path.is_file() and self._seen.get(path) != (stamp := _stamp(path)):
                self.storage.put(path, path.relative_to(self._folder).as_posix())
                self._seen[path] = stamp

    def _remove(self, name: str) -> None:
        with self._lock:
            if name not in self._doomed:
                return
            self._doomed.discard(name)
        try:
            self.storage.remove(f"{CHECKPOINTS}/{name}")
        except OSError:
            self.remove(name)
            raise


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size


@contextmanager
def mirroring(folder: Path, storage: Storage | None, say: Say) -> Iterator[Mirror | None]:
    """Every few seconds in here, and at the end; None without a storage. StudyError where it cannot be written."""
    if storage is None:
        yield None
        return
    driver = f"process {os.getpid()} on {platform.node()}, {secrets.token_hex(8)}".encode()
    with _reachable():
        storage.write(driver, DRIVER_FILE)
    mirror = Mirror(folder, storage, driver=driver)
    over = Event()
    thread = Thread(target=_keep_up, args=[mirror, over, say], name="mirror", daemon=True)
    thread.start()
    try:
        yield mirror
    finally:
        over.set()
        thread.join()
        _bring_last(mirror, say)


def _keep_up(mirror: Mirror, over: Event, say: Say) -> None:
    """While the storage is away trials have patience, or have not; it is said once."""
    wait, away = UPLOAD_SECONDS, False
    while not over.wait(wait):
        started = time.monotonic()
        try:
            mirror.upload()
        except DriverReplaced:
            return
        except OSError as error:
            if not away:
                say(f"the storage is not up to date: {error}; what is new is brought there when it can be")
            away = True
        else:
            if away:
                say(f"the storage is up to date again: {mirror.storage}")
            away = False
        wait = max(UPLOAD_SECONDS, (time.monotonic() - started) / UPLOAD_SHARE)


def _bring_last(mirror: Mirror, say: Say) -> None:
    try:
        retrying(mirror.upload, say=say)
    except DriverReplaced:
        say(mirror.taken)
    except OSError as error:
        say(f"the storage lacks what came last: {error}; the same command brings it there")


def upload_report(folder: Path, storage: Storage, say: Say) -> None:
    """The report as it is now; said where the storage stays away."""
    try:
        retrying(Mirror(folder, storage).upload_report, say=say)
    except OSError as error:
        say(f"the storage lacks the report: {error}; the same command brings it there")
