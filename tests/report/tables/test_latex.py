"""LaTeX tables: their content, and that LaTeX compiles them."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from hiri_search.report.tables.latex import comparison_tex, confirmed_tex, network_tex, paper_tex
from hiri_search.report.write import write_all
from tests.report.tables.test_ablation import TOP1, study
from tests.report.tables.test_search import RESULTS as SEARCH

DOCUMENT = r"\documentclass{article}\usepackage{booktabs}\begin{document}%s\end{document}"


def test_the_best_row_is_bold_only_if_it_is_significantly_better():
    clear = paper_tex(study(TOP1))
    assert r"\textbf{3}" in clear
    assert clear.count(r"\textbf") == 2, "its name and its top-1"
    unclear = paper_tex(study({**TOP1, "4": [80.0, 81.2, 82.1]}))
    assert r"\textbf" not in unclear
    assert "none is bold" in unclear


def test_a_row_has_our_numbers_next_to_the_papers():
    line = next(line for line in paper_tex(study(TOP1)).splitlines() if line.startswith("1 &"))
    assert line == r"1 & 30.0 & 35.0 & 4.0 & 4.4 & 71.1 [68.1, 74.1] & 82.7 \\"


def test_a_comparison_is_bold_if_a_difference_is_shown():
    lines = comparison_tex(study(TOP1, compare="steps")).splitlines()
    (small,), (large,) = ([line for line in lines if line.startswith(f"{name} &")] for name in "23")
    assert r"\textbf" not in small
    assert re.fullmatch(r"3 & 3 & \\textbf\{\$\+9\.8\$ .*\} & \$<\$0\.001 & -- \\\\", large)


def test_the_caption_leaves_out_the_papers_table_number():
    assert r"\caption{A ladder, compared with Table 7 of HIRI-ViT. Params" in paper_tex(study(TOP1))


def test_the_caption_explains_brackets_and_bold_print_only_if_present():
    both, none = study(TOP1), study({"1": [70.0], "2": [71.0]})
    assert "In brackets" in paper_tex(both)
    assert "Bold: a difference" in comparison_tex(both)
    assert "In brackets" not in paper_tex(none) + network_tex(none)
    assert "Bold: a difference" not in comparison_tex(none)
    assert "More seeds:" not in comparison_tex(none)


def test_heads_have_units():
    text = paper_tex(study(TOP1))
    for head in ("Params (M)", "GFLOPs", r"Top-1 (\%)"):
        assert head in text


ODD = {
    r"a_b & 50 % <x> | {y} ~ ^ \z": [1.0, 2.1, 3.0],
    "hr(32 e=4)*2 -> hr(64 e=4)*2 -> cffn(128 e=6)*2 -> t(320 e=5)*9": [4.0, 5.1, 6.0],
}


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="needs pdflatex (Debian: texlive-latex-recommended)")
@pytest.mark.parametrize(
    "top1", [TOP1, ODD, {"1": []}, {"1": [70.0]}], ids=["ladder", "odd names", "no trial", "one seed"]
)
def test_latex_compiles_every_table_without_overfull_lines(top1: dict[str, list[float]], tmp_path: Path):
    results = study(top1)
    body = "".join(table(results) for table in (paper_tex, network_tex, comparison_tex))
    _compile(body, tmp_path)


def _compile(body: str, folder: Path) -> None:
    (folder / "page.tex").write_text(DOCUMENT % body)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-2000:]
    assert "Overfull" not in result.stdout


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="needs pdflatex (Debian: texlive-latex-recommended)")
def test_latex_compiles_the_confirmation_of_a_search(tmp_path: Path):
    _compile(network_tex(SEARCH) + confirmed_tex(SEARCH), tmp_path)


@pytest.mark.skipif(not shutil.which("pdffonts"), reason="needs pdffonts (Debian: poppler-utils)")
def test_figures_are_vectors_with_embedded_fonts(tmp_path: Path):
    write_all(study(TOP1), tmp_path)
    for figure in ("table7.pdf", "pareto.pdf"):
        fonts = subprocess.run(["pdffonts", tmp_path / figure], capture_output=True, text=True, check=True).stdout
        _, _, *lines = fonts.splitlines()
        assert lines
        for line in lines:
            assert "TrueType" in line
            assert "Type 3" not in line
            assert line.split()[-5] == "yes", "embedded"
        images = subprocess.run(["pdfimages", "-list", tmp_path / figure], capture_output=True, text=True, check=True)
        assert len(images.stdout.splitlines()) == 2, "no image, only the two head lines of the list"


def test_all_files_for_a_paper_are_written(tmp_path: Path):
    names = {path.name for path in write_all(study(TOP1, compare="steps"), tmp_path).paths}
    assert {"table7.tex", "comparisons.tex", "comparisons.csv", "comparisons.md", "table7.pdf"} <= names
    assert {"trials.parquet", "dictionary.csv", "dictionary.md"} <= names


def test_the_table_of_a_search_has_only_its_pareto_front():
    lines = [line for line in network_tex(SEARCH).splitlines() if line[:1] in "abcd" and line[1:3] == " &"]
    assert [line[0] for line in lines] == ["a", "b", "d"], "d dominates c"
