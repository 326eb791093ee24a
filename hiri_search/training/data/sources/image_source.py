"""ImageSource: labelled images of any origin, by split."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hiri_search.system.files import Say

# An image (S, S, 3), or None for an unreadable image that is skipped, and its label.
LabelledImage = tuple[NDArray[np.uint8] | None, int]


class ImageSource(Protocol):
    """Labelled images, generated or decoded as squares of any side."""

    classes: tuple[str, ...]
    counts: dict[str, int]  # images of each split that there is, with those that turn out to be unreadable
    transformed: bool  # tensors that are ready for a network, and not images
    notes: tuple[str, ...]  # sentences on files that are no images of the source, and on images that are held out

    def stat_fingerprint(self) -> str:
        """A fingerprint that needs no image to be read."""

    def content_fingerprint(self, stat_digest: str, cache_dir: Path, say: Say) -> str:
        """A fingerprint of the images' content, cached in `cache_dir` under the stat fingerprint."""

    def name(self, split: str, index: int) -> str:
        """Name of an image for messages to the user."""

    def images(self, split: str, stored: int) -> Iterator[LabelledImage]:
        """All images of a split, in order, `stored` pixels wide and high."""

    def image(self, split: str, index: int, stored: int) -> tuple[NDArray[np.uint8], int]:
        """One image with its label; the same bytes as from `images`."""
