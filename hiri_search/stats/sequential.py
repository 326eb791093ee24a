"""Group-sequential t-test: a look after each seed, and one significance level for all looks together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from scipy import special

SPENDING = 1.5  # of Kim and DeMets' family: after a share s of the looks, s ** SPENDING of the level is spent
_CELLS = 200  # of the angle; boundaries and p are exact to about 1 %
_LEVELS = np.concatenate([np.geomspace(1e-6, 0.1, 60), np.linspace(0.1, 0.98, 30)[1:]])
_EDGES = np.linspace(-np.pi / 2, np.pi / 2, _CELLS + 1)
_MIDDLES = (_EDGES[1:] + _EDGES[:-1]) / 2

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SequentialTest:
    """One-sided t-test of a mean, repeated after each of `first` to `most` values (Lan and DeMets 1983).

    Whenever the values end, and whatever ends them, the probability that any look has rejected a true null hypothesis
    is at most the level. The boundaries are exact for normal values of unknown variance (Jennison and Turnbull 1991).
    """

    first: int  # values at the first look, at least 2
    most: int  # values at the last look

    def p(self, statistics: Sequence[float | None]) -> float:
        """Return the smallest level at which one of the looks rejects; `statistics` are Student's t, look by look.

        A look without a t (None: its values are equal) rejects nothing.
        """
        boundaries = _boundaries(self.first, self.most)
        logs = (
            np.interp(-t, -critical, np.log(_LEVELS), right=0.0)
            for t, critical in zip(statistics, boundaries, strict=False)
            if t is not None
        )
        return float(np.exp(min(logs, default=0.0)))

    def critical(self, values: int, level: float) -> float:
        """Return the t from which the look at so many values rejects, at a one-sided level."""
        return float(np.interp(np.log(level), np.log(_LEVELS), _boundaries(self.first, self.most)[values - self.first]))

    def predictive_power(self, t: float, values: int, level: float) -> float:
        """Return the probability that the last look rejects, predicted from t at an earlier look.

        The mean has a flat prior distribution, and the measured variance counts as known (Spiegelhalter 1986).
        """
        left = self.most / values - 1
        missing = self.critical(self.most, level) - t * np.sqrt(1 + left)
        return float(special.stdtr(values - 1, -missing / np.sqrt(left)))


@cache
def _boundaries(first: int, most: int) -> _Floats:
    """Return the critical t of each look (rows) for each of `_LEVELS` (columns).

    t at n values is sqrt(n - 1) times the tangent of an angle, between the values and their part without a mean. Under
    the null hypothesis the next value relative to the length of the earlier ones does not depend on their direction,
    so that the angles are a Markov chain; it is followed on a grid, without the paths that have crossed a boundary.
    """
    looks = np.arange(1, most - first + 2)
    spent = np.diff((looks / looks[-1]) ** SPENDING, prepend=0.0)[:, None] * _LEVELS
    with np.errstate(divide="ignore"):
        start = special.stdtr(first - 1, -np.tan(_EDGES) * np.sqrt(first - 1))
    tails = np.tile(start, (len(_LEVELS), 1))  # probability of a larger angle than each edge, by level
    boundaries = []
    for values, wanted in enumerate(spent, first):
        angles = np.array([_quantile(*pair, values) for pair in zip(tails, wanted, strict=True)])
        boundaries.append(np.sqrt(values - 1) * np.tan(angles))
        inside = -np.diff(np.maximum(tails, wanted[:, None]), axis=1)  # of the paths that have crossed no boundary
        tails = inside @ _transition(values)
    return np.array(boundaries)


def _quantile(tail: _Floats, probability: float, values: int) -> float:
    """Return the angle with this probability of a larger one; between two edges the logarithm is linear."""
    cell = int(np.searchsorted(-tail, -probability)) - 1
    low, high = tail[cell], tail[cell + 1]
    if cell == _CELLS - 1:  # at a right angle the probability vanishes as a power
        return float(np.pi / 2 - (np.pi / 2 - _EDGES[cell]) * (probability / low) ** (1 / (values - 1)))
    share = np.log(low / probability) / np.log(low / high)
    return float(_EDGES[cell] + share * (_EDGES[cell + 1] - _EDGES[cell]))


def _transition(values: int) -> _Floats:
    """Return the probability of a larger angle than each edge (columns) with one more value than `values`.

    Rows are the angles before. The next value, divided by the length of the earlier ones, is the tangent of an angle z,
    and `values` times its square has Fisher's distribution. With r = sqrt(values) sin(angle before):
    sqrt(values + 1) sin(angle after) = sqrt(1 + r^2) sin(z + arctan r).
    """
    r = np.sqrt(values) * np.sin(_MIDDLES)[:, None]
    sine = np.sqrt(values + 1) * np.sin(_EDGES) / np.sqrt(1 + r**2)
    edge, turn = np.arcsin(np.clip(sine, -1, 1)), np.arctan(r)

    def below(angle: _Floats) -> _Floats:
        inner = np.abs(angle) < np.pi / 2
        return np.where(inner, special.stdtr(values, np.sqrt(values) * np.tan(angle * inner)), angle > 0)

    above = below(np.pi - edge - turn) - below(edge - turn) + below(-np.pi - edge - turn)
    return np.where(sine >= 1, 0.0, np.where(sine <= -1, 1.0, above))
