"""Tables of a confirmation: both scores and ranks, the orders by short trainings and by cost, and the verdict."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from hiri_search.report.page.page_data import page_content
from hiri_search.report.tables.confirmation import confirmed_table, order_table, rank_agreement
from hiri_search.report.tables.latex import confirmed_tex
from hiri_search.report.tables.networks import network_table
from hiri_search.report.tables.results import Results
from hiri_search.stats.rank_correlation import kendall_tau, tau_beyond_cost
from tests.report.examples import example_results, example_study, search_trial
from tests.report.tables.test_search import RESULTS, SHORT, STUDY


def test_a_confirmed_network_has_both_scores_and_ranks():
    table = confirmed_table(RESULTS).set_index("name")
    assert list(table.index) == ["a", "b", "d"], "by cost"
    assert list(table["short_top1"]) == [10, 20, 30]
    assert list(table["top1"]) == [22, 42, 32]
    assert list(table["short_rank"]) == [3, 2, 1]
    assert list(table["rank"]) == [3, 1, 2]
    assert list(table["seeds"]) == [2, 2, 2]
    assert list(table.loc["a", ["low", "high"]]) == pytest.approx([22 - 12.706, 22 + 12.706], abs=0.005), (
        "Student's interval"
    )


def test_confirmations_do_not_change_the_table_of_networks():
    assert network_table(example_results(STUDY, SHORT)).equals(network_table(RESULTS))


BANDS = [band * (1 + 0.01 * place) for band in (1.0, 2.0, 4.0) for place in range(5)]
COSTS = np.array(BANDS)
SKILL = np.random.default_rng(3).permutation(len(COSTS))  # of each network, beside its cost


def confirmed(
    short: Sequence[float] | np.ndarray,
    long: Sequence[float] | np.ndarray,
    costs: Sequence[float] = BANDS,
    **more: float,
) -> Results:
    """Return a search whose networks of these costs all have a short training and a confirmation."""
    study = example_study(title="A search", space="hr(32 e=4)*1..3", recipe={"epochs": 2})
    both = zip(short, costs, strict=True)
    rows = [search_trial(n, f"network {n}", float(top1), gmacs) for n, (top1, gmacs) in enumerate(both)]
    later = [
        {**row, "trial": len(rows) + n, "epochs": 8, "confirms": n, "top1": float(top1)} | more
        for n, (row, top1) in enumerate(zip(rows, long, strict=True))
    ]
    return example_results(study, [*rows, *later])


CLEAR = 50 + 10 * np.log2(COSTS) + SKILL / 3  # rises with cost, and has an order of its own within a band
NOISE = np.random.default_rng(0).normal(size=(2, len(COSTS)))
VERDICTS = {
    "the same order": (CLEAR, CLEAR, "passes", "The short trainings pass"),
    "much noise": (CLEAR + 3 * NOISE[1], CLEAR, "weak", "Weak: "),
    "cost alone": (10 * np.log2(COSTS) + NOISE[0], CLEAR, "fails", "The short trainings fail"),
    "few networks": (CLEAR[:9], CLEAR[:9], "too few to tell", "Too few to tell: 9 networks have another of like cost"),
}


@pytest.mark.parametrize(("short", "long", "verdict", "words"), VERDICTS.values(), ids=VERDICTS)
def test_the_verdict_needs_tau_among_networks_of_like_cost(short, long, verdict: str, words: str):
    """In all four, Kendall's tau over all networks is significant."""
    results = confirmed(short, long, BANDS[: len(short)])
    row, text = order_table(results).set_index("order by").loc["short trainings"], rank_agreement(results)
    assert row["low"] > 0
    assert row["verdict"] == verdict
    assert words in text
    assert page_content(results)["rank_agreement"] == text
    assert words in confirmed_tex(results)


def test_the_order_by_cost_alone_is_beside_it():
    table = order_table(confirmed(CLEAR, CLEAR)).set_index("order by")
    assert list(table.index) == ["short trainings", "GFLOPs", "params"]
    expected, beyond = kendall_tau(COSTS, CLEAR), tau_beyond_cost(COSTS, CLEAR, COSTS)
    assert table.loc["GFLOPs", ["tau", "tau_beyond_cost", "pairs", "of_like_cost"]].tolist() == pytest.approx(
        [expected.value, beyond.value, 30, 15], abs=6e-4
    )
    assert table.loc["GFLOPs", "tau"] > 0.5 > abs(table.loc["GFLOPs", "tau_beyond_cost"])
    assert np.isnan(table.loc["params", "tau"]), "all networks have the same number"


def test_short_trainings_are_judged_on_validation_and_confirmations_on_test_images():
    """Scores on the same images share their chance, which would pass for agreement."""
    results = confirmed(CLEAR, -CLEAR, test_top1=0.0)
    images = replace(results.started.images, test=40)
    by_test = [{**row, "test_top1": row["top1"] if "confirms" in row else -row["top1"]} for row in results.trials]
    results = replace(results, started=replace(results.started, images=images), trials=by_test)
    table = confirmed_table(results)
    assert {"short_top1", "test_top1"} < set(table)
    assert list(table["short_top1"]) == pytest.approx(list(CLEAR), abs=0.005)
    assert order_table(results)["tau"][0] == -1


def test_too_few_confirmations_have_no_order():
    assert rank_agreement(example_results(STUDY, SHORT)) == ""
    assert rank_agreement(confirmed([1, 2], [1, 2], [1.0, 2.0])).startswith("Too few networks were confirmed")
