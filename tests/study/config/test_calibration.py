"""Calibrations and proxy files in study files: settings as layers, errors with their lines."""

from pathlib import Path

import pytest

from hiri_search.report.tables.captions import calibration_sentence
from hiri_search.study.calibration.stages import stages
from hiri_search.study.config.identity import canonical_form
from hiri_search.study.config.read import Calibration, calibration_of, read_study, read_study_file
from hiri_search.study.config.schema import StudyConfig
from hiri_search.study.errors import StudyError

STUDY = """\
space: hr(32 e=2|4) -> (hr | t)(64 e=2|4)*1..2
counted: {side: 64, classes: 10}
proxy: {width: 4, side: 32}
recipe: {epochs: 4, lr: 1e-3}
seeds: 2
calibrate:
  let: {start: hr(32 e=4)}
  nets: {mine: start -> t(64 e=4)}
  reference: {recipe: {epochs: 40}, seeds: 3}
  settings:
    short: {recipe: {epochs: 2}}
    few: {recipe: {epochs: 3}, data: {train: 100}, proxy: {side: 16}, seeds: [7]}
profiles:
  laptop: {recipe: {lr: 5e-4}, calibrate: {settings: {short: {recipe: {epochs: 3}}}}}
"""
DRAWN = {"a": "hr(32 e=2) -> t(64 e=2)"}


def _read(tmp_path: Path, text: str = STUDY, *sets: str, profile: str = "none") -> Calibration:
    (tmp_path / "study.yaml").write_text(text)
    return calibration_of(read_study_file(tmp_path / "study.yaml"), profile=profile, sets=sets)


def test_a_setting_is_an_ablation_of_the_drawn_networks_and_the_rows(tmp_path: Path):
    calibration = _read(tmp_path)
    assert calibration.settings == ("short", "few", "reference")
    few = calibration.setting("few", DRAWN)
    assert list(few.nets or ()) == ["a", "mine"]
    assert (few.recipe.epochs, few.recipe.lr, few.data.train, few.seeds) == (3, 1e-3, 100, (7,))
    assert (few.proxy.side, few.proxy.width, few.checkpoints) == (16, 4, "none")
    assert calibration.setting("reference", DRAWN).seeds == (0, 1, 2)


def test_a_setting_lies_over_the_profile_and_over_set(tmp_path: Path):
    calibration = _read(tmp_path, STUDY, "recipe.epochs=9", "calibrate.settings.few.seeds=1", profile="laptop")
    short, few = (calibration.setting(name, DRAWN) for name in ("short", "few"))
    assert (short.recipe.epochs, short.recipe.lr) == (3, 5e-4)
    assert few.seeds == (0,)


def test_the_rows_of_an_ablation_are_its_networks(tmp_path: Path):
    text = "nets: {a: hr(32 e=4), b: {spec: t(64 e=4), recipe: {lr: 1e-4}}}\nproxy: {side: 64}\n"
    short = _read(tmp_path, text + STUDY[STUDY.index("calibrate:") :]).setting("short", {})
    assert list(short.nets or ()) == ["a", "b"]
    own = (short.nets or {})["b"].recipe
    assert own is not None
    assert (own.epochs, own.lr) == (2, 1e-4), "the setting changes the recipe that the row's own lies over"


def test_a_rule_that_adds_seeds_is_left_out(tmp_path: Path):
    text = "nets: {a: hr(32 e=4), b: t(64 e=4)}\nproxy: {side: 64}\nseeds: auto\ncompare: a\n"
    short = _read(tmp_path, text + STUDY[STUDY.index("calibrate:") :]).setting("short", {})
    assert short.seeds == (0, 1, 2)


def test_the_score_of_a_search_judges_its_settings_too(tmp_path: Path):
    short = _read(tmp_path, STUDY, "search.objectives=[top5, gmacs]").setting("short", DRAWN)
    assert short.headline.name == "top5"


def test_a_calibration_does_not_change_the_identity_of_a_study(tmp_path: Path):
    (tmp_path / "with.yaml").write_text(STUDY)
    (tmp_path / "without.yaml").write_text(STUDY[: STUDY.index("calibrate:")])
    first, second = (read_study(tmp_path / name) for name in ("with.yaml", "without.yaml"))
    assert canonical_form(first) == canonical_form(second)


def test_the_cheapest_setting_comes_first_and_the_reference_seed_by_seed(tmp_path: Path):
    calibration = _read(tmp_path)
    studies = {name: calibration.setting(name, DRAWN) for name in calibration.settings}
    order = [(stage.setting, stage.study.seeds) for stage in stages(studies, tmp_path)]
    assert order == [
        ("few", (7,)), ("short", (0, 1)), ("reference", (0,)), ("reference", (0, 1)), ("reference", (0, 1, 2)),
    ]  # fmt: skip


MISTAKES = [
    ("short: {recipe: {epochs: 2}}", "short: {recipe: {epochs: 0}}", "study.yaml:11: recipe.epochs=0 is not possible"),
    ("short: {recipe: {epochs: 2}}", "short: {recipe: {epoch: 2}}", "study.yaml:11: recipe.epoch is not known; did"),
    ("short: {recipe: {epochs: 2}}", "short: {nets: {a: hr(32 e=4)}}", "study.yaml:11: .*short.nets is not known"),
    ("short: {recipe: {epochs: 2}}", "report: {}", "study.yaml:11: .*cannot be the name of a folder of results"),
    ("proxy: {side: 16}", "proxy: {side: 17}", "study.yaml:12: proxy.side for space: side 17 does not fit"),
    ("data: {train: 100}", "data: {source: drawn}", "study.yaml:12: .*changes only the numbers of images"),
    ("start: hr(32 e=4)", "start: hr(32 e=4 x=1)", "study.yaml:8: nets.mine: in let start"),
    ("calibrate:\n", "calibrate:\n  networks: 7\n", "study.yaml:7: .*cannot be shared out equally over bands=3"),
    ("short: {recipe: {epochs: 2}}", "short: {recipe: {epochs: 40}}", "short and reference are one training; remove"),
    ("few: {recipe: {epochs: 3}", "few: {proxies: {}", "study.yaml:12: .*few.proxies is not known"),
]


@pytest.mark.parametrize(("old", "new", "message"), MISTAKES)
def test_a_mistake_in_a_setting_is_found_before_anything_is_drawn(tmp_path: Path, old: str, new: str, message: str):
    assert old in STUDY
    with pytest.raises(StudyError, match=message):
        _read(tmp_path, STUDY.replace(old, new, 1))


def test_a_study_without_a_calibration_says_what_to_write(tmp_path: Path):
    with pytest.raises(StudyError, match=r"has no calibrate:; write it with reference: and settings:"):
        _read(tmp_path, STUDY[: STUDY.index("calibrate:")])


# ---- proxy files

PROXY = """\
proxy: {width: 8, side: 32}
recipe: {epochs: 3, warmup_epochs: 0, lr: 3e-3}
data: {train: 500}
seeds: [0, 1]
calibration: {setting: few, reference: 60 epochs, data: drawn, verdict: weak, tau_beyond_cost: 0.5, low: 0.1,
  high: 0.8, pairs: 30, networks: 15, hours: 1.5, reference_hours: 30.0, date: 2026-01-31}
"""
USER = """\
nets: {a: hr(32 e=4) -> t(64 e=4)}
counted: {side: 64, classes: 10}
data: drawn
recipe: {epochs: 9, mixup: 0.2}
profiles:
  laptop: {proxy: proxies/few.yaml}
  changed: {proxy: proxies/few.yaml, recipe: {epochs: 5}, seeds: 4}
  file: {proxy: proxies/few.yaml, recipe: recipes/short.yaml}
  missing: {proxy: proxies/many.yaml}
"""


def _user(tmp_path: Path, profile: str, *sets: str, proxy: str = PROXY) -> StudyConfig:
    (tmp_path / "proxies").mkdir(exist_ok=True)
    (tmp_path / "proxies" / "few.yaml").write_text(proxy)
    (tmp_path / "user.yaml").write_text(USER)
    return read_study(tmp_path / "user.yaml", profile=profile, sets=sets)


@pytest.mark.parametrize(("profile", "sets"), [("laptop", ()), ("none", ("proxy=proxies/few.yaml",))])
def test_a_proxy_file_lies_over_the_layers_below_it(tmp_path: Path, profile: str, sets: tuple[str, ...]):
    study = _user(tmp_path, profile, *sets)
    assert (study.proxy.width, study.recipe.epochs, study.recipe.lr, study.seeds) == (8, 3, 3e-3, (0, 1))
    assert study.recipe.mixup == 0, "a recipe that was measured is whole"
    assert (study.data.source, study.data.train) == ("drawn", 500)
    assert calibration_sentence(study).endswith("networks): weak. The order of networks of like cost is better than"
                                                " chance, and no more.")  # fmt: skip


def test_the_report_says_what_a_study_changes_in_a_calibrated_setting(tmp_path: Path):
    study = _user(tmp_path, "changed", "proxy.side=64")
    assert (study.recipe.epochs, study.proxy.side, study.proxy.width, study.seeds) == (5, 64, 8, (0, 1, 2, 3))
    sentence = calibration_sentence(study)
    assert sentence.endswith(
        "But the settings of this study are other ones: proxy.side: 32 -> 64; recipe.epochs: 3 -> 5."
    )
    assert "not calibrated" in calibration_sentence(_user(tmp_path, "none"))


@pytest.mark.parametrize(
    ("profile", "old", "new", "message"),
    [
        ("file", "", "", "user.yaml:8: recipe: cannot be a file beside proxy: proxies/few.yaml"),
        ("missing", "", "", "user.yaml:9: proxy: there is no file .*many.yaml; write the keys of a proxy"),
        ("laptop", "epochs: 3", "epochs: -3", "few.yaml:2: recipe.epochs=-3 is not possible"),
        ("laptop", "verdict: weak", "verdict: good", "few.yaml:5: calibration.verdict: .*'passes', 'weak'"),
        ("laptop", "side: 32", "side: 33", "few.yaml:1: proxy.side for nets.a: side 33 does not fit"),
        ("laptop", "seeds:", "seed:", "few.yaml:4: seed is not known; did you mean seeds"),
    ],
)
def test_mistakes_in_a_proxy_file_have_its_line(tmp_path: Path, profile: str, old: str, new: str, message: str):
    with pytest.raises(StudyError, match=message):
        _user(tmp_path, profile, proxy=PROXY.replace(old, new, 1))


def test_a_study_cannot_call_itself_calibrated(tmp_path: Path):
    with pytest.raises(StudyError, match="calibration: is filled in from the file that proxy: names; remove it"):
        _user(tmp_path, "laptop", "calibration.verdict=passes")
