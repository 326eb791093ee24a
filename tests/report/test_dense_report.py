"""The report of detection and segmentation: sizes of images, scores of the task, the paper's numbers beside them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from hiri_search.report.figures import comparison
from hiri_search.report.page.page_data import page_content
from hiri_search.report.tables.curves import network_points, published_points
from hiri_search.report.tables.data_dictionary import NOT_DESCRIBED
from hiri_search.report.tables.latex import paper_tex
from hiri_search.report.tables.networks import caption, network_table, paper_table
from hiri_search.report.tables.results import Results
from hiri_search.report.write import write_all
from hiri_search.training.dense.scores import DETECTION, SEGMENTATION
from tests.report.dense_results import detection, segmentation

MADE = [detection, segmentation]


@pytest.mark.parametrize("make", MADE)
def test_every_file_of_a_report_is_written(make: Callable[[], Results], tmp_path: Path):
    results = make()
    written = write_all(results, tmp_path, figures=False)
    assert not written.failures
    tables = {f"table{results.table_number}.{suffix}" for suffix in ("md", "tex", "csv")}
    assert {"index.html", "trials.parquet", *tables} <= {path.name for path in written.paths}
    dictionary = (tmp_path / "dictionary.csv").read_text()
    assert NOT_DESCRIBED not in dictionary
    assert "width x height" in dictionary


def test_figures_have_a_panel_for_each_cost_that_the_paper_prints():
    panels = comparison(detection()).axes
    assert [axes.get_xlabel() for axes in panels] == 2 * ["GFLOPs (multiply-adds)", "Parameters (M)"]
    assert [axes.get_ylabel() for axes in panels[::2]] == 2 * ["Box AP (%)"]


def test_rows_that_are_counted_alone_do_not_hide_the_names_of_trained_ones():
    facts = ("key", "spec", "side", "params", "macs", "core_macs", "by_part")
    plain = detection()
    counted = [{**{name: plain.trials[0][name] for name in facts}, "name": f"counted {n}"} for n in range(12)]
    points = network_points(replace(plain, counted=counted)).set_index("name")
    assert len(points) >= 12
    assert list(points.loc[list(plain.rows), "curve"]) == list(plain.rows)


def test_sizes_of_images_are_shown_as_they_are_written():
    results = detection()
    assert "the networks at 800 and 1600x1200 pixels with 80 classes" in caption(results)
    assert "& 1600x1200 &" in paper_tex(results)
    columns = {column["key"]: column for column in page_content(results)["columns"]}
    assert columns["side"]["digits"] is None


def test_the_published_score_is_that_of_the_task():
    table = paper_table(detection()).set_index("network")
    assert list(table["paper_ap"]) == [47.3, 47.0, 46.6]
    assert list(table["paper_mask_ap"].dropna()) == [42.5]
    assert list(table["paper_rank"]) == [1, 2, 3]
    assert list(paper_table(segmentation())["paper_miou"]) == [50.3, 51.8]


def test_captions_and_heads_name_the_published_score_and_its_training():
    text, tex = caption(detection()), paper_tex(detection())
    assert "The paper's Box AP is on COCO after 12 epochs: compare orders, not values." in text
    assert "Kendall's tau with the paper's order over 3 rows: 0.33" in text
    assert r"\multicolumn{2}{c}{Box AP (\%)}" in tex
    assert "20.5 [" in tex  # with the paper's one decimal
    assert "on ADE20K after 160,000 iterations" in caption(segmentation())
    assert "Top-1" not in text + tex
    assert "label smoothing" not in text


def test_a_stand_in_with_norms_of_ours_is_said_to_have_them():
    assert "with norms in pyramid and heads, which are ours" in caption(segmentation())


def test_a_table_has_the_other_scores_that_were_measured():
    table = network_table(detection())
    measured = ["ap50", "ap75", "ap_large", "mask_ap", "mask_ap50"]
    assert [name for name in table if name in {score.name for score in detection().study.scores[1:]}] == measured
    assert pd.isna(table.set_index("name").loc["at 800", "mask_ap"])
    assert "pixel_accuracy" in paper_table(segmentation())


def test_a_table_has_the_standard_error_over_images_and_the_caption_says_what_it_is():
    assert list(paper_table(detection())["standard_error"]) == [1.5, 1.5, 1.5]
    assert "One standard error from the validation images alone is up to 1.5 points" in caption(detection())
    assert "standard_error" not in paper_table(segmentation())  # of a ledger without them


@pytest.mark.parametrize(("table", "score"), [("4", DETECTION), ("5", DETECTION), ("6", SEGMENTATION)])
def test_the_panel_of_the_paper_has_each_method_with_hirivits_points_apart(table: str, score: Any):
    paper = published_points(table, score.scores[0])
    assert (paper.stem, paper.cost_columns) == (f"table{table}", ("gflops", "params_m"))
    assert len(paper.points.dropna(subset=[paper.column, *paper.cost_columns])) > 10
    for _, points in paper.points.groupby("group"):
        hirivit = points["network"].str.contains("HIRI-ViT")
        assert hirivit.any()
        assert set(points["curve"][hirivit]) & set(points["curve"][~hirivit]) == set()


def test_without_a_table_the_panel_is_that_of_the_task():
    assert published_points("", SEGMENTATION.scores[0]).stem == "table6"
    assert published_points("6", DETECTION.scores[0]).stem == "table4"


def test_the_page_has_the_published_score_with_its_unit_and_data():
    paper = page_content(segmentation())["paper"]
    assert (paper["score"]["key"], paper["score"]["title"], paper["score"]["data"]) == ("paper_miou", "mIoU", "ADE20K")
    assert paper["length"] == "160,000 iterations of ADE20K"
