"""What pictures of the user's are, wherever they lie: a digest of their bytes, and what a glance shows without it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from hiri_search.training.ahead import ahead
from hiri_search.training.cache import Progress, Say
from hiri_search.training.device import cores
from hiri_search.training.pictures import Entry, Shelf, encoded

Picked = Mapping[str, Sequence[Entry]]  # by split


def glance(shelf: Shelf, picked: Picked) -> str:
    """A digest of path, names, sizes and times: changes when pictures do, or are moved or copied; nothing is read."""
    entries = _in_order(picked)
    files = [shelf.path / entry.name for entry in entries] if shelf.path.is_dir() else [shelf.path]
    names = [f"{entry.label} {entry.name}" for entry in entries]
    lines = [str(shelf.path.resolve()), *names, *map(_state, files)]
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()


def digest(shelf: Shelf, picked: Picked, say: Say) -> str:
    """Of the bytes and labels of pictures in their order: the same from a folder, a copy of it, and an archive."""
    entries = _in_order(picked)
    whole, progress = hashlib.sha256(), Progress(len(entries), say, done="looked at")
    for line in ahead(_line, encoded(shelf, entries), threads=cores()):
        whole.update(line)
        progress.step()
    return whole.hexdigest()


def _in_order(picked: Picked) -> list[Entry]:
    return [entry for entries in picked.values() for entry in entries]


def _state(file: Path) -> str:
    try:
        found = file.stat()
    except OSError:
        return "gone"  # will be said where it is read
    return f"{found.st_size} {found.st_mtime_ns}"


def _line(found: tuple[Entry, bytes | str]) -> bytes:
    """Of one picture; a file that cannot be read is like one with nothing in it."""
    entry, data = found
    return f"{entry.label} {hashlib.sha256(data if isinstance(data, bytes) else b'').hexdigest()}\n".encode()
