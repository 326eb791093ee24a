"""Decision diagram of a space: states merged when what is left to decide and its cost are the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import TypeAlias

from hiri_search.kinds import Cffn
from hiri_search.language import Net, Part, Space, SpecError, Stage, Stem
from hiri_search.language.net import STEM_STRIDE, default_down, default_stem, default_stride
from hiri_search.language.stages import KINDS, make_part
from hiri_search.language.syntax_tree import Leaf, Options, Term
from hiri_search.nets.pieces import PlacedPiece, placed_pieces

TERMINAL = 0  # number of the terminal node, where every decision is made
MAX_NODES = 100_000
_CACHE_SIZE = 2**14


class TooManyNodes(Exception):
    """The decision diagram of a space has more than MAX_NODES nodes."""


@dataclass(frozen=True)
class Edge:
    """One option of a decision: the pieces that are fixed by it, and the number of the next node."""

    pieces: tuple[PlacedPiece, ...]
    target: int


@dataclass(frozen=True)
class Node:
    """A decision; an edge is None where no completion fits the side."""

    name: str
    options: Options
    edges: tuple[Edge | None, ...]


@dataclass(frozen=True)
class DecisionDiagram:
    """The nodes of a space, TERMINAL first and every node after its successors, and the edge to the first decision.

    `start` is None where no network of the space fits the side. Every node except TERMINAL has at least one edge.
    """

    start: Edge | None
    nodes: tuple[Node, ...]


def build_diagram(space: Space, side: int, *, classes: int = 1000) -> DecisionDiagram:
    """Return the decision diagram of a space for square inputs of `side` pixels; may raise TooManyNodes."""
    builder = _DiagramBuilder(classes)
    start = builder.advance(builder.intern(space.root, "", (), 0, None), _Prefix(side))
    numbers: dict[_State | None, int | None] = {None: TERMINAL}  # None for a state without a completion that fits
    nodes = [Node("", (), ())]
    for state, transitions in builder.bottom_up(start[1] if start else None):
        node = Node(*state[0].decision, tuple(_edge(move, numbers) for move in transitions))
        numbers[state] = len(nodes) if any(node.edges) else None
        nodes += [node] if any(node.edges) else []
    return DecisionDiagram(_edge(start, numbers), tuple(nodes))


_Values: TypeAlias = tuple[tuple[str, int | str], ...]


@dataclass(frozen=True, eq=False)
class _Remaining:
    """The undecided rest of a walk: the current term, its values decided so far, and the terms after it."""

    term: Term
    name_prefix: str  # of the names of the term's decisions
    values: _Values
    decided: int  # of the term's own arguments
    rest: _Remaining | None
    min_stages: int  # in `term` and `rest` together
    max_stages: int

    @cached_property
    def decision(self) -> tuple[str, Options]:
        """Name and options of the next decision; no options where a stem or stage is decided completely."""
        if self.decided < len(self.term.arguments):
            argument = self.term.arguments[self.decided]
            return self.name_prefix + argument.letter, argument.options
        return self.name_prefix + "which", () if isinstance(self.term, Leaf) else self.term.labels


@dataclass(frozen=True)
class _PendingStage:
    """A stage whose default downsampling depends on the number of stages after it."""

    stage: Stage
    channels: int  # of its input
    side: int  # of the grid before its downsampling
    stages_after: int = 0  # so far


@dataclass(frozen=True)
class _Prefix:
    """The network built so far, reduced to what can change the cost of later parts."""

    side: int  # of the grid; of the input before the first stage
    stem: Stem = default_stem()  # noqa: RUF009 - a frozen value
    channels: int = 0  # 0 before the first stage
    pending: tuple[_PendingStage, ...] = ()


_State: TypeAlias = tuple[_Remaining, _Prefix]  # of a walk with at least one decision left
_Transition: TypeAlias = tuple[tuple[PlacedPiece, ...], _State | None]  # an edge whose target has no number yet


class _DiagramBuilder:
    def __init__(self, classes: int) -> None:
        self.classes = classes
        self._interned: dict[tuple[int, str, _Values, int, _Remaining | None], _Remaining] = {}

    def bottom_up(self, start: _State | None) -> Iterator[tuple[_State, list[_Transition | None]]]:
        """Every state reachable from `start` with its transitions, each state after its successors.

        Iterative, because a space may have more decisions in a row than Python allows recursive calls.
        """
        transitions: dict[_State, list[_Transition | None]] = {}
        done: set[_State] = set()
        stack = [start] if start else []
        while stack:
            state = stack[-1]
            if state not in transitions:
                options = range(len(state[0].decision[1]))
                transitions[state] = [self.advance(self._decide(state[0], index), state[1]) for index in options]
            if len(transitions) > MAX_NODES:
                raise TooManyNodes
            successors = [move[1] for move in transitions[state] if move and move[1] and move[1] not in done]
            stack.extend(successors)
            if not successors:
                stack.pop()
                if state not in done:
                    done.add(state)
                    yield state, transitions[state]

    def advance(self, remaining: _Remaining | None, prefix: _Prefix) -> _Transition | None:
        """Add parts until a decision has two or more options; None where a grid side is not a whole number."""
        pieces: list[PlacedPiece] = []
        try:
            while remaining is not None and len(options := remaining.decision[1]) < 2:
                if options:
                    remaining = self._decide(remaining, 0)
                    continue
                assert isinstance(remaining.term, Leaf)
                new, prefix = _add_part(prefix, make_part(remaining.term.kind, remaining.values), remaining.rest)
                pieces += new
                remaining = remaining.rest
        except SpecError:
            return None
        if remaining is None:
            net = _net_after(prefix.channels)
            return (*pieces, *_pieces_named(net, STEM_STRIDE * prefix.side, "head", classes=self.classes)), None
        return tuple(pieces), (remaining, prefix)

    def _decide(self, remaining: _Remaining, index: int) -> _Remaining | None:
        term, name_prefix, values = remaining.term, remaining.name_prefix, remaining.values
        if remaining.decided < len(term.arguments):
            choice = term.arguments[remaining.decided]
            values = (*values, (choice.letter, choice.options[index]))
            return self.intern(term, name_prefix, values, remaining.decided + 1, remaining.rest)
        assert not isinstance(term, Leaf)
        rest = remaining.rest
        for inner, address in reversed(list(zip(term.paths[index], term.addresses[index], strict=True))):
            rest = self.intern(inner, name_prefix + address, values, 0, rest)
        return rest

    def intern(self, term: Term, prefix: str, values: _Values, decided: int, rest: _Remaining | None) -> _Remaining:
        """The only object with these fields, so that its identity is its hash key, however long `rest` is."""
        key = (id(term), prefix, values, decided, rest)
        if key not in self._interned:
            least, most = _stage_range(term)
            if rest:
                least, most = least + rest.min_stages, most + rest.max_stages
            self._interned[key] = _Remaining(term, prefix, values, decided, rest, least, most)
        return self._interned[key]


def _edge(transition: _Transition | None, numbers: dict[_State | None, int | None]) -> Edge | None:
    target = numbers[transition[1]] if transition else None
    return None if transition is None or target is None else Edge(transition[0], target)


def _stage_range(term: Term) -> tuple[int, int]:
    """The minimum and maximum number of stages of a term."""
    if isinstance(term, Leaf):
        stages = int(issubclass(KINDS[term.kind], Stage))
        return stages, stages
    paths = [[_stage_range(inner) for inner in path] for path in term.paths]
    return min(sum(low for low, _ in path) for path in paths), max(sum(high for _, high in path) for path in paths)


def _add_part(prefix: _Prefix, part: Part, rest: _Remaining | None) -> tuple[list[PlacedPiece], _Prefix]:
    """The pieces that are fixed once `part` is added, and the new prefix."""
    if isinstance(part, Stem):
        return [], replace(prefix, stem=part)
    assert isinstance(part, Stage)
    if not prefix.channels:
        pieces = list(_pieces_named(Net.of([prefix.stem, part]), prefix.side, "stem", "stage1"))
        return pieces, _Prefix(prefix.side // STEM_STRIDE, channels=part.width)
    least, most = (rest.min_stages, rest.max_stages) if rest else (0, 0)
    pieces, pending = [], []
    earlier = [replace(entry, stages_after=entry.stages_after + 1) for entry in prefix.pending]
    for entry in (*earlier, _PendingStage(part, prefix.channels, prefix.side)):
        if entry.stage.down or entry.stages_after + least >= 2 or entry.stages_after + most < 2:
            down = entry.stage.down or default_down(1, entry.stages_after + least)
            stage = replace(entry.stage, down=down, stride=entry.stage.stride or default_stride(down))
            pieces += _pieces_named(_net_after(entry.channels, stage), STEM_STRIDE * entry.side, "down2", "stage2")
        else:
            pending.append(entry)
    stride = part.stride or default_stride(part.down or default_down(1, 0))  # equal for all default downsamplings
    return pieces, _Prefix(prefix.side // stride, channels=part.width, pending=tuple(pending))


# Only `placed_pieces` knows the pieces of a network and their grids. It is called with the smallest network in which a
# stage has the pieces that it has in the whole network. Of the stage before, only the width matters.


def _net_after(width: int, *stages: Stage) -> Net:
    return Net(default_stem(), (Cffn(width=width, expansion=1, down="none", stride=1), *stages))


@lru_cache(_CACHE_SIZE)
def _pieces_named(net: Net, side: int, *names: str, classes: int = 1000) -> tuple[PlacedPiece, ...]:
    return tuple(placed for placed in placed_pieces(net, side, classes=classes) if placed.name in names)
