"""Choices in a recipe, `lr: 1e-3|3e-3`: settings of each row of an ablation, or decisions of a search."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import product
from statistics import fmean
from typing import TYPE_CHECKING, Any, TypeAlias, get_type_hints

from pydantic import BaseModel, TypeAdapter, ValidationError

from hiri_search.language import SpecError
from hiri_search.language.space import Decisions
from hiri_search.language.syntax_tree import Option, Options
from hiri_search.study.config.sections.seeds import STRICT
from hiri_search.training.recipe import Recipe, RecipeValue, SettingError

if TYPE_CHECKING:
    from hiri_search.study.config.schema import NetworkRow, StudyConfig
    from hiri_search.training.job import DataSource

SEPARATOR = "|"
MAX_SETTINGS = 100  # of a row

RecipeOptions: TypeAlias = dict[str, tuple[RecipeValue, ...]]  # of a recipe: the values to choose from, by key


class RowSetting(BaseModel):
    """One of the settings that a row of a study file is trained at."""

    model_config = STRICT

    row: str  # its name in the study file
    values: dict[str, RecipeValue]  # of the keys of the recipe that have choices

    def __str__(self) -> str:
        return setting_text(self.values)


def setting_text(values: Mapping[str, RecipeValue]) -> str:
    """Return chosen values as text: `lr=0.001, epochs=5`."""
    return ", ".join(f"{key}={_text(value)}" for key, value in values.items())


def named(network: str, values: Mapping[str, RecipeValue]) -> str:
    """Return the name of a network at a setting: `NETWORK [lr=0.001]`; without values, the name of the network."""
    return f"{network} [{setting_text(values)}]" if values else network


def _text(value: RecipeValue) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


# ---- reading


def with_settings(content: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a study with each row that has choices in its recipe replaced by its settings.

    Those of a search are `choices`. The recipe of the study has the first value of each choice. Raises SettingError for
    a value that is not possible.
    """
    recipe, rows = content.get("recipe"), content.get("nets")
    options = options_of(recipe, "recipe")
    if isinstance(rows, Mapping):
        named: dict[str, Any] = {}
        for name, row in rows.items():
            for setting, own in _settings(str(name), row, recipe, options):
                if setting in named:
                    raise SettingError("nets", f"nets: two rows are called {setting!r}; rename one of them")
                named[setting] = own
        content = content | {"nets": named}
    elif options and _is_recipe({**content["recipe"], **_first(options)}):
        list(_combinations(content["recipe"], options, "a network"))
        content = content | {"choices": options}
    return content | {"recipe": {**content["recipe"], **_first(options)}} if options else content


def options_of(recipe: Any, place: str) -> RecipeOptions:
    """Return the choices in a recipe as it is written; `place` is its key. SettingError for a value of another type."""
    written = recipe.items() if isinstance(recipe, Mapping) else ()
    return {
        key: _parsed(f"{place}.{key}", value, _types()[key])
        for key, value in written
        if key in _types() and isinstance(value, str) and SEPARATOR in value
    }


@cache
def _types() -> dict[str, type[RecipeValue]]:
    """Return the types of the keys of a recipe that may have choices: those that are no text."""
    return {key: kind for key, kind in get_type_hints(Recipe).items() if kind in (bool, int, float)}


def _parsed(key: str, text: str, kind: type[RecipeValue]) -> tuple[RecipeValue, ...]:
    values = tuple(_value(key, option.strip(), kind) for option in text.split(SEPARATOR))
    if repeated := [value for place, value in enumerate(values) if value in values[:place]]:
        raise SettingError(key, f"{key}: {_text(repeated[0])} is repeated; write each value once")
    return values


def _value(key: str, text: str, kind: type[RecipeValue]) -> RecipeValue:
    try:
        return {"true": True, "false": False}[text] if kind is bool else kind(text)
    except (KeyError, ValueError) as error:
        expected = {bool: "true or false", int: "a whole number", float: "a number"}[kind]
        example = {bool: "true|false", int: "5|10", float: "1e-3|3e-3"}[kind]
        raise SettingError(key, f"{key}: {text!r} is not {expected}; write {example}") from error


def _first(options: RecipeOptions) -> dict[str, RecipeValue]:
    return {key: values[0] for key, values in options.items()}


def _settings(name: str, row: Any, recipe: Any, options: RecipeOptions) -> Iterator[tuple[str, Any]]:
    """Yield name and content of each setting of a row; of a row without choices, the row as it is."""
    own = _content(row)
    if isinstance(own.get("recipe"), Mapping):
        recipe, options = own["recipe"], options_of(own["recipe"], f"nets.{name}.recipe")
    elif own.get("recipe") is not None:
        options = {}
    if not options:
        yield name, row
    elif own.get("train") is False or not _is_recipe({**recipe, **_first(options)}):  # a fault is shown by the schema
        yield name, own | ({"recipe": {**recipe, **_first(options)}} if own.get("recipe") else {})
    else:
        for values in _combinations(recipe, options, name):
            setting = {"row": name, "values": values}
            yield named(name, values), own | {"recipe": {**recipe, **values}, "setting": setting}


def _content(row: Any) -> dict[str, Any]:
    if isinstance(row, BaseModel):
        return row.model_dump(exclude_unset=True)
    return dict(row) if isinstance(row, Mapping) else {"spec": row}


def _combinations(recipe: Mapping[str, Any], options: RecipeOptions, row: str) -> Iterator[dict[str, RecipeValue]]:
    """Yield every combination of choices. SettingError where one is not possible, or where they are too many."""
    combinations = [dict(zip(options, values, strict=True)) for values in product(*options.values())]
    if len(combinations) > MAX_SETTINGS:
        problem = f"recipe: its choices make {len(combinations):,} settings of {row}"
        raise SettingError("recipe", f"{problem}; write fewer values: at most {MAX_SETTINGS} settings")
    for values in combinations:
        _is_recipe({**recipe, **values})
        yield values


def _is_recipe(content: Mapping[str, Any]) -> bool:
    """Return whether the types of a recipe are right. SettingError where its values are not possible."""
    try:
        TypeAdapter(Recipe).validate_python(content)
    except ValidationError as error:
        cause = error.errors()[0].get("ctx", {}).get("error")
        if isinstance(cause, SettingError):
            raise SettingError(f"recipe.{cause.name}", f"recipe.{cause}") from error
        return False
    return True


# ---- checks


def check_choices(study: StudyConfig) -> None:
    """Raise SettingError where a study with choices cannot be what it has to be."""
    nets = study.nets or {}
    options = recipe_options(nets) or study.choices
    if options and study.calibrate:
        raise SettingError("calibrate", "calibrate: a calibration takes no choices in a recipe; write one value each")
    if "epochs" in study.choices:
        fault = "recipe.epochs: a search trains all networks for one number of epochs"
        raise SettingError("recipe.epochs", f"{fault}; write one, and search.halving to end some trainings earlier")
    for start in study.search.start:
        for key, value in start.values.items():
            if value not in study.choices.get(key, ()):
                known = " or ".join(map(_text, study.choices.get(key, ()))) or f"recipe.{key}: 1|2 to make it a choice"
                raise SettingError("search.start", f"search.start: {key}={_text(value)} is no choice; write {known}")
    if options and study.nets is not None:
        _check_rows(nets, study.data, is_auto=study.auto_seeds is not None)


def _check_rows(nets: Mapping[str, NetworkRow], data: DataSource, *, is_auto: bool) -> None:
    for name, row in nets.items():
        if row.setting and row.setting.row in nets:
            raise SettingError("nets", f"nets: {name!r} is a setting of another row {row.setting.row!r}; rename one")
    if is_auto:
        fault = "seeds: auto adds seeds by the scores of rows whose best setting is not known yet"
        raise SettingError("seeds", f"{fault}; write a number of seeds, or a recipe without choices")
    if data.test == 0 or (data.test is None and data.kind == "drawn"):
        raise SettingError("data.test", f"data.{without_test(data)}")


def without_test(data: DataSource) -> str:
    """Say that there are no test images to report the best settings on, and what to write."""
    remedy = "data.test: 1000" if data.kind == "drawn" else "data.test: 0.2, a share of train/, or add a folder test/"
    return f"test: a setting that the validation images choose is reported on test images; write {remedy}"


# ---- decisions of a search

DECISION = "recipe."  # before the key, in the name of a decision


def decision_options(choices: RecipeOptions) -> dict[str, Options]:
    """Return the options of each decision on a recipe: whole numbers in ascending order, and other values as text."""
    by_decision: dict[str, Options] = {}
    for key, values in choices.items():
        numbers = sorted(option for value in values if isinstance(option := _option(value), int))
        by_decision[DECISION + key] = tuple(numbers) if numbers else tuple(map(_text, values))
    return by_decision


def decisions_for(choices: RecipeOptions, values: Mapping[str, RecipeValue]) -> dict[str, Option]:
    """Return the decisions on a recipe with these values; a key that is left out has its first value."""
    chosen = {key: options[options.index(values.get(key, options[0]))] for key, options in choices.items()}
    return {DECISION + key: _option(value) for key, value in chosen.items()}


def decided(choices: RecipeOptions, decisions: Decisions) -> dict[str, RecipeValue]:
    """Return the values that decisions choose; empty without any. SpecError where one is no option."""
    values: dict[str, RecipeValue] = {}
    for name, option in recipe_decisions(decisions).items():
        key = name.removeprefix(DECISION)
        by_option = {_option(value): value for value in choices.get(key, ())}
        if option not in by_option:
            raise SpecError(f"decision {name} is {option}; expected {' or '.join(map(str, by_option))}")
        values[key] = by_option[option]
    return values


def recipe_decisions(decisions: Decisions) -> dict[str, Option]:
    """Return the decisions on a recipe among those on a network."""
    return {name: option for name, option in decisions.items() if name.startswith(DECISION)}


def _option(value: RecipeValue) -> Option:
    return value if isinstance(value, int) and not isinstance(value, bool) else _text(value)


def recipes(recipe: Recipe, choices: RecipeOptions) -> Iterator[Recipe]:
    """Yield the recipe of each combination of choices."""
    for values in product(*choices.values()):
        yield replace(recipe, **dict(zip(choices, values, strict=True)))  # type: ignore[arg-type]


# ---- settings of rows


def row_of(nets: Mapping[str, NetworkRow], name: str) -> str:
    """Return the row of the study file that a row is a setting of, or its own name."""
    row = nets.get(name)
    return row.setting.row if row and row.setting else name


def recipe_options(nets: Mapping[str, NetworkRow]) -> RecipeOptions:
    """Return the values that the rows of an ablation were to choose from, by key of the recipe."""
    values: dict[str, dict[RecipeValue, None]] = {}
    for row in nets.values():
        for key, value in row.setting.values.items() if row.setting else ():
            values.setdefault(key, {})[value] = None
    return {key: tuple(distinct) for key, distinct in values.items()}


def file_rows(nets: Mapping[str, NetworkRow]) -> dict[str, list[str]]:
    """Return the rows of the study file in its order, each with the names of its settings."""
    rows: dict[str, list[str]] = {}
    for name in nets:
        rows.setdefault(row_of(nets, name), []).append(name)
    return rows


def best_settings(study: StudyConfig, scores: Mapping[str, Sequence[float]]) -> dict[str, str]:
    """Return for each row of the study file the name of its best setting, by the mean score over seeds.

    `scores` are those of finished trials on the validation images. A setting with more finished seeds comes before
    one with fewer, so that a failure is never an advantage; of equal ones, the first of the file is the best.
    """
    sign = study.headline.loss_sign

    def losses(name: str) -> tuple[int, float]:
        own = scores.get(name, ())
        return -len(own), sign * fmean(own) if own else 0.0

    return {row: min(settings, key=losses) for row, settings in file_rows(study.nets or {}).items()}
