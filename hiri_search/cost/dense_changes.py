"""Other ways to count a dense network, which explain published costs: each counts once more, with a named change."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from torch import nn

from hiri_search.cost.dense import PRODUCTS, DenseCost, count_dense, total
from hiri_search.language import DenseNetwork
from hiri_search.language.dense_network import InputSize
from hiri_search.nets.dense.build import build_method
from hiri_search.nets.dense.parts import MASK_GRID, MASK_ROIS
from hiri_search.networks import build_body, build_on_meta

_FEWER_PROPOSALS = 100
_SIDE = 224  # of the classifiers whose heads are kept: any


@dataclass(frozen=True)
class Counted:
    """A dense network, with the images and classes that it is counted for."""

    network: DenseNetwork
    size: InputSize
    classes: int

    def cost(self) -> DenseCost:
        return total(count_dense(self.network, self.size, classes=self.classes).values())


def _with_fewer_proposals(counted: Counted, cost: DenseCost) -> DenseCost:
    fewer = replace(counted, network=replace(counted.network, regions=_FEWER_PROPOSALS))
    return replace(fewer.cost(), params=cost.params)


def _deconvolution_at_its_output(counted: Counted, cost: DenseCost) -> DenseCost:
    """Charge each of its weights once for each position of the output, not of the input."""
    behind_body = build_method(counted.network, _body(counted), counted.classes)
    layers = [each for each in behind_body.modules() if isinstance(each, nn.ConvTranspose2d)]
    extra = sum(each.weight.numel() * (each.stride[0] * each.stride[1] - 1) for each in layers)
    operators = {**cost.operators, "conv": cost.operators["conv"] + MASK_ROIS * MASK_GRID**2 * extra}
    return replace(cost, operators=operators)


def _without_products(counted: Counted, cost: DenseCost) -> DenseCost:
    return replace(cost, operators={name: macs for name, macs in cost.operators.items() if name not in PRODUCTS})


def _without_frozen_layers(counted: Counted, cost: DenseCost) -> DenseCost:
    frozen = ("features.model.conv1.", "features.model.bn1.", "features.model.layer1.")  # of timm's ResNets
    named = _body(counted).named_parameters()
    return replace(cost, params=cost.params - sum(each.numel() for name, each in named if name.startswith(frozen)))


def _with_classifier(counted: Counted, cost: DenseCost) -> DenseCost:
    classifier = _params(build_on_meta(counted.network.backbone, _SIDE)) - _params(_body(counted))
    return replace(cost, params=cost.params + classifier)


def _body(counted: Counted) -> nn.Module:
    return build_body(counted.network.backbone, counted.network.method.maps)


def _params(module: nn.Module) -> int:
    return sum(each.numel() for each in module.parameters())


CHANGED_COUNTS: Mapping[str, Callable[[Counted, DenseCost], DenseCost]] = {  # to the costs with it, from those without
    "proposals": _with_fewer_proposals,
    "deconvolution": _deconvolution_at_its_output,
    "products": _without_products,
    "frozen": _without_frozen_layers,
    "classifier": _with_classifier,
}


def count_changed(counted: Counted, changes: str) -> DenseCost:
    """Return the costs with changes (names of CHANGED_COUNTS, joined by `+`); without any where there is none."""
    cost = counted.cost()
    for name in filter(None, changes.split("+")):
        cost = CHANGED_COUNTS[name](counted, cost)
    return cost
