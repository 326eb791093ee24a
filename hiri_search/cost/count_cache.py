"""On-disk cache of counted costs, keyed by the code that counted them."""

from __future__ import annotations

import hashlib
import json
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

_disabled = False


def cache_enabled() -> bool:
    """True except within `cache_disabled`."""
    return not _disabled


def cached(key: str, count: Callable[[], CachedNumbers]) -> CachedNumbers:
    """Return the cached numbers of a key, by part; on a cache miss, call `count` and append its result to the cache.

    The cache is a JSON lines file in the user's cache directory, one file for each version of the counting code. Where
    it cannot be written, every call counts. Incomplete and invalid lines are ignored.
    """
    folder = user_cache("counts")
    if folder is None or _disabled:
        return count()
    file = folder / f"counts-{_code_hash()}.jsonl"
    entries = _read_file(file)
    if key not in entries:
        entries[key] = count()
        _append_line(file, json.dumps([key, entries[key]]))
    return entries[key]


@contextmanager
def cache_disabled() -> Iterator[None]:
    """Context manager in which the cache is neither read nor written."""
    global _disabled
    outer, _disabled = _disabled, True
    try:
        yield
    finally:
        _disabled = outer


@cache
def _code_hash() -> str:
    """Hash of our counting code and of the versions of the libraries that it uses."""
    package = Path(hiri_search.__file__).parent
    digest = hashlib.sha256(repr([(name, version(name)) for name in COUNTING_LIBRARIES]).encode())
    for path in sorted(path for pattern in COUNTING_CODE for path in package.glob(pattern)):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


@cache
def _read_file(file: Path) -> dict[str, CachedNumbers]:
    entries: dict[str, CachedNumbers] = {}
    with suppress(OSError):
        for line in file.read_bytes().splitlines():
            with suppress(ValueError, TypeError, AttributeError):
                key, numbers = json.loads(line)
                entries[str(key)] = {name: tuple(map(int, counts)) for name, counts in numbers.items()}
    return entries


def _append_line(file: Path, line: str) -> None:
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("ab", buffering=0) as handle:  # a single write, so that several processes can write to the file
            handle.write(f"{line}\n".encode())
