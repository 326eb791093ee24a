"""Strict YAML: duplicate keys refused, every key with its line."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from hiri_search.study.config.schema_keys import Key, is_number, is_text, may_be_text, overridden
from hiri_search.study.errors import StudyError
from hiri_search.system.text import with_joined_surrogates
from hiri_search.system.units import MAX_INTEGER

STANDARD_INPUT = Path("/dev/stdin")
MAX_BYTES = 10**6  # of a file, so that an archive or a device given by mistake is not read to its end
MAX_NODES_PER_FILE = 20_000
MAX_NESTING = 50  # levels of mappings and lists
MERGE = "<<"  # key whose mapping is merged under the keys beside it
QUOTE = "a text with `: ` in it, or with a special character at its beginning, needs quotes"
TOO_DEEP = f"more than {MAX_NESTING} nested mappings or lists (does an alias contain itself?)"


@dataclass(frozen=True)
class Tree:
    """Content of a YAML file, and the line of each key."""

    path: Path
    content: dict[str, Any]
    lines: dict[Key, int]

    @property
    def folder(self) -> Path:
        """The folder that paths in the file are relative to; for a pipe, the working folder."""
        return self.path.parent if self.path.is_file() else Path()

    def location(self, key: Key) -> str:
        """Return file and line, `studies/x.yaml:12`, of the key or of the nearest enclosing key."""
        while key and key not in self.lines:
            key = key[:-1]
        return f"{self.path}:{self.lines[key]}" if key else str(self.path)


class _Loader(yaml.SafeLoader):
    """YAML loader with the scalar types of YAML 1.2: `no` and `on` are text, `1e-3` is a number."""

    def compose_scalar_node(self, anchor: Any) -> yaml.ScalarNode:
        node = super().compose_scalar_node(anchor)
        node.value = with_joined_surrogates(node.value)  # JSON writes a character as two escapes, YAML reads two
        return node


TAG = "tag:yaml.org,2002:"
SCALARS: dict[str, Callable[[str], Any]] = {
    "null": lambda text: None,
    "bool": lambda text: text.lower() == "true",
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


def read_yaml(path: Path, model: type[Any]) -> Tree:
    """Read a file that holds a mapping of the schema `model`; `-` is standard input.

    Raises StudyError with the line at fault.
    """
    try:
        with (STANDARD_INPUT if path == Path("-") else path).open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        text = content.decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise StudyError(f"{path} cannot be read: {reason}") from error
    if len(content) > MAX_BYTES:
        raise StudyError(f"{path} has more than {MAX_BYTES:,} bytes; give a YAML file")
    return parse_yaml(text, path, model)


def parse_yaml(text: str, path: Path, model: type[Any]) -> Tree:
    """Parse a text as `read_yaml` parses a file; `path` is named in errors."""
    lines: dict[Key, int] = {}
    content = _read(text, str(path), (), model, lines)
    if not isinstance(content, dict):
        raise StudyError(f"{path} holds no mapping; write `key: value` lines")
    return Tree(path, content, lines)


def parse_value(text: str, origin: str, key: Key, model: type[Any]) -> Any:
    """Parse the YAML value of a key; errors name `origin`."""
    return _read(text, origin, key, model, None)


def to_yaml(content: Mapping[str, Any]) -> str:
    """Return plain values as YAML that `parse_yaml` reads, with the innermost mappings and lists on one line."""
    text: str = yaml.safe_dump(dict(content), sort_keys=False, default_flow_style=None, allow_unicode=True, width=118)
    return text


def _read(text: str, origin: str, key: Key, model: type[Any], lines: dict[Key, int] | None) -> Any:
    """Parse a text and record the line of each key in `lines`; where `lines` is None, errors name no line."""

    def error(mark: yaml.Mark | None, message: str) -> StudyError:
        line = f":{mark.line + 1}" if lines is not None and mark else ""
        return StudyError(f"{origin}{line}: {message}")

    try:
        loader = _Loader(text)
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as failed:
        reasons = filter(None, (failed.context, failed.problem))
        raise error(failed.problem_mark, f"this is not YAML: {', '.join(reasons)}; {QUOTE}") from failed
    except yaml.reader.ReaderError as failed:
        raise error(None, f"this is not YAML: {failed.reason} ({text[failed.position]!r})") from failed
    except RecursionError as failed:
        raise error(None, TOO_DEEP) from failed
    except ValueError as failed:  # an escaped character that does not exist
        raise error(None, f"this is not YAML: {failed}") from failed
    try:
        return None if node is None else _Reader(error, model, {} if lines is None else lines).read(node, key)
    except RecursionError as failed:  # a mapping that is merged into itself
        raise error(None, TOO_DEEP) from failed


class _Reader:
    """Converts YAML nodes to plain values, records lines, and refuses what YAML would drop silently."""

    def __init__(
        self, error: Callable[[yaml.Mark | None, str], StudyError], model: type[Any], lines: dict[Key, int]
    ) -> None:
        self.error, self.model, self.lines = error, model, lines
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
                return self._scalar(node, kind, key)
        raise self.error(node.start_mark, f"the tag {node.tag} is not supported; remove it")

    def _scalar(self, node: yaml.ScalarNode, kind: str, key: Key) -> Any:
        """Return the value of a scalar: of a key that takes text its own text, so that `title: 1.10` is "1.10"."""
        own_key = overridden(key)
        if is_text(self.model, own_key) or (kind != "null" and may_be_text(self.model, own_key)):
            return node.value
        if kind == "bool" and is_number(self.model, own_key):
            return node.value  # pydantic would take true for the number 1
        try:
            value = SCALARS[kind](node.value)
        except ValueError as failed:  # a number of thousands of digits, or with an explicit tag: `!!int many`
            message = f"{node.value[:40]!r} cannot be read as {kind}; remove the tag, or write another number"
            raise self.error(node.start_mark, message) from failed
        if isinstance(value, int) and abs(value) > MAX_INTEGER:
            raise self.error(node.start_mark, f"{value} does not fit into 64 bits; write a smaller number")
        return value

    def _mapping(self, node: yaml.MappingNode, key: Key) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        merges = [value for name, value in node.value if _is_merge(name)]
        merged = self._merged(merges, key)  # first, so that a key beside it has its own line
        for name_node, value in node.value:
            if _is_merge(name_node):
                continue
            if not isinstance(name_node, yaml.ScalarNode):
                raise self.error(name_node.start_mark, "a key must be plain text; quote it if it begins with [ or {")
            name = name_node.value
            if name in mapping:
                first = self.lines[(*key, name)]
                message = f"duplicate key {name!r}, first in line {first}; remove one of the two"
                raise self.error(name_node.start_mark, message)
            self.lines[(*key, name)] = name_node.start_mark.line + 1
            mapping[name] = self.read(value, (*key, name))
        return merged | mapping

    def _merged(self, nodes: list[yaml.Node], key: Key) -> dict[str, Any]:
        """Return the keys of the mappings after `<<`, or in lists after it; of two equal keys the first one's value."""
        merged: dict[str, Any] = {}
        for node in nodes:
            for part in node.value if isinstance(node, yaml.SequenceNode) else [node]:
                if not isinstance(part, yaml.MappingNode):
                    message = f"{MERGE} merges a mapping, as in {MERGE}: *name; quote it to use it as a name"
                    raise self.error(part.start_mark, message)
                merged = self.read(part, key) | merged
        return merged


def _is_merge(name: yaml.Node) -> bool:
    return isinstance(name, yaml.ScalarNode) and name.value == MERGE and name.style is None
