"""Files of pictures, read from a folder or an archive: nothing is written, and only so much is read at once."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Read = Callable[[str], bytes]

MOST_BYTES = 256 << 20  # of one picture's file, unpacked
MOST_WORDS = 1 << 20  # bytes of the words about one member of a tar, which are read whole
WORDS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


class Member(tarfile.TarInfo):
    """One of a tar; the place that tarfile has for what is special about members."""

    def _proc_member(self, tar: tarfile.TarFile) -> Any:
        if self.type in WORDS:
            _demand_small(self.size, MOST_WORDS)
        return super()._proc_member(tar)  # type: ignore[misc]


def open_tar(path: Path) -> tarfile.TarFile:
    """To be read alone."""
    return tarfile.open(path, tarinfo=Member)


@contextmanager
def in_folder(path: Path) -> Iterator[Read]:
    """Files below a folder."""

    def read(name: str) -> bytes:
        _demand_small((path / name).stat().st_size)
        return (path / name).read_bytes()

    yield read


@contextmanager
def in_zip(path: Path) -> Iterator[Read]:
    """Members of a zip."""
    with zipfile.ZipFile(path) as archive:

        def read(name: str) -> bytes:
            _demand_small(archive.getinfo(name).file_size)  # no more is unpacked than it says
            return archive.read(name)

        yield read


@contextmanager
def in_tar(path: Path, members: dict[str, tarfile.TarInfo]) -> Iterator[Read]:
    """These members of a tar, plain files all of them: links and devices are not followed."""
    with open_tar(path) as tar:

        def read(name: str) -> bytes:
            _demand_small(members[name].size)
            return tar.extractfile(members[name]).read()  # type: ignore[union-attr]

        yield read


def _demand_small(size: int, most: int = MOST_BYTES) -> None:
    if size > most:
        raise tarfile.ReadError(f"{size:,} bytes are more than the {most:,} that are read")
