"""DenseNetwork: a method for detection or segmentation on a backbone, as text (`retinanet:SPEC`) and as a value."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cached_property
from typing import TypeAlias

from hiri_search.language.errors import SpecError
from hiri_search.language.net import text_key
from hiri_search.language.timm.spec import TIMM_PREFIX, Backbone, parse_backbone


@dataclass(frozen=True)
class DenseMethod:
    """A detector, or a network for segmentation, on any backbone."""

    name: str  # in a spec and in a study file
    title: str  # in the paper
    maps: int  # number of the last maps of the backbone that it takes
    width: int = 256  # of its pyramid in the paper
    task: str = "detection"
    masks: bool = False  # it finds masks of objects too
    regions: int = 0  # of an image, whose boxes its heads refine, in the paper; 0: its heads see the whole image


CLASSES_OF_TASKS = {"detection": 80, "segmentation": 150}  # in the paper: of COCO and ADE20K
_METHODS = (
    DenseMethod("retinanet", "RetinaNet", 3),
    DenseMethod("mask_rcnn", "Mask R-CNN", 4, masks=True, regions=1000),
    DenseMethod("cascade_rcnn", "Cascade Mask R-CNN", 4, masks=True, regions=1000),
    DenseMethod("atss", "ATSS", 3),
    DenseMethod("gfl", "GFL", 3),
    DenseMethod("sparse_rcnn", "Sparse R-CNN", 4, regions=300),
    DenseMethod("upernet", "UPerNet", 4, width=512, task="segmentation"),
)
METHODS: Mapping[str, DenseMethod] = {method.name: method for method in _METHODS}
_FORM = re.compile(r"(?P<method>[a-z]\w*)\s*(\((?P<arguments>[^()]*)\))?\s*:(?P<backbone>.*)", re.DOTALL)


@dataclass(frozen=True)
class DenseNetwork:
    """A method on a backbone: `retinanet:hr(32 e=4) -> ...`, `upernet(w=128 norm=bn):timm:pvt_v2_b2`.

    `width` is that of the pyramid. `regions` is how many regions of an image the heads refine; of Sparse R-CNN they are
    learned. `norms` puts norms into pyramid and heads, for stand-ins that are trained without a pretrained backbone:
    ours, not of the paper.
    """

    method: DenseMethod
    backbone: Backbone
    width: int
    regions: int = 0
    norms: bool = False

    @staticmethod
    def of(method: str, backbone: Backbone) -> DenseNetwork:
        """Return a method, by its name, as in the paper. Raises SpecError where there is none of this name."""
        found = find_method(method)
        return DenseNetwork(found, backbone, found.width, found.regions)

    def scaled_down(self, backbone: Backbone, *, width: int) -> DenseNetwork:
        """Return the stand-in with another backbone, and the width of the pyramid and the number of regions divided.

        Raises SpecError where the width cannot be divided.
        """
        if self.width % width:
            raise SpecError(f"w={self.width}, the pyramid of {self.method.name}, cannot be divided by {width}")
        regions = -(-self.regions // width)
        return replace(
            self, backbone=backbone, width=self.width // width, regions=regions, norms=self.norms or width > 1
        )

    def __str__(self) -> str:
        return f"{self._prefix}:{self.backbone}"

    @property
    def canonical_text(self) -> str:
        """The text of the network with the canonical one of its backbone; `key` is a hash of this text."""
        return f"{self._prefix}:{self.backbone.canonical_text}"

    @cached_property
    def key(self) -> str:
        """Key of the canonical text (`text_key`): equal for equal texts."""
        return text_key(self.canonical_text)

    @property
    def _prefix(self) -> str:
        width = [f"w={self.width}"] if self.width != self.method.width else []
        regions = [f"regions={self.regions}"] if self.regions != self.method.regions else []
        arguments = [*width, *regions, *(["norm=bn"] if self.norms else [])]
        return self.method.name + (f"({' '.join(arguments)})" if arguments else "")


Network = Backbone | DenseNetwork
InputSize: TypeAlias = int | str  # of images, in pixels: a side, or `WIDTHxHEIGHT` for detection and segmentation
_RECTANGLE = re.compile(r"([1-9]\d*)x([1-9]\d*)", re.ASCII)


def height_and_width(size: InputSize) -> tuple[int, int]:
    """Return height and width of images. Raises SpecError where a text is not `WIDTHxHEIGHT`."""
    if isinstance(size, int):
        return size, size
    if found := _RECTANGLE.fullmatch(size):
        return int(found[2]), int(found[1])
    raise SpecError(f"{size!r} is no size of images; write a side, or width x height, such as 1600x1200")


def square_side(size: InputSize) -> int:
    """Return the side of square images. Raises SpecError for other ones, which dense networks alone take."""
    height, width = height_and_width(size)
    if height != width:
        raise SpecError(f"{size} is a rectangle, which detection and segmentation alone take; write a side")
    return height


def find_method(name: str) -> DenseMethod:
    """Return a method by its name. Raises SpecError where there is none."""
    if name not in METHODS:
        close = get_close_matches(name, METHODS, n=1)
        hint = f"did you mean {close[0]}?" if close else f"write one of {', '.join(METHODS)}"
        raise SpecError(f"there is no method {name!r}; {hint}")
    return METHODS[name]


def method_in(text: str) -> str | None:
    """Return the name of the method that a spec begins with, known or not; None where it has none."""
    found = _matched(text)
    return found["method"] if found else None


def _matched(text: str) -> re.Match[str] | None:
    return None if text.strip().startswith(TIMM_PREFIX) else _FORM.fullmatch(text.strip())


def parse_network(text: str, *, let: Mapping[str, str] | None = None) -> Network:
    """Return the network of a spec, of a text `timm:NAME ...`, or of a method on one of them: `METHOD:SPEC`.

    May raise SpecError.
    """
    if (found := _matched(text)) is None:
        return parse_backbone(text, let=let)
    network = DenseNetwork.of(found["method"], parse_backbone(found["backbone"], let=let))
    for word in (found["arguments"] or "").split():
        network = _with_argument(network, word)
    return network


def as_network(network: Network | str) -> Network:
    """Return a network, or that of a text, as `parse_network` does."""
    return parse_network(network) if isinstance(network, str) else network


def _with_argument(network: DenseNetwork, word: str) -> DenseNetwork:
    (name, _, value), has_regions = word.partition("="), network.method.regions > 0
    numbers = {"w": "width"} | ({"regions": "regions"} if has_regions else {})
    if name in numbers and value.isascii() and value.isdecimal() and int(value) > 0:
        return replace(network, **{numbers[name]: int(value)})  # type: ignore[arg-type]
    if word == "norm=bn":
        return replace(network, norms=True)
    regions = " regions=NUMBER, how many regions of an image it refines," if has_regions else ""
    known = f"w=WIDTH, the width of its pyramid,{regions} and norm=bn for norms in it"
    raise SpecError(f"{word!r} is no argument of {network.method.name}; write {known}")
