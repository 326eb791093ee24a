"""Builds the method of a dense network on a body."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from torch import nn

from hiri_search.language.dense_network import DenseNetwork

_PACKAGE = "hiri_search.nets.dense"
_CLASSES = {  # by the name of the method
    "retinanet": "detectors.retinanet.RetinaNet",
    "mask_rcnn": "detectors.mask_rcnn.MaskRCNN",
    "cascade_rcnn": "detectors.cascade_rcnn.CascadeRCNN",
    "atss": "detectors.atss.ATSS",
    "gfl": "detectors.gfl.GFL",
    "sparse_rcnn": "detectors.sparse_rcnn.SparseRCNN",
    "upernet": "upernet.UPerNet",
}


def build_method(network: DenseNetwork, body: nn.Module, classes: int, **options: Any) -> Any:
    """Build the method of a network on a body (`BackboneBody`).

    Options are those of its class: `side`, the shorter side of the images, leaves out levels that would be too small.
    """
    module, _, name = _CLASSES[network.method.name].rpartition(".")
    method = getattr(import_module(f"{_PACKAGE}.{module}"), name)
    if network.regions:
        options["regions"] = network.regions
    return method(body, classes, width=network.width, norms=network.norms, **options)
