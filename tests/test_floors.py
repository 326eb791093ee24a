"""The floors of the house: imports go down only, and each outside package has the rooms it may enter."""

import ast
from pathlib import Path

import pytest

import hiri_search

ROOT = Path(hiri_search.__file__).parent
FLOORS = {"language": 0, "nets": 1, "cost": 2, "training": 2, "study": 3, "report": 3}
FLOORS |= {"console": 4, "runs": 4, "proof": 4, "cli": 4, "watch": 5}
ROOMS = {  # outside packages and the only rooms, or modules, that may import them
    "torch": ("nets", "cost", "training"),
    "timm": ("nets", "training", "__init__"),
    "fvcore": ("cost.counts",),
    "pynvml": ("training.energy",),
    "fsspec": ("training.storage",),
    "pydantic": ("study.config", "study.reading"),
    "yaml": ("study.yaml_file",),
    "optuna": (
        *("study.optuna_study", "study.optuna_export", "study.optuna_tables", "study.dashboard"),
        "study.importance",
    ),
    "sqlalchemy": ("study.optuna_export", "study.optuna_tables"),
    "optuna_dashboard": ("study.dashboard",),
    "ray": ("study.cluster", "study.crew", "study.join"),
    "pandas": ("report",),
    "matplotlib": ("report",),
    "plotly": ("report.page",),
    "scipy": ("report",),
    "statsmodels": ("report",),
    "typer": ("cli", "proof"),
    "rich": ("console",),
}
MODULES = sorted(ROOT.rglob("*.py"))


def _name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_imports_go_down_only(path: Path):
    room = _name(path).split(".")[0]
    if room not in FLOORS:
        return  # the package's own __init__ stands outside
    for imported in _imports(path):
        if imported.startswith("hiri_search."):
            other = imported.split(".")[1]
            assert other in FLOORS, f"{imported} stands on no floor"
            assert other == room or FLOORS[other] < FLOORS[room] or room in ("cli", "proof", "runs"), (
                f"{room} imports {imported}"
            )


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_outside_packages_stay_in_their_rooms(path: Path):
    name = _name(path)
    for imported in _imports(path):
        rooms = ROOMS.get(imported.split(".")[0])
        if rooms and not imported.startswith("hiri_search"):
            assert any(name == room or name.startswith(room + ".") for room in rooms), f"{name} imports {imported}"


def test_the_language_knows_the_standard_library_alone():
    import sys

    for path in MODULES:
        if _name(path).startswith("language"):
            outside = {i.split(".")[0] for i in _imports(path)} - {"hiri_search"}
            assert outside <= sys.stdlib_module_names, outside


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_no_module_holds_a_second_noun(path: Path):
    assert len(path.read_text().splitlines()) <= 320
