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
from hiri_search.system.checksums import checked_line, line_content

# Globs of the code that defines networks and counts them.
COUNTING_CODE = ("language/**/*.py", "nets/**/*.py", "kinds.py", "models.py", "networks.py", "cost/**/*.py")
COUNTING_LIBRARIES = ("torch", "timm", "fvcore")

CachedNumbers = Mapping[str, tuple[int, ...]]

_disabled = False


def cache_enabled() -> bool:
    """True except within `cache_disabled`."""
    return not _disabled


def cached(key: str, count: Callable[[], CachedNumbers]) -> CachedNumbers:
    """Return the cached numbers of a key, by part; on a cache miss, call `count` and append its result to the cache.

    The cache is a file of JSON lines with checksums in the user's cache directory, one file for each version of the
    counting code. Where it cannot be written, every call counts. Damaged lines are ignored.
    """
    if _disabled:
        return count()
    try:
        file = user_cache("counts") / f"counts-{_code_hash()}.jsonl"
    except OSError:
        return count()
    entries = _read_file(file)
    if key not in entries:
        entries[key] = count()
        _append_line(file, checked_line(json.dumps([key, entries[key]])))
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
        for line in file.read_bytes().splitlines(keepends=True):
            with suppress(ValueError):
                key, numbers = json.loads(line_content(line.decode()))
                entries[key] = {name: tuple(counts) for name, counts in numbers.items()}
    return entries


def _append_line(file: Path, line: str) -> None:
    with suppress(OSError), file.open("ab", buffering=0) as output:
        output.write(line.encode())  # a single write, so that several processes can write to the file
