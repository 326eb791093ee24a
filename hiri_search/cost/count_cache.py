"""On-disk cache of counted costs, keyed by the code that counted them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path

import hiri_search
from hiri_search.system.cache_dir import user_cache

# Globs of the code that defines networks and counts them.
COUNTING_CODE = ("language/**/*.py", "nets/**/*.py", "models.py", "networks.py", "cost/**/*.py")
COUNTING_LIBRARIES = ("torch", "timm", "fvcore")

CachedNumbers = Mapping[str, tuple[int, ...]]

_anew = False


def cache_enabled() -> bool:
    """Whether what was counted before is taken as it is, as everywhere but within `nothing_remembered`."""
    return not _anew


def cached(key: str, count: Callable[[], CachedNumbers]) -> CachedNumbers:
    """What `count` gives, or gave when it was asked for this key before: by name of a part.

    Kept in the user's cache, in a file for each version of what counts; where none can be written it is counted each
    time. Lines that are torn, or no such numbers, are passed over.
    """
    file = _file()
    if file is None or not cache_enabled():
        return count()
    known = _known(file)
    if key not in known:
        known[key] = count()
        _write(file, json.dumps([key, known[key]]))
    return known[key]


@contextmanager
def cache_disabled() -> Iterator[None]:
    """In here all is counted, whatever was before."""
    global _anew
    before, _anew = _anew, True
    try:
        yield
    finally:
        _anew = before


def _file() -> Path | None:
    place = user_cache("counts")
    return place / f"counts-{_code()}.jsonl" if place else None


@cache
def _code() -> str:
    """The same for the same code, ours and that of others."""
    package = Path(hiri_search.__file__).parent
    digest = hashlib.sha256(repr([(name, version(name)) for name in COUNTING_LIBRARIES]).encode())
    for path in sorted(path for pattern in COUNTING_CODE for path in package.glob(pattern)):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


@cache
def _known(file: Path) -> dict[str, CachedNumbers]:
    known: dict[str, CachedNumbers] = {}
    with suppress(OSError):
        for line in file.read_bytes().splitlines():
            with suppress(ValueError, TypeError, AttributeError):
                key, numbers = json.loads(line)
                known[str(key)] = {name: tuple(map(int, each)) for name, each in numbers.items()}
    return known


def _write(file: Path, line: str) -> None:
    """At once and at the end, so that other processes may write, too."""
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            os.write(handle, f"{line}\n".encode())
        finally:
            os.close(handle)
