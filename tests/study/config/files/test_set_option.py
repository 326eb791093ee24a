"""--set key=value: text as it stands, and keys with dots in a name; text keys of a file keep their source text."""

from pathlib import Path

import pytest

from hiri_search.study.config.read import read_study
from hiri_search.study.config.schema import StudyConfig
from hiri_search.study.errors import StudyError

FILE = "title: A study\nnets: {ViT-0.5x: hr(32 e=4), 'a=b': hr(32 e=4)}\n"
TEXTS = [
    *(
        "Swin: a study",
        "[a] b",
        "{a}",
        "folder #2",
        "#1",
        "a: b: c",
        "- a",
        "? a",
        "*a",
        "&a b",
        "!a",
        "%a",
        "@a",
        "`a`",
    ),
    *("| a", "> a", "'a", '"a"', "1.10", "007", "0x1F", "1e5", "1e999", "2026-11-27", "12:30", "yes", "no", "true"),
    *("null", "~", "", " a ", "a\nb", "a\tb", "=", "a=b", "\u00e9\u4e2d\U0001f600", "\\", "$HOME", "---", "..."),
]
KEYS = ("title", "nets.ViT-0.5x.note", "recipe.weights", "nets.ViT-0.5x.curve")


def _read(tmp_path: Path, text: str, *sets: str) -> StudyConfig:
    (tmp_path / "study.yaml").write_text(text, encoding="utf-8")
    return read_study(tmp_path / "study.yaml", sets=sets)


def _values(study: StudyConfig) -> list[object]:
    assert study.nets is not None
    row = study.nets["ViT-0.5x"]
    return [study.title, row.note, study.recipe.weights, row.curve]


@pytest.mark.parametrize("text", TEXTS, ids=repr)
def test_a_text_key_takes_the_text_as_it_stands(text: str, tmp_path: Path):
    study = _read(tmp_path, FILE, *(f"{key}={text}" for key in KEYS))
    assert _values(study) == [text] * len(KEYS)


@pytest.mark.parametrize("text", ["a #2", "a: b", "[a]", "1.10", "a b ", "'a'", "x{1}"])
def test_a_section_with_a_short_form_takes_text_as_it_stands(text: str, tmp_path: Path):
    assert _read(tmp_path, FILE, f"data=folder:{text}").data.path == text
    assert _read(tmp_path, FILE, f"data.source=folder:{text}").data.path == text
    assert _read(tmp_path, FILE, f"storage={text}").storage == text
    (tmp_path / f"{text}.yaml").write_text("{epochs: 7}")
    assert _read(tmp_path, FILE, f"recipe={text}.yaml").recipe.epochs == 7
    assert _read(tmp_path, FILE, f"recipe.file={text}.yaml").recipe.epochs == 7


def test_a_section_takes_keys_in_braces(tmp_path: Path):
    assert _read(tmp_path, FILE, "data={source: 'folder:a #2', train: 64}").data.path == "a #2"


@pytest.mark.parametrize("nothing", ["", "~", "null"])
def test_a_text_that_may_be_left_out_is_left_out_by_nothing(nothing: str, tmp_path: Path):
    study = _read(tmp_path, FILE + "storage: shared\n", f"storage={nothing}", f"nets.ViT-0.5x.paper={nothing}")
    assert study.storage is None
    assert study.nets is not None
    assert study.nets["ViT-0.5x"].paper is None


SCALARS = [
    "1.10",
    "007",
    "+1",
    ".5",
    "1e5",
    "0x1F",
    "true",
    "False",
    "yes",
    "null",
    "~",
    "2026-11-27",
    "12:30:45",
    "!!int 5",
]


@pytest.mark.parametrize("scalar", SCALARS)
def test_a_text_key_of_a_file_keeps_its_source_text(scalar: str, tmp_path: Path):
    row = f"{{spec: hr(32 e=4), note: {scalar}, curve: {scalar}}}"
    recipe = f"{{auto_augment: {scalar}}}"
    file = f"title: {scalar}\nnets: {{ViT-0.5x: {row}}}\nprofiles: {{one: {{title: {scalar}}}}}\nrecipe: mine.yaml\n"
    (tmp_path / "mine.yaml").write_text(recipe)
    study, text = _read(tmp_path, file), scalar.removeprefix("!!int ")
    assert _values(study) == [text, text, "", text]
    assert study.recipe.auto_augment == text
    assert read_study(tmp_path / "study.yaml", profile="one").title == text


@pytest.mark.parametrize("title", ["Swin: a study", "[a] b", "- a", "*a b", "%a", "@a"])
def test_a_text_of_a_file_that_is_no_yaml_is_refused_with_the_way_to_write_it(title: str, tmp_path: Path):
    with pytest.raises(StudyError, match=r"study\.yaml:1: .* needs quotes"):
        _read(tmp_path, f"title: {title}\n{FILE}")
    assert _read(tmp_path, f"title: '{title}'\n" + FILE.partition("\n")[2]).title == title


@pytest.mark.parametrize("key", ["ViT-0.5x", '"ViT-0.5x"', "'ViT-0.5x'", '"a=b"', "'a=b'"])
def test_a_name_with_a_dot_or_an_equals_sign_is_written_as_it_is_or_in_quotes(key: str, tmp_path: Path):
    study = _read(tmp_path, FILE, f"nets.{key}.train=false", f"nets.{key}.recipe.epochs=3")
    assert study.nets is not None
    row = study.nets[key.strip("\"'")]
    assert (row.train, row.recipe and row.recipe.epochs) == (False, 3)


def test_a_new_name_with_a_dot_is_written_in_quotes(tmp_path: Path):
    study = _read(tmp_path, FILE, 'nets."new 1.5"=hr(64 e=4)')
    assert study.nets is not None
    assert list(study.nets) == ["ViT-0.5x", "a=b", "new 1.5"]


def test_an_error_writes_a_key_as_set_takes_it(tmp_path: Path):
    with pytest.raises(StudyError, match=r'nets\."ViT-0\.5x"\.side: side 50 does not fit'):
        _read(tmp_path, FILE, "nets.ViT-0.5x.side=50")


REFUSED = {
    "nets.new 1.5=hr(64 e=4)": "there is no row 'new 1'; a name with a dot in it stands in quotes, as in",
    "nets.ViT-0.6x.train=false": "there is no row 'ViT-0'; a name with a dot in it stands in quotes",
    "recipe.lr=true": "recipe.lr: found 'true'; write a number",
    "recipe={epochs: True}": "recipe.epochs: found 'True'; write a whole number",
    "cache=true": "cache: found true; write 'auto'",
    "recipe={lr: [1, 2]}": r"recipe.lr: found .*; write a number, or several with | between them: 1e-3|3e-3$".replace(
        "|", r"\|"
    ),
    "recipe={schedule: [linear, cosine]}": "recipe.schedule: found .*; write text, in quotes$",
    "seeds=three": "seeds: found 'three'; write a number of seeds, a list of seeds, auto, or {first: 3, most: 12}$",
    "seeds=-1": "-1 is not a valid number of seeds; write 1 to 100$",
}


@pytest.mark.parametrize(("text", "message"), REFUSED.items(), ids=REFUSED)
def test_a_key_or_a_value_that_cannot_be_is_refused(text: str, message: str, tmp_path: Path):
    with pytest.raises(StudyError, match=rf"^--set .*{message}"):
        _read(tmp_path, FILE, text)
