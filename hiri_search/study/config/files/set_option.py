"""The option `--set key=value`: its key, and its value as the type of the key takes it."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from hiri_search.study.config.files.yaml_file import parse_value
from hiri_search.study.config.schema import StudyConfig
from hiri_search.study.config.schema_keys import Key, is_text, keys_under, long_form, may_be_text
from hiri_search.study.errors import StudyError
from hiri_search.system.redaction import redacted

_PART = r"""\s*(?:"[^"]*"|'[^']*'|[^\s.='"](?:[^.=]*[^\s.=])?)"""  # a name with a dot in it may stand in quotes
_SET = re.compile(rf"({_PART}(?:\.{_PART})*)(\s*)=(.*)", re.DOTALL)
_MAX_SHOWN = 160  # characters of an option in a message
_NOTHING = ("", "~", "null", "Null", "NULL")


def parse_set(text: str, rows: Collection[str]) -> tuple[Key, Any]:
    """Return key and value of `key=value`; `rows` are the names under `nets`. Raises StudyError for another form.

    A key that takes text takes it as it stands: no character of a path or a title has a meaning of YAML. A section
    with a short form takes text that does not begin with {.
    """
    place, written = place_of(text), _SET.fullmatch(text)
    if not written:
        raise StudyError(f"{place}: write key=value, such as --set recipe.epochs=20")
    key, value = _key(written[1], rows), written[3].lstrip() if written[2] else written[3]  # `key = value`
    if key[0] == "profiles":
        raise StudyError(f"{place}: profiles cannot be set; choose one with --profile, and set the key itself")
    if key[0] == "nets" and len(key) > 2 and key[1] not in rows and key[2] not in keys_under(StudyConfig, key[:2]):
        message = f'there is no row {key[1]!r}; a name with a dot in it stands in quotes, as in nets."a.5".note'
        raise StudyError(f"{place}: {message}")
    if is_text(StudyConfig, key):
        return key, value
    if (may_be_text(StudyConfig, key) or long_form(key)) and not value.lstrip().startswith("{"):
        return key, None if value.strip() in _NOTHING else value
    return key, parse_value(value, place, key, StudyConfig)


def as_sets(settings: Mapping[str, object] | Sequence[str]) -> list[str]:
    """Return settings as `key=value` texts: a mapping of keys to values, or the texts themselves."""
    if not isinstance(settings, Mapping):
        return list(settings)
    return [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in settings.items()]


def place_of(text: str) -> str:
    """Return the option as messages show it."""
    place = redacted(f"--set {text}")
    return place if len(place) <= _MAX_SHOWN else place[:_MAX_SHOWN] + "..."


def _key(dotted: str, rows: Collection[str]) -> Key:
    """Split a dotted key; a row's name with dots in it is one part, in quotes or not."""
    parts = [part.strip() for part in re.findall(_PART, dotted)]
    key = tuple(part[1:-1] if part[0] in "\"'" else part for part in parts)
    for end in range(len(parts) if parts[0] == "nets" else 0, 2, -1):
        if (name := ".".join(parts[1:end])) in rows:
            return (key[0], name, *key[end:])
    return key
