"""Draw of a calibration's networks in bands of cost."""

from itertools import pairwise

import pytest

from hiri_search.cost.flops import count
from hiri_search.language import parse_network
from hiri_search.study.calibration.draw import CostBand, draw
from hiri_search.study.config.schema import StudyConfig
from hiri_search.study.errors import StudyError

SPACE = "(hr | cffn)(32|48 e=2|4)*1..2 -> (hr | t)(64|128 e=2|4)*1..2 -> t(128|192 e=2|4)*1..2"
SETTINGS = {"reference": {}, "settings": {"short": {}}}


def _draw(space: str = SPACE, within: dict[str, str] | None = None, **keys: int) -> tuple[CostBand, ...]:
    calibrate = {"networks": 12, "bands": 3, **keys, **SETTINGS}
    file = {"space": space, "counted": {"side": 64, "classes": 10}, "proxy": {"side": 64}, "within": within or {}}
    return draw(StudyConfig.model_validate({**file, "calibrate": calibrate}), lambda line: None)


def _gflops(band: CostBand) -> list[float]:
    return [count(parse_network(spec), 64, classes=10).macs / 1e9 for spec in band.networks.values()]


def test_networks_of_a_band_are_different_and_of_like_cost():
    bands = _draw()
    assert [len(set(band.networks.values())) for band in bands] == [4, 4, 4]
    costs = [_gflops(band) for band in bands]
    assert all(max(band) <= 1.05 * min(band) for band in costs)
    assert all(min(upper) > 1.3 * max(lower) for lower, upper in pairwise(costs)), "far apart"
    assert [name for band in bands for name in band.networks][3:5] == ["band1-4", "band2-1"]


def test_networks_under_a_method_are_of_like_cost_with_it():
    space = "(hr | cffn)(32|48 e=2|4) -> hr(32|64 e=2) -> (hr | t)(64|128 e=2|4) -> t(128|256 e=2|4)"
    study = {"task": "segmentation", "method": "upernet", "space": space, "counted": {"side": 64, "classes": 10}}
    calibrate = {"networks": 4, "bands": 1, **SETTINGS}
    (band,) = draw(StudyConfig.model_validate({**study, "calibrate": calibrate}), lambda line: None)
    assert all(spec.startswith("upernet:") for spec in band.networks.values())
    assert max(costs := _gflops(band)) <= 1.05 * min(costs)
    assert band.low <= min(costs)


def test_the_seed_decides_the_draw():
    assert _draw(seed=1) == _draw(seed=1)
    assert _draw(seed=1) != _draw(seed=2)


def test_bands_lie_within_the_constraints_of_the_study():
    assert all(
        0.03 <= cost <= 0.06 for band in _draw(within={"gmacs": "0.03..0.06"}, bands=2) for cost in _gflops(band)
    )


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"bands": 40, "networks": 40},
            "calibrate.bands=40: the networks of the space cost .* too much alike; write fewer bands",
        ),
        ({"networks": 3000}, "calibrate.networks: the space has .* GFLOPs, and 1000 are wanted; write fewer networks"),
    ],
)
def test_a_space_with_too_few_networks_of_like_cost_is_refused(keys: dict[str, int], message: str):
    with pytest.raises(StudyError, match=message):
        _draw(**keys)
