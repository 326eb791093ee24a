"""Study files read: profiles, --set, recipe and space files merged; errors with file and line."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from hiri_search.cost.budget.constraints import ConstraintError
from hiri_search.cost.latency.config import LatencyConfig, LatencyError
from hiri_search.language import Space, SpecError, TimmNetwork, parse
from hiri_search.study.config.networks import (
    Candidate,
    InvalidNetwork,
    at_key,
    covering_networks,
    resolve,
)
from hiri_search.study.config.schema import NetworkRow, SpaceFile, Study
from hiri_search.study.config.yaml_file import Key, Tree, parse_value, read_yaml
from hiri_search.study.errors import StudyError
from hiri_search.system.redaction import redacted
from hiri_search.training.recipe import SettingError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


_Model = TypeVar("_Model", bound=BaseModel)
_Value = TypeVar("_Value")

NO_PROFILE = "none"
# `data: drawn` is `data: {source: drawn}`, also under keys laid over it; and so with recipes and the rows of `nets:`.
SHORT_FORMS: dict[Key, str] = {("data",): "source", ("recipe",): "file", ("nets", "*"): "spec"}
UNKNOWN_KEY_ERRORS = ("extra_forbidden", "unexpected_keyword_argument")
TYPE_NAMES = {  # by the first word of pydantic's kinds of errors
    "int": "a whole number",
    "float": "a number",
    "finite": "a finite number",
    "bool": "true or false",
    "string": "text",
    "tuple": "a list",
    "dict": "`key: value` lines under it",
    "model": "`key: value` lines under it",
    "dataclass": "`key: value` lines under it",
    "greater": "{ge} or more",
    "less": "{le} or less",
    "literal": "{expected}",
}


class YamlLocations:
    """Says where a value came from: a line of a file, of its profile, or the command line."""

    def __init__(self, tree: Tree, profile: str = NO_PROFILE) -> None:
        self.tree, self.profile = tree, profile
        self.sets: dict[Key, str] = {}
        self.space: Tree | None = None  # the file that `space:` names
        self.recipe: Tree | None = None  # the file that `recipe:` names

    def __call__(self, key: Key) -> str:
        return self.find(key) or str(self.tree.path)

    def find(self, key: Key) -> str | None:
        """The place of the key, or of the nearest one around it; None where nothing of it is written."""
        if self.space and key[:1] in (("space",), ("let",)):
            return self.space.place(key)
        for length in range(len(key), 0, -1):
            if place := self._exactly(key[:length]):
                return place
        return None

    def _exactly(self, key: Key) -> str | None:
        for set_key, text in reversed(self.sets.items()):
            if key[: len(set_key)] == set_key:
                return text
        for written in (("profiles", self.profile, *key), key):
            if written in self.tree.lines:
                return self.tree.place(written)
        if self.recipe and key[:1] == ("recipe",) and key[1:] in self.recipe.lines:
            return self.recipe.place(key[1:])
        return next((text for set_key, text in self.sets.items() if set_key[: len(key)] == key), None)

    def error(self, key: Key, message: str) -> StudyError:
        """The mistake at this place."""
        return StudyError(redacted(f"{self(key)}: {message}"))


def read_study(path: Path, *, profile: str = NO_PROFILE, sets: Sequence[str] = ()) -> Study:
    """The study of a file with a profile laid over it, and `key=value` settings over both.

    StudyError with the file and line for whatever cannot be run, every network's spec and side included.
    """
    tree = read_yaml(path)
    places = YamlLocations(tree, profile)
    content = _laid_over(tree.content, _profile(_profiles(tree), profile, tree))
    content.pop("profiles", None)
    for text in sets:
        key, value = _parse_set(text)
        places.sets[key] = redacted(f"--set {text}")
        content = _laid_over(content, _nested(key, value))
    content = _with_row_recipes(_with_recipe(_with_space(content, path, places), path, places))
    study = _validated(Study, content, places)
    _check_networks(study, places)
    return study


def profiles_of(path: Path) -> tuple[str, ...]:
    """The names of a study's profiles."""
    return tuple(_profiles(read_yaml(path)))


def read_space(path: Path) -> Space:
    """The space of a file of `spaces/`."""
    tree = read_yaml(path)
    file = _validated(SpaceFile, tree.content, YamlLocations(tree))
    return _parsed(parse, file.space, file.let, ("space",), YamlLocations(tree))


# ---- layers


def _profiles(tree: Tree) -> dict[str, dict[str, Any]]:
    found = tree.content.get("profiles") or {}
    if not isinstance(found, dict) or not all(isinstance(keys, dict) for keys in found.values()):
        raise YamlLocations(tree).error(
            ("profiles",), "profiles: wants `name:` lines with the keys to change under each"
        )
    return found


def _profile(profiles: dict[str, dict[str, Any]], name: str, tree: Tree) -> dict[str, Any]:
    if name == NO_PROFILE:
        return {}
    if name not in profiles:
        known = ", ".join([*profiles, NO_PROFILE])
        raise YamlLocations(tree).error(("profiles",), f"there is no profile {name!r}; choose one of {known}")
    return profiles[name]


def _parse_set(text: str) -> tuple[Key, Any]:
    name, equals, value = text.partition("=")
    key = tuple(name.strip().split("."))
    if not equals or not all(key):
        raise StudyError(f"--set {redacted(text)}: write key=value, such as --set recipe.epochs=20")
    if key[0] == "profiles":
        raise StudyError(
            f"--set {redacted(text)}: profiles cannot be set; choose one with --profile, and set the key itself"
        )
    return key, parse_value(value, redacted(f"--set {text}"))


def _nested(key: Key, value: Any) -> dict[str, Any]:
    return {str(key[0]): value if len(key) == 1 else _nested(key[1:], value)}


def _laid_over(base: Mapping[str, Any], over: Mapping[str, Any], under: Key = ()) -> dict[str, Any]:
    """Mappings are merged key by key; anything else is replaced. `under` is the key of both."""
    merged = dict(base)
    for name, value in over.items():
        old, key = merged.get(name), (*under, name)
        if isinstance(value, Mapping) and isinstance(old, str) and (word := _long_form(key)):
            old = {word: old}
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        merged[name] = _laid_over(old, value, key) if both else value  # type: ignore[arg-type]
    return merged


def _long_form(key: Key) -> str | None:
    """The word that a plain text under this key stands for."""
    return SHORT_FORMS.get(key) or SHORT_FORMS.get((*key[:-1], "*"))


def _with_space(content: dict[str, Any], path: Path, places: YamlLocations) -> dict[str, Any]:
    """`space: FILE.yaml` stands for the space and the names of that file, looked for beside the study."""
    name = content.get("space")
    if not isinstance(name, str) or not name.endswith(".yaml"):
        return content
    if content.get("let"):
        raise places.error(("let",), f"let: has no meaning beside space: {name}, whose own names are used; remove it")
    places.space = read_yaml(path.parent / name)
    file = _validated(SpaceFile, places.space.content, YamlLocations(places.space))
    return content | {"space": file.space, "let": file.let}


def _with_recipe(content: dict[str, Any], path: Path, places: YamlLocations) -> dict[str, Any]:
    """`recipe: FILE.yaml` stands for what that file holds, looked for beside the study; other keys are laid over it."""
    recipe = content.get("recipe")
    over = {"file": recipe} if isinstance(recipe, str) else recipe
    if not isinstance(over, Mapping) or "file" not in over:
        return content
    file = path.parent / str(over["file"])
    if not file.is_file():
        raise places.error(("recipe",), f"recipe: there is no {file}; write the keys of a recipe, or a file's path")
    places.recipe = read_yaml(file)
    rest = {name: value for name, value in over.items() if name != "file"}
    return content | {"recipe": _laid_over(places.recipe.content, rest)}


def _with_row_recipes(content: dict[str, Any]) -> dict[str, Any]:
    """A row's own recipe is laid over that of the study."""
    rows, base = content.get("nets"), content.get("recipe") or {}
    if not isinstance(rows, Mapping) or not isinstance(base, Mapping):
        return content
    own = {
        name: row | {"recipe": _laid_over(base, row["recipe"])}
        for name, row in rows.items()
        if isinstance(row, dict) and isinstance(row.get("recipe"), Mapping)
    }
    return content | {"nets": {**rows, **own}}


# ---- mistakes explained


def _validated(model: type[_Model], content: dict[str, Any], places: YamlLocations) -> _Model:
    try:
        return model.model_validate(content)
    except ValidationError as errors:
        # A misspelt key first: it explains the missing one.
        first, *others = sorted(errors.errors(), key=lambda error: error["type"] not in UNKNOWN_KEY_ERRORS)
        key, message = _explained(model, first)
        raise places.error(key, message + (f" (and {len(others)} more)" if others else "")) from errors


def _explained(model: type[BaseModel], error: ErrorDetails) -> tuple[Key, str]:
    """Where a mistake stands, and what it is."""
    key, kind, context = error["loc"], error["type"], error.get("ctx", {})
    if kind in UNKNOWN_KEY_ERRORS:
        return key, f"{dotted(key)} is not known; {_suggestion(str(key[-1]), _keys_of(model, key[:-1]))}"
    if kind == "missing":
        return key, f"{dotted(key)} is missing; write it"
    if isinstance(cause := context.get("error"), ConstraintError):
        return ("within", cause.name), f"within.{cause}"
    if isinstance(cause, SettingError | LatencyError):
        return (*key, *cause.name.split(".")), f"{dotted(key)}.{cause}".removeprefix(".")
    wanted = TYPE_NAMES.get(kind.split("_")[0])
    if wanted is None:
        return key, f"{dotted(key)}: {error['msg'].removeprefix('Value error, ')}"
    return key, f"{dotted(key)}: found {_shown(error['input'])}; write {wanted.format(**context)}"


def dotted(key: Key) -> str:
    """`recipe.epochs`, as `--set` takes it."""
    return ".".join(map(str, key))


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _suggestion(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f"did you mean {near[0]}?" if near else f"there is {', '.join(known)}"


def _keys_of(model: type[BaseModel], key: Key) -> list[str]:
    """The keys that may stand under `key`."""
    if not key:
        return [*model.model_fields, *(["profiles"] if model is Study else [])]
    sections = {"nets": NetworkRow, "latency": LatencyConfig}
    known: Any = sections.get(str(key[0])) or type(model.model_fields[str(key[0])].default)
    return list(getattr(known, "model_fields", None) or known.__dataclass_fields__)


# ---- networks


def _parsed(read: Callable[..., _Value], text: str, let: dict[str, str], key: Key, places: YamlLocations) -> _Value:
    try:
        return read(text, let=let)
    except SpecError as error:
        raise places.error(key, f"{dotted(key)}: {error}") from error


def _check_networks(study: Study, places: YamlLocations) -> None:
    """Every network that is to be trained parses, exists, and fits the side it is counted at and trained at."""
    try:
        networks = resolve(study)
        for candidate in covering_networks(study, networks.space) if networks.space else networks.rows:
            _check_known(candidate)
    except InvalidNetwork as error:
        place = places.find(error.key) or places(error.context)
        of = "" if error.key[: len(error.context)] == error.context else f" for {dotted(error.context)}"
        raise StudyError(redacted(f"{place}: {dotted(error.key)}{of}: {error}")) from error


def _check_known(found: Candidate) -> None:
    """Misfit where timm has no such network, or where one of timm's is to teach itself.

    Asked only where there is one of timm's, whose import is slow.
    """
    if isinstance(found.trained, TimmNetwork) and found.recipe.distill_alpha < 1:
        from hiri_search.training.distill import check_teacher

        with at_key(("nets", found.name, "recipe", "distill_alpha"), ("nets", found.name)):
            check_teacher(found.trained)
    for network, word in ((found.network, "spec"), (found.trained, "stand_in")):
        if isinstance(network, TimmNetwork):
            from hiri_search.networks import check_timm

            with at_key(("nets", found.name, word), ("nets", found.name)):
                check_timm(network)
