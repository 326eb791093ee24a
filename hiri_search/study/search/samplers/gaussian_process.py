"""Gaussian process over categorical and ordinal decisions, in numpy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import log

import numpy as np

from hiri_search.cost.pareto import Points
from hiri_search.language.syntax_tree import Options

LENGTHS = (1.0, 2.0, 4.0, 8.0, 16.0)  # squared distances, in decisions made otherwise
NOISES = (1e-3, 1e-2, 3e-2, 0.1, 0.3)  # variance that repeats differ by, over that of networks
ENOUGH = 96  # networks that these two are chosen by


def encode_walks(
    walks: Sequence[Mapping[str, int]], options: Mapping[str, Options], costs: Points, known: int
) -> Points:
    """(networks, features) whose squared distance is the number of decisions made otherwise.

    Numbers differ by their ranks, at most by one; words by one. Costs, given as logarithms, are scaled by those of the
    first `known`.
    """
    blocks = [_block(name, options[name], walks) for name in sorted(set().union(*walks))]
    middle, spread = costs[:known].mean(axis=0), costs[:known].std(axis=0)
    return np.concatenate([*blocks, (costs - middle) / np.where(spread > 0, spread, 1.0)], axis=1)


def _block(name: str, options: Options, walks: Sequence[Mapping[str, int]]) -> Points:
    """The features of one decision; all 0 where it is not asked."""
    index = np.array([walk.get(name, -1) for walk in walks])[:, None]
    if isinstance(options[0], str):
        return np.asarray((index == np.arange(len(options))) / np.sqrt(2.0))
    return np.asarray((index > np.arange(len(options) - 1)) / np.sqrt(len(options) - 1.0))


@dataclass(frozen=True)
class GaussianProcess:
    """Exponential correlations of what was seen, about its mean."""

    features: Points  # (networks, features)
    seen: Points  # what they came to, scaled
    middle: float
    spread: float
    length: float
    noise: float

    @staticmethod
    def fit(features: Points, seen: Points) -> GaussianProcess:
        """The length and noise that make what was seen most likely."""
        middle, spread = float(seen.mean()), float(seen.std()) or 1.0
        scaled = (seen - middle) / spread
        some = np.unique(np.linspace(0, len(seen) - 1, min(ENOUGH, len(seen))).round().astype(int))
        length, noise = _likeliest(features[some], scaled[some])
        return GaussianProcess(features, scaled, middle, spread, length, noise)

    def with_pending(self, features: Points) -> GaussianProcess:
        """As if these had come to what is predicted of them."""
        if len(features) == 0:
            return self
        means, _ = self.predict(features)
        seen = np.concatenate([self.seen, (means - self.middle) / self.spread])
        both = np.concatenate([self.features, features])
        return GaussianProcess(both, seen, self.middle, self.spread, self.length, self.noise)

    def predict(self, features: Points) -> tuple[Points, Points]:
        """Mean and standard deviation of each, without the noise of a repeat."""
        inverse = np.linalg.inv(_alike(self.features, self.features, self.length) + self.noise * np.eye(len(self.seen)))
        weights = inverse @ self.seen
        scale = float(self.seen @ weights) / len(self.seen)
        alike = _alike(features, self.features, self.length)
        left = np.maximum(1.0 - np.einsum("ij,ij->i", alike @ inverse, alike), 1e-9)
        return self.middle + self.spread * (alike @ weights), self.spread * np.sqrt(scale * left)


def _alike(mine: Points, others: Points, length: float) -> Points:
    squares = (mine**2).sum(axis=1)[:, None] + (others**2).sum(axis=1) - 2 * mine @ others.T
    alike: Points = np.exp(-np.maximum(squares, 0.0) / length)
    return alike


def _likeliest(features: Points, seen: Points) -> tuple[float, float]:
    tried = (
        (surprise, length, noise)
        for length in LENGTHS
        for noise, surprise in zip(NOISES, _surprises(features, seen, length), strict=True)
    )
    _, length, noise = min(tried)
    return length, noise


def _surprises(features: Points, seen: Points, length: float) -> Iterator[float]:
    """For each noise the negative log likelihood, the best scale taken, but for a constant."""
    values, vectors = np.linalg.eigh(_alike(features, features, length))
    squares = (seen @ vectors) ** 2
    for noise in NOISES:
        variances = np.maximum(values, 0.0) + noise
        scale = max(float((squares / variances).mean()), 1e-12)
        yield len(seen) * log(scale) + float(np.log(variances).sum())
