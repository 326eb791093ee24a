"""A study as its file says it, checked to the last key before anything is spent."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from hiri_search.language import Net, Space, SpecError, parse, parse_net, sample
from hiri_search.study.errors import StudyError
from hiri_search.study.yaml_file import Key, Tree, parse_value, read_yaml
from hiri_search.training.job import DataSource
from hiri_search.training.recipe import Recipe


Model = TypeVar("Model", bound=BaseModel)
Value = TypeVar("Value")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _as_mapping(word: str) -> Any:
    """`data: drawn` stands for `data: {source: drawn}`, and so with every short form."""
    return lambda value: {word: value} if isinstance(value, str) else value


def _as_seeds(value: Any) -> Any:
    """`seeds: 3` stands for `seeds: [0, 1, 2]`."""
    return list(range(value)) if isinstance(value, int) and not isinstance(value, bool) else value


class Row(_Strict):
    """A named network of an ablation."""

    spec: str
    paper: str | None = None  # what the paper's table calls it, where that is not its name here
    note: str = ""  # said in the report beside it


class Counted(_Strict):
    """The network whose cost is reported: at the side and for the classes of the paper."""

    side: int = Field(448, ge=1, le=8192)
    classes: int = Field(1000, ge=1)


class Proxy(_Strict):
    """How the network that is trained stands in for the one that is counted."""

    width: int = Field(1, ge=1)  # widths, head sizes and stem widths are divided by this, numbers of heads kept
    depth: int = Field(1, ge=1)  # depths are divided by this and rounded up
    side: int = Field(448, ge=1, le=8192)  # pixels that it sees
    classes: int | None = Field(None, ge=2)  # the first so many of the data's; None: all


class Search(_Strict):
    """How networks are taken from a space."""

    sampler: Literal["grid", "random"] = "random"
    networks: int = Field(20, ge=1)
    seed: int = 0


class Latency(_Strict):
    """How inference is timed, on the device of the study, for the counted network at its side."""

    batch: int = Field(1, ge=1)
    repeats: int = Field(5, ge=1)


class Study(_Strict):
    """A study file, with a profile laid over it."""

    title: str = ""
    table: str = ""  # the table of the paper that the rows belong to: "8"
    let: dict[str, str] = {}  # noqa: RUF012 - pydantic copies it
    nets: dict[str, Annotated[Row, BeforeValidator(_as_mapping("spec"))]] | None = None
    space: str | None = None
    search: Search = Search()
    counted: Counted = Counted()
    proxy: Proxy = Proxy()
    data: Annotated[DataSource, BeforeValidator(_as_mapping("source"))] = DataSource()
    recipe: Recipe = Recipe()
    seeds: Annotated[tuple[int, ...], BeforeValidator(_as_seeds)] = (0,)
    latency: Latency | None = None  # None: not measured

    @model_validator(mode="after")
    def _whole(self) -> Study:
        if (self.nets is None) == (self.space is None):
            raise ValueError("a study has either nets: (an ablation) or space: (a search)")
        if self.nets is not None and not self.nets:
            raise ValueError("nets: holds no network; write `name: spec` lines under it")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds: is a number of at least 1 or a list without repeats")
        return self


class SpaceFile(_Strict):
    """A file of `spaces/`."""

    title: str = ""
    let: dict[str, str] = {}  # noqa: RUF012 - pydantic copies it
    space: str


NO_PROFILE = "none"
SAMPLED_CHECKS = 500  # networks of a large space that are tried for size before the study starts


def read_study(path: Path, *, profile: str = NO_PROFILE, sets: Sequence[str] = ()) -> Study:
    """The study of a file with a profile laid over it, and `key=value` settings over both.

    StudyError with the file and line for whatever cannot be run, every network's spec and side included.
    """
    tree = read_yaml(path)
    content = dict(tree.content)
    profiles = content.pop("profiles", None) or {}
    place = _Places(tree, profile)
    content = _laid_over(_with_space(content, path, place), _profile(profiles, profile, place))
    for text in sets:
        key, value = _parse_set(text)
        place.sets[key] = f"--set {text}"
        content = _laid_over(content, _nested(key, value))
    study = _validated(Study, content, place)
    _check_networks(study, place)
    return study


def profiles_of(path: Path) -> tuple[str, ...]:
    """The names of a study's profiles."""
    return tuple(read_yaml(path).content.get("profiles") or ())


def read_space(path: Path) -> Space:
    """The space of a file of `spaces/`."""
    tree = read_yaml(path)
    place = _Places(tree, NO_PROFILE)
    file = _validated(SpaceFile, tree.content, place)
    return _parsed(parse, file.space, file.let, ("space",), place)


def space_of(study: Study) -> Space:
    """What a search walks."""
    assert study.space is not None
    return parse(study.space, let=study.let)


def networks_of(study: Study) -> dict[str, Net]:
    """The networks of an ablation by name."""
    return {name: parse_net(row.spec, let=study.let) for name, row in (study.nets or {}).items()}


def stand_in(net: Net, proxy: Proxy) -> Net:
    """The network that is trained for one that is counted; SpecError where it cannot be made."""
    small = net.shrunk(width=proxy.width, depth=proxy.depth)
    small.grids(proxy.side)
    return small


def meaning(study: Study) -> dict[str, Any]:
    """What decides the results of a study, in plain values: two studies that mean the same give the same."""
    plain = study.model_dump(mode="json", exclude={"title", "table", "let", "nets", "space", "latency"})
    if study.space is not None:
        return plain | {"space": str(space_of(study))}
    return plain | {"nets": {name: str(net) for name, net in networks_of(study).items()}}


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """`recipe.epochs: 12 -> 14`, for each value of two meanings that differs."""
    before, after = _flat(old), _flat(new)
    names = [*before, *(name for name in after if name not in before)]
    absent = "(absent)"
    return [
        f"{name}: {before.get(name, absent)} -> {after.get(name, absent)}"
        for name in names
        if before.get(name, absent) != after.get(name, absent)
    ]


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {name: value}
    return {k: v for key, inner in value.items() for k, v in _flat(inner, f"{name}.{key}".lstrip(".")).items()}


class _Places:
    """Says where a value came from: a line of the file, of its profile, or the command line."""

    def __init__(self, tree: Tree, profile: str) -> None:
        self.tree, self.profile = tree, profile
        self.sets: dict[Key, str] = {}

    def __call__(self, key: Key) -> str:
        for set_key, text in reversed(self.sets.items()):
            if key[: len(set_key)] == set_key:
                return text
        in_profile = ("profiles", self.profile, *key)
        return self.tree.place(in_profile if in_profile in self.tree.lines else key)

    def error(self, key: Key, message: str) -> StudyError:
        return StudyError(f"{self(key)}: {message}")


def _with_space(content: dict[str, Any], path: Path, place: _Places) -> dict[str, Any]:
    """`space: FILE.yaml` stands for the space and the names of that file, looked for beside the study."""
    name = content.get("space")
    if not isinstance(name, str) or not name.endswith(".yaml"):
        return content
    if content.get("let"):
        raise place.error(("let",), f"the names of {name} are used; let: has no meaning beside it")
    tree = read_yaml(path.parent / name)
    file = _validated(SpaceFile, tree.content, _Places(tree, NO_PROFILE))
    return content | {"space": file.space, "let": file.let}


def _profile(profiles: Any, name: str, place: _Places) -> dict[str, Any]:
    if not isinstance(profiles, dict) or not all(isinstance(p, dict) for p in profiles.values()):
        raise place.error(("profiles",), "profiles: wants `name:` with the keys to change under it")
    if name == NO_PROFILE:
        return {}
    if name not in profiles:
        known = ", ".join([*profiles, NO_PROFILE])
        raise place.error(("profiles",), f"there is no profile {name!r}; choose one of {known}")
    return dict(profiles[name])


def _parse_set(text: str) -> tuple[Key, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise StudyError(f"--set {text}: write key=value, such as --set recipe.epochs=20")
    return tuple(name.strip().split(".")), parse_value(value)


def _nested(key: Key, value: Any) -> dict[str, Any]:
    return {str(key[0]): value if len(key) == 1 else _nested(key[1:], value)}


def _laid_over(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Mappings are merged key by key; anything else is replaced."""
    merged = dict(base)
    for name, value in over.items():
        old = merged.get(name)
        if name == "data" and isinstance(old, str):
            old = {"source": old}
        merged[name] = _laid_over(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def _validated(model: type[Model], content: dict[str, Any], place: _Places) -> Model:
    try:
        return model.model_validate(content)
    except ValidationError as errors:
        first, *others = errors.errors()
        key: Key = first["loc"]
        more = f" (and {len(others)} more)" if others else ""
        raise place.error(key, _explained(model, key, first["type"], first["msg"]) + more) from errors


def _explained(model: type[BaseModel], key: Key, kind: str, message: str) -> str:
    name = ".".join(map(str, key))
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        known = _keys_of(model, key[:-1])
        near = difflib.get_close_matches(str(key[-1]), known, 1)
        hint = f"did you mean {near[0]}?" if near else f"there is {', '.join(known)}"
        return f"{name} is not known; {hint}"
    return f"{name}: {message.removeprefix('Value error, ')}".removeprefix(": ")


def _keys_of(model: type[BaseModel], key: Key) -> list[str]:
    """The keys that may stand under `key`."""
    if not key:
        return [*model.model_fields, "profiles"]
    known: Any = Row if key[0] == "nets" else type(model.model_fields[str(key[0])].default)
    known = Latency if known is type(None) else known
    return list(getattr(known, "model_fields", None) or known.__dataclass_fields__)


def _parsed(read: Callable[..., Value], text: str, let: dict[str, str], key: Key, place: _Places) -> Value:
    try:
        return read(text, let=let)
    except SpecError as error:
        raise place.error(key, f"{'.'.join(map(str, key))}: {error}") from error


def _check_networks(study: Study, place: _Places) -> None:
    """Every network parses, and fits the side it is counted at and the one it is trained at."""
    for name, row in (study.nets or {}).items():
        net = _parsed(parse_net, row.spec, study.let, ("nets", name), place)
        _check_sides(study, net, ("nets", name), place)
    if study.space is not None:
        space: Space = _parsed(parse, study.space, study.let, ("space",), place)
        for net in _some(space):
            _check_sides(study, net, ("space",), place)


def _some(space: Space) -> Iterable[Net]:
    if space.size <= SAMPLED_CHECKS:
        return space
    rng = Random(0)
    return (sample(space, rng) for _ in range(SAMPLED_CHECKS))


def _check_sides(study: Study, net: Net, key: Key, place: _Places) -> None:
    for part, check in (("counted", lambda: net.grids(study.counted.side)), ("proxy", lambda: stand_in(net, study.proxy))):
        try:
            check()
        except SpecError as error:
            raise place.error((part,), f"{part} of {'.'.join(map(str, key))}: {error}") from error
