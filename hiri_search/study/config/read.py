"""Study files read: profiles, --set, recipe and space files merged; errors with file and line."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from hiri_search.cost.budget.constraints import ConstraintError
from hiri_search.cost.latency.config import LatencyError
from hiri_search.language import SpecError, TimmNetwork, parse_space
from hiri_search.language.relations.related_space import AnySpace, InvalidRelation
from hiri_search.study.config.declared_kinds import describe_kinds
from hiri_search.study.config.metrics import with_attributes
from hiri_search.study.config.networks import Candidate, InvalidNetwork, at_key, covering_networks, resolve
from hiri_search.study.config.schema import CodeRecord, SpaceFile, Study
from hiri_search.study.config.schema_keys import Key, dotted, keys_under, known_part, long_form
from hiri_search.study.config.set_option import parse_set, place_of
from hiri_search.study.config.yaml_file import Tree, read_yaml
from hiri_search.study.errors import StudyError
from hiri_search.system.redaction import redacted
from hiri_search.training.recipe import Recipe, SettingError
from hiri_search.user_code import UserCodeError, import_user_code

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


_Model = TypeVar("_Model", bound=BaseModel)

NO_PROFILE, BY_HARDWARE = "none", "auto"  # values of --profile that are no names
PAPER_TABLES = tuple("12346789")  # tables of the paper with networks, and its Figure 1
SPACE_SUFFIXES = (".yaml", ".yml")  # of a file that `space:` names
RENAMED_KEYS = {"proxies": "zero_cost"}  # of earlier versions
UNKNOWN_KEY_ERRORS = ("extra_forbidden", "unexpected_keyword_argument")
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


class YamlLocations:
    """Finds the place where a value was written: a line of a file, of its profile, or the command line."""

    def __init__(self, tree: Tree, profile: str = NO_PROFILE) -> None:
        self.tree, self.profile = tree, profile
        self.sets: dict[Key, str] = {}
        self.space: Tree | None = None  # the file that `space:` names
        self.recipe: Tree | None = None  # the file that `recipe:` names

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
        for set_key, text in reversed(self.sets.items()):
            if key[: len(set_key)] == set_key:
                return text
        for written in (("profiles", self.profile, *key), key):
            if written in self.tree.lines:
                return self.tree.location(written)
        if self.recipe and key[:1] == ("recipe",) and key[1:] in self.recipe.lines:
            return self.recipe.location(key[1:])
        return next((text for set_key, text in self.sets.items() if set_key[: len(key)] == key), None)

    def error(self, key: Key, message: str) -> StudyError:
        """Return an error that begins with the place of the key."""
        return StudyError(redacted(f"{self(key)}: {message}"))


def read_study(path: Path, *, profile: str = NO_PROFILE, sets: Sequence[str] = ()) -> Study:
    """Read a study file, merge a profile over it, and `key=value` settings over both.

    Raises StudyError with file and line for every mistake that would stop a run, in specs and sides too.
    """
    return study_of(read_study_file(path), profile=profile, sets=sets)


def read_study_file(path: Path) -> Tree:
    """Read the keys of a study file, once: a pipe has no second reading."""
    return read_yaml(path, Study)


def study_of(tree: Tree, *, profile: str = NO_PROFILE, sets: Sequence[str] = ()) -> Study:
    """Return the study of a study file, as `read_study` does."""
    places = YamlLocations(tree, profile)
    content = _merged(tree.content, _profile(_profiles(tree), profile, tree))
    content.pop("profiles", None)
    for text in sets:
        rows = content.get("nets")
        key, value = parse_set(text, rows if isinstance(rows, dict) else ())
        places.sets[key] = place_of(text)
        content = _merged(content, _nested(key, value))
    if "code" in content:
        raise places.error(("code",), "code: is filled in from imports:, the files of your own code; remove it")
    content = _with_row_recipes(_with_recipe(_with_space(content, places), places))
    study = _validated(Study, content, places)
    if study.table and study.table not in PAPER_TABLES:
        message = f"table={study.table!r} is not a table with networks; write one of {', '.join(PAPER_TABLES)}"
        raise places.error(("table",), message)
    study = _with_code(study, places)
    _check_networks(study, places)
    try:
        return with_attributes(study)
    except UserCodeError as error:
        raise places.error(("metrics",) if study.metrics else ("callbacks",), str(error)) from error


def profiles_of(tree: Tree) -> tuple[str, ...]:
    """Return the names of the profiles in a study file."""
    return tuple(_profiles(tree))


def read_space(path: Path) -> AnySpace:
    """Read a space file, such as those of `spaces/`."""
    tree = read_yaml(path, SpaceFile)
    places = YamlLocations(tree)
    file = _validated(SpaceFile, tree.content, places)
    try:
        space = parse_space(file.space, let=file.let, where=file.where)
        space.size  # noqa: B018 - relations that no network satisfies are noticed by the first count
        return space
    except SpecError as error:
        key: Key = ("where", error.number) if isinstance(error, InvalidRelation) else ("space",)
        raise places.error(key, f"{key[0]}: {error}") from error


# ---- layers


def _profiles(tree: Tree) -> dict[str, dict[str, Any]]:
    profiles = tree.content.get("profiles") or {}
    if not isinstance(profiles, dict) or not all(isinstance(keys, dict) for keys in profiles.values()):
        message = "profiles: must hold `name:` lines with the keys to change under each"
        raise YamlLocations(tree).error(("profiles",), message)
    for name in (NO_PROFILE, BY_HARDWARE):
        if name in profiles:
            message = f"profiles.{name}: --profile {name} has a meaning of its own; write another name"
            raise YamlLocations(tree).error(("profiles", name), message)
    return profiles


def _profile(profiles: dict[str, dict[str, Any]], name: str, tree: Tree) -> dict[str, Any]:
    if name == NO_PROFILE:
        return {}
    if name not in profiles:
        choices = ", ".join([*profiles, NO_PROFILE])
        raise YamlLocations(tree).error(("profiles",), f"there is no profile {name!r}; choose one of {choices}")
    return profiles[name]


def _nested(key: Key, value: Any) -> dict[str, Any]:
    return {str(key[0]): value if len(key) == 1 else _nested(key[1:], value)}


def _merged(base: Mapping[str, Any], over: Mapping[str, Any], under: Key = ()) -> dict[str, Any]:
    """Merge mappings key by key; replace any other value. `under` is the key of both mappings in the study."""
    merged = dict(base)
    for name, value in over.items():
        old, key = merged.get(name), (*under, name)
        if isinstance(value, Mapping) and isinstance(old, str) and (inner := long_form(key)):
            old = {inner: old}
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        merged[name] = _merged(old, value, key) if both else value  # type: ignore[arg-type]
    return merged


def _with_space(content: dict[str, Any], places: YamlLocations) -> dict[str, Any]:
    """Replace `space: FILE.yaml` by the `space:` and `let:` of that file; its path is relative to the study file."""
    name = content.get("space")
    if not isinstance(name, str) or not name.lower().endswith(SPACE_SUFFIXES):
        return content
    if content.get("let"):
        raise places.error(("let",), f"let: cannot be combined with space: {name}, which has its own let:; remove it")
    places.space = read_yaml(places.tree.folder / name, SpaceFile)
    file = _validated(SpaceFile, places.space.content, YamlLocations(places.space))
    own = content.get("where") or ()
    where = [*file.where, *([own] if isinstance(own, str) else own)] if isinstance(own, Sequence) else own
    return content | {"space": file.space, "let": file.let, "where": where}


def _with_recipe(content: dict[str, Any], places: YamlLocations) -> dict[str, Any]:
    """Replace `recipe: FILE.yaml` by the content of that file, as for `space:`, and merge other recipe keys over it."""
    recipe = content.get("recipe")
    section = {"file": recipe} if isinstance(recipe, str) else recipe
    if not isinstance(section, Mapping) or "file" not in section:
        return content
    file = places.tree.folder / str(section["file"])
    if not file.is_file():
        raise places.error(("recipe",), f"recipe: there is no file {file}; write the keys of a recipe, or a file path")
    places.recipe = read_yaml(file, Recipe)
    own_keys = {name: value for name, value in section.items() if name != "file"}
    return content | {"recipe": _merged(places.recipe.content, own_keys)}


def _with_row_recipes(content: dict[str, Any]) -> dict[str, Any]:
    """Merge the recipe of each row over the recipe of the study."""
    rows, base = content.get("nets"), content.get("recipe") or {}
    if not isinstance(rows, Mapping) or not isinstance(base, Mapping):
        return content
    merged = {
        name: row | {"recipe": _merged(base, row["recipe"])}
        for name, row in rows.items()
        if isinstance(row, dict) and isinstance(row.get("recipe"), Mapping)
    }
    return content | {"nets": {**rows, **merged}}


def _with_code(study: Study, places: YamlLocations) -> Study:
    """Import the study's own code, and record it in the study."""
    try:
        code = import_user_code(study.imports, places.tree.folder)
    except (UserCodeError, SpecError) as error:
        raise places.error(("imports",), str(error)) from error
    return study.model_copy(update={"code": CodeRecord(files=code.digests, kinds=describe_kinds(code))})


# ---- error messages


def _validated(model: type[_Model], content: dict[str, Any], places: YamlLocations) -> _Model:
    try:
        return model.model_validate(content)
    except ValidationError as errors:
        # An unknown key first: a misspelt key also causes an error about a missing one.
        first, *others = sorted(errors.errors(), key=lambda error: error["type"] not in UNKNOWN_KEY_ERRORS)
        key, message = _explained(model, first)
        raise places.error(key, message + (f" (and {len(others)} more)" if others else "")) from errors


def _explained(model: type[BaseModel], error: ErrorDetails) -> tuple[Key, str]:
    """Return the key at fault and the message for an error of pydantic."""
    key, kind, context = error["loc"], error["type"], error.get("ctx", {})
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
    return key, f"{dotted(key)}: found {_shown(error['input'])}; write {expected.format(**context)}"


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
    return [*keys_under(model, key), *(["profiles"] if model is Study and not key else [])]


# ---- networks


def _check_networks(study: Study, places: YamlLocations) -> None:
    """Check that every trained network parses, exists, and fits the sides at which it is counted and trained."""
    try:
        networks = resolve(study)
        for candidate in covering_networks(study, networks.space) if networks.space else networks.rows:
            _check_timm(candidate, ("space",) if networks.space else ("nets", candidate.name))
    except InvalidNetwork as error:
        place = places.find(error.key) or places(error.context)
        owner = "" if error.key[: len(error.context)] == error.context else f" for {dotted(error.context)}"
        setting = "where" if error.key[0] == "where" else dotted(error.key)
        raise StudyError(redacted(f"{place}: {setting}{owner}: {error}")) from error


def _check_timm(candidate: Candidate, context: Key) -> None:
    """Raise InvalidNetwork where timm, imported only if needed, has no such network, or it would be self-distilled."""
    searched = context == ("space",)
    if isinstance(candidate.trained, TimmNetwork) and candidate.recipe.distill_alpha < 1:
        from hiri_search.training.distill import check_teacher

        with at_key((*(() if searched else context), "recipe", "distill_alpha"), context):
            check_teacher(candidate.trained)
    for network, key in ((candidate.network, "spec"), (candidate.trained, "stand_in")):
        if isinstance(network, TimmNetwork):
            from hiri_search.networks import check_timm

            with at_key(context if searched else (*context, key), context):
                check_timm(network)
