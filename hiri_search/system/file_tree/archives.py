"""Archives, .tar and .zip, as trees of files: their members, and the links between them."""

from __future__ import annotations

import io
import os
import posixpath
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, BinaryIO, Generic, TypeVar
from weakref import finalize

from hiri_search.system.cache_dir import user_cache
from hiri_search.system.file_tree.tree import MAX_FILE_BYTES, Child, FileReader, FileTree, FolderTree, check_size

MAX_HEADER_BYTES = 1 << 20  # of one extended header of a tar, which tarfile reads as a whole
MAX_NAME_LENGTH = 4096  # characters of a name in an archive, as in a path of Linux
MAX_LINKS = 40  # links that lead to one file, as in Linux
FREE_DISK_SHARE = 0.95  # share of the free disk space that an unpacked archive may take
COPIED_BYTES = 1 << 24  # unpacked between two looks at the disk
EXTENDED_HEADERS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)

UNIX = 3  # in the header of a zip: the system that wrote it
ENCRYPTED, UTF_8 = 1, 1 << 11  # flags in the header of a zip; the second one: of names in UTF-8

_Member = TypeVar("_Member")


class _ArchiveTree(FileTree, Generic[_Member]):
    """The members of an archive: files, links between them, and folders. Of two members of one name the last counts."""

    def __init__(self) -> None:
        self._files: dict[str, _Member] = {}
        self._links: dict[str, str] = {}  # the name that each link leads to
        self._names: dict[str, set[str]] = {"": set()}  # in each folder

    def _add(self, name: str, *, member: _Member | None = None, link: str | None = None, folder: bool = False) -> None:
        """Add a file, a link or a folder, or what cannot be read; names that lead out of the archive are skipped."""
        if len(name) > MAX_NAME_LENGTH or (name := _inside(name)).split("/")[0] in ("", ".."):
            return
        *above, _ = parents = list(accumulate(name.split("/"), "{}/{}".format))
        for parent, child in zip(["", *above], parents, strict=True):
            self._names.setdefault(parent, set()).add(child)
        self._files.pop(name, None)
        self._links.pop(name, None)
        if folder:
            self._names.setdefault(name, set())
        elif link is not None:
            self._links[name] = _inside(link)
        elif member is not None:
            self._files[name] = member

    def _place(self, name: str) -> str:
        name = _inside(name)
        for _ in range(MAX_LINKS):
            parts = accumulate(name.split("/"), "{}/{}".format)
            link = next((part for part in parts if part in self._links), None) if self._links else None
            if link is None:
                return name
            name = _inside(self._links[link] + name[len(link) :])
        return ".."  # links in a circle lead to no member

    def _children(self, place: str) -> Iterator[Child]:
        for name in self._names[place]:
            target = self._place(name)
            is_folder = target in self._names
            yield posixpath.basename(name), target if is_folder or target in self._files else None, is_folder

    def _member(self, name: str) -> _Member:
        try:
            return self._files[self._place(name)]
        except KeyError:
            raise tarfile.ReadError("no such file in the archive") from None


def _inside(name: str) -> str:
    """A name in its shortest form, without a slash at its beginning; empty for the archive itself."""
    name = posixpath.normpath(name).lstrip("/")
    return "" if name == "." else name


def _link_target(name: str, target: str) -> str:
    """The name that a symbolic link leads to; an absolute link leads out of the archive."""
    return ".." if target.startswith("/") else posixpath.join(posixpath.dirname(_inside(name)), target)


class CheckedTarInfo(tarfile.TarInfo):
    """A tar member whose extended headers are limited in size; `_proc_member` is tarfile's hook for special members."""

    def _proc_member(self, tar: tarfile.TarFile) -> Any:
        if self.type in EXTENDED_HEADERS:
            check_size(self.size, MAX_HEADER_BYTES)
        return super()._proc_member(tar)  # type: ignore[misc]


class _TarTree(_ArchiveTree[tarfile.TarInfo]):
    """A tar. A compressed one is unpacked once, into a file without a name that ends with this object."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = str(path)
        with self._open() as tar:
            if not isinstance(tar.fileobj, io.BufferedReader):
                self._path = self._unpack(tar.fileobj)
        with self._open() as tar:
            for member in tar:
                link = member.linkname if member.islnk() else None
                if member.issym():
                    link = _link_target(member.name, member.linkname)
                self._add(member.name, member=member if member.isfile() else None, link=link, folder=member.isdir())

    def _unpack(self, compressed: Any) -> str:
        """Unpack into a temporary file; return a path that opens it anew."""
        file = _temporary_file()
        finalize(self, file.close)
        usage = os.fstatvfs(file.fileno())
        limit = int(FREE_DISK_SHARE * usage.f_bavail * usage.f_frsize)
        compressed.seek(0)
        while data := compressed.read(COPIED_BYTES):
            if file.tell() + len(data) > limit:
                raise tarfile.ReadError(f"unpacked it takes more than the {limit / 1e9:.2f} GB that the disk has free")
            file.write(data)
        file.flush()
        return f"/dev/fd/{file.fileno()}"

    def _open(self) -> tarfile.TarFile:
        return tarfile.open(self._path, tarinfo=CheckedTarInfo)

    @contextmanager
    def open_reader(self, limit: int = MAX_FILE_BYTES) -> Iterator[FileReader]:
        with self._open() as tar:

            def read(name: str) -> bytes:
                member = self._member(name)
                check_size(member.size, limit)
                return tar.extractfile(member).read()  # type: ignore[union-attr]

            yield read


def _temporary_file() -> BinaryIO:
    """A file without a name in the user's cache, which is large, or in the folder for temporary files."""
    with suppress(OSError):
        return TemporaryFile(dir=user_cache("images"))
    return TemporaryFile()


class _ZipTree(_ArchiveTree[zipfile.ZipInfo]):
    """A zip."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if info.flag_bits & ENCRYPTED:
                    raise tarfile.ReadError("its files are encrypted: unpack it, and name the folder")
                name, link = _zip_name(info), None
                if info.create_system == UNIX and stat.S_ISLNK(info.external_attr >> 16):
                    check_size(info.file_size, MAX_NAME_LENGTH)
                    link = _link_target(name, os.fsdecode(archive.read(info)))
                self._add(name, member=info, link=link, folder=name.endswith("/"))

    @contextmanager
    def open_reader(self, limit: int = MAX_FILE_BYTES) -> Iterator[FileReader]:
        with zipfile.ZipFile(self._path) as archive:

            def read(name: str) -> bytes:
                info = self._member(name)
                check_size(info.file_size, limit)  # zipfile unpacks no more bytes than this size
                return archive.read(info)

            yield read


def _zip_name(info: zipfile.ZipInfo) -> str:
    """The name of a member with slashes, also if it was written with backslashes, or as UTF-8 without saying so.

    On Unix a backslash may be part of a name.
    """
    name = info.filename
    if not info.flag_bits & UTF_8:
        with suppress(UnicodeError):
            name = name.encode("cp437").decode()
    return name if "/" in name and info.create_system == UNIX else name.replace("\\", "/")


def open_tree(path: Path) -> FileTree:
    """The tree of a folder, .tar (also compressed) or .zip. Raises one of READ_ERRORS if it is none of them.

    The last archive stays open for the next call, until it changes or `forget_archive` is called: many trials of a
    process then share what was unpacked once.
    """
    if path.is_dir():
        return FolderTree(path)
    status = path.stat()
    return _open_archive(path.resolve(), (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns))


@lru_cache(maxsize=1)
def _open_archive(path: Path, version: tuple[int, ...]) -> FileTree:
    """The archive at a path; of another version, it is opened again."""
    if zipfile.is_zipfile(path) and not tarfile.is_tarfile(path):  # a tar may end with a zip
        return _ZipTree(path)
    return _TarTree(path)


def forget_archive() -> None:
    """Free the disk space of the archive that `open_tree` unpacked, once nothing uses it any more."""
    _open_archive.cache_clear()
