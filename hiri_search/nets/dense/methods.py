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

    name: str  # in a study file
    title: str  # in the paper
    class_path: str  # below hiri_search.nets.dense
    maps: int  # number of the last maps of the backbone that it takes
    width: int = 256  # of its pyramid in the paper
    task: str = "detection"
    masks: bool = False  # it finds masks of objects too

    def build(self, body: Any, classes: int, **options: Any) -> Any:
        """Build the network on a body (`BackboneBody`); options: `width`, `side`, `norms`, as its class takes them."""
        module, _, class_name = self.class_path.rpartition(".")
        method = getattr(import_module(f"{_PACKAGE}.{module}"), class_name)
        return method(body, classes, **{"width": self.width, **options})


_METHODS = (
    DenseMethod("retinanet", "RetinaNet", "detectors.retinanet.RetinaNet", 3),
    DenseMethod("mask_rcnn", "Mask R-CNN", "detectors.mask_rcnn.MaskRCNN", 4, masks=True),
    DenseMethod("cascade_rcnn", "Cascade Mask R-CNN", "detectors.cascade_rcnn.CascadeRCNN", 4, masks=True),
    DenseMethod("atss", "ATSS", "detectors.atss.ATSS", 3),
    DenseMethod("gfl", "GFL", "detectors.gfl.GFL", 3),
    DenseMethod("sparse_rcnn", "Sparse R-CNN", "detectors.sparse_rcnn.SparseRCNN", 4),
    DenseMethod("upernet", "UPerNet", "upernet.UPerNet", 4, width=512, task="segmentation"),
)
METHODS: Mapping[str, DenseMethod] = {method.name: method for method in _METHODS}
