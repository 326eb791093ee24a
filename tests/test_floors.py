"""The layout of the package: imports go down only, and each outside package is imported in few rooms."""

import ast
import sys
from collections import Counter
from pathlib import Path

import pytest

import hiri_search

ROOT = Path(hiri_search.__file__).parent
# For each package, its rooms (packages or modules) from the top floor to the bottom. A room imports rooms of lower
# floors only; rooms of one floor do not import each other.
FLOORS: dict[str, tuple[str, ...]] = {
    "": (
        "__main__",
        "cli",
        "api",
        "report tune",
        "study",
        "cost paper stats training",
        "weights",
        "networks",
        "models",
        "kinds",
        "nets user_code",
        "language system",
    ),
    "study": (
        *(
            "calibration",
            "run status",
            "continuing",
            "scheduler eta",
            "export",
            "provenance loggers",
            "plan",
            "dispatch",
            "persistence",
            "search callbacks",
        ),
        *("config", "ledger", "errors"),
    ),
    "training": (
        *("gpu_memory", "probe", "loop zero_cost", "inputs", "dense", "data", "step", "state"),
        *("distill", "mixup", "job", "recipe rng score parallel"),
    ),
    "training.data": (
        *("loader", "pixel_stores", "datasets", "prepare", "sources"),
        *("decode_cache image_decode splits synthetic augment", "image_folder", "image_files"),
    ),
    "report": ("calibration check", "write compare_runs", "predictions", "page figures", "tables"),
    "cost": (
        "latency budget kind_check",
        "flops activations dense_changes",
        "dense",
        "operators",
        "pareto count_cache",
    ),
}
ROOMS = {  # outside packages and the only rooms, or modules, that may import them
    "torch": ("kinds", "nets", "models", "networks", "weights", "cost", "training", "system.hardware"),
    "timm": ("nets", "models", "networks", "weights", "training"),
    "fvcore": ("cost.operators",),
    "pynvml": ("system.hardware",),
    "fsspec": ("system.storage",),
    "pydantic": (
        *("api.study_keys", "study.config.schema", "study.config.sections.seeds", "study.config.sections.resources"),
        *("study.config.choices", "study.config.sections.search", "study.config.files.layers"),
        *("study.ledger.values", "study.ledger.json_lines"),
    ),
    "yaml": ("study.config.files.yaml_file",),
    "optuna": ("study.search.samplers.optuna_sampler", "study.search.importance", "study.export"),
    "sqlalchemy": ("study.export",),
    "optuna_dashboard": ("study.export.dashboard",),
    "ray": ("study.dispatch", "tune"),
    "tensorboard": ("study.loggers.tensorboard_logger",),
    "mlflow": ("study.loggers.mlflow_logger",),
    "wandb": ("study.loggers.wandb_logger",),
    "pandas": ("api", "report", "paper"),
    "matplotlib": ("api.results", "report"),
    "plotly": ("report.page",),
    "scipy": ("stats", "study.plan.time_model", "study.search.samplers.bayesian", "nets.dense.detectors.assignment"),
    "statsmodels": ("stats",),
    "tqdm": ("api.progress",),
    "faster_coco_eval": ("training.dense",),
    "typer": ("cli",),
    "rich": ("cli",),
}
MODULES = sorted(ROOT.rglob("*.py"))
MAX_MODULES = 12  # in a folder, without __init__.py
MAX_LINES = 320  # of a module


def _name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _imports(path: Path) -> set[str]:
    imported = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            imported |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return imported


def _floor(package: str, room: str) -> int:
    for height, rooms in enumerate(reversed(FLOORS[package])):
        if room in rooms.split():
            return height
    raise AssertionError(f"hiri_search.{package}: {room} is on no floor")


def _rooms(package: str) -> set[str]:
    folder = ROOT / package.replace(".", "/")
    return {path.stem for path in folder.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}


@pytest.mark.parametrize("package", FLOORS)
def test_every_room_is_on_a_floor(package: str):
    named = [room for rooms in FLOORS[package] for room in rooms.split()]
    assert sorted(named) == sorted(_rooms(package) - {"__init__"})


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_imports_go_down_only(path: Path):
    importer = _name(path).split(".")
    for imported in _imports(path):
        if not imported.startswith("hiri_search."):
            continue
        parts = imported.split(".")[1:]
        for depth, package in enumerate(".".join(importer[:n]) for n in range(len(importer))):
            if package not in FLOORS or importer[:depth] != parts[:depth] or len(parts) <= depth:
                break
            mine, other = importer[depth], parts[depth]
            if mine in ("", "__init__") or other not in _rooms(package):
                break
            same = mine == other
            assert same or _floor(package, other) < _floor(package, mine), f"{_name(path)} imports {imported}"


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_outside_packages_stay_in_their_rooms(path: Path):
    name = _name(path)
    for imported in _imports(path):
        rooms = ROOMS.get(imported.split(".")[0])
        if rooms and not imported.startswith("hiri_search"):
            assert any(name == room or name.startswith(room + ".") for room in rooms), f"{name} imports {imported}"


def test_the_language_imports_the_standard_library_alone():
    for path in MODULES:
        if _name(path).startswith("language"):
            outside = {i.split(".")[0] for i in _imports(path)} - {"hiri_search"}
            assert outside <= sys.stdlib_module_names, outside


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_modules_are_short(path: Path):
    assert len(path.read_text().splitlines()) <= MAX_LINES


def test_folders_hold_few_modules():
    counts = Counter(path.parent for path in MODULES if path.name != "__init__.py")
    assert {str(folder.relative_to(ROOT)): n for folder, n in counts.items() if n > MAX_MODULES} == {}
