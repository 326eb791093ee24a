"""Decision diagram of a space: states merged when what is left to decide and its cost are the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TypeAlias

from hiri_search.language import Cffn, HrStem, Net, Part, Space, SpecError, Stage
from hiri_search.language.net import STEM_STRIDE, default_down, default_stride
from hiri_search.language.stages import KINDS, names
from hiri_search.language.syntax_tree import Leaf, Options, Term
from hiri_search.nets.pieces import PlacedPiece, placed_pieces

END = 0  # the number of the fork where nothing is left to decide
MAX_NODES = 100_000
_CACHE_SIZE = 2**14


class TooManyNodes(Exception):
    """A space with more forks than can be charted."""


@dataclass(frozen=True)
class Edge:
    """An answer at a fork: the pieces that it settles, and the number of the next fork."""

    placed: tuple[PlacedPiece, ...]
    to: int


@dataclass(frozen=True)
class Node:
    """A decision; a branch is None where no network would fit the side."""

    name: str
    options: Options
    edges: tuple[Edge | None, ...]


@dataclass(frozen=True)
class DecisionDiagram:
    """The forks of a space, END first and each behind those that it leads to, and the way to the first decision.

    No start is where no network of the space fits the side; a fork has at least one branch.
    """

    start: Edge | None
    nodes: tuple[Node, ...]


def build_diagram(space: Space, side: int, *, classes: int = 1000) -> DecisionDiagram:
    """The forks of a space for square inputs of `side` pixels; TooMany where there are over MOST_FORKS."""
    return _Charting(side, classes).chart(space)


_Values: TypeAlias = tuple[tuple[str, int | str], ...]


@dataclass(frozen=True, eq=False)
class _Rest:
    """What is left of a walk: a term, what is decided for it, and what comes behind."""

    term: Term
    name: str
    values: _Values
    decided: int  # of the term's own arguments
    behind: _Rest | None
    least: int  # stages from here on
    most: int

    @property
    def options(self) -> Options:
        """What can be answered next; nothing at a part that is all decided."""
        if self.decided < len(self.term.arguments):
            return self.term.arguments[self.decided].options
        return () if isinstance(self.term, Leaf) else self.term.labels

    @property
    def asked(self) -> str:
        """The name of the next decision."""
        if self.decided < len(self.term.arguments):
            return self.name + self.term.arguments[self.decided].letter
        return self.name + "which"


@dataclass(frozen=True)
class _Open:
    """A stage whose default downsampling hangs on how many stages will follow."""

    stage: Stage
    channels: int
    side: int  # of the grid it comes down from
    behind: int = 0  # stages that follow so far


@dataclass(frozen=True)
class _Front:
    """What the parts to come are built on; nothing else of a walk's past changes their cost."""

    side: int  # of the grid; of the input while no stage stands
    stem: Part = HrStem()  # noqa: RUF009 - a frozen value
    channels: int = 0  # 0: no stage stands
    open: tuple[_Open, ...] = ()


_State: TypeAlias = tuple[_Rest, _Front]  # of a walk that has something left to decide
_Way: TypeAlias = tuple[tuple[PlacedPiece, ...], _State | None]  # a branch before its fork has a number


class _Charting:
    def __init__(self, side: int, classes: int) -> None:
        self.side, self.classes = side, classes
        self._rests: dict[tuple[int, str, _Values, int, _Rest | None], _Rest] = {}

    def chart(self, space: Space) -> DecisionDiagram:
        start = self._way(self._rest(space.root, "", (), 0, None), _Front(self.side))
        numbers: dict[_State | None, int | None] = {None: END}  # to None: nothing behind it fits the side
        forks = [Node("", (), ())]
        for state, ways in self._from_the_end(start[1] if start else None):
            fork = Node(state[0].asked, state[0].options, tuple(_branch(way, numbers) for way in ways))
            numbers[state] = len(forks) if any(fork.edges) else None
            forks += [fork] if any(fork.edges) else []
        return DecisionDiagram(_branch(start, numbers), tuple(forks))

    def _from_the_end(self, start: _State | None) -> Iterator[tuple[_State, list[_Way | None]]]:
        """Every state from here on, each after those that it leads to.

        Without recursion, for a space may have more decisions in a row than Python has frames.
        """
        ways: dict[_State, list[_Way | None]] = {}
        done: set[_State] = set()
        stack = [start] if start else []
        while stack:
            state = stack[-1]
            if state not in ways:
                ways[state] = self._ways(*state)
            if len(ways) > MAX_NODES:
                raise TooManyNodes
            ahead = [way[1] for way in ways[state] if way and way[1] and way[1] not in done]
            stack.extend(ahead)
            if not ahead:
                stack.pop()
                if state not in done:
                    done.add(state)
                    yield state, ways[state]

    def _ways(self, rest: _Rest, front: _Front) -> list[_Way | None]:
        return [self._way(self._answered(rest, index), front) for index in range(len(rest.options))]

    def _way(self, rest: _Rest | None, front: _Front) -> _Way | None:
        """On to the next decision, past all that is none; None where a grid is no whole number."""
        placed: list[PlacedPiece] = []
        try:
            while rest is not None and len(rest.options) < 2:
                if rest.options:
                    rest = self._answered(rest, 0)
                    continue
                assert isinstance(rest.term, Leaf)
                new, front = _joined(front, _part(rest.term.kind, rest.values), rest.behind)
                placed += new
                rest = rest.behind
        except SpecError:
            return None
        if rest is None:
            return (*placed, _head(front.channels, front.side, self.classes)), None
        return tuple(placed), (rest, front)

    def _answered(self, rest: _Rest, index: int) -> _Rest | None:
        term, name, values = rest.term, rest.name, rest.values
        if rest.decided < len(term.arguments):
            given = term.arguments[rest.decided]
            values = (*values, (given.letter, given.options[index]))
            return self._rest(term, name, values, rest.decided + 1, rest.behind)
        assert not isinstance(term, Leaf)
        behind = rest.behind
        for inner, address in reversed(list(zip(term.paths[index], term.addresses[index], strict=True))):
            behind = self._rest(inner, name + address, values, 0, behind)
        return behind

    def _rest(self, term: Term, name: str, values: _Values, decided: int, behind: _Rest | None) -> _Rest:
        """The one object that stands for this: so that it is its own key, however much comes behind."""
        key = (id(term), name, values, decided, behind)
        if key not in self._rests:
            least, most = _stages(term)
            if behind:
                least, most = least + behind.least, most + behind.most
            self._rests[key] = _Rest(term, name, values, decided, behind, least, most)
        return self._rests[key]


def _branch(way: _Way | None, numbers: dict[_State | None, int | None]) -> Edge | None:
    to = numbers[way[1]] if way else None
    return None if way is None or to is None else Edge(way[0], to)


def _stages(term: Term) -> tuple[int, int]:
    """The fewest and the most stages of a term."""
    if isinstance(term, Leaf):
        stages = int(issubclass(KINDS[term.kind], Stage))
        return stages, stages
    paths = [[_stages(inner) for inner in path] for path in term.paths]
    return min(sum(low for low, _ in path) for path in paths), max(sum(high for _, high in path) for path in paths)


@lru_cache(_CACHE_SIZE)
def _part(kind: str, values: _Values) -> Part:
    fields = names(KINDS[kind])
    return KINDS[kind](**{fields[letter]: value for letter, value in values})


def _joined(front: _Front, part: Part, behind: _Rest | None) -> tuple[list[PlacedPiece], _Front]:
    """The pieces that are settled with one part more, and what the next is built on."""
    if not isinstance(part, Stage):
        return [], replace(front, stem=part)
    if not front.channels:
        return list(_first(front.stem, part, front.side)), _Front(front.side // STEM_STRIDE, channels=part.width)
    before = [replace(stage, behind=stage.behind + 1) for stage in front.open]
    least, most = (behind.least, behind.most) if behind else (0, 0)
    placed: list[PlacedPiece] = []
    still: list[_Open] = []
    for each in (*before, _Open(part, front.channels, front.side)):
        if each.stage.down or each.behind + least >= 2 or each.behind + most < 2:
            placed += _behind(each.channels, _placed(each.stage, each.behind + least), each.side)
        else:
            still.append(each)
    stride = part.stride or default_stride(part.down or default_down(1, 0))  # one for all default downsamplings
    return placed, _Front(front.side // stride, channels=part.width, open=tuple(still))


def _placed(stage: Stage, behind: int) -> Stage:
    down = stage.down or default_down(1, behind)
    return replace(stage, down=down, stride=stage.stride or default_stride(down))


# Where pieces stand, and on which grids, is said by `place` alone: it is asked about the smallest network in which the
# stage stands as it does in the whole. What stands in front of a stage counts by its width only.


@lru_cache(_CACHE_SIZE)
def _first(stem: Part, stage: Stage, side: int) -> tuple[PlacedPiece, ...]:
    return tuple(_named(Net.of([stem, stage]), side, "stem", "stage1"))


@lru_cache(_CACHE_SIZE)
def _behind(channels: int, stage: Stage, side: int) -> tuple[PlacedPiece, ...]:
    return tuple(_named(Net(HrStem(), (_any(channels), stage)), STEM_STRIDE * side, "down2", "stage2"))


@lru_cache(_CACHE_SIZE)
def _head(channels: int, side: int, classes: int) -> PlacedPiece:
    return next(_named(Net(HrStem(), (_any(channels),)), STEM_STRIDE * side, "head", classes=classes))


def _any(width: int) -> Stage:
    return Cffn(width=width, expansion=1, down="none", stride=1)


def _named(net: Net, side: int, *wanted: str, classes: int = 1000) -> Iterator[PlacedPiece]:
    return (placed for placed in placed_pieces(net, side, classes=classes) if placed.name in wanted)
