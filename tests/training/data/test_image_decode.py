"""Pixels of decoded images: the same picture in every pixel mode and orientation, or refused by name."""

import struct
from collections.abc import Callable
from functools import partial
from io import BytesIO

import numpy as np
import pytest
from PIL import ExifTags, Image

from hiri_search.training.data import image_decode
from hiri_search.training.data.image_decode import TURNS, _opened, to_rgb, upright
from hiri_search.training.data.image_folder import DataError
from tests.training.data.decoded import decoded

SIDE = 20
RAMP = np.rint(np.tile(np.linspace(10, 240, 64), (48, 1)))
GREY = Image.fromarray(RAMP.astype(np.uint8))
GREY16 = Image.fromarray((RAMP * 257).astype(np.uint16))
RGB = GREY.convert("RGB")


def _file(image: Image.Image, kind: str, **keys: object) -> bytes:
    output = BytesIO()
    image.save(output, kind, **keys)
    return output.getvalue()


def _pgm(limit: int) -> bytes:
    return b"P5\n64 48\n%d\n" % limit + np.rint(RAMP / 255 * limit).astype(">u2").tobytes()


def _plain_pgm(limit: int) -> bytes:
    return b"P2\n64 48\n%d\n" % limit + b" ".join(b"%d" % value for value in np.rint(RAMP / 255 * limit).ravel())


def _tiff_12_bits() -> bytes:
    """A TIFF with 12 bits for each pixel, which Pillow does not write."""
    pairs = np.rint(RAMP / 255 * 4095).astype(int).reshape(-1, 2)
    packed = np.stack([pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1] & 255], 1)
    data = packed.astype(np.uint8).tobytes()
    return _tiff(data, {258: 12})


def _tiff(data: bytes, changed_tags: dict[int, int], *, offset_type: int = 4) -> bytes:
    """A TIFF of grey pixels, with tags that Pillow does not write."""
    tags = {256: 64, 257: 48, 258: 16, 259: 1, 262: 1, 273: 8, 277: 1, 278: 48, 279: len(data)} | changed_tags
    types = {273: offset_type}
    directory = b"".join(struct.pack("<HHII", tag, types.get(tag, 4), 1, tags[tag]) for tag in sorted(tags))
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(tags)) + directory + bytes(4)


LATER = [Image.new("RGB", RGB.size, "red")]  # later frames or pages
SAME: dict[str, Callable[[], bytes]] = {
    **{f"{mode} PNG": partial(_file, RGB.convert(mode), "PNG") for mode in ("RGB", "L", "RGBA")},
    **{f"{mode} TIFF": partial(_file, RGB.convert(mode), "TIFF") for mode in ("CMYK", "YCbCr", "LAB", "RGBA")},
    "P PNG": partial(_file, GREY.convert("P"), "PNG"),
    "LA PNG": partial(_file, GREY.convert("LA"), "PNG"),
    "PA TIFF": partial(_file, GREY.convert("P").convert("PA"), "TIFF"),
    "CMYK JPEG": partial(_file, RGB.convert("CMYK"), "JPEG", quality=95),
    "L JPEG": partial(_file, GREY, "JPEG", quality=95),
    "16 bits, PNG": partial(_file, GREY16, "PNG"),
    "16 bits, TIFF": partial(_file, GREY16, "TIFF"),
    "16 bits, packed TIFF": partial(_file, GREY16, "TIFF", compression="tiff_lzw"),
    "16 bits, big-endian": lambda: _file(
        Image.frombytes("I;16B", GREY16.size, np.asarray(GREY16).astype(">u2").tobytes()), "TIFF"
    ),
    "16 bits, JPEG 2000": partial(_file, GREY16, "JPEG2000"),
    **{f"PGM to {limit}": partial(_pgm, limit) for limit in (65535, 4095, 1000)},
    **{f"plain PGM to {limit}": partial(_plain_pgm, limit) for limit in (65535, 4095, 255)},
    "12 bits, TIFF": _tiff_12_bits,
    "16 bits, TIFF with white as zero": lambda: _tiff((65535 - np.asarray(GREY16)).tobytes(), {262: 0}),
    "first frame of a GIF": partial(_file, RGB, "GIF", save_all=True, append_images=LATER),
    "first frame of a PNG": partial(_file, RGB, "PNG", save_all=True, append_images=LATER),
    "first frame of a WebP": partial(_file, RGB, "WEBP", save_all=True, append_images=LATER, lossless=True),
    "first page of a TIFF": partial(_file, RGB, "TIFF", save_all=True, append_images=LATER),
}


@pytest.mark.parametrize("encode", SAME.values(), ids=SAME)
def test_a_picture_has_the_same_pixels_in_every_mode(encode: Callable[[], bytes]):
    found, expected = (decoded(data, SIDE) for data in (encode(), _file(RGB, "PNG")))
    assert np.abs(found.astype(int) - expected.astype(int)).max() <= 2


def _fits(bits: int) -> bytes:
    values = {"SIMPLE": "T", "BITPIX": bits, "NAXIS": 2, "NAXIS1": 64, "NAXIS2": 48}
    return (
        "".join([*(f"{name:8}= {value:>20}".ljust(80) for name, value in values.items()), "END"]).ljust(2880).encode()
    )


REFUSED: dict[str, tuple[bytes, str]] = {
    "32 bits, TIFF": (_file(GREY.convert("I"), "TIFF"), r"32 bits \(mode I\) have no fixed range; convert it to 8 b"),
    "signed, TIFF": (_tiff(np.asarray(GREY16).tobytes(), {339: 2}), r"with a sign or 32 bits \(mode I\)"),
    "signed, FITS": (_fits(16) + np.asarray(GREY16).tobytes(), r"with a sign or 32 bits \(mode I;16\)"),
    "an offset that is no integer, TIFF": (_tiff(bytes(64 * 48 * 2), {}, offset_type=11), "float"),
    "float, TIFF": (_file(GREY.convert("F"), "TIFF"), r"\(mode F\)"),
    "float, PFM": (b"Pf\n64 48\n-1.0\n" + (RAMP / 255).astype("<f4").tobytes(), r"\(mode F\)"),
    "PostScript": (_file(RGB, "EPS"), "not an image of a known format"),
    "no image": (b"text", "not an image of a known format"),
    "empty": (b"", "the file is empty"),
}


@pytest.mark.parametrize(("data", "reason"), REFUSED.values(), ids=REFUSED)
def test_pixels_without_a_known_range_are_refused_by_name(data: bytes, reason: str):
    with pytest.raises(DataError, match=reason):
        decoded(data, SIDE)


def _half_transparent(mode: str) -> Image.Image:
    alpha = Image.fromarray(np.repeat([[0], [255]], 24, 0).astype(np.uint8).repeat(64, 1))
    image = GREY.convert("RGBA")
    image.putalpha(alpha)
    return image.convert(mode)


def _with_key_colour(image: Image.Image) -> bytes:
    """A PNG in which one colour, that of the upper half, is transparent."""
    image = image.copy()
    key = (7, 7, 7) if image.mode == "RGB" else 7
    image.paste(Image.new(image.mode, (64, 24), key))
    return _file(image, "PNG", transparency=key)


TRANSPARENT = {
    **{f"{mode} PNG": _file(_half_transparent(mode), "PNG") for mode in ("RGBA", "LA")},
    "WebP": _file(_half_transparent("RGBA"), "WEBP", lossless=True),
    "GIF": _file(_half_transparent("RGBA"), "GIF"),
    "L with a key colour": _with_key_colour(GREY),
    "16 bits with a key colour": _with_key_colour(GREY16),
    "RGB with a key colour": _with_key_colour(RGB),
    "P with a key colour": _with_key_colour(GREY.convert("P")),
}


@pytest.mark.parametrize("data", TRANSPARENT.values(), ids=TRANSPARENT)
def test_transparent_pixels_are_white(data: bytes):
    decoded = _opened(data, lambda _, image: np.asarray(to_rgb(image)))
    assert not isinstance(decoded, str)
    assert decoded[:24].min() == 255
    assert np.abs(decoded[24:].astype(int) - np.asarray(RGB)[24:]).max() <= 8  # a GIF has few colours


def _photo(kind: str, orientation: int) -> bytes:
    """A smooth image without symmetry that is stored turned, so that its EXIF orientation turns it upright again."""
    row, column = np.mgrid[:48, :64]
    image = Image.fromarray(np.stack([4 * column, 5 * row, 2 * (row + column)], -1).astype(np.uint8))
    stored, exif = image, Image.Exif()
    if orientation in TURNS:
        back = {6: 8, 8: 6}.get(orientation, orientation)  # the other operations are their own inverses
        stored, exif[ExifTags.Base.Orientation] = image.transpose(TURNS[back]), orientation
    return _file(stored, kind, exif=exif, **{"quality": 95} if kind in ("JPEG", "WEBP") else {})


@pytest.mark.parametrize("orientation", range(10))  # 0 and 9 do not exist and count as upright
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("side", [SIDE, 8])  # the small side takes Pillow's reduced decoding of JPEGs
def test_a_turned_photograph_is_turned_upright(side: int, kind: str, orientation: int):
    plain, turned = (decoded(_photo(kind, number), side) for number in (1, orientation))
    assert np.abs(plain.astype(int) - turned.astype(int)).mean() < 3
    whole = _opened(_photo(kind, orientation), lambda _, image: upright(to_rgb(image), image))
    assert not isinstance(whole, str)
    assert whole.size == (64, 48)


def test_orientation_does_not_depend_on_the_decoder(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("torchcodec")
    fast = decoded(_photo("JPEG", 6), SIDE)
    monkeypatch.setattr(image_decode, "_jpeg_decoder", lambda: image_decode._decode_with_pillow)
    assert np.array_equal(fast, decoded(_photo("JPEG", 6), SIDE))


def test_an_image_over_pillows_size_limit_is_refused_with_a_way_out(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(DataError, match="more than 2,000 pixels may be a decompression bomb; make it smaller"):
        decoded(_file(RGB, "PNG"), SIDE)
