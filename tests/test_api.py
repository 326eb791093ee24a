"""The public interface: names of `hiri_search` at run time and for type checkers, and `python -m hiri_search`."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

import hiri_search
from hiri_search.cli.main import main

ROOT = Path(__file__).parents[1]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
HEAVY = ["torch", "timm", "fvcore", "ray", "optuna", "pandas", "numpy", "pydantic"]


def _run(*command: str | Path, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, env=os.environ | environment, capture_output=True, text=True, check=False)


def _python(code: str) -> str:
    """Return the output of a new Python process."""
    ran = _run(sys.executable, "-c", code)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


def _declared() -> dict[str, str]:
    """Return the module of each name that `hiri_search/__init__.py` imports for type checkers."""
    tree = ast.parse(Path(hiri_search.__file__).read_text())
    branch = next(node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in branch.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: str(node.module) for node in imports for alias in node.names}


def test_each_public_name_is_the_object_that_type_checkers_see() -> None:
    declared = _declared()
    for name in (modules := ["models", "tune"]):
        assert declared.pop(name) == "hiri_search"
        assert getattr(hiri_search, name) is import_module(f"hiri_search.{name}")
    for name, module in declared.items():
        assert getattr(hiri_search, name) is getattr(import_module(module), name), name
    assert sorted([*declared, *modules]) == sorted(hiri_search.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    for name in ("banana", "__path_of_nothing__", "parse_nett"):
        with pytest.raises(AttributeError, match=f"module 'hiri_search' has no attribute '{name}'"):
            getattr(hiri_search, name)
    with pytest.raises(ImportError, match="cannot import name 'banana' from 'hiri_search'"):
        from hiri_search import banana  # noqa: F401


def test_dir_lists_the_public_names() -> None:
    assert {*hiri_search.__all__, "__version__", "__doc__"} <= set(dir(hiri_search))


def test_import_loads_the_language_alone() -> None:
    code = "import sys; before = set(sys.modules); import hiri_search; print(*sorted(set(sys.modules) - before))"
    loaded = _python(code).split()
    assert {name.split(".")[0] for name in loaded} <= {"hiri_search", *sys.stdlib_module_names}
    assert {name.split(".")[1] for name in loaded if name.startswith("hiri_search.")} == {"kinds", "language"}


@pytest.mark.parametrize("use", ["import hiri_search.language", "hiri_search.parse_net('hr(8 e=2)')"])
def test_the_language_loads_no_heavy_package(use: str) -> None:
    assert _python(f"import sys, hiri_search; {use}; print([m for m in {HEAVY} if m in sys.modules])") == "[]"


def test_the_function_and_the_module_of_batchnorm_fusion_do_not_clash() -> None:
    code = """
import hiri_search, hiri_search.nets.fuse_batchnorm, hiri_search.networks, hiri_search.models
print(hiri_search.fuse_batchnorm is hiri_search.nets.fuse_batchnorm.fuse_batchnorm, callable(hiri_search.build))
"""
    assert _python(code) == "True True"


def test_the_version_is_that_of_the_distribution(capsys: pytest.CaptureFixture[str]) -> None:
    assert hiri_search.__version__ == VERSION
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"hiri-search {VERSION}\n"


USER_FILE = """
from random import Random

import hiri_search
from hiri_search import Net, SpecError, parse, sample

net: Net = sample(parse("hr(32 e=4|6)"), Random(0))
reveal_type(net.key)
reveal_type(hiri_search.count)
reveal_type(hiri_search.build)
reveal_type(hiri_search.fuse_batchnorm)
reveal_type(hiri_search.models.paper_net)
reveal_type(hiri_search.__version__)
hiri_search.banana
"""
ERROR = 'user.py:14: error: Module has no attribute "banana"  [attr-defined]'
_LANGUAGE = "hiri_search.language"
_NETWORK = (
    f"network: {_LANGUAGE}.net.Net | {_LANGUAGE}.timm.spec.TimmNetwork | {_LANGUAGE}.dense_network.DenseNetwork | str"
)
_MODULE = "torch.nn.modules.module.Module"
TYPES = [
    "str",
    f"def ({_NETWORK}, side: int | str, *, classes: int =) -> hiri_search.cost.flops.Cost",
    f"def ({_NETWORK}, side: int, *, classes: int =, drop_path: float =) -> {_MODULE}",
    f"def (model: {_MODULE}) -> {_MODULE}",
    "def (name: str) -> hiri_search.language.net.Net",
    "str",
]


@pytest.mark.slow
def test_the_api_reference_builds_without_a_warning(tmp_path: Path) -> None:
    warnings = ("-W", "error", "-W", "ignore::FutureWarning")  # torch.jit, used by fvcore and timm, is deprecated
    built = _run(sys.executable, *warnings, "-m", "pdoc", "hiri_search", "-o", tmp_path)
    assert (built.returncode, built.stderr) == (0, "")
    page = (tmp_path / "hiri_search.html").read_text()
    assert [name for name in hiri_search.__all__ if f'id="{name}"' not in page] == ["kinds", "models", "tune"]


def test_every_public_name_has_a_docstring() -> None:
    named = {name: getattr(hiri_search, name) for name in hiri_search.__all__}
    for name, value in list(named.items()):
        if isinstance(value, type):
            members = {key: member for key, member in vars(value).items() if not key.startswith("_")}
            named |= {f"{name}.{key}": member for key, member in members.items() if callable(member)}
    aliases = {"Network"}  # a union of two classes
    assert [name for name, value in named.items() if not (value.__doc__ or "").strip() and name not in aliases] == []


def test_the_example_script_runs(tmp_path: Path) -> None:
    ran = _run(sys.executable, ROOT / "examples" / "study.py", cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert ran.returncode == 0, ran.stderr
    assert "search: 3 finished" in ran.stdout
    assert "there is no table 'table8' of this study; its tables are trials" in ran.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the installed wheel: a user's view, without the repository on the path."""
    if shutil.which("uv") is None:
        pytest.skip("uv is not installed: it builds and installs the wheel")
    folder = tmp_path_factory.mktemp("wheel")
    built = _run("uv", "build", "--wheel", "--out-dir", folder, ROOT)
    assert built.returncode == 0, built.stderr
    (file,) = folder.glob("*.whl")
    target = folder / "site"
    installed = _run("uv", "pip", "install", "--no-deps", "--python", sys.executable, "--target", target, file)
    assert installed.returncode == 0, installed.stderr
    return target


@pytest.mark.slow
def test_a_wheel_runs_shipped_studies_in_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    small = ("data={train: 32, val: 16}", "proxy.side=64", "latency=null", "seeds=1")
    sets = [word for text in small for word in ("--set", text)]
    command = (sys.executable, "-m", "hiri_search")
    for arguments in (
        ("run", "block_mix", "--profile", "laptop", "--serial", *sets),
        ("init", "mine/study.yaml", "--from", "search"),
        ("run", "mine/study.yaml", "--serial", *sets[:4], "--set", "search.networks=2", "--set", "confirm=null"),
    ):
        ran = _run(*command, *arguments, cwd=tmp_path, PYTHONPATH=str(wheel))
        assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "results" / "block_mix" / "report" / "table8.csv").is_file()
    assert (tmp_path / "results" / "study" / "report" / "index.html").is_file()


@pytest.mark.slow
def test_the_wheel_has_types_and_a_command(wheel: Path, tmp_path: Path) -> None:
    target, user = wheel, tmp_path / "user"
    user.mkdir()
    (user / "user.py").write_text(USER_FILE)
    shutil.copy(ROOT / "examples" / "study.py", user / "example.py")
    command = [sys.executable, "-c", "import hiri_search; print(hiri_search.__file__)"]
    assert Path(_run(*command, cwd=user, PYTHONPATH=str(target)).stdout.strip()).is_relative_to(target)
    command = [sys.executable, "-m", "hiri_search", "--version"]
    assert _run(*command, cwd=user, PYTHONPATH=str(target)).stdout == f"hiri-search {VERSION}\n"
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), "user.py"]
    *revealed, error, _ = _run(*command, cwd=user, PYTHONPATH=str(target)).stdout.splitlines()
    assert error == ERROR
    assert [line.partition("Revealed type is ")[2].strip('"').replace("builtins.", "") for line in revealed] == TYPES
    checked = _run(*command[:-1], "example.py", cwd=user, PYTHONPATH=str(target))
    assert checked.returncode == 0, checked.stdout
