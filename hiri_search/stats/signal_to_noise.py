"""Signal to noise of a measurement, and how well an order that is measured with noise can be predicted."""

from __future__ import annotations

from collections.abc import Sequence
from math import asin, pi, sin, sqrt

import numpy as np


def signal_to_noise(scores: Sequence[Sequence[float]]) -> float | None:
    """Return the standard deviation between items over that between the repetitions of one item.

    `scores` holds the repetitions of each item. The variance within items, w, is pooled over those that were measured
    several times. The means of n repetitions vary by w / n around the items' true values, which is subtracted from the
    variance of the means: sqrt(max(0, var(means) - w mean(1 / n)) / w). None where w is not known or 0, and for fewer
    than two items.
    """
    groups = [np.asarray(group, float) for group in scores if len(group)]
    freedom = sum(len(group) - 1 for group in groups)
    within = sum(float(((group - group.mean()) ** 2).sum()) for group in groups) / freedom if freedom else 0.0
    if len(groups) < 2 or within <= 0:
        return None
    means = np.array([group.mean() for group in groups])
    between = float(means.var(ddof=1)) - within * float(np.mean([1 / len(group) for group in groups]))
    return sqrt(max(0.0, between) / within)


def reachable_tau(repeated: float, repetitions: int) -> float:
    """Return Kendall's tau of the true values with the means of noisy measurements: no prediction can be better.

    `repeated` is tau between two repetitions of the measurement, `repetitions` the number that a mean has. For normal
    values and noise: the correlation of two repetitions is r = sin(pi tau / 2) (Greiner), the reliability of a mean
    n r / (1 + (n - 1) r) (Spearman and Brown), and its root the correlation of the means with the true values.
    """
    single = max(0.0, sin(pi * repeated / 2))
    return 2 / pi * asin(sqrt(repetitions * single / (1 + (repetitions - 1) * single)))
