"""Reading of image files, and decoding to square uint8 arrays."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cache, partial
from importlib import import_module
from io import BytesIO
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional

from hiri_search.system.concurrency import prefetch
from hiri_search.system.file_tree.tree import READ_ERRORS, FileReader
from hiri_search.system.hardware import cores
from hiri_search.system.text import printable
from hiri_search.training.data.image_files import image_formats
from hiri_search.training.data.image_folder import DataError, ImageEntry, ImageFolder

DECODER_VERSION = 3  # increased when the same file would give other pixels
APP1, START_OF_SCAN = b"\xe1", b"\xda"  # markers of JPEG segments
BITS_PER_SAMPLE, PHOTOMETRIC, WHITE_IS_ZERO = 258, 262, 0  # tags of TIFF, and a value of the second
TURNS = {  # EXIF orientation: the operation that turns the image upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Exceptions of Pillow for damaged images. MemoryError is none of them: it says nothing about the image.
DECODE_ERRORS = (
    *READ_ERRORS,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    Image.DecompressionBombError,
)

_Decoded = TypeVar("_Decoded")


def encoded_images(folder: ImageFolder, entries: Iterable[ImageEntry]) -> Iterator[tuple[ImageEntry, bytes | str]]:
    """Read image files one after the other; a string says why a file cannot be read."""
    with folder.tree.open_reader() as read:
        for entry in entries:
            yield entry, read_encoded(read, entry)


def read_encoded(read: FileReader, entry: ImageEntry) -> bytes | str:
    """The content of an image file, or the reason (a string) why it cannot be read."""
    try:
        return read(entry.name)
    except READ_ERRORS as error:
        return str(error)


def decode_images(
    folder: ImageFolder, entries: Sequence[ImageEntry], side: int, *, skip_corrupt: bool
) -> Iterator[tuple[ImageEntry, NDArray[np.uint8] | None]]:
    """Decode images (side, side, 3) in order on all cores, as `decode_each` does."""
    return decode_each(folder, entries, partial(_decode_square, side=side), skip_corrupt=skip_corrupt)


def decode_each(
    folder: ImageFolder,
    entries: Sequence[ImageEntry],
    decode: Callable[[bytes, Image.Image], _Decoded],
    *,
    skip_corrupt: bool,
) -> Iterator[tuple[ImageEntry, _Decoded | None]]:
    """Decode images in order on all cores; None in place of an unreadable image with `skip_corrupt`.

    `decode` takes the bytes and the opened image, and raises one of DECODE_ERRORS. Only a few images are in memory at
    a time. Raises DataError for an unreadable image without `skip_corrupt`, and if no image can be read.
    """
    any_readable = False
    work = partial(_decode_entry, decode=decode)
    # Threads run in parallel: Pillow and torch release Python's global lock.
    for entry, image in prefetch(work, encoded_images(folder, entries), threads=cores()):
        if not isinstance(image, str):
            any_readable = True
        elif not skip_corrupt:
            _readable(folder, entry, image)
        yield entry, None if isinstance(image, str) else image
    if not any_readable:
        first = printable(entries[0].name)
        raise DataError(f"{folder.path}: none of the {len(entries)} images can be read, {first} among them")


def decode_image(folder: ImageFolder, read: FileReader, entry: ImageEntry, side: int) -> NDArray[np.uint8]:
    """Decode one image (side, side, 3); raises DataError if it is unreadable."""
    return _decode_one(folder, read, entry, partial(_decode_square, side=side))


def decode_whole(folder: ImageFolder, read: FileReader, entry: ImageEntry) -> Image.Image:
    """Decode one image in its own size, in RGB and upright; raises DataError if it is unreadable."""
    return _decode_one(folder, read, entry, lambda data, image: upright(to_rgb(image), image))


def _decode_one(
    folder: ImageFolder, read: FileReader, entry: ImageEntry, decode: Callable[[bytes, Image.Image], _Decoded]
) -> _Decoded:
    with warnings.catch_warnings(action="ignore"):  # Pillow warns of odd EXIF blocks and palettes
        return _readable(folder, entry, _opened(read_encoded(read, entry), decode))


def _decode_entry(
    encoded: tuple[ImageEntry, bytes | str], decode: Callable[[bytes, Image.Image], _Decoded]
) -> tuple[ImageEntry, _Decoded | str]:
    entry, data = encoded
    return entry, _opened(data, decode)


def _opened(data: bytes | str, decode: Callable[[bytes, Image.Image], _Decoded]) -> _Decoded | str:
    """The decoded image, or the reason (a string) why it cannot be read; a reason in place of `data` is passed on."""
    if isinstance(data, str):
        return data
    try:
        with Image.open(BytesIO(data), formats=image_formats()) as image:
            return decode(data, image)
    except UnidentifiedImageError:
        return "not an image of a known format" if data else "the file is empty"
    except Image.DecompressionBombError:
        return f"more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels may be a decompression bomb; make it smaller"
    except DECODE_ERRORS as error:
        return str(error) or type(error).__name__


def _readable(folder: ImageFolder, entry: ImageEntry, image: _Decoded | str) -> _Decoded:
    if isinstance(image, str):
        problem = f"{folder.path}: {printable(entry.name)} cannot be read as an image ({image})"
        raise DataError(f"{problem}; repair or remove it, or set data.skip_corrupt=true to leave such images out")
    return image


def stored_and_upright(data: bytes, image: Image.Image) -> tuple[Image.Image, Image.Image]:
    """The pixels of an image in RGB in their own size, as they are stored, and turned as the EXIF orientation says."""
    pixels = to_rgb(image)
    return pixels, upright(pixels, image)


def center_square(image: Image.Image, *, side: int) -> Image.Image:
    """The centre square of an image, in RGB and upright, resized to `side` pixels."""
    image.draft("RGB", (2 * side, 2 * side))  # JPEG: decode at a reduced size where that is large enough
    return upright(ImageOps.fit(to_rgb(image), (side, side), Image.Resampling.BICUBIC), image)


def to_rgb(image: Image.Image) -> Image.Image:
    """An image in RGB as it is shown: wide pixels scaled by their range, transparent ones on white, the first frame.

    Raises ValueError for pixels with a sign or 32 bits, whose range is not known.
    """
    if bits := _bits_of_grey(image):
        return _narrowed(image, bits).convert("RGB")
    if image.mode.startswith(("I", "F")):
        problem = f"pixels with a sign or 32 bits (mode {image.mode}) have no fixed range"
        raise ValueError(f"{problem}; convert it to 8 bits, or to 16 bits without a sign")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _bits_of_grey(image: Image.Image) -> int:
    """Bits of a grey pixel if they are 9 to 16 without a sign, and 0 for other images."""
    if image.mode.startswith("I;16") and image.format != "FITS":  # which has a sign
        tags = getattr(image, "tag_v2", {})  # of TIFF, which may have 12 bits
        return int(tags.get(BITS_PER_SAMPLE, (16,))[0])
    return 16 if image.mode == "I" and image.format == "PPM" else 0


def _narrowed(image: Image.Image, bits: int) -> Image.Image:
    """Grey of 9 to 16 bits in 8 bits. Pillow leaves to us that white may be zero, and that one value is transparent."""
    wide = np.asarray(image)
    grey = wide.astype(np.float32) * (255 / (2**bits - 1))
    if getattr(image, "tag_v2", {}).get(PHOTOMETRIC) == WHITE_IS_ZERO:
        grey = 255 - grey
    grey[wide == image.info.get("transparency")] = 255
    return Image.fromarray(np.rint(grey.clip(0, 255)).astype(np.uint8))


def upright(pixels: Image.Image, original: Image.Image) -> Image.Image:
    """Turn pixels that were decoded from an image as the EXIF orientation of the image says."""
    turn = TURNS.get(_orientation(original))
    return pixels if turn is None else pixels.transpose(turn)


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation of an image, after it was decoded: Pillow itself turns TIFF, and then removes the tag."""
    with suppress(*DECODE_ERRORS):  # a damaged block counts as none
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    return 1


def _decode_square(data: bytes, image: Image.Image, side: int) -> NDArray[np.uint8]:
    """The same image as `center_square`; RGB JPEGs of moderate size take faster decoders and resizing."""
    if image.format != "JPEG" or image.mode != "RGB" or min(image.size) >= 4 * side:  # for large ones `draft` is faster
        return np.asarray(center_square(image, side=side))
    try:
        pixels = _jpeg_decoder()(data)
    except RuntimeError:
        pixels = _decode_with_pillow(data)  # Pillow accepts small defects, and names the others
    return np.asarray(upright(Image.fromarray(_resize_center(pixels, side)), image))


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
    """Remove the APP1 segments of a JPEG, by which torchcodec would turn it: `upright` does so for all decoders."""
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
