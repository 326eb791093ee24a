"""Masks from the run lengths and polygons of COCO's format, and as run lengths."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hiri_search.training.data.image_folder import DataError

MIN_POLYGON = 6  # numbers of a polygon: three corners
_BITS, _MORE, _SIGN = 5, 0x20, 0x10  # of a character of compressed run lengths


def coco_library(module: str) -> Any:
    """A module of faster-coco-eval, which is optional. Raises DataError."""
    try:
        return import_module(f"faster_coco_eval.core.{module}")
    except ImportError as error:
        problem = "AP, and masks that are polygons, need the package faster-coco-eval"
        raise DataError(f'{problem}; pip install "hiri-search[dense]"') from error


def mask_of(segmentation: Any, height: int, width: int) -> NDArray[np.uint8]:
    """The mask (H, W), 0 or 1, of a segmentation in COCO's format: polygons, or run lengths, compressed or not.

    Raises ValueError, with the fault, for one that does not fit the image, and DataError without faster-coco-eval.
    """
    if isinstance(segmentation, dict):
        if segmentation["size"] != [height, width]:
            raise ValueError(f"its size is {segmentation['size']} and that of the image [{height}, {width}]")
        counts = segmentation["counts"]
        return from_counts(_uncompressed(counts) if isinstance(counts, str) else counts, height, width)
    masks, high = coco_library("mask"), np.array([width, height])
    # A corner far outside would make the library draw lines of any length.
    corners = [np.array(polygon, np.float64).reshape(-1, 2).clip(-high, 2 * high) for polygon in segmentation]
    encoded = masks.frPyObjects([each.ravel().tolist() for each in corners], height, width)
    mask: NDArray[np.uint8] = masks.decode(masks.merge(encoded))
    return mask


def from_counts(counts: ArrayLike, height: int, width: int) -> NDArray[np.uint8]:
    """The mask (H, W) of run lengths: of 0 and 1 in turn, down each column. Raises ValueError."""
    runs = np.array(counts, np.int64).reshape(-1)
    if (runs < 0).any() or runs.sum() != height * width:
        raise ValueError(f"its run lengths are not those of {height * width:,} pixels")
    return np.repeat(np.arange(len(runs), dtype=np.uint8) % 2, runs).reshape(width, height).T


def to_counts(mask: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """The run lengths of a mask (H, W) of 0 and 1."""
    pixels = np.concatenate([[0], mask.T.ravel()])  # runs begin with 0
    ends = np.flatnonzero(np.diff(pixels))
    return np.diff(ends, prepend=0, append=mask.size).astype(np.uint32)


def _uncompressed(text: str) -> Sequence[int]:
    """Run lengths from COCO's text: five bits a character, and from the third on the difference to the last but one."""
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 50:
            raise ValueError(f"{character!r} is no character of compressed run lengths")
        value |= (bits & (_MORE - 1)) << shift
        shift += _BITS
        if not bits & _MORE:
            value -= (bits & _SIGN > 0) << shift
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    return counts
