"""Decoding of image files to square uint8 arrays."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from importlib import import_module
from io import BytesIO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional

from hiri_search.system.concurrency import prefetch
from hiri_search.system.hardware import cores
from hiri_search.training.data.image_folder import (
    READ_ERRORS,
    DataError,
    ImageEntry,
    ImageFolder,
    Read,
    _read,
    encoded_images,
)

APP1, START_OF_SCAN = b"\xe1", b"\xda"  # of the segments of a JPEG


def decode_images(
    shelf: ImageFolder, entries: Sequence[ImageEntry], side: int, *, skip_corrupt: bool
) -> Iterator[tuple[ImageEntry, NDArray[np.uint8] | None]]:
    """The images (side, side, 3) in order, decoded on all cores; None for those that are unreadable and left out.

    Only a few are in memory at once. DataError where one is unreadable and not to be left out, or where all are.
    """
    readable = False
    # Decoded and resized beside each other, without Python's lock.
    for entry, image in prefetch(partial(_decode_entry, side=side), encoded_images(shelf, entries), threads=cores()):
        if isinstance(image, str):
            _complain(f"{shelf.path}: {entry.name}", image, skip_corrupt)
        else:
            readable = True
        yield entry, None if isinstance(image, str) else image
    if not readable:
        raise DataError(f"{shelf.path}: none of the {len(entries)} images can be read, {entries[0].name} among them")


def decode_image(shelf: ImageFolder, read: Read, entry: ImageEntry, side: int) -> NDArray[np.uint8]:
    """One image (side, side, 3); DataError where it is unreadable."""
    with warnings.catch_warnings(action="ignore"):  # odd EXIF blocks and palettes
        image = _decode_one(_read(read, entry), side)
    if isinstance(image, str):
        raise _unreadable(f"{shelf.path}: {entry.name}", image)
    return image


def _decode_entry(found: tuple[ImageEntry, bytes | str], side: int) -> tuple[ImageEntry, NDArray[np.uint8] | str]:
    entry, data = found
    return entry, _decode_one(data, side)


def _decode_one(data: bytes | str, side: int) -> NDArray[np.uint8] | str:
    """The image, or why it cannot be read."""
    if isinstance(data, str):
        return data
    try:
        with Image.open(BytesIO(data)) as image:
            return _square(data, image, side)
    except UnidentifiedImageError:
        return "no image of a known format" if data else "the file is empty"
    except (*READ_ERRORS, ValueError, SyntaxError, struct.error, Image.DecompressionBombError) as error:
        return str(error) or type(error).__name__


def _complain(name: str, reason: str, skip_corrupt: bool) -> None:
    if not skip_corrupt:
        raise _unreadable(name, reason)


def _unreadable(name: str, reason: str) -> DataError:
    return DataError(
        f"{name} cannot be read as a image ({reason});"
        " mend or remove it, or set data.skip_corrupt=true to leave such images out"
    )


def center_square(image: Image.Image, *, side: int) -> Image.Image:
    """The centre square, `side` pixels wide."""
    image.draft("RGB", (2 * side, 2 * side))  # JPEG: decode no more pixels than are needed
    return ImageOps.fit(image.convert("RGB"), (side, side), Image.Resampling.BICUBIC)


def _square(data: bytes, image: Image.Image, side: int) -> NDArray[np.uint8]:
    """As `squared`; of usual photographs by faster programs."""
    if image.format != "JPEG" or image.mode != "RGB" or min(image.size) >= 4 * side:  # from there `draft` saves more
        return np.asarray(center_square(image, side=side))
    try:
        pixels = _jpeg_decoder()(data)
    except RuntimeError:
        pixels = _by_pillow(data)  # it knows what is wrong, or that it is not much
    return _centre(pixels, side)


@cache
def _jpeg_decoder() -> Callable[[bytes], Tensor]:
    """The fastest that is there and maintained: torchcodec, which need not be installed, or Pillow. Their pixels are
    the same, both of libjpeg-turbo. (torchvision's, as fast as torchcodec's, is on its way out since 0.29.)
    """
    try:
        decode_jpeg = import_module("torchcodec.decoders").decode_jpeg
    except (ImportError, AttributeError, OSError, RuntimeError):  # not there, or not of this torch
        return _by_pillow
    return lambda data: decode_jpeg(_without_exif(data), mode="RGB")


def _without_exif(data: bytes) -> bytes:
    """A JPEG without its APP1 segments: torchcodec turns a image as EXIF asks, and Pillow and timm never do."""
    kept, begin = [data[:2]], 2
    while data[begin : begin + 1] == b"\xff" and data[begin + 1 : begin + 2] not in (START_OF_SCAN, b"\xff"):
        end = begin + 2 + int.from_bytes(data[begin + 2 : begin + 4])
        if data[begin + 1 : begin + 2] != APP1:
            kept.append(data[begin:end])
        begin = end
    return b"".join([*kept, data[begin:]])


def _by_pillow(data: bytes) -> Tensor:
    with Image.open(BytesIO(data)) as image:
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def _centre(pixels: Tensor, side: int) -> NDArray[np.uint8]:
    """The centre square of pixels (3, H, W), by torch's resizing, faster than Pillow's: (side, side, 3)."""
    height, width = pixels.shape[1:]
    short = min(height, width)
    top, left = (height - short) // 2, (width - short) // 2
    crop = pixels[None, :, top : top + short, left : left + short]
    shown = functional.interpolate(crop, (side, side), mode="bicubic", antialias=True)[0]
    square: NDArray[np.uint8] = shown.permute(1, 2, 0).contiguous().numpy()
    return square
