"""Damage to a file, of the kinds that power cuts, full disks and people cause."""

import os
from collections.abc import Callable
from pathlib import Path


def cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def empty(file: Path) -> None:
    os.truncate(file, 0)


def zero(file: Path) -> None:
    file.write_bytes(bytes(file.stat().st_size))


def tear(file: Path) -> None:
    """Keep the first half and zero the second, as a file that was not flushed to disk."""
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2].ljust(len(content), b"\0"))


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def grow(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"\0")


def replace_by_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def replace_by_link(file: Path) -> None:
    file.unlink()
    file.symlink_to(file.name)


DAMAGES: tuple[Callable[[Path], None], ...] = (
    *(cut, empty, zero, tear, flip_a_bit, grow, Path.unlink),
    *(replace_by_folder, replace_by_link),
)
