"""Choices in a recipe: each row is trained at each setting, and reported at the one that validation chooses."""

import math
from collections.abc import Mapping
from pathlib import Path

import pytest
from PIL import Image

from hiri_search.api.folders import read_results
from hiri_search.report.page.page_data import page_content
from hiri_search.report.tables.ablation import comparison_caption, comparison_table, settings_table
from hiri_search.report.tables.networks import caption, network_table, paper_table, trial_table
from hiri_search.report.write import table_files
from hiri_search.study.config.choices import best_settings, file_rows
from hiri_search.study.config.identity import canonical_form, incompatible_changes
from hiri_search.study.config.networks import resolve
from hiri_search.study.config.read import read_study
from hiri_search.study.config.schema import StudyConfig
from hiri_search.study.config.sections.metrics import MetricConfig
from hiri_search.study.dispatch.serial_dispatcher import run_serially
from hiri_search.study.errors import StudyError
from hiri_search.study.ledger.events import TrialAsked
from hiri_search.study.ledger.ledger import of_kind, read_events
from hiri_search.study.provenance.merged_study import join_studies
from hiri_search.study.provenance.verify import verify
from hiri_search.study.run import run
from hiri_search.study.search.comparison_design import comparison_design
from hiri_search.study.search.search_space import checked_space
from hiri_search.study.status import status
from hiri_search.training.job import Job
from tests.study.search.searches import Quiet, carry_on, search_of
from tests.study.test_honest_splits import looked_up

STUDY = """
nets: {one: hr(32 e=4), two: hr(32 e=2)}
compare: one
seeds: 2
counted: {side: 64, classes: 10}
proxy: {width: 4, side: 32, classes: 2}
data: {source: drawn, train: 32, val: 16, test: 16}
recipe: {epochs: 1, batch: 16, warmup_epochs: 0, lr: 1e-3|3e-3}
"""


def _read(tmp_path: Path, *sets: str, text: str = STUDY) -> StudyConfig:
    (tmp_path / "study.yaml").write_text(text)
    return read_study(tmp_path / "study.yaml", sets=sets)


def test_each_row_is_expanded_to_each_combination(tmp_path: Path):
    study = _read(tmp_path, "recipe.epochs=1|2", "recipe.ema_warmup=true|false", "nets.two.recipe.lr=0.5")
    assert study.nets is not None
    assert {row: len(names) for row, names in file_rows(study.nets).items()} == {"one": 8, "two": 4}
    row = study.nets["one [epochs=2, lr=0.003, ema_warmup=false]"]
    assert row.recipe
    assert (row.recipe.epochs, row.recipe.lr, row.recipe.ema_warmup) == (2, 3e-3, False)
    assert study.nets["two [epochs=2, ema_warmup=true]"].recipe.lr == 0.5
    assert StudyConfig.model_validate(study.model_dump(mode="json")) == study, "a ledger gives the same study"


def test_a_row_may_have_choices_of_its_own_or_none(tmp_path: Path):
    own = _read(tmp_path, "recipe.lr=1e-3", "nets.two.recipe.batch=8|16")
    assert list(own.nets) == ["one", "two [batch=8]", "two [batch=16]"]
    assert own.nets["one"].recipe is None
    untrained = _read(tmp_path, "nets.two.train=false")
    assert list(untrained.nets) == ["one [lr=0.001]", "one [lr=0.003]", "two"]


MISTAKES = {
    "recipe.lr=1e-3|x": "recipe.lr: 'x' is not a number; write 1e-3|3e-3",
    "recipe.epochs=5|5.5": "recipe.epochs: '5.5' is not a whole number",
    "recipe.ema_warmup=true|no": "recipe.ema_warmup: 'no' is not true or false",
    "recipe.lr=1e-3|-1": "recipe.lr=-1.0 is not possible; it must be more than 0",
    "recipe.lr=1e-3|0.001": "recipe.lr: 0.001 is repeated",
    "recipe.mixup=0|0": "recipe.mixup: 0.0 is repeated",
    "recipe.warmup_epochs=0|1": r"warmup_epochs=1.0 is not possible; it must be less than epochs=1",
    "recipe.lr=" + "|".join(map(str, range(1, 102))): "its choices make 101 settings of one; write fewer",
    "nets.two.recipe.lr=1|x": "nets.two.recipe.lr: 'x' is not a number",
    "recipe.learning_rate=1": "recipe.learning_rate is not known",
    "recipe.batch=many": "recipe.batch: found 'many'; write a whole number",
    'nets."one [lr=0.001]"={spec: hr(32 e=4), recipe: {lr: 1}}': "two rows are called 'one .lr=0.001.'; rename one",
    'nets."one [lr=0.001]"=hr(32 e=4)': "is a setting of another row 'one .lr=0.001.'; rename one",
    "nets.two.setting={row: one}": "setting: is filled in from the choices in a recipe; remove it",
    "seeds=auto": "seeds: auto adds seeds by the scores of rows whose best setting is not known yet; write a number",
    "data.test=0": "data.test: a setting that the validation images choose is reported on test images; write data.test",
    "nets.two=hr(32": "--set nets.two=hr.32: nets.two: ",
    "compare=one [lr=0.001]": "compare='one .lr=0.001.' is not known; write one of best, steps, one, two",
}


@pytest.mark.parametrize(("setting", "message"), MISTAKES.items(), ids=[name[:40] for name in MISTAKES])
def test_a_mistake_names_its_value_and_what_to_write(tmp_path: Path, setting: str, message: str):
    with pytest.raises(StudyError, match=message):
        _read(tmp_path, setting)


def test_a_folder_without_test_images_is_refused_before_the_trainings(tmp_path: Path):
    for number in range(24):
        file = tmp_path / "photos" / ("val" if number < 4 else "train") / "ab"[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (number, 0, 0)).save(file)
    study = _read(tmp_path, f"data={{source: 'folder:{tmp_path}/photos', train: null, val: null, test: null}}")
    with pytest.raises(StudyError, match=r"write data\.test: 0\.2, a share of train/, or add a folder test/"):
        run(study, tmp_path / "results", run_serially, Quiet(), profile="none")


# ---- the best setting


def _of_setting(job: Job) -> str:
    return f"{4 if 'e=4' in job.spec else 2} {job.recipe.lr:g} {job.seed}"


def _run(folder: Path, val: Mapping[str, float], test: Mapping[str, float], *sets: str, text: str = STUDY) -> Path:
    """Run the study with scores by expansion, learning rate and seed; another training has 50 %."""
    return looked_up(
        folder, text, lambda of: val.get(of, 50.0), lambda of: test.get(of, 50.0), of=_of_setting, sets=sets
    )


VAL = {"4 0.003 0": 75.0, "4 0.003 1": 75.0, "2 0.001 0": 87.5, "2 0.001 1": 62.5}
TEST = {"4 0.001 0": 100.0, "4 0.001 1": 100.0, "4 0.003 0": 25.0, "4 0.003 1": 50.0, "2 0.001 0": 62.5}


def test_a_row_is_reported_on_test_images_at_the_setting_that_validation_chooses(tmp_path: Path):
    folder = _run(tmp_path / "a", VAL, TEST)
    results = read_results(folder)
    table = network_table(results).set_index("name")
    assert table["setting"].to_dict() == {"one": "lr=0.003", "two": "lr=0.001"}
    assert table["test_top1"].to_dict() == {"one": 37.5, "two": 56.25}, "not the best test score of one, which is 100"
    assert table["seeds"].tolist() == [2, 2]
    settings = settings_table(results)
    assert settings[["network", "lr", "top1", "test_top1", "chosen"]].values.tolist() == [
        ["one", 0.001, 50.0, 100.0, False],
        ["one", 0.003, 75.0, 37.5, True],
        ["two", 0.001, 75.0, 56.25, True],
        ["two", 0.003, 50.0, 50.0, False],
    ]
    (line,) = comparison_table(results).to_dict("records")
    assert (line["network"], line["against"], line["seeds"], line["gain"]) == ("two", "one", 2, 18.75)
    assert "chosen first, by the same trainings on other images" in comparison_caption(results)
    assert "lr of 0.001 or 0.003: the one with the best mean top-1 over its seeds on the 16 val" in caption(results)
    trials = trial_table(results)
    assert len(trials) == 8
    assert trials["row"].value_counts().to_dict() == {"one": 4, "two": 4}
    assert {"settings.csv", "settings.md"} < set(table_files(results))
    assert [member["name"] for member in status(folder).front] == ["two [lr=0.001]"], "dominates one at its best"
    content = page_content(results)
    assert [column["key"] for column in content["columns"]].count("setting") == 1
    assert len(content["settings"]["rows"]) == 4
    checked = {finding.check: finding.faults for finding in verify(folder, quick=True)}
    assert [checked[check] for check in ("networks", "trials", "trainings")] == [(), (), ()]


def test_test_scores_choose_no_setting(tmp_path: Path):
    chosen = [
        network_table(read_results(_run(tmp_path / name, VAL, test)))["setting"].tolist()
        for name, test in (("a", TEST), ("b", {of: 100 - score for of, score in TEST.items()}))
    ]
    assert chosen[0] == chosen[1]


def test_the_rows_of_the_paper_are_those_of_the_file(tmp_path: Path):
    text = STUDY.replace("one:", "HR-HR-T-T-T:").replace("compare: one", 'table: "8"\ncompare: two')
    results = read_results(_run(tmp_path / "a", VAL, TEST, "nets.two.paper=HR-HR-HR-T-T", text=text))
    table = paper_table(results).set_index("network")
    assert table["paper_row"].to_dict() == {"HR-HR-T-T-T": "HR-HR-T-T-T", "two": "HR-HR-HR-T-T"}
    assert table["paper_top1"].notna().all()
    assert table["setting"].tolist() == ["lr=0.003", "lr=0.001"]
    assert results.design.pairs == (("HR-HR-T-T-T", "two"),)
    assert results.design.signs, "stated before the trainings"


def test_a_failed_or_missing_training_is_never_an_advantage(tmp_path: Path):
    """Of settings with equally many seeds the better one is chosen, and of equal ones the first."""
    failed = {"4 0.003 1": math.nan, "4 0.003 0": 100.0, "2 0.001 0": math.nan, "2 0.003 1": math.nan}
    results = read_results(_run(tmp_path / "a", failed, {}))
    assert network_table(results)["setting"].tolist() == ["lr=0.001", "lr=0.001"]
    assert settings_table(results)["failed"].tolist() == [0, 1, 1, 1]
    study = _read(tmp_path)
    assert best_settings(study, {})["one"] == "one [lr=0.001]", "nothing has finished"
    assert best_settings(study, {"one [lr=0.001]": [9.0], "one [lr=0.003]": [1.0, 1.0]})["one"] == "one [lr=0.003]"
    falling = study.model_copy(update={"metrics": {"mine": MetricConfig("mine:error", up=False)}, "score": "mine"})
    both = {"one [lr=0.001]": [2.0], "one [lr=0.003]": [1.0]}
    assert [best_settings(each, both)["one"] for each in (study, falling)] == ["one [lr=0.001]", "one [lr=0.003]"]


# ---- going on


def test_another_value_trains_only_what_is_missing(tmp_path: Path):
    folder = _run(tmp_path / "a", VAL, TEST)
    _run(folder, VAL, TEST, "recipe.lr=1e-2|3e-3|1e-3")
    asked = [(event.network.name, event.seed) for event in of_kind(read_events(folder), TrialAsked)]
    assert asked[8:] == [(f"{row} [lr=0.01]", seed) for row in ("one", "two") for seed in (0, 1)]
    with pytest.raises(StudyError, match=r"nets: one .lr=0\.01., one .* -> one, two"):
        _run(folder, VAL, TEST, "recipe.lr=3e-3")


CHANGES = {
    "another order": (("recipe.lr=3e-3|1e-3",), True),
    "fewer values": (("recipe.lr=3e-3|9",), True),
    "no choices": (("recipe.lr=1e-3",), False),
    "other choices": (("recipe.epochs=1|2",), False),
    "another key of the recipe": (("recipe.batch=8",), False),
}


@pytest.mark.parametrize(("sets", "goes_on"), CHANGES.values(), ids=CHANGES)
def test_a_folder_follows_a_change_of_the_values_only(tmp_path: Path, sets: tuple[str, ...], goes_on: bool):
    old, new = (canonical_form(study) for study in (_read(tmp_path), _read(tmp_path, *sets)))
    assert (incompatible_changes([old], new) == []) == goes_on


def test_pairs_in_steps_are_of_the_rows_of_the_file(tmp_path: Path):
    design = comparison_design(_read(tmp_path, "compare=steps"))
    assert design.pairs == (("two", "one"),)


def test_settings_of_unlike_rows_stay_apart_in_a_merged_study(tmp_path: Path):
    ours, theirs = _read(tmp_path), _read(tmp_path, "nets.one=hr(32 e=6)")
    name, plain = "one [lr=0.001]", _read(tmp_path, "recipe.lr=1e-3")
    joined = join_studies([ours, theirs], {name: (ours, name), f"{name} (other)": (theirs, name)}, 0)
    assert list(file_rows(joined.nets or {})) == ["one", "one (other)"]
    with pytest.raises(StudyError, match="recipes of one: with choices in one study, and without in another"):
        join_studies([ours, plain], {name: (ours, name), "one": (plain, "one")}, 0)


# ---- of a search

SEARCH = """
space: hr(32 e=2|4) -> (cffn(32|64 e=2) | t(32 e=2|4 d=32))
search: {networks: 6, sampler: random}
confirm: {top: 2, partners: 0, seeds: 1, epochs: x2}
counted: {side: 64, classes: 10}
proxy: {width: 4, side: 32, classes: 2}
data: {source: drawn, train: 32, val: 16, test: 16}
recipe: {epochs: 1, batch: 8|16, warmup_epochs: 0, lr: 1e-3|3e-3}
"""
SEARCH_MISTAKES = {
    "recipe.epochs=1|2": "recipe.epochs: a search trains all networks for one number of epochs; write one, and",
    "recipe.lr=1e-3|x": "recipe.lr: 'x' is not a number",
    "recipe.batch=8|9": "recipe.batch=9 is not possible; it must be even",
    "choices={lr: [1]}": r"choices: is filled in from recipe: {lr: 1e-3|3e-3}; remove it",
    "search.start=[hr(32 e=3)]": r"search.start.0: hr\(32 e=3\) is not a network of the space; write one that is",
    "search.start=[hr(]": r"search.start.0: ",
    "search.start=[{lr: 1e-3}]": r"search.start.0.net is missing",
    "search.start=[{net: hr(32 e=2) -> cffn(32 e=2), lr: 1}]": "search.start: lr=1 is no choice; write 0.001 or 0.003",
    "search.start=[{net: hr(32 e=2) -> cffn(32 e=2), ema: 0}]": "ema=0 is no choice; write recipe.ema: 1|2",
    "search.start=[hr(32 e=2) -> cffn(32 e=2), {net: hr(32 e=2) -> cffn(32 e=2), lr: 1e-3}]": "is there twice; remove",
}


@pytest.mark.parametrize(("setting", "message"), SEARCH_MISTAKES.items(), ids=range(len(SEARCH_MISTAKES)))
def test_a_mistake_in_the_start_or_choices_of_a_search_is_named(tmp_path: Path, setting: str, message: str):
    with pytest.raises(StudyError, match=message):
        _read(tmp_path, setting, text=SEARCH)


@pytest.mark.parametrize("sampler", ["grid", "random", "surrogate", "evolution", "tpe", "nsga2"])
def test_every_sampler_begins_with_the_start_and_takes_each_setting_once(tmp_path: Path, sampler: str):
    start = "search.start=[hr(32 e=4) -> t(32 e=2 d=32), {net: hr(32 e=2) -> cffn(64 e=2), batch: 16, lr: 3e-3}]"
    study = _read(tmp_path, f"search.sampler={sampler}", "search.networks=50", start, text=SEARCH)
    done = carry_on(search_of(study), 100)
    assert [trial.network.name for trial in done[:2]] == [
        "hr(32 e=4) -> t(32 e=2 d=32) [batch=8, lr=0.001]",
        "hr(32 e=2) -> cffn(64 e=2) [batch=16, lr=0.003]",
    ]
    assert len({trial.network.name for trial in done}) == len(done) == 8 * 4
    assert len({trial.network.key for trial in done}) == 8
    again = search_of(study, done[:9])
    assert [trial.network.name for trial in carry_on(again, 3)] == [trial.network.name for trial in done[9:12]]


def test_a_search_trains_confirms_and_reports_the_settings_that_it_finds(tmp_path: Path):
    start = "search.start=[hr(32 e=4) -> t(32 e=2 d=32), {net: hr(32 e=4) -> t(32 e=2 d=32), lr: 3e-3}]"
    folder = _run(tmp_path / "a", {"4 0.003 0": 75.0}, {}, start, text=SEARCH)
    asked = of_kind(read_events(folder), TrialAsked)
    assert [event.network.name.rpartition("=")[2] for event in asked[:2]] == ["0.001]", "0.003]"]
    results = read_results(folder)
    table = network_table(results).set_index("name")
    assert table["setting"].iloc[:2].tolist() == ["batch=8, lr=0.001", "batch=8, lr=0.003"]
    assert all(name.endswith(f"[{setting}]") for name, setting in table["setting"].items())
    confirmed = [event for event in asked if event.confirms is not None]
    assert confirmed
    assert all(event.network in [first.network for first in asked[:6]] for event in confirmed)
    assert trial_table(results)["setting"].notna().all()
    assert "batch of 8 or 16, lr of 0.001 or 0.003 (column setting)" in caption(results)
    assert page_content(results)["decisions"]["recipe.lr"]["options"] == ["0.001", "0.003"]
    checked = {finding.check: finding.faults for finding in verify(folder, quick=True)}
    assert [checked[check] for check in ("networks", "trials", "trainings")] == [(), (), ()]


def test_a_start_outside_the_cost_constraints_is_refused_before_the_trainings(tmp_path: Path):
    start = "search.start=[hr(32 e=4) -> t(32 e=4 d=32)]"
    networks = resolve(_read(tmp_path, start, "within={gmacs: ..0.0115}", text=SEARCH))
    with pytest.raises(StudyError, match=r"search.start: .* has 0.01\d+ GMACs and .* is not within gmacs"):
        checked_space(networks, print)


def test_fewer_networks_than_the_start_are_the_first_ones(tmp_path: Path):
    start = "search.start=[hr(32 e=4) -> t(32 e=2 d=32), hr(32 e=2) -> cffn(64 e=2)]"
    study, said = _read(tmp_path, start, "search.networks=1", text=SEARCH), list[str]()
    checked_space(resolve(study), said.append)
    assert "search.start has 2 networks; only the first 1 are trained (search.networks)" in said
    assert [trial.network.spec for trial in carry_on(search_of(study), 9)] == ["hr(32 e=4) -> t(32 e=2 d=32)"]
