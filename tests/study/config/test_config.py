"""Study files: short forms, profiles and --set, canonical form and differences."""

from pathlib import Path

import pytest

from hiri_search.paper.published import TABLE_FILES
from hiri_search.study.config.identity import canonical_form, differences, incompatible_changes
from hiri_search.study.config.networks import resolve
from hiri_search.study.config.read import PAPER_TABLES, profiles_of, read_space, read_study, read_study_file
from hiri_search.study.config.schema import StudyConfig
from hiri_search.study.config.sections.seeds import AutoSeeds
from hiri_search.study.errors import StudyError

NETS = "nets: {one: hr(32 e=4) -> t(64 e=4)}\n"


def _read(tmp_path: Path, text: str, *, profile: str = "none", sets: tuple[str, ...] = ()) -> StudyConfig:
    (tmp_path / "study.yaml").write_text(text)
    return read_study(tmp_path / "study.yaml", profile=profile, sets=sets)


# ---- short forms


@pytest.mark.parametrize(
    ("text", "seeds"), [("", (0, 1, 2)), ("seeds: 3", (0, 1, 2)), ("seeds: [5, 7]", (5, 7)), ("seeds: 1", (0,))]
)
def test_seeds_are_a_number_or_a_list(tmp_path: Path, text: str, seeds: tuple[int, ...]):
    assert _read(tmp_path, NETS + text).seeds == _read(tmp_path, NETS + text).first_seeds == seeds


def test_a_search_has_one_seed_by_default(tmp_path: Path):
    assert _read(tmp_path, SPACE).seeds == (0,)
    with pytest.raises(StudyError, match="seeds: auto is for an ablation; write seeds: 1"):
        _read(tmp_path, SPACE, sets=("seeds=auto",))


@pytest.mark.parametrize(
    ("sets", "rule"),
    [
        (("seeds=auto",), AutoSeeds()),
        (("seeds=auto", "seeds.minutes=8"), AutoSeeds(minutes=8)),
        (("seeds.most=6",), AutoSeeds(most=6)),
        (("seeds={first: [1000, 1001], most: 4}",), AutoSeeds(first=(1000, 1001), most=4)),
    ],
)
def test_a_rule_has_first_and_most_seeds_and_a_time_limit(tmp_path: Path, sets: tuple[str, ...], rule: AutoSeeds):
    study = _read(tmp_path, NETS + "compare: one\nseeds: 3\n", sets=sets)
    assert (study.auto_seeds, study.first_seeds) == (rule, rule.first)
    assert StudyConfig.model_validate(study.model_dump(mode="json")) == study


CONTINUED = {
    "more minutes": ("{most: 6, minutes: 2}", "{most: 6, minutes: 9}", True),
    "a rule after all of its seeds are fixed": ("[0, 2]", "{most: 6}", True),
    "more seeds than those of a rule": ("{most: 6}", "{most: 7}", False),
    "no rule any more": ("{most: 6}", "6", False),
    "a rule without a seed that is there": ("[0, 9]", "{most: 6}", False),
}


@pytest.mark.parametrize(("old", "new", "goes_on"), CONTINUED.values(), ids=CONTINUED)
def test_a_study_goes_on_with_the_same_rule_or_a_new_one(tmp_path: Path, old: str, new: str, goes_on: bool):
    """The tests of a rule are made for its first and most seeds."""
    forms = (canonical_form(_read(tmp_path, NETS + f"compare: one\nseeds: {seeds}")) for seeds in (old, new))
    assert (incompatible_changes([next(forms)], next(forms)) == []) == goes_on


SEEDS = [
    *("[]", "[1, 1]", "[0, 1, 0]", "[-1]", "[1.0]", "[1.5]", "[true, 1]", "['1']", "[nan]", "[1e999]", "[[1]]", "[~]"),
    *("0", "-1", "101", "1.0", "true", "many", "1e999", "{a: 1}", "[9223372036854775808]", "[" + "9" * 30 + "]"),
]
SPACE = "space: hr(32|64 e=4)\n"


@pytest.mark.parametrize("value", SEEDS)
@pytest.mark.parametrize("key", ["seeds", "confirm.seeds"])
def test_every_list_of_seeds_has_one_check(tmp_path: Path, key: str, value: str):
    with pytest.raises(StudyError, match=f"--set {key}=.*: "):
        _read(tmp_path, SPACE, sets=(f"{key}={value}",))


@pytest.mark.parametrize("value", ["-1", "1.5", "9223372036854775808", "[1]", "nan"])
@pytest.mark.parametrize("key", ["search.seed", "data.seed", "latency.seed"])
def test_a_seed_is_a_whole_number_that_a_table_keeps(tmp_path: Path, key: str, value: str):
    with pytest.raises(StudyError, match=f"--set {key}=.*: "):
        _read(tmp_path, NETS, sets=(f"{key}={value}",))


def test_the_largest_seed_is_a_seed(tmp_path: Path):
    largest = 2**63 - 1
    sets = (f"seeds=[{largest}]", f"confirm.seeds=[0, {largest}]", f"search.seed={largest}", f"data.seed={largest}")
    study = _read(tmp_path, SPACE, sets=sets)
    assert study.confirm is not None
    assert (study.seeds, study.confirm.seeds, study.data.seed) == ((largest,), (0, largest), largest)


NUMBERS = [
    *("recipe.epochs", "recipe.lr", "recipe.batch", "recipe.workers", "recipe.mixup", "proxy.width", "proxy.side"),
    *("proxy.classes", "counted.side", "counted.classes", "data.train", "search.networks", "search.halving.keep"),
    *("confirm.top", "confirm.epochs", "resources.gpu", "resources.cpu", "resources.timeout", "latency.batch"),
    *("latency.seconds", "latency.threads", "latency.spread"),
]


@pytest.mark.parametrize("value", ["1e999", "-1e999", "nan", "inf", "-1", "9" * 30, "9" * 5000])
@pytest.mark.parametrize("key", NUMBERS)
def test_a_number_that_cannot_be_is_refused_with_its_key(tmp_path: Path, key: str, value: str):
    if value == "9" * 30 and key == "recipe.lr":
        value = "nan"  # a large float is a float
    with pytest.raises(StudyError, match=f"--set {key}=.*: ") as refused:
        _read(tmp_path, SPACE, sets=(f"{key}={value}",))
    assert len(str(refused.value)) < 500


def test_a_table_is_one_that_the_report_has(tmp_path: Path):
    assert tuple(TABLE_FILES) == PAPER_TABLES
    for table in PAPER_TABLES:
        assert _read(tmp_path, NETS + f"table: {table}").table == table
    for table in ("10", "08", "8.0", "Table 8", "x"):
        with pytest.raises(
            StudyError, match=r"study\.yaml:2: table='.*' is not a table with networks; write one of 1, "
        ):
            _read(tmp_path, NETS + f"table: {table}")


def test_data_is_text_or_keys(tmp_path: Path):
    short, long = (
        _read(tmp_path, NETS + text).data for text in ("data: folder:images", "data: {source: folder:images}")
    )
    assert short == long
    assert (short.kind, short.path) == ("folder", "images")


def test_a_net_is_a_spec_or_keys(tmp_path: Path):
    short = _read(tmp_path, "nets: {one: hr(32 e=4)}")
    long = _read(tmp_path, "nets: {one: {spec: hr(32 e=4), note: said}}")
    assert resolve(short).rows == resolve(long).rows
    assert long.nets is not None
    assert long.nets["one"].note == "said"


def test_a_table_number_needs_no_quotes(tmp_path: Path):
    assert _read(tmp_path, NETS + "table: 8").table == "8"


@pytest.mark.parametrize("name", ["mine.yaml", "mine.yml"])
def test_a_space_may_be_in_its_own_file(tmp_path: Path, name: str):
    (tmp_path / name).write_text("let: {end: t(64 e=4|6)}\nspace: hr(32 e=4) -> end\n")
    study = _read(tmp_path, f"space: {name}")
    assert resolve(study).space == read_space(tmp_path / name)
    assert resolve(study).space.size == 2


def test_let_together_with_a_space_file_is_refused(tmp_path: Path):
    (tmp_path / "mine.yaml").write_text("space: hr(32 e=4)\n")
    with pytest.raises(StudyError, match=r"study\.yaml:1: let: cannot be combined with space: mine\.yaml"):
        _read(tmp_path, "let: {a: hr(32 e=4)}\nspace: mine.yaml\n")


# ---- layers

LAYERS = """\
nets: {one: hr(32 e=4) -> t(64 e=4)}
data: drawn
recipe: {epochs: 3, lr: 1e-3, batch: 32}
seeds: [1, 2, 3]
profiles:
  quick: {recipe: {epochs: 2, lr: 1e-4}, data: {train: 64}, seeds: 1}
  slow: {}
"""


def test_set_overrides_the_profile_and_the_profile_overrides_the_file(tmp_path: Path):
    study = _read(tmp_path, LAYERS, profile="quick", sets=("recipe.lr=3e-2", "recipe.lr=3e-3", "data.val=16"))
    assert (study.recipe.batch, study.recipe.epochs, study.recipe.lr) == (32, 2, 3e-3)
    assert (study.data.source, study.data.train, study.data.val) == ("drawn", 64, 16)
    assert study.seeds == (0,), "a list is replaced, not merged"


@pytest.mark.parametrize("profile", ["none", "slow"])
def test_a_profile_changes_only_its_own_keys(tmp_path: Path, profile: str):
    study = _read(tmp_path, LAYERS, profile=profile)
    assert (study.recipe.epochs, study.recipe.lr, study.seeds) == (3, 1e-3, (1, 2, 3))


def test_profiles_of_lists_the_profile_names(tmp_path: Path):
    _read(tmp_path, LAYERS)
    assert profiles_of(read_study_file(tmp_path / "study.yaml")) == ("quick", "slow")


@pytest.mark.parametrize("name", ["null", "~", "1.10", "007", "true", "a b", "a.b"])
def test_a_profile_may_have_any_name(tmp_path: Path, name: str):
    assert _read(tmp_path, NETS + f"profiles: {{{name}: {{seeds: 2}}}}", profile=name).seeds == (0, 1)


@pytest.mark.parametrize("name", ["none", "auto"])
def test_a_profile_cannot_be_named_as_a_value_of_the_option(tmp_path: Path, name: str):
    with pytest.raises(StudyError, match=rf"study\.yaml:2: profiles\.{name}: .* write another name"):
        _read(tmp_path, NETS + f"profiles: {{{name}: {{seeds: 2}}}}")


def test_set_may_write_a_whole_section(tmp_path: Path):
    study = _read(tmp_path, LAYERS, sets=("nets={two: t(64 e=4)}", "data=folder:x", "space="))
    assert study.nets is not None
    assert list(study.nets) == ["one", "two"]
    assert study.data.source == "folder:x"


# ---- canonical form


def test_spellings_of_one_study_have_one_canonical_form(tmp_path: Path):
    first = _read(tmp_path, "nets: {one: hr(32 e=4)*2 -> t(64 e=4 d=64)}\nrecipe: {lr: 1e-3}\nseeds: 2\n")
    second = _read(
        tmp_path,
        "title: Another\nseeds: [0, 1]\nlet: {a: hr(32 e=4 n=2)}\nlatency: {batch: 1}\n"
        "nets: {one: {spec: a -> t(64 e=4), paper: One, note: said}}\nrecipe: {lr: 0.001}\ndata: {source: drawn}\n",
    )
    assert canonical_form(first) == canonical_form(second)
    assert differences(canonical_form(first), canonical_form(second)) == []


@pytest.mark.parametrize(
    ("sets", "lines"),
    [
        (("recipe.epochs=13",), ["recipe.epochs: 12 -> 13"]),
        (("nets.one=hr(32 e=6)",), ["nets.one: hr(32 e=4) -> t(64 e=4) -> hr(32 e=6)"]),
        (("nets.two=hr(32 e=6)",), ["nets.two: (absent) -> hr(32 e=6)"]),
        (("seeds=2", "proxy.side=64"), ["proxy.side: 448 -> 64", "seeds: [0, 1, 2] -> [0, 1]"]),
        (("data.train=200",), ["data.train: None -> 200"]),
    ],
)
def test_differences_name_dotted_keys(tmp_path: Path, sets: tuple[str, ...], lines: list[str]):
    old, new = (canonical_form(_read(tmp_path, NETS, sets=applied)) for applied in ((), sets))
    assert sorted(differences(old, new)) == sorted(lines)


def test_a_study_survives_a_round_trip_through_plain_values(tmp_path: Path):
    study = _read(tmp_path, LAYERS, profile="quick")
    assert StudyConfig.model_validate(study.model_dump(mode="json")) == study


def test_a_stand_in_has_the_stages_of_the_network(tmp_path: Path):
    study = _read(tmp_path, "nets: {one: 'hr(32 e=4)*3 -> t(64 e=4)*4'}\nproxy: {width: 2, depth: 3, side: 64}")
    trained = resolve(study).rows[0].trained
    assert [(stage.width, stage.depth) for stage in trained.stages] == [(16, 1), (32, 2)]
