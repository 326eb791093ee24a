"""Studies as Python objects: the same checks, ledger and numbers as the command line."""

from pathlib import Path
from typing import get_type_hints

import pandas as pd
import pytest

import hiri_search
from hiri_search import StudyError
from hiri_search.api.study_keys import StudyKeys
from hiri_search.cli.main import main
from hiri_search.study.config.files.shipped import shipped_studies
from hiri_search.study.config.read import read_study
from hiri_search.study.config.schema import StudyConfig
from hiri_search.study.ledger.events import StudyStarted, TrialBegan
from hiri_search.study.ledger.ledger import read_events
from tests.study.search.searches import Quiet

NETS = {"small": "hr(32 e=4) -> hr(64 e=4)", "other": "hr(32 e=4) -> cffn(64 e=4)"}
KEYS = {
    "counted": {"side": 64, "classes": 10},
    "proxy": {"width": 4, "side": 32, "classes": 4},
    "data": {"train": 32, "val": 16},
    "recipe": {"epochs": 1, "batch": 16, "warmup_epochs": 0.0},
}
FILE = """\
nets: {small: hr(32 e=4) -> hr(64 e=4), other: hr(32 e=4) -> cffn(64 e=4)}
counted: {side: 64, classes: 10}
proxy: {width: 4, side: 32, classes: 4}
data: {train: 32, val: 16}
recipe: {epochs: 1, batch: 16, warmup_epochs: 0}
seeds: 2
"""


class Silent(Quiet):
    """A display that shows nothing."""

    def __enter__(self) -> "Silent":
        return self

    def __exit__(self, *error: object) -> None:
        pass


# ---- the study


def test_the_keys_of_the_constructor_are_those_of_a_study_file():
    filled_in = {"code", "calibration", "choices"}
    assert set(get_type_hints(StudyKeys)) == (set(StudyConfig.model_fields) - filled_in) | {"base", "profiles"}


def test_keys_objects_and_a_file_make_the_same_study(tmp_path: Path):
    (tmp_path / "mine.yaml").write_text(FILE)
    objects = {
        "counted": hiri_search.CountConfig(side=64, classes=10),
        "proxy": hiri_search.ProxyConfig(width=4, side=32, classes=4),
        "data": hiri_search.DataSource(train=32, val=16),
        "recipe": hiri_search.Recipe(epochs=1, batch=16, warmup_epochs=0.0),
    }
    rows = {name: hiri_search.NetworkRow(spec=spec) for name, spec in NETS.items()}
    read = hiri_search.Study.from_yaml(tmp_path / "mine.yaml").config
    assert hiri_search.Study(nets=NETS, seeds=2, **KEYS).config == read
    assert hiri_search.Study(nets=rows, seeds=2, **objects).config == read


def test_an_object_of_a_section_changes_only_the_keys_that_it_names():
    study = hiri_search.Study(base="block_mix", recipe=hiri_search.Recipe(batch=8), profile="laptop")
    assert (study.config.recipe.batch, study.config.recipe.lr, study.config.recipe.crop) == (8, 1.4e-3, 0.8)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"nets": NETS, "recipe": {"epoch": 3}}, r"Study: recipe\.epoch is not known; did you mean epochs\?"),
        ({"nets": NETS, "seed": 3}, r"Study: seed is not known; did you mean seeds\?"),
        ({"nets": {"a": "hr(32"}}, r"Study: nets\.a.*"),
        ({}, "either nets: .* or space:"),
        ({"nets": NETS, "recipe": {"epochs": "many"}}, r"recipe\.epochs: found 'many'; write a whole number"),
    ],
)
def test_a_mistake_is_one_sentence(keys: dict, message: str):
    with pytest.raises(StudyError, match=message):
        hiri_search.Study(**keys)


def test_a_setting_lies_over_the_profile():
    study = hiri_search.Study.from_yaml("block_mix", profile="laptop", override={"recipe.epochs": 3, "title": "a: b"})
    assert (study.config.recipe.epochs, study.config.title, study.config.proxy.side) == (3, "a: b", 192)


def test_a_study_without_a_file_needs_a_folder():
    with pytest.raises(StudyError, match="give a folder"):
        hiri_search.Study(nets=NETS, **KEYS).run()


def test_the_networks_are_counted_without_a_training():
    table = hiri_search.Study(nets=NETS, **KEYS).networks()
    assert table["network"].tolist() == list(NETS)
    for row in table.itertuples(index=False):
        cost = hiri_search.count(hiri_search.parse_network(row.spec), row.side, classes=10)
        assert (row[3], row[4]) == (cost.params / 1e6, cost.macs / 1e9)


# ---- one way of running


def test_python_and_the_command_line_go_on_from_each_other(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    file, folder = tmp_path / "mine.yaml", tmp_path / "results"
    file.write_text(FILE.replace("seeds: 2", "seeds: 1"))
    results = hiri_search.Study.from_yaml(file).run(folder, serial=True)
    assert (len(results.trials), results.complete) == (2, True)
    assert "4 " not in repr(results)
    file.write_text(FILE)
    with pytest.raises(SystemExit, match="0"):
        main(["run", str(file), "--results", str(folder), "--serial"])
    assert len(hiri_search.load_results(folder).trials) == 4
    again = hiri_search.Study(nets=NETS, seeds=3, **KEYS).run(folder, serial=True, display=Silent())
    assert len(again.trials) == 6
    events = read_events(folder)
    assert len([event for event in events if isinstance(event, TrialBegan)]) == 6  # none was trained twice
    assert len([event for event in events if isinstance(event, StudyStarted)]) == 3
    assert "100%" in capfd.readouterr().err  # the progress bar


@pytest.mark.parametrize("kind", ["ablation", "search"])
def test_the_tables_are_those_of_the_csv_files(tmp_path: Path, kind: str):
    space = {"space": "hr(32 e=4) -> (hr | cffn)(64 e=4)", "search": {"networks": 2}}
    space["confirm"] = {"top": 2, "partners": 0, "seeds": 2, "epochs": "x1"}
    keys = {"nets": NETS, "seeds": 2} if kind == "ablation" else space
    study = hiri_search.Study(**keys, **KEYS, override={"recipe.epochs": 2})  # a curve of one epoch reads as a number
    results = study.run(tmp_path, serial=True, display=Silent())
    written = {path.stem for path in (tmp_path / "report").glob("*.csv")}
    assert written <= set(results.tables)
    assert {"trials", "networks"} <= written
    for name in results.tables:
        table = results.table(name)
        if table.empty:
            assert name not in written
            continue
        file = pd.read_csv(tmp_path / "report" / f"{name}.csv")
        pd.testing.assert_frame_equal(table.replace("", None), file, check_dtype=False)
    assert results.page().html == (tmp_path / "report" / "index.html").read_text()
    assert set(results.figures) == {path.stem for path in (tmp_path / "report").glob("*.png")}
    assert results.pareto().axes
    assert "<table" in results._repr_html_()
    assert results.page()._repr_html_().startswith("<iframe")
    assert results.page().save(tmp_path / "page.html").stat().st_size > 10**6
    with pytest.raises(StudyError, match="no table 'table8' of this study; its tables are trials"):
        results.table("table8")


# ---- shipped studies, and studies under a study


@pytest.mark.parametrize("name", shipped_studies())
def test_a_shipped_study_is_read_by_name_in_any_folder(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    study = hiri_search.Study.from_yaml(name, profile="none" if name.startswith("calibration") else "laptop")
    assert study.config.title
    assert study.default_folder == Path("results") / name


def test_a_file_of_that_name_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("block_mix").write_text(FILE)
    assert list(hiri_search.Study.from_yaml("block_mix").config.nets) == list(NETS)


def test_a_copy_of_a_shipped_study_works_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="0"):
        main(["init", "mine/search.yaml", "--from", "search"])
    copy, shipped = (hiri_search.Study.from_yaml(study, profile="gpu") for study in ("mine/search.yaml", "search"))
    assert copy.config == shipped.config
    with pytest.raises(SystemExit, match="2"):
        main(["init", "other.yaml", "--from", "unknown"])


def test_a_study_lies_over_its_base(tmp_path: Path):
    (tmp_path / "under").mkdir()
    (tmp_path / "under" / "short.yaml").write_text("{epochs: 7, batch: 16}")
    (tmp_path / "under" / "one.yaml").write_text(
        FILE.replace("recipe: {epochs: 1, batch: 16, warmup_epochs: 0}", "recipe: short.yaml")
        + "profiles: {laptop: {recipe: {epochs: 5}, seeds: 4}}\n"
    )
    file = tmp_path / "two.yaml"
    file.write_text("base: under/one.yaml\nnets: {small: null, third: hr(32 e=4)}\nrecipe: {batch: 8}\n")
    plain, laptop = (hiri_search.Study.from_yaml(file, profile=name).config for name in ("none", "laptop"))
    assert list(plain.nets) == ["other", "third"]
    assert (plain.recipe.epochs, plain.recipe.batch, plain.seeds) == (7, 8, (0, 1))
    assert (laptop.recipe.epochs, laptop.recipe.batch, laptop.seeds) == (5, 8, (0, 1, 2, 3))
    file.write_text("base: under/one.yaml\nproxy: {side: 33}\n")
    with pytest.raises(StudyError, match=r"two\.yaml:2: "):
        read_study(file)
    file.write_text("base: under/one.yaml\ndata: {train: 8}\n")
    (tmp_path / "under" / "short.yaml").write_text("{epochs: many}")
    with pytest.raises(StudyError, match=r"short\.yaml:1: recipe\.epochs"):
        read_study(file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base: missing\n", r"x\.yaml:1: base: there is no study missing; .*block_mix"),
        ("base: x.yaml\n", r"x\.yaml:1: base: more than 8 studies"),
        ("base: block_mix\nprofile: gpu\n", "profile is not known"),
        (
            "base: block_mix\nnets: {HR-HR-T: null}\n",
            r"x\.yaml:2: .* row of the base to remove; did you mean HR-HR-T-T-T",
        ),
        ("nets: {one: null}\n", r"x\.yaml:1: nets\.one: found nothing; write a spec$"),
        ("base: block_mix\nmetrics: [top3]\n", r"x\.yaml:2: metrics: found \['top3'\]; write functions, such as \["),
    ],
)
def test_a_base_or_a_key_over_it_that_cannot_be_read_is_named(tmp_path: Path, text: str, message: str):
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(StudyError, match=message):
        read_study(tmp_path / "x.yaml")


def test_a_calibration_is_not_the_results_of_one_study(tmp_path: Path):
    (tmp_path / "calibration.json").write_text("{}")
    with pytest.raises(StudyError, match="load one of its settings"):
        hiri_search.load_results(tmp_path)
