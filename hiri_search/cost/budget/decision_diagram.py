"""Decision diagram of a space: states merged when what is left to decide and its cost are the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TypeAlias

from hiri_search.kinds import Cffn
from hiri_search.language import Net, Part, Space, SpecError, Stage, Stem, TimmNetwork
from hiri_search.language.net import STEM_STRIDE, default_down, default_stem, default_stride
from hiri_search.language.relations.pending import Pending, at_end, with_part
from hiri_search.language.relations.remainders import Remainder, Remainders, bottom_up
from hiri_search.language.space import Decisions
from hiri_search.language.syntax_tree import Option, Options
from hiri_search.nets.pieces import PlacedPiece, placed_pieces

TERMINAL = 0  # number of the terminal node, where every decision is made
MAX_NODES = 100_000
_CACHE_SIZE = 2**14


@dataclass(frozen=True)
class Edge:
    """One option of a decision: the pieces that are fixed by it, and the number of the next node.

    The costs of a network of timm are no sum over pieces: its last decision fixes the whole network.
    """

    pieces: tuple[PlacedPiece, ...]
    target: int
    network: TimmNetwork | None = None


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


def build_diagram(space: Space, side: int, *, classes: int = 1000, relations: Pending | None = None) -> DecisionDiagram:
    """Return the decision diagram of a space for square inputs of `side` pixels; may raise TooManyStates.

    An edge is also None where no completion satisfies the relations.
    """
    builder = _DiagramBuilder(classes)
    start = builder.advance(builder.remainders.start(space.root), _Prefix(side, relations=relations))
    numbers: dict[_State | None, int | None] = {None: TERMINAL}  # None for a state without a completion that fits
    nodes = [Node("", (), ())]
    first = start[1] if start else None
    for state in bottom_up(first, builder.successors, limit=MAX_NODES):
        node = Node(*state[0].decision, tuple(_edge(move, numbers) for move in builder.transitions.pop(state)))
        numbers[state] = len(nodes) if any(node.edges) else None
        nodes += [node] if any(node.edges) else []
    return DecisionDiagram(_edge(start, numbers), tuple(nodes))


def listed_diagram(walks: Sequence[tuple[TimmNetwork, Decisions]], options: Mapping[str, Options]) -> DecisionDiagram:
    """Return the decision diagram of a list of networks, without merged nodes; `options` are those of each decision."""
    nodes = [Node("", (), ())]

    def edge(below: Sequence[tuple[TimmNetwork, list[tuple[str, Option]]]], depth: int) -> Edge | None:
        """The edge to the decision number `depth` of networks that share all decisions before it."""
        if not below:
            return None
        network, decisions = below[0]
        if depth == len(decisions):
            return Edge((), TERMINAL, network)
        name = decisions[depth][0]
        split = ([walk for walk in below if walk[1][depth][1] == option] for option in options[name])
        edges = tuple(edge(walks, depth + 1) for walks in split)
        nodes.append(Node(name, options[name], edges))
        return Edge((), len(nodes) - 1)

    start = edge([(network, list(decisions.items())) for network, decisions in walks], 0)
    return DecisionDiagram(start, tuple(nodes))


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
    relations: Pending | None = None  # open ones


_State: TypeAlias = tuple[Remainder, _Prefix]  # of a walk with at least one decision left
_Transition: TypeAlias = tuple[tuple[PlacedPiece, ...], _State | None]  # an edge whose target has no number yet


class _DiagramBuilder:
    def __init__(self, classes: int) -> None:
        self.classes = classes
        self.remainders = Remainders()
        self.transitions: dict[_State, list[_Transition | None]] = {}  # of each state, until it has a node

    def successors(self, state: _State) -> list[_State | None]:
        """Return the states after each option of a state, and note the transitions to them."""
        remaining, prefix = state
        options = range(len(remaining.decision[1]))
        moves = [self.advance(self.remainders.take(remaining, index), prefix) for index in options]
        self.transitions[state] = moves
        return [move[1] if move else None for move in moves]

    def advance(self, remaining: Remainder | None, prefix: _Prefix) -> _Transition | None:
        """Add parts until a decision has two or more options.

        None where a grid side is not a whole number, or a relation does not hold.
        """
        pieces: list[PlacedPiece] = []
        parts, remaining = self.remainders.decided(remaining)
        try:
            for decided in parts:
                new, prefix = _add_part(prefix, decided.part, decided.rest)
                pieces += new
            if remaining is None:
                at_end(prefix.relations)
        except SpecError:
            return None
        if remaining is None:
            net = _net_after(prefix.channels)
            return (*pieces, *_pieces_named(net, STEM_STRIDE * prefix.side, "head", classes=self.classes)), None
        return tuple(pieces), (remaining, prefix)


def _edge(transition: _Transition | None, numbers: dict[_State | None, int | None]) -> Edge | None:
    target = numbers[transition[1]] if transition else None
    return None if transition is None or target is None else Edge(transition[0], target)


def _add_part(prefix: _Prefix, part: Part, rest: Remainder | None) -> tuple[list[PlacedPiece], _Prefix]:
    """The pieces that are fixed once `part` is added, and the new prefix; SpecError where it does not fit."""
    relations = with_part(prefix.relations, part)
    if isinstance(part, Stem):
        return [], replace(prefix, stem=part, relations=relations)
    assert isinstance(part, Stage)
    if not prefix.channels:
        pieces = list(_pieces_named(Net.of([prefix.stem, part]), prefix.side, "stem", "stage1"))
        return pieces, _Prefix(prefix.side // STEM_STRIDE, channels=part.width, relations=relations)
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
    side = prefix.side // stride
    return pieces, _Prefix(side, channels=part.width, pending=tuple(pending), relations=relations)


# Only `placed_pieces` knows the pieces of a network and their grids. It is called with the smallest network in which a
# stage has the pieces that it has in the whole network. Of the stage before, only the width matters.


def _net_after(width: int, *stages: Stage) -> Net:
    return Net(default_stem(), (Cffn(width=width, expansion=1, down="none", stride=1), *stages))


@lru_cache(_CACHE_SIZE)
def _pieces_named(net: Net, side: int, *names: str, classes: int = 1000) -> tuple[PlacedPiece, ...]:
    return tuple(placed for placed in placed_pieces(net, side, classes=classes) if placed.name in names)
