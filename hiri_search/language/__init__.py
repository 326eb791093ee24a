"""A network, and a whole search space, as text and as a value. Imports the standard library alone."""

from hiri_search.language.errors import SpecError
from hiri_search.language.grammar import parse, parse_net
from hiri_search.language.net import (
    Cffn,
    ConvStem,
    Hr,
    HrStem,
    Net,
    Part,
    Stage,
    Transformer,
    VitStem,
)
from hiri_search.language.peer import Network, Peer, parse_network
from hiri_search.language.space import Chooser, Space, sample, uniform

__all__ = [
    "Cffn",
    "Chooser",
    "ConvStem",
    "Hr",
    "HrStem",
    "Net",
    "Network",
    "Part",
    "Peer",
    "Space",
    "SpecError",
    "Stage",
    "Transformer",
    "VitStem",
    "parse",
    "parse_net",
    "parse_network",
    "sample",
    "uniform",
]
