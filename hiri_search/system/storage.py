"""A shared directory or any fsspec URL as the storage of a study."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from hiri_search.system.files import atomic_write
from hiri_search.system.redaction import redacted

# Where a file is there at once and whole, or not at all; elsewhere it is put beside, and renamed.
AT_ONCE = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss"}
EXTRAS = {"s3": "s3", "s3a": "s3"}  # by the kind of URL: the extra of this package that brings what it needs
TEMP_SUFFIX = ".tmp"
CHUNK_BYTES = 1 << 20  # bytes that are copied at once


class StorageUnreachable(OSError):
    """A storage that does not answer, or refuses; what it said, without secrets."""


class Storage(Protocol):
    """Files of one study by name, such as `checkpoints/DIGEST/last.pt`. Each method raises OSError where it is away."""

    def begin(self) -> None:
        """Make what has to be there before anything is put or read."""

    def put(self, local: Path, name: str) -> None:
        """A copy of a file, whole or not at all."""

    def write(self, content: bytes, name: str) -> None:
        """As `put`, of what is in memory."""

    def fetch(self, name: str, local: Path) -> bool:
        """Copy a file here, whole, into a folder that is there; whether there is such a file."""

    def read(self, name: str) -> bytes | None:
        """What a file holds; None where there is none."""

    def folders(self, name: str) -> set[str]:
        """The names of the folders in one."""

    def remove(self, name: str) -> None:
        """A folder with all that is in it, if there is one."""

    def move_aside(self, name: str) -> bool:
        """Give all of it this last name; whether there was anything."""


def open_storage(place: str, name: str) -> Storage:
    """The folder of a study in a storage, which is a path or a URL."""
    if "://" in place:
        return RemoteStorage(place.rstrip("/"), name)
    return SharedFolder(Path(place).expanduser().absolute() / name)


@dataclass(frozen=True)
class SharedFolder:
    """A folder on a disk that all machines mount at the same path."""

    folder: Path

    def __str__(self) -> str:
        return str(self.folder)

    def begin(self) -> None:
        """The folder around it must be there: where a disk is away, nothing is to be written beneath its mount."""
        if not self.folder.parent.is_dir():
            raise StorageUnreachable(f"{self.folder.parent} is not there: mount it, or make it")
        self.folder.mkdir(exist_ok=True)

    def put(self, local: Path, name: str) -> None:
        with local.open("rb") as source, atomic_write(self._made(name)) as file:
            shutil.copyfileobj(source, file, CHUNK_BYTES)

    def write(self, content: bytes, name: str) -> None:
        with atomic_write(self._made(name)) as file:
            file.write(content)

    def fetch(self, name: str, local: Path) -> bool:
        path = self._there(name)
        if not path.is_file():
            return False
        with path.open("rb") as source, atomic_write(local) as file:
            shutil.copyfileobj(source, file, CHUNK_BYTES)
        return True

    def read(self, name: str) -> bytes | None:
        path = self._there(name)
        return path.read_bytes() if path.is_file() else None

    def folders(self, name: str) -> set[str]:
        return {path.name for path in self._there(name).glob("*") if path.is_dir()}

    def remove(self, name: str) -> None:
        path = self._there(name)
        if path.exists():
            shutil.rmtree(path)

    def move_aside(self, name: str) -> bool:
        if self.folder.exists():
            self.folder.rename(self.folder.with_name(name))
            return True
        return False

    def _there(self, name: str) -> Path:
        """Where its disk is away, it only looks as if there were nothing."""
        self.folder.stat()
        return self.folder / name

    def _made(self, name: str) -> Path:
        path = self._there(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


@dataclass(frozen=True)
class RemoteStorage:
    """What lies under a URL; credentials and settings are the environment's, as fsspec and its kinds read them."""

    url: str
    name: str

    def __str__(self) -> str:
        return redacted(f"{self.url}/{self.name}")

    def begin(self) -> None:
        """Nothing: folders are made where files are put, and a bucket is the user's."""

    def put(self, local: Path, name: str) -> None:
        with self._opened(name) as (system, target):
            if AT_ONCE & _kinds(system):
                system.put_file(str(local), target)
            else:
                system.put_file(str(local), target + TEMP_SUFFIX)
                system.mv(target + TEMP_SUFFIX, target)

    def write(self, content: bytes, name: str) -> None:
        with TemporaryDirectory(prefix="hiri_search_storage_") as folder:
            (Path(folder) / "content").write_bytes(content)
            self.put(Path(folder) / "content", name)

    def fetch(self, name: str, local: Path) -> bool:
        arriving = local.with_suffix(f".{os.getpid()}{TEMP_SUFFIX}")
        try:
            with self._opened(name) as (system, source), suppress(FileNotFoundError):
                system.get_file(source, str(arriving))
                arriving.replace(local)
                return True
            return False
        finally:
            arriving.unlink(missing_ok=True)

    def read(self, name: str) -> bytes | None:
        with self._opened(name) as (system, source), suppress(FileNotFoundError):
            return bytes(system.cat_file(source))
        return None

    def folders(self, name: str) -> set[str]:
        with self._opened(name) as (system, source), suppress(FileNotFoundError):
            found = system.ls(source, detail=True)
            return {_last(one["name"]) for one in found if one["type"] == "directory"}
        return set()

    def remove(self, name: str) -> None:
        with self._opened(name) as (system, target), suppress(FileNotFoundError):
            system.rm(target, recursive=True)

    def move_aside(self, name: str) -> bool:
        with self._opened("") as (system, source):
            found, target = system.find(source), f"{source.rpartition('/')[0]}/{name}"
            if found and AT_ONCE & _kinds(system):  # there are no folders that could be renamed
                system.copy(found, [target + path[len(source) :] for path in found])
                system.rm(source, recursive=True)
            elif found:
                system.mv(source, target, recursive=True)
            return bool(found)

    @contextmanager
    def _opened(self, name: str) -> Iterator[tuple[Any, str]]:
        """The file system and the path of a name in it; whatever goes wrong is an OSError that holds no secret."""
        try:
            import fsspec

            system, root = fsspec.core.url_to_fs(self.url)
            system.invalidate_cache()  # others write there too
            yield system, f"{root.rstrip('/')}/{self.name}/{name}".rstrip("/")
        except ImportError as error:
            extra = EXTRAS.get(self.url.partition("://")[0])
            remedy = f'pip install "hiri-search[{extra}]"' if extra else redacted(str(error))
            raise StorageUnreachable(f"{self}: what this needs is not installed here: {remedy}") from None
        except Exception as error:  # every kind has exceptions of its own, whose texts and causes may hold secrets
            raise StorageUnreachable(f"{self}: {type(error).__name__}: {redacted(str(error))}") from None


def _last(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]


def _kinds(system: Any) -> set[str]:
    return {system.protocol} if isinstance(system.protocol, str) else set(system.protocol)
