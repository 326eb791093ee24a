"""timm's policies of augmentation, with what newer Pillow refuses in them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from PIL import Image, ImageOps
from timm.data import auto_augment


def mended(transform: Any) -> Any:
    """The same transform, changed in place, whose posterizing may leave no bit: Pillow 13 raises ValueError there.

    The strong levels of timm's RandAugment ask for that (timm 1.0.31; "0 to 4 bits"), and mean a black picture.
    """
    for op in _ops(transform):
        if op.aug_fn is auto_augment.posterize:
            op.aug_fn = _posterized
    return transform


def _ops(part: Any) -> Iterator[Any]:
    """All steps of the policies inside."""
    if hasattr(part, "aug_fn"):
        yield part
    elif isinstance(part, list | tuple):
        for one in part:
            yield from _ops(one)
    else:
        for name in ("transforms", "ops", "policy"):
            yield from _ops(getattr(part, name, ()))


def _posterized(image: Image.Image, bits: int, **_: Any) -> Image.Image:
    if bits >= 8:
        return image
    return ImageOps.posterize(image, bits) if bits >= 1 else Image.new(image.mode, image.size)
