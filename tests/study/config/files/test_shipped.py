"""Shipped studies: stand-ins that keep what the study compares."""

import pytest

from hiri_search.language import Net
from hiri_search.study.config.files.shipped import find_file, shipped, shipped_studies
from hiri_search.study.config.networks import covering_networks, resolve
from hiri_search.study.config.read import read_study


@pytest.mark.parametrize("name", shipped_studies())
def test_attention_of_a_stand_in_has_positions_to_relate(name: str):
    study = read_study(shipped("studies") / f"{name}.yaml", profile="none" if name.startswith("calib") else "laptop")
    networks = resolve(study)
    candidates = covering_networks(study, networks.space) if networks.space else networks.rows
    trained = [row for row in candidates if isinstance(row.trained, Net)]
    assert [row.name for row in trained if row.trained.grids(row.trained_side)[-1] < 3] == []


@pytest.mark.parametrize(
    "name", ["recipes/short.yaml", "five_stage.yaml", "spaces/five_stage.yaml", "../spaces/five_stage.yaml"]
)
def test_shipped_files_are_found_from_any_folder(name: str, tmp_path):
    assert find_file(name, tmp_path).is_file()
    own = tmp_path / "mine" / name
    own.parent.mkdir(parents=True, exist_ok=True)
    own.parent.joinpath(own.name).touch()
    assert find_file(name, tmp_path / "mine").samefile(own)
    assert not find_file("recipes/unknown.yaml", tmp_path).exists()
