"""FileTree: the files of a folder or archive by name. Links are followed, and reading is safe."""

from __future__ import annotations

import lzma
import os
import posixpath
import tarfile
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path, PurePosixPath

# Exceptions of the standard library for damaged files and archives. UnicodeError: of a name in a zip.
READ_ERRORS = (
    *(OSError, EOFError, RuntimeError, UnicodeError),
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError),
)

MAX_FILE_BYTES = 256 << 20  # of one file, unpacked

FileReader = Callable[[str], bytes]  # returns the content of a file by its name in the tree
# A name in a folder, the place where links lead (None: to no file or folder), and whether that is a folder.
Child = tuple[str, str | None, bool]


class FileTree(ABC):
    """The files of a folder or archive. Names have slashes; that of the whole tree is empty."""

    def files(self, folder: str) -> Iterator[tuple[str, bool]]:
        """Yield the name of each file below a folder, and False for devices and for links that lead to no file.

        A folder that links make a part of itself is entered once. Raises OSError for a folder that cannot be opened.
        """
        start = self._place(folder)
        folders = [(posixpath.join(folder, ""), start, frozenset({"", start, *map(str, PurePosixPath(start).parents)}))]
        while folders:
            name, place, above = folders.pop()
            for child, target, is_folder in self._children(place):
                if target is None or not is_folder:
                    yield name + child, target is not None
                elif target not in above:
                    folders.append((f"{name}{child}/", target, above | {target}))

    def folders(self, folder: str) -> list[str]:
        """The names of the folders in a folder, sorted; none if it cannot be opened."""
        return sorted(child for child, _, is_folder in self._known_children(folder) if is_folder)

    def own_files(self, folder: str) -> list[str]:
        """The names of the files in a folder itself; none if it cannot be opened."""
        return [child for child, target, is_folder in self._known_children(folder) if target and not is_folder]

    def _known_children(self, folder: str) -> list[Child]:
        with suppress(OSError):
            return list(self._children(self._place(folder)))
        return []

    @abstractmethod
    def open_reader(self, limit: int = MAX_FILE_BYTES) -> AbstractContextManager[FileReader]:
        """Open the tree for reading. The reader raises one of READ_ERRORS for a file that cannot be read.

        A file of more than `limit` bytes, unpacked, is not read.
        """

    @abstractmethod
    def _place(self, name: str) -> str:
        """The place of a file or folder, which has one place and may have several names."""

    @abstractmethod
    def _children(self, place: str) -> Iterable[Child]: ...


class FolderTree(FileTree):
    """The files of a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def _place(self, name: str) -> str:
        return os.path.realpath(self.path / name)

    def _children(self, place: str) -> Iterator[Child]:
        with os.scandir(place) as entries:
            for entry in entries:
                if entry.is_symlink():
                    target = os.path.realpath(entry.path)
                    is_folder, is_file = os.path.isdir(target), os.path.isfile(target)
                else:
                    target, is_folder, is_file = entry.path, entry.is_dir(), entry.is_file()
                yield entry.name, target if is_folder or is_file else None, is_folder

    @contextmanager
    def open_reader(self, limit: int = MAX_FILE_BYTES) -> Iterator[FileReader]:

        def read(name: str) -> bytes:
            check_size((self.path / name).stat().st_size, limit)
            return (self.path / name).read_bytes()

        yield read


def check_size(size: int, limit: int = MAX_FILE_BYTES) -> None:
    """Raise ReadError, one of READ_ERRORS, for more bytes than the limit."""
    if size > limit:
        raise tarfile.ReadError(f"{size:,} bytes are more than the limit of {limit:,}")
