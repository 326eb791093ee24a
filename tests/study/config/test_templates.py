"""What `hiri-search init` writes can be run as it is."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from hiri_search.cli.main import app
from hiri_search.study.config.read import profiles_of, read_study
from hiri_search.study.config.schema import Study
from hiri_search.study.config.templates import TEMPLATE_KINDS, write_template
from hiri_search.study.errors import StudyError


@pytest.mark.parametrize("kind", TEMPLATE_KINDS)
def test_a_study_to_begin_with_is_in_order_under_each_of_its_profiles(tmp_path: Path, kind: str):
    write_template(tmp_path / "new" / "mine.yaml", kind)
    for profile in (*profiles_of(tmp_path / "new" / "mine.yaml"), "none"):
        study = read_study(tmp_path / "new" / "mine.yaml", profile=profile)
        assert (study.space is None) == (kind == "ablation")


def test_it_names_itself_and_says_how_to_run_it(tmp_path: Path):
    file = tmp_path / "mine.yaml"
    done = CliRunner().invoke(app, ["init", str(file), "--search"])
    assert done.exit_code == 0
    assert f"python run_study.py {file} --plan" in file.read_text()
    assert read_study(file).space


def test_nothing_is_written_over(tmp_path: Path):
    (tmp_path / "mine.yaml").write_text("precious")
    with pytest.raises(StudyError, match="is there already"):
        write_template(tmp_path / "mine.yaml", "ablation")
    assert (tmp_path / "mine.yaml").read_text() == "precious"


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(StudyError, match="cannot be written"):
        write_template(tmp_path / "file" / "mine.yaml", "ablation")


@pytest.mark.parametrize("kind", TEMPLATE_KINDS)
def test_what_its_comments_offer_is_there(tmp_path: Path, kind: str):
    write_template(tmp_path / "mine.yaml", kind)
    offered = [line.strip()[2:].partition(" #")[0] for line in (tmp_path / "mine.yaml").read_text().splitlines()]
    halving = [line for line in offered if line.startswith("halving:")]
    assert len(halving) == (kind == "search")
    for line in halving:
        read = read_study(tmp_path / "mine.yaml", sets=[f"search.{line.replace(': ', '=', 1)}"])
        assert isinstance(read, Study)
        assert read.search.halving
