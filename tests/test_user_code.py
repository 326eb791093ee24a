"""The user's own code: imported in the driver and in workers, from the bytes that its digest names."""

import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hiri_search.language import parse_net
from hiri_search.study.config.identity import canonical_form, differences
from hiri_search.study.config.read import read_study
from hiri_search.study.config.schema import StudyConfig
from hiri_search.study.errors import StudyError
from hiri_search.user_code import NotImportedError, UserCodeError, import_user_code, loaded_code, named_object
from tests.own_code import MIX, forget_code, own_kinds, write_blocks


@pytest.fixture(autouse=True)
def _own_kinds() -> Iterator[None]:
    with own_kinds():
        yield


def _package(folder: Path) -> None:
    package = folder / "own_package"
    (package / "inner").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "table.txt").write_text("7")
    (package / "inner" / "__init__.py").write_text("from own_package.metrics import score\n")
    (package / "metrics.py").write_text(
        "from pathlib import Path\nimport own_helper\nscore = int(Path(__file__).with_name('table.txt').read_text())\n"
    )
    (folder / "own_helper.py").write_text("import own_second\n")
    (folder / "own_second.py").write_text("")


def test_a_worker_runs_the_bytes_that_the_driver_has_read(tmp_path: Path):
    _package(tmp_path)
    write_blocks(tmp_path)
    code = import_user_code(["my_blocks.py", "own_package.inner"], tmp_path)
    assert {*code.digests} == {"my_blocks.py", "own_package", "own_helper.py", "own_second.py"}  # what these import
    assert named_object("own_package.inner:score") == 7
    (tmp_path / "code").write_bytes(pickle.dumps(code))
    shutil.move(tmp_path / "own_package", tmp_path / "away")
    (tmp_path / "my_blocks.py").write_text("raise ValueError('edited since')")
    worker = (
        "import pickle, sys; code = pickle.loads(open(sys.argv[1], 'rb').read()); code.load(); code.load()\n"
        "from hiri_search.user_code import named_object; from hiri_search.language import parse_net\n"
        "print(named_object('own_package.inner:score'), parse_net('mix(8 k=5)').key, code.digest)"
    )
    printed = subprocess.check_output([sys.executable, "-c", worker, str(tmp_path / "code")], cwd="/", text=True)
    assert printed.split() == ["7", parse_net("mix(8 k=5)").key, code.digest]


def test_an_edited_file_is_read_again_and_has_another_digest(tmp_path: Path):
    path = write_blocks(tmp_path)
    first = import_user_code(["my_blocks.py"], tmp_path)
    path.write_text(path.read_text().replace('number("k", 7', 'number("k", 9'))
    second = import_user_code(["my_blocks.py"], tmp_path)
    assert first.digest != second.digest
    assert parse_net("mix(8 k=9)").key
    assert loaded_code(second.digests) == second
    with pytest.raises(UserCodeError, match=r"my_blocks\.py: this is not the code that the study was run with"):
        loaded_code(first.digests)
    with pytest.raises(NotImportedError, match=r"is not imported: other\.py"):
        loaded_code({"other.py": "0"})


def test_a_link_has_the_name_of_its_own_place(tmp_path: Path):
    (tmp_path / "blocks").mkdir()
    (tmp_path / "my_link.py").symlink_to(write_blocks(tmp_path / "blocks"))
    assert {*import_user_code(["my_link.py"], tmp_path).digests} == {"my_link.py"}


def test_a_namesake_in_another_folder_takes_its_place(tmp_path: Path):
    for name, kernel in (("a", 7), ("b", 5)):
        (tmp_path / name).mkdir()
        write_blocks(tmp_path / name, MIX.replace('number("k", 7', f'number("k", {kernel}'))
        import_user_code(["my_blocks.py"], tmp_path / name)
        assert parse_net(f"mix(8 k={kernel})").key
    with pytest.raises(ValueError, match="an integer from 1 to 5"):
        parse_net("mix(8 k=7)")


ERRORS = {
    "[missing.py]": "there is no file",
    "[no_such_package.blocks]": "there is no module no_such_package.blocks",
    "[my-blocks.py]": "has no valid name of a module; write a file such as my_blocks.py",
    "[broken.py]": "imports: broken.py cannot be imported: SyntaxError",
    "[raises.py]": "raises.py cannot be imported: ZeroDivisionError: division by zero",
    "[needs.py]": "needs.py cannot be imported: ModuleNotFoundError: No module named 'no_such_package'",
    "[copy.py]": "copy.py has the name of another module",
    "[uses_copy.py]": "copy_of_mine.py has the name of another module",
    "[exits.py]": "exits.py cannot be imported: SystemExit: 3",
    "[pk/blocks.py]": "a file of a package is imported by its name, as in my_package.blocks",
    "[reads.py]": "reads.py, line 2)",
    "[my_blocks.py, sub/my_blocks.py]": "have one module name; rename a file",
    "[twice.py]": "'hr' is already the name of hiri_search.kinds.Hr; write another name",
    "my_blocks.py": "write a list",
}


@pytest.mark.parametrize("imports", ERRORS)
def test_an_import_that_fails_is_one_sentence_with_its_place(
    imports: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write_blocks(tmp_path)
    (tmp_path / "sub").mkdir()
    for name in ("my-blocks.py", "copy.py", "sub/my_blocks.py"):
        (tmp_path / name).write_text("")
    (tmp_path / "broken.py").write_text("def block(:\n")
    (tmp_path / "raises.py").write_text("1 / 0\n")
    (tmp_path / "needs.py").write_text("import no_such_package\n")
    write_blocks(tmp_path, MIX.replace('"mix"', '"hr"'), "twice.py")
    (tmp_path / "uses_copy.py").write_text("import copy_of_mine\n")
    (tmp_path / "exits.py").write_text("raise SystemExit(3)\n")
    (tmp_path / "reads.py").write_text("from pathlib import Path\nPath(__file__ + 'x').read_text()\n")
    (tmp_path / "pk").mkdir()
    (tmp_path / "pk" / "blocks.py").write_text("from . import other\n")
    for folder in (tmp_path, tmp_path / "sub"):
        (folder / "copy_of_mine.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path / "sub")
    study = tmp_path / "study.yaml"
    study.write_text(f"nets: {{a: hr(8 e=2)}}\nimports: {imports}\n")
    with pytest.raises(StudyError) as caught:
        read_study(study)
    assert str(caught.value).startswith(f"{study}:2: imports")
    assert ERRORS[imports] in str(caught.value)
    assert "\n" not in str(caught.value)


STUDY = "imports: [my_blocks.py]\nnets: {a: mix(8) -> mix(16 k=5 down=b), b: hr(8 e=2)}\ncounted: {side: 64}\n"


def test_the_code_is_part_of_the_identity_of_a_study_and_of_its_trainings(tmp_path: Path):
    path = write_blocks(tmp_path)
    (tmp_path / "study.yaml").write_text(STUDY)
    first = read_study(tmp_path / "study.yaml")
    path.write_text(path.read_text() + "\n# another comment\n")
    second = read_study(tmp_path / "study.yaml")
    assert [line.partition(":")[0] for line in differences(canonical_form(first), canonical_form(second))] == [
        "code.files.my_blocks.py"
    ]
    (tmp_path / "study.yaml").write_text(STUDY + "code: {}\n")
    with pytest.raises(StudyError, match="code: is filled in from imports:"):
        read_study(tmp_path / "study.yaml")


def test_a_ledger_is_read_without_its_code(tmp_path: Path):
    write_blocks(tmp_path)
    (tmp_path / "study.yaml").write_text(STUDY)
    file, net = read_study(tmp_path / "study.yaml").model_dump(mode="json"), parse_net("mix(8) -> mix(16 k=5)")
    canonical = canonical_form(StudyConfig.model_validate(file))
    forget_code()
    with pytest.raises(ValueError, match="unknown name mix"):
        parse_net("mix(8)")
    study = StudyConfig.model_validate(file)
    declared = parse_net("mix(8) -> mix(16 k=5)")
    assert (declared.key, declared.canonical_text) == (net.key, net.canonical_text)
    assert str(declared.scaled_down(width=2)) == str(net.scaled_down(width=2))
    assert canonical_form(study) == canonical
    assert (net.is_ours, parse_net("hr(8 e=2)").is_ours) == (False, True)
    with pytest.raises(ValueError, match="mix cannot be built: the code that registers it is not imported"):
        declared.stages[0].block(16)
    import_user_code(["my_blocks.py"], tmp_path)  # the code takes the place of what the ledger declares
    assert parse_net("mix(8)").stages[0].has_code
