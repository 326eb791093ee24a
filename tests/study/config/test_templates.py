"""Templates that `hiri-search init` writes are valid studies, also with the keys that their comments offer."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from hiri_search.cli.main import app
from hiri_search.study.config.read import profiles_of, read_study, read_study_file
from hiri_search.study.config.schema import StudyConfig
from hiri_search.study.config.templates import TEMPLATE_KINDS, template, write_study_file
from hiri_search.study.errors import StudyError


@pytest.mark.parametrize("kind", TEMPLATE_KINDS)
def test_a_template_is_a_valid_study_with_each_profile(tmp_path: Path, kind: str):
    write_study_file(tmp_path / "new" / "mine.yaml", template(kind))
    for profile in (*profiles_of(read_study_file(tmp_path / "new" / "mine.yaml")), "none"):
        study = read_study(tmp_path / "new" / "mine.yaml", profile=profile)
        assert (study.space is None) == (kind == "ablation")


def test_a_template_names_its_file_in_the_command_that_runs_it(tmp_path: Path):
    file = tmp_path / "mine.yaml"
    done = CliRunner().invoke(app, ["init", str(file), "--search"])
    assert done.exit_code == 0
    assert f"python run_study.py {file} --plan" in file.read_text()
    assert read_study(file).space


def test_an_existing_file_is_not_overwritten(tmp_path: Path):
    (tmp_path / "mine.yaml").write_text("precious")
    with pytest.raises(StudyError, match="already exists"):
        write_study_file(tmp_path / "mine.yaml", template("ablation"))
    assert (tmp_path / "mine.yaml").read_text() == "precious"


def test_an_error_names_a_path_that_cannot_be_written(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(StudyError, match="cannot be written"):
        write_study_file(tmp_path / "file" / "mine.yaml", template("ablation"))


@pytest.mark.parametrize("kind", TEMPLATE_KINDS)
def test_keys_in_comments_of_a_template_are_valid(tmp_path: Path, kind: str):
    write_study_file(tmp_path / "mine.yaml", template(kind))
    commented = [line.strip()[2:].partition(" #")[0] for line in (tmp_path / "mine.yaml").read_text().splitlines()]
    keys = [line for line in commented if line.startswith(("halving:", "zero_cost:", "reuse:"))]
    assert len(keys) == (3 if kind == "search" else 0)
    for line in keys:
        name, _, value = line.partition(": ")
        read = read_study(tmp_path / "mine.yaml", sets=[f"search.{name}={value}"])
        assert isinstance(read, StudyConfig)
        assert getattr(read.search, name)
