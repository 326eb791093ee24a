"""The methods of dense tasks by name, with what each one takes of a backbone. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

_PACKAGE = "hiri_search.nets.dense"


@dataclass(frozen=True)
class DenseMethod:
    """A detector, or a network for segmentation, on any backbone."""

    name: str  # in a study file, and of its module
    title: str  # in the paper
    class_name: str
    maps: int  # number of the last maps of the backbone that it takes
    width: int = 256  # of its pyramid in the paper
    task: str = "detection"
    masks: bool = False  # it finds masks of objects too

    def build(self, body: Any, classes: int, **options: Any) -> Any:
        """Build the network on a body (`BackboneBody`); options: `width`, `side`, `norms`, as its class takes them."""
        method = getattr(import_module(f"{_PACKAGE}.{self.name}"), self.class_name)
        return method(body, classes, **{"width": self.width, **options})


_METHODS = (
    DenseMethod("retinanet", "RetinaNet", "RetinaNet", 3),
    DenseMethod("mask_rcnn", "Mask R-CNN", "MaskRCNN", 4, masks=True),
    DenseMethod("cascade_rcnn", "Cascade Mask R-CNN", "CascadeRCNN", 4, masks=True),
    DenseMethod("atss", "ATSS", "ATSS", 3),
    DenseMethod("gfl", "GFL", "GFL", 3),
    DenseMethod("sparse_rcnn", "Sparse R-CNN", "SparseRCNN", 4),
    DenseMethod("upernet", "UPerNet", "UPerNet", 4, width=512, task="segmentation"),
)
METHODS: Mapping[str, DenseMethod] = {method.name: method for method in _METHODS}
