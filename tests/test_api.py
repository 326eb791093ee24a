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
_NETWORK = "network: hiri_search.language.net.Net | hiri_search.language.timm_spec.TimmNetwork, side: int"
_MODULE = "torch.nn.modules.module.Module"
TYPES = [
    "str",
    f"def ({_NETWORK}, *, classes: int =) -> hiri_search.cost.flops.Cost",
    f"def ({_NETWORK}, *, classes: int =, drop_path: float =) -> {_MODULE}",
    f"def (model: {_MODULE}) -> {_MODULE}",
    "def (name: str) -> hiri_search.language.net.Net",
    "str",
]


@pytest.mark.slow
def test_the_wheel_has_types_and_a_command(tmp_path: Path) -> None:
    """A user's view from another folder: the wheel is installed there, and the repository is not on the path."""
    if shutil.which("uv") is None:
        pytest.skip("uv is not installed: it builds and installs the wheel")
    target, user = tmp_path / "site", tmp_path / "user"
    user.mkdir()
    (user / "user.py").write_text(USER_FILE)
    built = _run("uv", "build", "--wheel", "--out-dir", tmp_path, ROOT)
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    installed = _run("uv", "pip", "install", "--no-deps", "--python", sys.executable, "--target", target, wheel)
    assert installed.returncode == 0, installed.stderr
    command = [sys.executable, "-c", "import hiri_search; print(hiri_search.__file__)"]
    assert Path(_run(*command, cwd=user, PYTHONPATH=str(target)).stdout.strip()).is_relative_to(target)
    command = [sys.executable, "-m", "hiri_search", "--version"]
    assert _run(*command, cwd=user, PYTHONPATH=str(target)).stdout == f"hiri-search {VERSION}\n"
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), "user.py"]
    *revealed, error, _ = _run(*command, cwd=user, PYTHONPATH=str(target)).stdout.splitlines()
    assert error == ERROR
    assert [line.partition("Revealed type is ")[2].strip('"').replace("builtins.", "") for line in revealed] == TYPES
