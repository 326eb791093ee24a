"""The sequential t-test compared with Student's, and with simulated studies that look after each value."""

import numpy as np
import pytest
from scipy import special

from hiri_search.stats.sequential import SPENDING, SequentialTest

TEST = SequentialTest(3, 12)
LOOKS = range(TEST.first, TEST.most + 1)
SIMULATIONS = 50_000


def _statistics(values: np.ndarray) -> np.ndarray:
    """Student's t after each look of (studies, values)."""
    columns = (values[:, :count] for count in LOOKS)
    return np.stack([each.mean(1) / each.std(1, ddof=1) * np.sqrt(each.shape[1]) for each in columns], axis=1)


@pytest.fixture(scope="module")
def null() -> np.ndarray:
    return _statistics(np.random.default_rng(0).normal(size=(SIMULATIONS, TEST.most)))


@pytest.mark.parametrize("values", [2, 5, 12])
@pytest.mark.parametrize("level", [0.2, 0.025, 0.005])
def test_one_look_is_students_t_test(values: int, level: float):
    single, t = SequentialTest(values, values), float(special.stdtrit(values - 1, 1 - level))
    assert single.critical(values, level) == pytest.approx(t, rel=0.015)
    assert single.p([t]) == pytest.approx(level, rel=0.02)


@pytest.mark.parametrize("level", [0.25, 0.05, 0.0125])
def test_all_looks_together_reject_a_true_null_hypothesis_at_the_level(null: np.ndarray, level: float):
    rejected = null >= [TEST.critical(count, level) for count in LOOKS]
    error = np.sqrt(level / SIMULATIONS)
    assert rejected.any(1).mean() == pytest.approx(level, abs=3 * error)
    half = rejected[:, : len(LOOKS) // 2].any(1).mean()
    assert half == pytest.approx(level * 0.5**SPENDING, abs=3 * error), "what half of the looks may spend"


def test_p_is_the_level_at_which_a_look_just_rejects_and_never_rises_with_more_looks(null: np.ndarray):
    for count in LOOKS:
        earlier: list[float | None] = [None] * (count - TEST.first)
        assert TEST.p([*earlier, TEST.critical(count, 0.01)]) == pytest.approx(0.01, rel=1e-6)
    for study in null[:20].tolist():
        p = [TEST.p(study[:looks]) for looks in range(len(study) + 1)]
        assert p == sorted(p, reverse=True)
        assert p[0] == 1, "without a look"


def test_p_of_a_true_null_hypothesis_is_uniform_at_most(null: np.ndarray):
    p = np.array([TEST.p(study) for study in null[:2000].tolist()])
    for level in (0.01, 0.05, 0.2):
        assert (p <= level).mean() <= level + 3 * np.sqrt(level / len(p))


def test_predictive_power_is_the_share_of_studies_that_are_shown_at_the_last_look():
    """Studies with t = 3 after six values, continued as the predictive distribution says."""
    rng, seen, t = np.random.default_rng(0), 6, 3.0
    mean = (t + rng.standard_t(seen - 1, SIMULATIONS)) / np.sqrt(seen)  # posterior of the mean, in deviations
    left = TEST.most - seen
    last = (seen * t / np.sqrt(seen) + left * mean + np.sqrt(left) * rng.normal(size=SIMULATIONS)) / np.sqrt(TEST.most)
    share = (last >= TEST.critical(TEST.most, 0.0125)).mean()
    assert TEST.predictive_power(t, seen, 0.0125) == pytest.approx(share, abs=0.03)
    assert TEST.predictive_power(20.0, seen, 0.0125) > 0.99
    assert TEST.predictive_power(-3.0, seen, 0.0125) < 0.01
