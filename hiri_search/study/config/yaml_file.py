"""Strict YAML: duplicate keys refused, every key with its line."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from hiri_search.study.errors import StudyError

Key = tuple[str | int, ...]  # where a value stands: ("recipe", "epochs")

MAX_NODES_PER_FILE = 20_000
MAX_NESTING = 50  # mappings and lists inside each other
TOO_DEEP = f"more than {MAX_NESTING} mappings or lists inside each other (does an alias contain itself?)"


@dataclass(frozen=True)
class Tree:
    """What a file says, and the line of each of its keys."""

    path: Path
    content: dict[str, Any]
    lines: dict[Key, int]

    def place(self, key: Key) -> str:
        """`studies/x.yaml:12`, of the key itself or of the nearest one around it."""
        while key and key not in self.lines:
            key = key[:-1]
        return f"{self.path}:{self.lines[key]}" if key else str(self.path)


class _Loader(yaml.SafeLoader):
    """YAML 1.2's idea of words: `no` and `on` are words, `1e-3` is a number."""


TAG = "tag:yaml.org,2002:"
SCALARS: dict[str, Callable[[str], Any]] = {
    "null": lambda word: None,
    "bool": lambda word: word.lower() == "true",
    "int": int,
    "float": float,
    "str": str,
}
_NUMBER_FIRST = list("-+.0123456789")
_Loader.yaml_implicit_resolvers = {}
for _name, _pattern, _first in (
    ("null", r"^(~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("bool", r"^(true|false|True|False|TRUE|FALSE)$", list("tfTF")),
    ("int", r"^[-+]?(0|[1-9][0-9]*)$", _NUMBER_FIRST),
    ("float", r"^[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?$", _NUMBER_FIRST),
):
    _Loader.add_implicit_resolver(TAG + _name, re.compile(_pattern), _first)


def read_yaml(path: Path) -> Tree:
    """The mapping that a file holds; StudyError with the line where it is none."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise StudyError(f"{path} cannot be read: {reason}") from error
    return parse_yaml(text, path)


def parse_yaml(text: str, path: Path) -> Tree:
    """As `read_yaml`, of a text."""
    lines: dict[Key, int] = {}
    content = _read(text, str(path), lines)
    if not isinstance(content, dict):
        raise StudyError(f"{path} holds no mapping; write `key: value` lines")
    return Tree(path, content, lines)


def parse_value(text: str, origin: str) -> Any:
    """One value as a YAML file would hold it; `origin` is named where it is none."""
    return _read(text, origin, None)


def _read(text: str, origin: str, lines: dict[Key, int] | None) -> Any:
    """What a text says; the lines of its keys are noted, and where there are None no line is named."""

    def error(mark: yaml.Mark | None, message: str) -> StudyError:
        line = f":{mark.line + 1}" if lines is not None and mark else ""
        return StudyError(f"{origin}{line}: {message}")

    try:
        loader = _Loader(text)
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as failed:
        said = filter(None, (failed.context, failed.problem))
        raise error(failed.problem_mark, f"this is not YAML: {', '.join(said)}") from failed
    except yaml.reader.ReaderError as failed:
        raise error(None, f"this is not YAML: {failed.reason} ({text[failed.position]!r})") from failed
    except RecursionError as failed:
        raise error(None, TOO_DEEP) from failed
    return None if node is None else _Reader(error, {} if lines is None else lines).read(node, ())


class _Reader:
    """Walks YAML nodes to plain values, noting lines and refusing what would be lost in silence."""

    def __init__(self, error: Callable[[yaml.Mark | None, str], StudyError], lines: dict[Key, int]) -> None:
        self.error, self.lines = error, lines
        self.nodes = 0

    def read(self, node: yaml.Node, key: Key) -> Any:
        self.nodes += 1
        if self.nodes > MAX_NODES_PER_FILE:
            raise self.error(node.start_mark, f"more than {MAX_NODES_PER_FILE:,} values, counting each use of an alias")
        if len(key) > MAX_NESTING:  # also ends an alias that contains itself
            raise self.error(node.start_mark, TOO_DEEP)
        self.lines.setdefault(key, node.start_mark.line + 1)
        match node, node.tag.removeprefix(TAG):
            case yaml.MappingNode(), "map":
                return self._mapping(node, key)
            case yaml.SequenceNode(), "seq":
                return [self.read(item, (*key, index)) for index, item in enumerate(node.value)]
            case yaml.ScalarNode(), kind if kind in SCALARS:
                return self._scalar(node, kind)
        raise self.error(node.start_mark, f"the tag {node.tag} has no meaning here; take it away")

    def _scalar(self, node: yaml.ScalarNode, kind: str) -> Any:
        try:
            return SCALARS[kind](node.value)
        except ValueError as failed:  # only where the kind is written: `!!int many`
            message = f"{node.value[:40]!r} cannot be read as {kind}; take the tag away"
            raise self.error(node.start_mark, message) from failed

    def _mapping(self, node: yaml.MappingNode, key: Key) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name_node, value in node.value:
            if not isinstance(name_node, yaml.ScalarNode):
                raise self.error(name_node.start_mark, "a key must be a word; quote it if it begins with [ or {")
            name = name_node.value
            if name in found:
                first = self.lines[(*key, name)]
                message = f"{name!r} is there twice, first in line {first}; leave one out, or the first would be lost"
                raise self.error(name_node.start_mark, message)
            self.lines[(*key, name)] = name_node.start_mark.line + 1
            found[name] = self.read(value, (*key, name))
        return found
