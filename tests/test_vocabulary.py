"""The words of the package: old names are gone, docstrings begin with a thing or a verb, a name has one home."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import hiri_search

ROOT = Path(hiri_search.__file__).parent
TREES = {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text()) for path in sorted(ROOT.rglob("*.py"))}

# Names of the private dialect that this package once had, each replaced by the term of the field.
_OLD = """
    Peer Given Mark Place Reach recorded full shrunk place Placed Front evaluating statistics_held all_kept set_aside
    remembered believed nothing_remembered traffic Band Range read_band Budgeted Fork Branch Chart chart Inside proven
    holds_one least Grain Table Setting Loaded Ready Untimed take_turns Rounds Turn as_set under_watch undominated
    best_first loneliness gaps measure_seconds Supply Drawn Photos Shelf Entry glance Prepared Store Resident Mapped
    Decoding Whole OneByOne Looks draw_looks central_looks look Pictures at_hand OtherMachine Crowded few Pace beside
    sources patiently whole ahead meanwhile found release tell beat rows probes Misfit meaning hindrances about facts
    keys costs Walkable Unseen used_up Past dice Surrogate Process believing Ladder came see StudyFeed heard Later LATER
    Feed Task Hand Heard hear Left Crew Seat Yard hire Slots a_card share Leaving at_work Kept bring_up take_up mirrored
    Taken Checkpoints there shown stands Known elsewhere Law Work halved Paces take_paces draw_up Trouble Busy origin
    changes unlike Union Names Sums summed Order _Null way proxies MOST LEAST MANY MARGIN FEWEST WORTH TOLD
"""
OLD_NAMES = frozenset(_OLD.split())
# Old names that are the right word where they are defined now.
KEPT = {
    "report/tables/results.py:Results.rows": "the rows of an ablation table",
    "study/config/networks.py:StudyNetworks.rows": "the rows of an ablation table",
    "study/scheduler/duplicates.py:Duplicates.release": "of waiting trials",
    "study/search/search.py:AblationList.tell": "ask-and-tell, as in Optuna",
    "study/search/search.py:AskTell.tell": "ask-and-tell, as in Optuna",
    "study/search/search.py:Search.tell": "ask-and-tell, as in Optuna",
    "training/mixup.py:Mixing.share": "share of an image that stays: lambda of mixup",
}
RIDDLES = ("What ", "Of ", "Those ", "Whether ", "How ")


def _definitions(body: list[ast.stmt]) -> Iterator[tuple[str, ast.stmt]]:
    """Yield the names that a module or a class defines."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name, node
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id, node
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                names = target.elts if isinstance(target, ast.Tuple) else [target]
                yield from ((name.id, node) for name in names if isinstance(name, ast.Name))


def _all_definitions() -> Iterator[str]:
    """Yield `module:name` and `module:Class.name`."""
    for module, tree in TREES.items():
        for name, node in _definitions(tree.body):
            yield f"{module}:{name}"
            if isinstance(node, ast.ClassDef):
                yield from (f"{module}:{name}.{inner}" for inner, _ in _definitions(node.body))


def test_no_old_name_is_left():
    left = {place for place in _all_definitions() if place.rpartition(":")[2].rpartition(".")[2] in OLD_NAMES}
    assert left == set(KEPT)


def test_docstrings_begin_with_the_thing_or_a_verb():
    places = [
        f"{module}:{getattr(node, 'name', 'module')}: {text.splitlines()[0]}"
        for module, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (text := ast.get_docstring(node))
        if text.startswith(RIDDLES)
    ]
    assert places == []


def test_a_public_name_is_defined_in_one_module():
    homes = defaultdict(set)
    for module, tree in TREES.items():
        for name, _ in _definitions(tree.body):
            if not name.startswith("_"):
                homes[name].add(module)
    assert {name: modules for name, modules in homes.items() if len(modules) > 1} == {}
