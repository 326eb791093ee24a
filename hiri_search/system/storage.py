"""A shared directory or any fsspec URL as the storage of a study."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from hiri_search.system.files import absolute, atomic_write
from hiri_search.system.redaction import redacted

# Uploads to these protocols are atomic. With others a file is uploaded under a temporary name and then renamed.
_ATOMIC_PROTOCOLS = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss"}
_EXTRAS = {"s3": "s3", "s3a": "s3"}  # by protocol: the extra of this package with the required packages
_TEMP_SUFFIX = ".tmp"
_CHUNK_BYTES = 1 << 20  # per copied chunk


class StorageUnreachable(OSError):
    """A storage that does not answer or refuses a request; the message contains no secrets."""


class Storage(Protocol):
    """Files of one study by name, such as `checkpoints/DIGEST/last.pt`.

    Every method raises OSError if the storage is unreachable.
    """

    def begin(self) -> None:
        """Create what must exist before files are written or read."""

    def put(self, local: Path, name: str) -> None:
        """Upload a local file atomically."""

    def write(self, content: bytes, name: str) -> None:
        """Write bytes to a file atomically."""

    def fetch(self, name: str, local: Path) -> bool:
        """Download a file atomically into an existing folder; return False if there is no such file."""

    def read(self, name: str) -> bytes | None:
        """Return the content of a file; None if there is no such file."""

    def folders(self, name: str) -> set[str]:
        """Return the names of the subfolders of a folder."""

    def remove(self, name: str) -> None:
        """Remove a folder with its content, if it exists."""

    def move_aside(self, name: str) -> bool:
        """Rename the folder of the study to `name`; return False if the folder is empty or missing."""


def open_storage(root: str, name: str) -> Storage:
    """Return the storage of the study `name` below `root`, which is a path or a URL."""
    if "://" in root:
        return RemoteStorage(root.rstrip("/"), name)
    return SharedFolder(absolute(root) / name)


@dataclass(frozen=True)
class SharedFolder:
    """A folder on a disk that all machines mount at the same path."""

    folder: Path

    def __str__(self) -> str:
        return str(self.folder)

    def begin(self) -> None:
        """Create the folder, but not its parent: if the disk is not mounted, nothing is written below its mount."""
        if not self.folder.parent.is_dir():
            raise StorageUnreachable(f"{self.folder.parent} does not exist: mount it, or create it")
        self.folder.mkdir(exist_ok=True)

    def put(self, local: Path, name: str) -> None:
        with local.open("rb") as source, atomic_write(self._writable_path(name)) as file:
            shutil.copyfileobj(source, file, _CHUNK_BYTES)

    def write(self, content: bytes, name: str) -> None:
        with atomic_write(self._writable_path(name)) as file:
            file.write(content)

    def fetch(self, name: str, local: Path) -> bool:
        path = self._path(name)
        if not path.is_file():
            return False
        with path.open("rb") as source, atomic_write(local) as file:
            shutil.copyfileobj(source, file, _CHUNK_BYTES)
        return True

    def read(self, name: str) -> bytes | None:
        path = self._path(name)
        return path.read_bytes() if path.is_file() else None

    def folders(self, name: str) -> set[str]:
        return {path.name for path in self._path(name).glob("*") if path.is_dir()}

    def remove(self, name: str) -> None:
        if (path := self._path(name)).exists():
            shutil.rmtree(path)

    def move_aside(self, name: str) -> bool:
        exists = self.folder.exists()
        if exists:
            self.folder.rename(self.folder.with_name(name))
        return exists

    def _path(self, name: str) -> Path:
        """Return the path of a file; OSError if the disk is not mounted, which would look like an empty folder."""
        self.folder.stat()
        return self.folder / name

    def _writable_path(self, name: str) -> Path:
        path = self._path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


@dataclass(frozen=True)
class RemoteStorage:
    """The files below a URL; fsspec and its backends read credentials and settings from the environment."""

    url: str
    name: str

    def __str__(self) -> str:
        return redacted(f"{self.url}/{self.name}")

    def begin(self) -> None:
        """Do nothing: uploads create folders, and the user creates the bucket."""

    def put(self, local: Path, name: str) -> None:
        with self._filesystem(name) as (system, target):
            if _ATOMIC_PROTOCOLS & _protocols(system):
                system.put_file(str(local), target)
            else:
                system.put_file(str(local), target + _TEMP_SUFFIX)
                system.mv(target + _TEMP_SUFFIX, target)

    def write(self, content: bytes, name: str) -> None:
        with TemporaryDirectory(prefix="hiri_search_storage_") as folder:
            (Path(folder) / "content").write_bytes(content)
            self.put(Path(folder) / "content", name)

    def fetch(self, name: str, local: Path) -> bool:
        partial = local.with_suffix(f".{os.getpid()}{_TEMP_SUFFIX}")
        try:
            with self._filesystem(name) as (system, source), suppress(FileNotFoundError):
                system.get_file(source, str(partial))
                partial.replace(local)
                return True
            return False
        finally:
            partial.unlink(missing_ok=True)

    def read(self, name: str) -> bytes | None:
        with self._filesystem(name) as (system, source), suppress(FileNotFoundError):
            return bytes(system.cat_file(source))
        return None

    def folders(self, name: str) -> set[str]:
        with self._filesystem(name) as (system, source), suppress(FileNotFoundError):
            entries = system.ls(source, detail=True)
            return {PurePosixPath(entry["name"]).name for entry in entries if entry["type"] == "directory"}
        return set()

    def remove(self, name: str) -> None:
        with self._filesystem(name) as (system, target), suppress(FileNotFoundError):
            system.rm(target, recursive=True)

    def move_aside(self, name: str) -> bool:
        with self._filesystem("") as (system, source):
            paths, target = system.find(source), f"{source.rpartition('/')[0]}/{name}"
            if paths and _ATOMIC_PROTOCOLS & _protocols(system):  # object stores cannot rename a folder
                system.copy(paths, [target + path[len(source) :] for path in paths])
                system.rm(source, recursive=True)
            elif paths:
                system.mv(source, target, recursive=True)
            return bool(paths)

    @contextmanager
    def _filesystem(self, name: str) -> Iterator[tuple[Any, str]]:
        """Yield the fsspec file system and the path of a file in it; every error becomes an OSError without secrets."""
        try:
            import fsspec

            system, root = fsspec.core.url_to_fs(self.url)
            system.invalidate_cache()  # other machines write to the storage too
            yield system, f"{root.rstrip('/')}/{self.name}/{name}".rstrip("/")
        except ImportError as error:
            extra = _EXTRAS.get(self.url.partition("://")[0])
            remedy = f'pip install "hiri-search[{extra}]"' if extra else redacted(str(error))
            raise StorageUnreachable(f"{self}: a required package is not installed: {remedy}") from None
        except Exception as error:  # each backend has its own exceptions, whose texts and causes may contain secrets
            raise StorageUnreachable(f"{self}: {type(error).__name__}: {redacted(str(error))}") from None


def _protocols(system: Any) -> set[str]:
    return {system.protocol} if isinstance(system.protocol, str) else set(system.protocol)
