"""The networks of a study: what is counted, and what is trained for it, in the order of the training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from random import Random

from hiri_search.language import Net, Network, Peer, Space, SpecError, parse, parse_network, uniform
from hiri_search.study.config import Proxy, Row, Study
from hiri_search.training.recipe import Recipe

GIVE_UP_AFTER = 1000  # draws in a row that gave no network but old ones: the space is all but used up


@dataclass(frozen=True)
class Candidate:
    """A network with a name, and what stands in for it in a training."""

    name: str
    network: Network
    side: int  # pixels, at which it is counted and timed
    trained: Network | None  # None: counted and shown, not trained
    trained_side: int
    recipe: Recipe
    decisions: dict[str, int]  # that led to it: names and indices


class Misfit(SpecError):
    """A network that a study cannot have: `key` is the setting it fails on, `around` the row or space it is of."""

    def __init__(self, key: tuple[str, ...], around: tuple[str, ...], message: str) -> None:
        super().__init__(message)
        self.key, self.around = key, around


@contextmanager
def naming(key: tuple[str, ...], around: tuple[str, ...]) -> Iterator[None]:
    """A mistake in here is one of the setting `key`."""
    try:
        yield
    except SpecError as error:
        raise Misfit(key, around, str(error)) from error


def space_of(study: Study) -> Space:
    """What a search walks."""
    assert study.space is not None
    return parse(study.space, let=study.let)


def rows(study: Study) -> list[Candidate]:
    """The networks of an ablation, those that are not trained among them; none for a search.

    Misfit where a spec cannot be read, or a network or its stand-in does not fit its side.
    """
    return [_row(study, name, row, index) for index, (name, row) in enumerate((study.nets or {}).items())]


def _row(study: Study, name: str, row: Row, index: int) -> Candidate:
    here = ("nets", name)
    with naming(here, here):
        network = parse_network(row.spec, let=study.let)
    side = row.side or study.counted.side
    with naming((*here, "side") if row.side else ("counted", "side"), here):
        _check_side(network, side)
    if not row.train:
        return Candidate(name, network, side, None, 0, study.recipe, {"net": index})
    with naming((*here, "stand_in") if row.stand_in else ("proxy", "width"), here):
        small = parse_network(row.stand_in, let=study.let) if row.stand_in else stand_in(network, study.proxy)
    with naming((*here, "stand_in_side") if row.stand_in_side else ("proxy", "side"), here):
        small_side = row.stand_in_side or _scaled(side, study)
        _check_side(small, small_side)
    return Candidate(name, network, side, small, small_side, row.recipe or study.recipe, {"net": index})


def stand_in(network: Network, proxy: Proxy) -> Network:
    """The network that is trained for one that is counted: one of timm's is trained as it is."""
    return network if isinstance(network, Peer) else network.shrunk(width=proxy.width, depth=proxy.depth)


def candidates(study: Study) -> Iterator[Candidate]:
    """The networks of a study in the order they are trained; the same at every start. Misfit as for `rows`.

    An ablation's rows; a grid, the first networks of the space's listing; random, networks each as likely as
    any other, none twice.
    """
    if study.space is None:
        yield from (row for row in rows(study) if row.trained)
        return
    walk = {"grid": _listed, "random": _drawn}[study.search.sampler]
    for net, decisions in islice(walk(space_of(study), study.search.seed), study.search.networks):
        yield _found(study, net, decisions)


def _found(study: Study, net: Net, decisions: dict[str, int]) -> Candidate:
    """One network of a space."""
    counted, proxy = study.counted, study.proxy
    with naming(("counted", "side"), ("space",)):
        _check_side(net, counted.side)
    with naming(("proxy", "width"), ("space",)):
        small = stand_in(net, proxy)
    with naming(("proxy", "side"), ("space",)):
        _check_side(small, proxy.side)
    return Candidate(str(net), net, counted.side, small, proxy.side, study.recipe, decisions)


def _check_side(network: Network, side: int) -> None:
    """What side fits a network of timm is found when it is counted."""
    if isinstance(network, Net):
        network.grids(side)


def _scaled(side: int, study: Study) -> int:
    """`proxy.side` stands for `counted.side`; rows of other sides are brought down by the same ratio."""
    scaled, rest = divmod(side * study.proxy.side, study.counted.side)
    if rest:
        ratio = f"{side} * {study.proxy.side} / {study.counted.side}"
        raise SpecError(f"the side to train at would be {ratio}, no whole number; write it as stand_in_side")
    return scaled


Walk = Iterator[tuple[Net, dict[str, int]]]


def _listed(space: Space, seed: int) -> Walk:
    return space.walks()


def _drawn(space: Space, seed: int) -> Walk:
    seen: set[str] = set()
    misses = 0
    rng = Random(seed)
    while misses < GIVE_UP_AFTER and len(seen) < space.size:
        net, decisions = space.recorded(uniform(rng))
        misses = misses + 1 if net.key in seen else 0
        if net.key not in seen:
            seen.add(net.key)
            yield net, decisions
