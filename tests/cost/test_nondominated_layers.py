"""Points by front, kept one by one, are as if they were sorted anew."""

import numpy as np
import pytest

from hiri_search.cost.nondominated_layers import Layers
from hiri_search.cost.pareto import fronts


@pytest.mark.parametrize("objectives", [1, 2, 3])
@pytest.mark.parametrize("seed", range(10))
def test_whoever_comes_and_goes(objectives: int, seed: int):
    rng = np.random.default_rng(seed)
    layers, points = Layers(), dict[int, tuple[float, ...]]()
    for number in rng.permutation(60).tolist():
        points[number] = tuple(rng.integers(0, 8, objectives).astype(float).tolist())
        layers.add(number, points[number])
        if rng.random() < 0.3:
            gone = int(rng.choice(list(points)))
            del points[gone]
            layers.remove(gone)
        if rng.random() < 0.7:
            assert _ranks(layers) == _sorted_anew(points)


def _ranks(layers: Layers) -> dict[int, int]:
    return {number: rank for rank, (numbers, _) in enumerate(layers.fronts()) for number in numbers.tolist()}


def _sorted_anew(points: dict[int, tuple[float, ...]]) -> dict[int, int]:
    return dict(zip(points, fronts(np.array(list(points.values()))).tolist(), strict=True)) if points else {}
