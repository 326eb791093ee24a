"""Gaussian process over categorical and ordinal decisions, in numpy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import log

import numpy as np

from hiri_search.cost.pareto import Points
from hiri_search.language.space import Decisions
from hiri_search.language.syntax_tree import Options

LENGTH_SCALES = (1.0, 2.0, 4.0, 8.0, 16.0)  # squared distances, in numbers of differing decisions
NOISES = (1e-3, 1e-2, 3e-2, 0.1, 0.3)  # noise variance relative to the variance over networks
MAX_FITTED = 96  # networks from which length scale and noise are fitted


def encode_walks(walks: Sequence[Decisions], options: Mapping[str, Options], costs: Points, finished: int) -> Points:
    """Return features (networks, features) whose squared distance is the number of differing decisions.

    Numeric options are encoded by rank and differ by at most one; other options are encoded one-hot. The logarithms of
    costs are standardised by the first `finished` networks.
    """
    blocks = [_block(name, options[name], walks) for name in sorted(set().union(*walks))]
    mean, deviation = costs[:finished].mean(axis=0), costs[:finished].std(axis=0)
    return np.concatenate([*blocks, (costs - mean) / np.where(deviation > 0, deviation, 1.0)], axis=1)


def _block(name: str, options: Options, walks: Sequence[Decisions]) -> Points:
    """Return the features of one decision; all are 0 for a network without this decision."""
    indices = {option: index for index, option in enumerate(options)}
    index = np.array([indices.get(walk.get(name), -1) for walk in walks])[:, None]
    if isinstance(options[0], str):
        return np.asarray((index == np.arange(len(options))) / np.sqrt(2.0))
    return np.asarray((index > np.arange(len(options) - 1)) / np.sqrt(len(options) - 1.0))


@dataclass(frozen=True)
class GaussianProcess:
    """Gaussian process with constant mean and squared-exponential kernel, fitted to the losses of networks."""

    features: Points  # (networks, features)
    targets: Points  # standardised losses
    mean: float
    deviation: float
    length_scale: float
    noise: float

    @staticmethod
    def fit(features: Points, losses: Points) -> GaussianProcess:
        """Fit length scale and noise by maximum likelihood over a grid."""
        mean, deviation = float(losses.mean()), float(losses.std()) or 1.0
        targets = (losses - mean) / deviation
        subset = np.unique(np.linspace(0, len(losses) - 1, min(MAX_FITTED, len(losses))).round().astype(int))
        length_scale, noise = _most_likely(features[subset], targets[subset])
        return GaussianProcess(features, targets, mean, deviation, length_scale, noise)

    def with_pending(self, features: Points) -> GaussianProcess:
        """Add pending networks, with their predicted means as observations."""
        if len(features) == 0:
            return self
        means, _ = self.predict(features)
        targets = np.concatenate([self.targets, (means - self.mean) / self.deviation])
        features = np.concatenate([self.features, features])
        return GaussianProcess(features, targets, self.mean, self.deviation, self.length_scale, self.noise)

    def predict(self, features: Points) -> tuple[Points, Points]:
        """Return mean and standard deviation of each network, without the noise of a repeated training."""
        covariance = _kernel(self.features, self.features, self.length_scale) + self.noise * np.eye(len(self.targets))
        inverse = np.linalg.inv(covariance)
        weights = inverse @ self.targets
        scale = float(self.targets @ weights) / len(self.targets)
        cross = _kernel(features, self.features, self.length_scale)
        variance = np.maximum(1.0 - np.einsum("ij,ij->i", cross @ inverse, cross), 1e-9)
        return self.mean + self.deviation * (cross @ weights), self.deviation * np.sqrt(scale * variance)


def _kernel(rows: Points, columns: Points, length_scale: float) -> Points:
    squares = (rows**2).sum(axis=1)[:, None] + (columns**2).sum(axis=1) - 2 * rows @ columns.T
    correlations: Points = np.exp(-np.maximum(squares, 0.0) / length_scale)
    return correlations


def _most_likely(features: Points, targets: Points) -> tuple[float, float]:
    grid = (
        (negative_log, length_scale, noise)
        for length_scale in LENGTH_SCALES
        for noise, negative_log in zip(NOISES, _negative_logs(features, targets, length_scale), strict=True)
    )
    _, length_scale, noise = min(grid)
    return length_scale, noise


def _negative_logs(features: Points, targets: Points, length_scale: float) -> Iterator[float]:
    """Yield the negative log likelihood for each noise with the best output scale, up to factor and constant."""
    values, vectors = np.linalg.eigh(_kernel(features, features, length_scale))
    squares = (targets @ vectors) ** 2
    for noise in NOISES:
        variances = np.maximum(values, 0.0) + noise
        scale = max(float((squares / variances).mean()), 1e-12)
        yield len(targets) * log(scale) + float(np.log(variances).sum())
