"""Keys of the schema: the type of the value at a key, the keys under it, and which keys take text as it is written."""

from __future__ import annotations

from dataclasses import is_dataclass
from functools import cache
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

Key = tuple[str | int, ...]  # path of a value: ("recipe", "epochs")

# Short form of a section: `data: drawn` means `data: {source: drawn}`, also where a profile or --set changes it.
SHORT_FORMS: dict[Key, str] = {("data",): "source", ("recipe",): "file", ("proxy",): "file", ("nets", "*"): "spec"}


def long_form(key: Key) -> str | None:
    """Return the inner key that a plain text under this key of a study is the value of; None without a short form."""
    return SHORT_FORMS.get(key) or SHORT_FORMS.get((*key[:-1], "*"))


def overridden(key: Key) -> Key:
    """Return the key of the study that a key of a profile, or of a setting of a calibration, stands for."""
    match key:
        case ("profiles", _, *rest) | ("calibrate", "settings", _, *rest) | ("calibrate", "reference", *rest) if rest:
            return overridden(tuple(rest))
        case ("calibrate", "nets" | "let" as name, *rest) if rest:
            return (name, *rest)
    return key


def dotted(key: Key) -> str:
    """Return a key as `--set` takes it: `recipe.epochs`, or `nets."ViT-0.5x".train`."""
    return ".".join(map(_part, key))


def _part(name: str | int) -> str:
    text = str(name)
    if text and text == text.strip() and not set(text) & set(".='\""):
        return text
    return f"'{text}'" if '"' in text else f'"{text}"'


def is_text(model: type[Any], key: Key) -> bool:
    """True if every text is a value of the key: `title: 1.10` means "1.10", and no text is read as YAML."""
    return _types_at(model, key) == (str,) or (bool(key) and long_form(key[:-1]) == key[-1])


def is_number(model: type[Any], key: Key) -> bool:
    """True if the value of the key is a number, and not also true or false."""
    types = _types_at(model, key)
    return bool not in types and not {int, float}.isdisjoint(types)


def may_be_text(model: type[Any], key: Key) -> bool:
    """True if the value of the key is a text, or nothing; false if it is true or false, or a text."""
    types = _types_at(model, key)
    return str in types and bool not in types


def keys_under(model: type[Any], key: Key) -> list[str]:
    """Return the keys that the schema knows under `key`; empty where these are free, as under `nets`."""
    return [name for section in _types_at(model, key) for name in _fields(section)]


def known_part(model: type[Any], key: Key) -> Key:
    """Return the parts of a key that the schema knows: without the names of types that pydantic adds for a union."""
    known: Key = ()
    for name in key:
        known = (*known, name) if _types_at(model, (*known, name)) else known
    return known


def _types_at(model: type[Any], key: Key) -> tuple[Any, ...]:
    """Return the types that the value at a key may have; none for an unknown key."""
    types: tuple[Any, ...] = (model,)
    for name in key:
        types = tuple(inner for outer in types for inner in _alternatives(_type_under(outer, name)))
    return types


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    """Return the types of a union, or the type itself, without what `Annotated` adds."""
    if get_origin(annotation) is Annotated:
        return _alternatives(get_args(annotation)[0])
    if isinstance(annotation, UnionType) or get_origin(annotation) is Union:
        return tuple(inner for outer in get_args(annotation) for inner in _alternatives(outer))
    return () if annotation is None else (annotation,)


def _type_under(section: Any, name: str | int) -> Any:
    """Return the type of the value under a name or an index; None where the section has no such value."""
    if get_origin(section) is (dict if isinstance(name, str) else tuple):  # dict[str, X] or tuple[X, ...]
        return get_args(section)[isinstance(name, str)]
    return _fields(section).get(str(name))


@cache
def _fields(section: Any) -> dict[str, Any]:
    """Return the types of the fields of a model or a dataclass; empty for any other type."""
    if is_dataclass(section):
        return get_type_hints(section)
    return {name: field.annotation for name, field in getattr(section, "model_fields", {}).items()}
