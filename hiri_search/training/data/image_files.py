"""Which files of a folder are images, by their names."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import PurePosixPath

from PIL import Image

# Formats that Pillow recognises but does not decode by itself; for EPS it starts Ghostscript.
NOT_DECODED = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"})
MACOS_METADATA = "__MACOSX"  # folder in a zip of macOS


def reason_left_out(parts: Sequence[str], *, is_file: bool) -> str:
    """The reason why a file is left out, with the parts of its name below its split; empty for an image of a class."""
    suffix = PurePosixPath(parts[-1]).suffix.lower()
    if any(map(is_hidden, parts)):
        return "hidden"
    if not is_file:
        return "without content (links that lead to no file, devices)"
    if suffix not in image_suffixes():
        return suffix or "without suffix"
    return "" if len(parts) > 1 else "in no class folder"


def is_hidden(name: str) -> bool:
    return name.startswith(".") or name == MACOS_METADATA


@cache
def image_formats() -> tuple[str, ...]:
    """The image formats that Pillow opens and decodes, the common ones first."""
    Image.init()
    return tuple(name for name in Image.ID if name not in NOT_DECODED)


@cache
def image_suffixes() -> frozenset[str]:
    """The suffixes, in lower case, of all files that are read as images."""
    known = {*image_formats(), "MPO"}  # Pillow's JPEG reader opens MPO
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in known)
