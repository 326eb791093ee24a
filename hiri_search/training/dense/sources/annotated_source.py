"""AnnotatedSource: images of any origin, by split, with boxes, instance masks or semantic maps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hiri_search.nets.dense.upernet import UNLABELED
from hiri_search.system.files import Say

MAX_SEMANTIC_CLASSES = UNLABELED

# The annotation of one image (H, W): `boxes` (N, 4) float32, left, top, right and bottom in pixels; `labels` (N,) int64
# from 0; `ignored` (N,) bool, regions of many objects, which are not judged; `area` (N,) float32 in pixels; `masks`
# (N, H, W) uint8 where there are some; or `semantic` (H, W) uint8, the class of each pixel or UNLABELED.
DenseTarget = dict[str, Tensor]
# An image (H, W, 3) with its annotation, or None for an unreadable image that is skipped.
AnnotatedImage = tuple[NDArray[np.uint8], DenseTarget] | None


class AnnotatedSource(Protocol):
    """Images with annotations, generated or decoded in their own size."""

    # Of objects, or of pixels where the targets are semantic maps; empty: known when all images are read.
    classes: tuple[str, ...]
    counts: dict[str, int]  # images of each split that there is, with those that turn out to be unreadable
    notes: tuple[str, ...]  # sentences on annotations and files that are left out

    def stored_bytes(self, longest: int) -> int:
        """About how many bytes all images take, each reduced to a longer side of at most `longest` pixels."""

    def stat_fingerprint(self) -> str:
        """A fingerprint that needs no image to be read."""

    def content_fingerprint(self, stat_digest: str, cache_dir: Path, say: Say) -> str:
        """A fingerprint of images and annotations, cached in `cache_dir` under the stat fingerprint."""

    def name(self, split: str, index: int) -> str:
        """Name of an image for messages to the user."""

    def images(self, split: str) -> Iterator[AnnotatedImage]:
        """All images of a split, in order."""


def object_target(
    boxes: NDArray[np.float32],
    labels: NDArray[np.int64],
    *,
    ignored: NDArray[np.bool_] | None = None,
    area: NDArray[np.float32] | None = None,
    masks: NDArray[np.uint8] | None = None,
) -> DenseTarget:
    """The annotation of an image with objects; by default none is ignored, and areas are those of boxes."""
    boxes = boxes.reshape(-1, 4).astype(np.float32, copy=False)
    arrays = {
        "boxes": boxes,
        "labels": labels.astype(np.int64, copy=False),
        "ignored": np.zeros(len(boxes), bool) if ignored is None else ignored,
        "area": (boxes[:, 2:] - boxes[:, :2]).prod(1) if area is None else area,
    }
    if masks is not None:
        arrays["masks"] = masks.astype(np.uint8, copy=False)
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def mask_extent(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """The smallest box around a mask (H, W) that is not empty: left, top, right and bottom in pixels."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
