"""Studies under a study, which `base:` names, and profiles."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hiri_search.study.config.files.shipped import find_file, find_study, shipped_studies
from hiri_search.study.config.files.yaml_file import Tree, read_yaml
from hiri_search.study.config.schema import StudyConfig
from hiri_search.study.errors import StudyError

NO_PROFILE, BY_HARDWARE = "none", "auto"  # values of --profile that are no names
MAX_BASES = 8  # studies under a study; more are a circle


def bases(tree: Tree) -> list[Tree]:
    """Return the studies under a study, the nearest first: each is a file, or the name of a shipped study.

    StudyError where there is no such study, or where studies name each other.
    """
    found: list[Tree] = []
    while (name := tree.content.get("base")) is not None:
        own = tree.folder / str(name)
        path = find_study(Path(name)) if not own.is_file() and name in shipped_studies() else own
        if not path.is_file():
            known = f"write a path relative to this file, or one of {', '.join(shipped_studies())}"
            raise StudyError(f"{tree.location(('base',))}: base: there is no study {name}; {known}")
        if len(found) == MAX_BASES:
            message = f"base: more than {MAX_BASES} studies, one upon the other; do two of them name each other?"
            raise StudyError(f"{tree.location(('base',))}: {message}")
        tree = read_yaml(path, StudyConfig)
        found.append(tree)
    return found


def profile_names(trees: Iterable[Tree]) -> tuple[str, ...]:
    """Return the names of the profiles of a study and of those under it."""
    return tuple(dict.fromkeys(name for tree in trees for name in profiles(tree)))


def profiles(tree: Tree) -> dict[str, dict[str, Any]]:
    """Return the keys of each profile of one study file."""
    found = tree.content.get("profiles") or {}
    if not isinstance(found, dict) or not all(isinstance(keys, dict) for keys in found.values()):
        message = "profiles: must hold `name:` lines with the keys to change under each"
        raise StudyError(f"{tree.location(('profiles',))}: {message}")
    for name in (NO_PROFILE, BY_HARDWARE):
        if name in found:
            message = f"profiles.{name}: --profile {name} has a meaning of its own; write another name"
            raise StudyError(f"{tree.location(('profiles', name))}: {message}")
    return found


def moved(layer: dict[str, Any], tree: Tree, to: Tree) -> dict[str, Any]:
    """Return keys of the study `tree` with the paths in them relative to the folder of the study `to`."""
    if tree.folder == to.folder:
        return layer

    def path(name: object) -> str:
        found = find_file(str(name), tree.folder)
        return os.path.relpath(found, to.folder) if found.exists() else str(name)

    def section(value: object) -> object:
        if isinstance(value, dict):
            return value | {"file": path(value["file"])} if "file" in value else value
        return path(value) if isinstance(value, str) else value

    changed: dict[str, object] = {name: section(layer[name]) for name in ("recipe", "proxy", "space") if name in layer}
    if isinstance(imports := layer.get("imports"), list):
        changed["imports"] = [path(name) for name in imports]
    return layer | changed
