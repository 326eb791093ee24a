"""Layers of a study file merged: profile, `--set`, the files that it names; errors with file and line."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from hiri_search.cost.budget.constraints import ConstraintError
from hiri_search.cost.latency.config import LatencyError
from hiri_search.study.config.files.base import NO_PROFILE, bases, moved, profile_names, profiles
from hiri_search.study.config.files.set_option import parse_set, place_of
from hiri_search.study.config.files.shipped import find_file
from hiri_search.study.config.files.yaml_file import Tree, read_yaml
from hiri_search.study.config.schema import ProxyConfig, Relations, StudyConfig
from hiri_search.study.config.schema_keys import Key, dotted, keys_under, known_part, long_form
from hiri_search.study.config.sections.calibration import CalibrationNote, ImageNumbers
from hiri_search.study.config.sections.seeds import Seeds
from hiri_search.study.errors import StudyError
from hiri_search.system.redaction import redacted
from hiri_search.training.recipe import Recipe, SettingError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_Model = TypeVar("_Model", bound=BaseModel)

SPACE_SUFFIXES = (".yaml", ".yml")  # of a file that `space:` names
RENAMED_KEYS = {"proxies": "zero_cost"}  # of earlier versions
UNKNOWN_KEY_ERRORS = ("extra_forbidden", "unexpected_keyword_argument")
_EXPECTED = {  # by key, of several types
    "seeds": "a number of seeds, a list of seeds, auto, or {first: 3, most: 12}",
    "metrics": "functions, such as [my_package.metrics:ece], or `name: module:function` lines under it",
}
TYPE_NAMES = {  # expected value by pydantic's type of error, or its first word
    "int": "a whole number",
    "float": "a number",
    "finite": "a finite number",
    "bool": "true or false",
    "string": "text, in quotes",
    "tuple": "a list",
    "dict": "`key: value` lines under it",
    "model": "`key: value` lines under it",
    "dataclass": "`key: value` lines under it",
    "greater_than_equal": "{ge} or more",
    "greater_than": "more than {gt}",
    "less_than_equal": "{le} or less",
    "less_than": "less than {lt}",
    "literal": "{expected}",
}


class SpaceFile(BaseModel, extra="forbid", frozen=True):
    """Content of a space file, such as those of `spaces/`."""

    title: str = ""
    let: dict[str, str] = {}
    space: str
    where: Relations = ()


class ProxyFile(BaseModel, extra="forbid", frozen=True):
    """Content of a proxy file: a setting for short trainings, and how well it orders networks."""

    proxy: ProxyConfig
    recipe: Recipe
    data: ImageNumbers
    seeds: Seeds
    calibration: CalibrationNote


class YamlLocations:
    """Finds the place where a value was written: a line of a file, of its profile, or the command line."""

    def __init__(self, tree: Tree, profile: str = NO_PROFILE, *, over: tuple[Key, ...] = ()) -> None:
        """`over` are sections whose keys are laid over those of the study, such as a setting of a calibration."""
        self.tree, self.profile, self.over = tree, profile, over
        self.sets: dict[Key, str] = {}
        self.space: Tree | None = None  # the file that `space:` names
        self.recipe: Tree | None = None  # the file that `recipe:` names
        self.proxy: Tree | None = None  # the file that `proxy:` names
        self.bases: list[Tree] = []  # the studies under this one, the nearest first

    def __call__(self, key: Key) -> str:
        return self.find(key) or str(self.tree.path)

    def find(self, key: Key) -> str | None:
        """Return the place of the key, or of the nearest enclosing key; None where neither is written."""
        if self.space and (key[:1] in (("space",), ("let",)) or key in self.space.lines):
            return self.space.location(key)
        for length in range(len(key), 0, -1):
            if place := self._exact(key[:length]):
                return place
        return None

    def _exact(self, key: Key) -> str | None:
        places = (self._written((*section, *key)) for section in (*self.over, ()))
        return next(filter(None, places), None)

    def _written(self, key: Key) -> str | None:
        for set_key, text in reversed(self.sets.items()):
            if key[: len(set_key)] == set_key:
                return text
        for tree in (self.tree, *self.bases):
            for written in (("profiles", self.profile, *key), key):
                if written in tree.lines:
                    return tree.location(written)
        if self.recipe and key[:1] == ("recipe",) and key[1:] in self.recipe.lines:
            return self.recipe.location(key[1:])
        if self.proxy and key in self.proxy.lines:
            return self.proxy.location(key)
        return next((text for set_key, text in self.sets.items() if set_key[: len(key)] == key), None)

    def error(self, key: Key, message: str) -> StudyError:
        """Return an error that begins with the place of the key."""
        return StudyError(redacted(f"{self(key)}: {message}"))


def layered(places: YamlLocations, sets: Sequence[str]) -> dict[str, Any]:
    """Return the content of a study file with its profile and `key=value` settings merged over it."""
    content: dict[str, Any] = {}
    places.bases = bases(places.tree)
    trees = (places.tree, *places.bases)
    _check_profile(places, profile_names(trees))
    for tree in reversed(trees):
        for layer in (tree.content, profiles(tree).get(places.profile, {})):
            content = merged(content, with_proxy(moved(layer, tree, places.tree), places))
    for name in ("base", "profiles"):
        content.pop(name, None)
    for text in sets:
        rows = content.get("nets")
        key, value = parse_set(text, rows if isinstance(rows, dict) else ())
        places.sets[key] = place_of(text)
        content = merged(content, with_proxy(_nested(key, value), places))
    _check_removed_rows(content, places)
    return content


def _check_removed_rows(content: Mapping[str, Any], places: YamlLocations) -> None:
    """Raise StudyError for a row without a spec: `ROW: null` removes rows of lower layers, and none has this name."""
    rows = rows if isinstance(rows := content.get("nets"), Mapping) else {}
    for name, row in rows.items():
        if row is None:
            others = [str(other) for other, spec in rows.items() if spec is not None]
            message = f"nets.{name}: found nothing; write a spec"
            if others:
                message += f", or the name of a row of the base to remove; {_suggestion(str(name), others)}"
            raise places.error(("nets", name), message)


def with_files(content: dict[str, Any], places: YamlLocations) -> dict[str, Any]:
    """Return the content of a study with the files that it names in their place, and the recipes of rows complete."""
    return _with_row_recipes(_with_recipe(_with_space(content, places), places))


def _check_profile(places: YamlLocations, known: Sequence[str]) -> None:
    """Raise StudyError where neither the study nor those under it have the profile."""
    if places.profile not in (*known, NO_PROFILE):
        choices = ", ".join([*known, NO_PROFILE])
        raise places.error(("profiles",), f"there is no profile {places.profile!r}; choose one of {choices}")


def _nested(key: Key, value: Any) -> dict[str, Any]:
    return {str(key[0]): value if len(key) == 1 else _nested(key[1:], value)}


def merged(base: Mapping[str, Any], over: Mapping[str, Any], under: Key = ()) -> dict[str, Any]:
    """Merge mappings key by key; replace any other value. `under` is the key of both mappings in the study."""
    result = dict(base)
    for name, value in over.items():
        old, key = result.get(name), (*under, name)
        if value is None and old is not None and under == ("nets",):
            del result[name]  # `ROW: null` removes a row of a lower layer
            continue
        if isinstance(value, Mapping) and isinstance(old, str) and (inner := long_form(key)):
            old = {inner: old}
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        result[name] = merged(old, value, key) if both else value  # type: ignore[arg-type]
    return result


def with_proxy(layer: Mapping[str, Any], places: YamlLocations) -> Mapping[str, Any]:
    """Lay the keys of a layer over those of the file that its `proxy: FILE.yaml` names, relative to the study file."""
    if "calibration" in layer:
        raise places.error(("calibration",), "calibration: is filled in from the file that proxy: names; remove it")
    section, data = layer.get("proxy"), layer.get("data")
    section = {"file": section} if isinstance(section, str) else section
    if not isinstance(section, Mapping) or "file" not in section:
        return layer
    if isinstance(layer.get("recipe"), str):
        problem = f"recipe: cannot be a file beside proxy: {section['file']}, which has a recipe"
        raise places.error(("recipe",), f"{problem}; write only the keys to change under recipe:")
    path = find_file(str(section["file"]), places.tree.folder)
    if not path.is_file():
        raise places.error(("proxy",), f"proxy: there is no file {path}; write the keys of a proxy, or a file path")
    places.proxy = read_yaml(path, ProxyFile)
    file = validated(ProxyFile, places.proxy.content, YamlLocations(places.proxy)).model_dump(mode="json")
    note = file.pop("calibration")
    own = {**layer, "proxy": {name: value for name, value in section.items() if name != "file"}}
    own |= {"data": {"source": data}} if isinstance(data, str) else {}
    return merged(file, own) | {"calibration": {**note, "measured": file}}


def _with_space(content: dict[str, Any], places: YamlLocations) -> dict[str, Any]:
    """Replace `space: FILE.yaml` by the `space:` and `let:` of that file; its path is relative to the study file."""
    name = content.get("space")
    if not isinstance(name, str) or not name.lower().endswith(SPACE_SUFFIXES):
        return content
    if content.get("let"):
        raise places.error(("let",), f"let: cannot be combined with space: {name}, which has its own let:; remove it")
    path = find_file(name, places.tree.folder)
    if not path.is_file():
        raise places.error(("space",), f"space: there is no file {path}; write a space, or the path of its file")
    places.space = read_yaml(path, SpaceFile)
    file = validated(SpaceFile, places.space.content, YamlLocations(places.space))
    own = content.get("where") or ()
    where = [*file.where, *([own] if isinstance(own, str) else own)] if isinstance(own, Sequence) else own
    return content | {"space": file.space, "let": file.let, "where": where}


def _with_recipe(content: dict[str, Any], places: YamlLocations) -> dict[str, Any]:
    """Replace `recipe: FILE.yaml` by the content of that file, as for `space:`, and merge other recipe keys over it."""
    recipe = content.get("recipe")
    section = {"file": recipe} if isinstance(recipe, str) else recipe
    if not isinstance(section, Mapping) or "file" not in section:
        return content
    file = find_file(str(section["file"]), places.tree.folder)
    if not file.is_file():
        raise places.error(("recipe",), f"recipe: there is no file {file}; write the keys of a recipe, or a file path")
    places.recipe = read_yaml(file, Recipe)
    own_keys = {name: value for name, value in section.items() if name != "file"}
    return content | {"recipe": merged(places.recipe.content, own_keys)}


def _with_row_recipes(content: dict[str, Any]) -> dict[str, Any]:
    """Merge the recipe of each row over the recipe of the study."""
    rows, base = content.get("nets"), content.get("recipe") or {}
    if not isinstance(rows, Mapping) or not isinstance(base, Mapping):
        return content
    own = {
        name: row | {"recipe": merged(base, row["recipe"])}
        for name, row in rows.items()
        if isinstance(row, dict) and isinstance(row.get("recipe"), Mapping)
    }
    return content | {"nets": {**rows, **own}}


# ---- error messages


def validated(model: type[_Model], content: dict[str, Any], places: YamlLocations) -> _Model:
    try:
        return model.model_validate(content)
    except ValidationError as errors:
        # An unknown key first: a misspelt key also causes an error about a missing one.
        first, *others = sorted(errors.errors(), key=lambda error: error["type"] not in UNKNOWN_KEY_ERRORS)
        key, message = _explained(model, first)
        parts = (known_part(model, error["loc"]) for error in others)
        more = sum(part != key[: len(part)] for part in parts)  # another type of a union fails at the same key
        raise places.error(key, message + (f" (and {more} more error{'s' * (more > 1)})" if more else "")) from errors


def _explained(model: type[BaseModel], error: ErrorDetails) -> tuple[Key, str]:
    """Return the key at fault and the message for an error of pydantic."""
    kind, context = error["type"], error.get("ctx", {})
    key = known_part(model, error["loc"][:-1]) + error["loc"][-1:]
    if kind in UNKNOWN_KEY_ERRORS:
        return key, f"{dotted(key)} is not known; {_suggestion(str(key[-1]), _keys_of(model, key[:-1]))}"
    key = known_part(model, key)
    if kind == "missing":
        return key, f"{dotted(key)} is missing; write it"
    if isinstance(cause := context.get("error"), ConstraintError):
        return ("within", cause.name), f"within.{cause}"
    if isinstance(cause, SettingError | LatencyError):
        return (*key, *cause.name.split(".")), f"{dotted(key)}.{cause}".removeprefix(".")
    expected = TYPE_NAMES.get(kind) or TYPE_NAMES.get(kind.split("_")[0])
    if expected is None:
        return key, f"{dotted(key)}: {error['msg'].removeprefix('Value error, ')}"
    wanted = _EXPECTED.get(dotted(key)) or expected.format(**context)
    if "recipe" in key[:-1] and kind in ("int_type", "float_type") and isinstance(error["input"], list):
        wanted += ", or several with | between them: 1e-3|3e-3"
    return key, f"{dotted(key)}: found {_shown(error['input'])}; write {wanted}"


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _suggestion(name: str, keys: list[str]) -> str:
    renamed = [key for key in keys if key == RENAMED_KEYS.get(name)]
    similar = renamed or difflib.get_close_matches(name, keys, 1)
    return f"did you mean {similar[0]}?" if similar else f"the keys here are {', '.join(keys)}"


def _keys_of(model: type[BaseModel], key: Key) -> list[str]:
    """Return the keys that a study may have under `key`."""
    return [*keys_under(model, key), *(["base", "profiles"] if model is StudyConfig and not key else [])]
