"""Synthetic images made from a seed."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hiri_search.system.concurrency import prefetch
from hiri_search.system.files import Say
from hiri_search.system.hardware import cores
from hiri_search.system.units import MAX_INTEGER
from hiri_search.training.data.image_folder import DataError
from hiri_search.training.data.sources.image_source import LabelledImage
from hiri_search.training.data.synthetic import MEDIUM, MOTIFS, TEXTURE, generate_images, generate_in_subprocess
from hiri_search.training.job import DataSource

SYNTHETIC_CLASSES = 8
SYNTHETIC_COUNTS = {"train": 1500, "val": 400}  # without a number in the study
SYNTHETIC_CHUNK = 256  # images that a subprocess generates at a time; half a second at side 96
TEST_SEEDS = 2 * (MAX_INTEGER + 1)  # the first seed that no training or validation image has


class SyntheticSource:
    """Synthetic images made from a seed (`data: drawn`): the default, which needs no download."""

    transformed = False

    def __init__(self, data: DataSource, classes: int | None) -> None:
        if (classes or 0) > len(MOTIFS):
            problem = f"proxy.classes={classes}: synthetic images (source: drawn)"
            raise DataError(f"{problem} have at most {len(MOTIFS)} classes; write fewer")
        self.classes = tuple(f"class {index}" for index in range(classes or SYNTHETIC_CLASSES))
        self.counts = {split: getattr(data, split) or count for split, count in SYNTHETIC_COUNTS.items()}
        if data.test:
            self.counts["test"] = int(data.test)
        self.notes = tuple(
            f"The {count} {split} images are of {count} of the {len(self.classes)} classes: data.{split} is too small."
            for split, count in self.counts.items()
            if count < len(self.classes)
        )
        self.task, self.difficulty = data.path or TEXTURE, data.difficulty
        self.seed = data.seed
        # Each split has its own seed: another size of one split does not change the images of another.
        self.seeds = {"train": 2 * data.seed, "val": 2 * data.seed + 1, "test": TEST_SEEDS + data.seed}

    def stat_fingerprint(self) -> str:
        scenes = f" {self.task} {self.difficulty}" if (self.task, self.difficulty) != (TEXTURE, MEDIUM) else ""
        return f"drawn {self.seed}{scenes}"

    def content_fingerprint(self, stat_digest: str, cache_dir: Path, say: Say) -> str:
        return stat_digest

    def name(self, split: str, index: int) -> str:
        return f"image {index}"

    def images(self, split: str, stored: int) -> Iterator[LabelledImage]:
        count, generate = self.counts[split], partial(self._generate, split, stored)
        starts = range(0, count, SYNTHETIC_CHUNK)
        chunks = [(first, min(SYNTHETIC_CHUNK, count - first)) for first in starts]
        single = len(chunks) == 1  # a subprocess would take longer to start
        parallel = partial(generate, in_subprocess=True)
        generated = map(generate, chunks) if single else prefetch(parallel, chunks, threads=cores())
        for index, image in enumerate(chain.from_iterable(generated)):
            yield image, index % len(self.classes)

    def image(self, split: str, index: int, stored: int) -> tuple[NDArray[np.uint8], int]:
        return self._generate(split, stored, (index, 1))[0], index % len(self.classes)

    def _generate(
        self, split: str, stored: int, chunk: tuple[int, int], *, in_subprocess: bool = False
    ) -> NDArray[np.uint8]:
        first, count = chunk
        generate = generate_in_subprocess if in_subprocess else generate_images
        return generate(
            count,
            classes=len(self.classes),
            side=stored,
            seed=self.seeds[split],
            first=first,
            task=self.task,
            difficulty=self.difficulty,
        )[0]
