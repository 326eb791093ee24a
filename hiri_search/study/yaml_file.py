"""YAML read strictly: repeated keys refused, every key with its place, numbers and words as people mean them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from hiri_search.study.errors import StudyError

Key = tuple[str | int, ...]  # where a value stands: ("recipe", "epochs")

MOST_NODES = 20_000


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


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in pairs if tag.rsplit(":")[-1] not in ("bool", "float", "timestamp", "int")]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_NUMBER_FIRST = list("-+.0123456789")
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(true|false|True|False)$"), list("tfTF"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?(0|[1-9][0-9]*)$"), _NUMBER_FIRST)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?$"), _NUMBER_FIRST
)


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
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if not isinstance(node, yaml.MappingNode):
            raise StudyError(f"{path} holds no mapping; write `key: value` lines")
        reader = _Reader(loader, path)
        return Tree(path, reader.read(node, ()), reader.lines)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise StudyError(f"{path}:{line}: this is not YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise StudyError(f"{path}: this is not YAML: {error}") from error
    finally:
        loader.dispose()


def parse_value(text: str) -> Any:
    """One value as a YAML file would hold it, for the command line."""
    return parse_yaml(f"value: {text}", Path("--set")).content["value"]


class _Reader:
    """Walks YAML nodes to plain values, noting lines and refusing what would be lost in silence."""

    def __init__(self, loader: _Loader, path: Path) -> None:
        self.loader, self.path = loader, path
        self.lines: dict[Key, int] = {}
        self.nodes = 0

    def read(self, node: yaml.Node, key: Key) -> Any:
        self.nodes += 1
        if self.nodes > MOST_NODES:  # also ends an alias that contains itself
            raise StudyError(f"{self.path}: more than {MOST_NODES} values, counting each use of an alias")
        self.lines.setdefault(key, node.start_mark.line + 1)
        match node:
            case yaml.MappingNode():
                return self._mapping(node, key)
            case yaml.SequenceNode():
                return [self.read(item, (*key, index)) for index, item in enumerate(node.value)]
        return self.loader.construct_object(node)  # type: ignore[no-untyped-call]

    def _mapping(self, node: yaml.MappingNode, key: Key) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name_node, value in node.value:
            line = name_node.start_mark.line + 1
            if not isinstance(name_node, yaml.ScalarNode):
                raise StudyError(f"{self.path}:{line}: a key must be a word")
            name = name_node.value
            if name in found:
                raise StudyError(
                    f"{self.path}:{line}: {name!r} is there twice, first in line {self.lines[(*key, name)]};"
                    " the first would be lost"
                )
            self.lines[(*key, name)] = line
            found[name] = self.read(value, (*key, name))
        return found
