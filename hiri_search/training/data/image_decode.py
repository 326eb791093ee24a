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
    FileReader,
    ImageEntry,
    ImageFolder,
    encoded_images,
    read_encoded,
)

APP1, START_OF_SCAN = b"\xe1", b"\xda"  # markers of JPEG segments


def decode_images(
    folder: ImageFolder, entries: Sequence[ImageEntry], side: int, *, skip_corrupt: bool
) -> Iterator[tuple[ImageEntry, NDArray[np.uint8] | None]]:
    """Decode images (side, side, 3) in order on all cores; None in place of an unreadable image with `skip_corrupt`.

    Only a few images are in memory at a time. Raises DataError for an unreadable image without `skip_corrupt`, and if
    no image can be read.
    """
    any_readable = False
    # Threads run in parallel: Pillow and torch release Python's global lock.
    for entry, image in prefetch(partial(_decode_entry, side=side), encoded_images(folder, entries), threads=cores()):
        if not isinstance(image, str):
            any_readable = True
        elif not skip_corrupt:
            raise _unreadable(f"{folder.path}: {entry.name}", image)
        yield entry, None if isinstance(image, str) else image
    if not any_readable:
        raise DataError(f"{folder.path}: none of the {len(entries)} images can be read, {entries[0].name} among them")


def decode_image(folder: ImageFolder, read: FileReader, entry: ImageEntry, side: int) -> NDArray[np.uint8]:
    """Decode one image (side, side, 3); raises DataError if it is unreadable."""
    with warnings.catch_warnings(action="ignore"):  # Pillow warns of odd EXIF blocks and palettes
        image = _decode(read_encoded(read, entry), side)
    if isinstance(image, str):
        raise _unreadable(f"{folder.path}: {entry.name}", image)
    return image


def _decode_entry(encoded: tuple[ImageEntry, bytes | str], side: int) -> tuple[ImageEntry, NDArray[np.uint8] | str]:
    entry, data = encoded
    return entry, _decode(data, side)


def _decode(data: bytes | str, side: int) -> NDArray[np.uint8] | str:
    """The decoded image, or the reason (a string) why it cannot be read; a reason in place of `data` is passed on."""
    if isinstance(data, str):
        return data
    try:
        with Image.open(BytesIO(data)) as image:
            return _decode_square(data, image, side)
    except UnidentifiedImageError:
        return "not an image of a known format" if data else "the file is empty"
    except (*READ_ERRORS, ValueError, SyntaxError, struct.error, Image.DecompressionBombError) as error:
        return str(error) or type(error).__name__


def _unreadable(name: str, reason: str) -> DataError:
    remedy = "repair or remove it, or set data.skip_corrupt=true to leave such images out"
    return DataError(f"{name} cannot be read as an image ({reason}); {remedy}")


def center_square(image: Image.Image, *, side: int) -> Image.Image:
    """The centre square of an image, in RGB, resized to `side` pixels."""
    image.draft("RGB", (2 * side, 2 * side))  # JPEG: decode at a reduced size where that is large enough
    return ImageOps.fit(image.convert("RGB"), (side, side), Image.Resampling.BICUBIC)


def _decode_square(data: bytes, image: Image.Image, side: int) -> NDArray[np.uint8]:
    """The same image as `center_square`; RGB JPEGs of moderate size take faster decoders and resizing."""
    if image.format != "JPEG" or image.mode != "RGB" or min(image.size) >= 4 * side:  # for large ones `draft` is faster
        return np.asarray(center_square(image, side=side))
    try:
        pixels = _jpeg_decoder()(data)
    except RuntimeError:
        pixels = _decode_with_pillow(data)  # Pillow accepts small defects, and names the others
    return _resize_center(pixels, side)


@cache
def _jpeg_decoder() -> Callable[[bytes], Tensor]:
    """torchcodec's JPEG decoder if that optional package is installed, or Pillow's.

    Both use libjpeg-turbo and give the same pixels. (torchvision's decoder is as fast as torchcodec's, but deprecated
    since 0.29.)
    """
    try:
        decode_jpeg = import_module("torchcodec.decoders").decode_jpeg
    except (ImportError, AttributeError, OSError, RuntimeError):  # not installed, or built for another torch
        return _decode_with_pillow
    return lambda data: decode_jpeg(_without_exif(data), mode="RGB")


def _without_exif(data: bytes) -> bytes:
    """Remove the APP1 segments of a JPEG: torchcodec applies EXIF's rotation, which Pillow and timm ignore."""
    parts, start = [data[:2]], 2
    while data[start : start + 1] == b"\xff" and data[start + 1 : start + 2] not in (START_OF_SCAN, b"\xff"):
        end = start + 2 + int.from_bytes(data[start + 2 : start + 4])
        if data[start + 1 : start + 2] != APP1:
            parts.append(data[start:end])
        start = end
    return b"".join([*parts, data[start:]])


def _decode_with_pillow(data: bytes) -> Tensor:
    with Image.open(BytesIO(data)) as image:
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def _resize_center(pixels: Tensor, side: int) -> NDArray[np.uint8]:
    """Resize the centre square of pixels (3, H, W) to (side, side, 3) with torch, which is faster than Pillow."""
    height, width = pixels.shape[1:]
    short = min(height, width)
    top, left = (height - short) // 2, (width - short) // 2
    crop = pixels[None, :, top : top + short, left : left + short]
    resized = functional.interpolate(crop, (side, side), mode="bicubic", antialias=True)[0]
    return resized.permute(1, 2, 0).contiguous().numpy()
