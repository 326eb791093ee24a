"""The paper's costs next to ours, and the verdict for each row."""

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hiri_search.paper.agreement import TITLES, Costs, PaperNetwork, agreement, agreement_text
from hiri_search.paper.published import TABLE_FILES, networks, published
from hiri_search.report.tables.formats import FORMATS, latex

GOLDEN = Path(__file__).parents[1] / "cost" / "golden_networks.csv"  # tests/cost counts these networks again
COUNTED = ("1", "2", "3", "7", "8", "9")
SIDES_384 = {f"HIRI-ViT-{size} @ 384" for size in "SBL"}
UNEXPLAINED = {
    "1": {"HIRI-ViT-B @ 224", "HIRI-ViT-B @ 384"},
    "2": SIDES_384 | {"HIRI-ViT-B @ 224"},
    "8": {"HR-HR-HR-HR-T"},
}


def golden() -> dict[PaperNetwork, Costs]:
    with GOLDEN.open() as file:
        rows = csv.DictReader(file)
        return {PaperNetwork(row["spec"], int(row["side"])): (int(row["params"]), int(row["macs"])) for row in rows}


@pytest.mark.parametrize("table", COUNTED)
def test_only_known_rows_of_the_paper_are_unexplained(table: str):
    shown = agreement(table, golden())
    unexplained = shown[shown["verdict"] == "unexplained"]
    assert set(unexplained["row"]) == UNEXPLAINED.get(table, set())


@pytest.mark.parametrize("table", COUNTED)
def test_every_network_belongs_to_a_published_row(table: str):
    assert set(networks(table)["row"]) == set(published(table).index)


def test_differences_are_relative_to_the_published_number():
    shown = agreement("8", golden()).set_index("row").loc["HR-HR-HR-T-T"]
    assert shown["params_off"] == pytest.approx(100 * (shown["params_m"] / 34.7 - 1))
    assert shown["gflops_off"] == pytest.approx(100 * (shown["gflops"] / 4.8 - 1))


@pytest.mark.parametrize(
    ("params", "macs", "verdict"),
    [
        (34_825_000, 5_300_000_000, "agrees"),
        (34_900_000, 5_405_000_000, "agrees"),
        (35_000_000, 5_300_000_000, "unexplained"),
        (34_800_000, 5_410_000_000, "unexplained"),
    ],
)
def test_a_row_without_a_note_agrees_or_is_unexplained(params: int, macs: int, verdict: str):
    spec, side = networks("8").set_index("row").loc["HR-HR-T-T-T", ["spec", "side"]]
    shown = agreement("8", {PaperNetwork(spec, side): (params, macs)}).set_index("row")
    assert shown.loc["HR-HR-T-T-T", "verdict"] == verdict
    assert shown.loc["HR-HR-CFFN-T-T", "verdict"] == "no network"  # its costs are not given


@pytest.mark.parametrize("table", TABLE_FILES)
def test_every_table_has_a_title_and_a_text(table: str):
    shown = agreement(table, golden())
    assert table in TITLES
    assert len(shown) >= len(published(table))
    assert agreement_text(shown).map(lambda cell: isinstance(cell, str) or pd.isna(cell)).all(axis=None)


def test_csv_keeps_every_digit():
    shown = agreement("7", golden())
    lines = FORMATS["csv"](shown).splitlines()
    assert float(next(csv.DictReader(lines))["params_m"]) == shown["params_m"][0]


def test_latex_text_is_escaped():
    table = pd.DataFrame({"network": ["a_b & 5 %", "hr(4) -> {t}"], "top1": [1.5, np.nan]})
    text = latex(table)
    assert r"a\_b \& 5 \% & 1.5 \\" in text
    assert r"hr(4) $\to$ \{t\} & -- \\" in text
    assert text.startswith(r"\begin{tabular}{lr}")
