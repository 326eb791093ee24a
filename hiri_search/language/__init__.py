"""Specs of networks and search spaces: parsing, and networks and spaces as values. Standard library only."""

from hiri_search.language.choosers import sample, uniform
from hiri_search.language.dense_network import DenseNetwork, Network, parse_network
from hiri_search.language.errors import SpecError
from hiri_search.language.net import Net
from hiri_search.language.parser import parse, parse_net
from hiri_search.language.relations.related_space import RelatedSpace, parse_space
from hiri_search.language.space import Chooser, Space
from hiri_search.language.stages import Downsampling, Part, Stage, Stem
from hiri_search.language.timm.space import TimmSpace
from hiri_search.language.timm.spec import Backbone, TimmNetwork, parse_backbone

__all__ = [
    "Backbone",
    "Chooser",
    "DenseNetwork",
    "Downsampling",
    "Net",
    "Network",
    "Part",
    "RelatedSpace",
    "Space",
    "SpecError",
    "Stage",
    "Stem",
    "TimmNetwork",
    "TimmSpace",
    "parse",
    "parse_backbone",
    "parse_net",
    "parse_network",
    "parse_space",
    "sample",
    "uniform",
]
