"""A score of which less is better, on test images, in tables, figures, comparisons and the page."""

from typing import Any

from hiri_search.report.page.page_data import page_content
from hiri_search.report.tables.ablation import best_row, comparison_caption, comparison_table
from hiri_search.report.tables.latex import network_tex
from hiri_search.report.tables.networks import front, network_table, paper_table, paper_tau
from tests.report.page.page_results import less_is_better

RESULTS = less_is_better()


def _networks() -> dict[str, Any]:
    return network_table(RESULTS).set_index("name")["test_ece"].to_dict()


def test_the_least_score_is_the_best():
    assert min(_networks(), key=_networks().get) == "HR-HR-T-T-T" == best_row(RESULTS)
    comparisons = comparison_table(RESULTS)
    assert set(comparisons["against"]) == {"HR-HR-T-T-T"}
    assert comparisons["verdict"].str.startswith("worse").all()
    assert "which has the lowest mean: gain of test ECE (less is better)" in comparison_caption(RESULTS)
    assert r"\textbf{HR-HR-T-T-T}" in network_tex(RESULTS)


def test_fronts_and_ranks_follow_the_direction():
    assert list(front(network_table(RESULTS), "gflops", RESULTS.score)["name"]) == ["HR-HR-CFFN-T-T", "HR-HR-T-T-T"]
    table = paper_table(RESULTS)
    assert dict(zip(table["network"], table["rank"], strict=True))["HR-HR-T-T-T"] == 1
    by_paper = table.assign(paper_top1=-table["test_ece"])  # the paper prefers what we prefer
    tau = paper_tau(by_paper, RESULTS.score, RESULTS.published_scores[0])
    assert tau is not None
    assert tau.value == 1


def test_the_page_names_the_score_its_direction_and_its_images():
    content = page_content(RESULTS)
    column = next(column for column in content["columns"] if column["key"] == "test_ece")
    assert (column["label"], column["best"], column["digits"]) == ("Test ECE", "min", 4)
    assert "on the test images" in column["description"]
    assert content["cards"][0]["value"] == "0.0105"
    assert content["chance"] is None
    assert content["curve_score"]["label"] == "validation ECE"
