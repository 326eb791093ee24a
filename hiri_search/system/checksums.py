"""Checksums of the blocks of a folder's files: stored when the folder is complete, compared when it is opened."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from random import SystemRandom

CHECKSUMS = "checksums.json"  # of all other files of a folder, beside them
BLOCK_BYTES = 1 << 16
SAMPLED_BYTES = 64 << 20  # compared of each file, where the check is not to read all of it
_DIGITS = 8  # of a CRC-32, in hexadecimal


def seal(folder: Path) -> None:
    """Store the checksums of a folder's files beside them, and flush all to disk.

    A folder that is renamed after this is complete, or absent, also after a power failure.
    """
    files: dict[str, tuple[int, str]] = {}
    for file in sorted(folder.iterdir()):
        size = file.stat().st_size
        files[file.name] = (size, "".join(_block_sums(file, BLOCK_BYTES, range(_blocks(size, BLOCK_BYTES)))))
    (folder / CHECKSUMS).write_text(checked_line(json.dumps({"block": BLOCK_BYTES, "files": files})))
    for path in (*folder.iterdir(), folder):
        flush(path)


def has_checksums(folder: Path) -> bool:
    """Return True if the folder was sealed."""
    return os.path.lexists(folder / CHECKSUMS)


def find_damage(folder: Path, *, whole: bool = False) -> str:
    """Return a difference between a folder's files and their checksums, or "".

    Sizes are always compared, and contents up to `SAMPLED_BYTES` of each file, or all with `whole`. A sample is evenly
    spread and begins at a random block, so that repeated checks compare other blocks.
    """
    if not has_checksums(folder):
        return "there are no checksums"
    try:
        stored = json.loads(line_content((folder / CHECKSUMS).read_text()))
    except (OSError, ValueError):
        return f"{CHECKSUMS} is damaged"
    for name, (size, sums) in stored["files"].items():
        try:
            fault = _difference(folder / name, size, sums, stored["block"], whole=whole)
        except OSError as error:
            fault = f"cannot be read: {error.strerror}"
        if fault:
            return f"{name} {fault}"
    return ""


def _difference(file: Path, size: int, sums: str, block: int, *, whole: bool) -> str:
    present = file.stat().st_size
    if present != size:
        return f"has {present:,} bytes and had {size:,}"
    count, step = _blocks(size, block), 1 if whole else max(1, _blocks(size, SAMPLED_BYTES))
    indices = [*range(SystemRandom().randrange(step), count, step), *range(count)[-1:]]
    for index, found in zip(indices, _block_sums(file, block, indices), strict=True):
        if found != sums[index * _DIGITS : (index + 1) * _DIGITS]:
            return f"has changed at byte {index * block:,}"
    return ""


def _blocks(size: int, block: int) -> int:
    """Number of blocks, the last one perhaps shorter."""
    return -(-size // block)


def _block_sums(file: Path, block: int, indices: Iterable[int]) -> Iterator[str]:
    with file.open("rb", buffering=0) as opened:
        for index in indices:
            yield f"{zlib.crc32(os.pread(opened.fileno(), block, index * block)):0{_DIGITS}x}"


def checked_line(text: str) -> str:
    """Return a text of one line behind its checksum; `line_content` reads it."""
    return f"{zlib.crc32(text.encode()):0{_DIGITS}x} {text}\n"


def line_content(line: str) -> str:
    """Return the text in a line of `checked_line`; ValueError if the line is damaged."""
    text = line[_DIGITS + 1 :].removesuffix("\n")
    if line != checked_line(text):
        raise ValueError("the line is damaged")
    return text


def flush(path: Path) -> None:
    """Write a file or a folder from memory to disk."""
    opened = os.open(path, os.O_RDONLY)
    try:
        with suppress(*[OSError] * path.is_dir()):  # some network file systems cannot flush a folder
            os.fsync(opened)
    finally:
        os.close(opened)
