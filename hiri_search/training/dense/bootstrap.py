"""Standard errors of scores that are no means over images, by a bootstrap over images."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from hiri_search.training.rng import derive

RESAMPLES = 100  # sets of images: the error of a standard error is then 7 % of it


def bootstrap_errors(
    score: Callable[[NDArray[np.int64]], Mapping[str, float]], images: int, resamples: int, seed: int
) -> dict[str, float]:
    """The standard deviation of each score over sets of `images` images, drawn with replacement.

    `score` gives the scores of the images with these indices. A score that some sets do not have is left out of those;
    one that fewer than two sets have has no error.
    """
    rng = np.random.Generator(np.random.PCG64(derive(seed, "bootstrap over images")))
    drawn: dict[str, list[float]] = {}
    for _ in range(resamples):
        for name, value in score(rng.integers(images, size=images)).items():
            drawn.setdefault(name, []).append(value)
    return {name: float(np.std(values, ddof=1)) for name, values in drawn.items() if len(values) > 1}
