"""Initial weights and learning rates of a stand-in by its width, so that it trains with the recipe of its network.

The rules are those of muP for Adam (Yang et al. 2022, "Tensor Programs V", Table 3). They change *matrices*: weights
whose number of inputs is a width, in linear layers and in convolutions of feature maps. A stand-in whose widths are
divided by n gets learning rates of its matrices that are n times as high, and initial weights that keep the scale of
what the matrices compute. Vectors stay as they are: biases, norms, depthwise convolutions, and the convolution of
the image.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import sqrt
from typing import Any

import torch
from timm.optim import param_groups_weight_decay
from torch import nn

from hiri_search.nets.hirivit import HiriVit
from hiri_search.nets.pieces import IMAGE_CHANNELS


def scale_initial_weights(model: HiriVit, width_divisor: int) -> None:
    """Scale the initial weights of a stand-in, in place.

    Linear layers and 1x1 convolutions, whose initial standard deviation does not depend on the width, are scaled by the
    square root of the divisor. Other convolutions are initialised by their number of outputs already. Modules that
    initialise themselves by `init_weights` are left alone.
    """
    own = {part for module in model.modules() if hasattr(module, "init_weights") for part in module.modules()}
    with torch.no_grad():
        for module in set(model.modules()) - own:
            if isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1)):
                module.weight.mul_(sqrt(width_divisor))


def parameter_groups(model: nn.Module, weight_decay: float, width_divisor: int) -> Iterator[dict[str, Any]]:
    """Yield parameter groups for AdamW: those of timm, with matrices apart; the first group has no `lr_scale`.

    The weight decay of matrices is divided by the divisor, because AdamW multiplies it by the learning rate.
    """
    names: set[str] = getattr(model, "no_weight_decay", set)()
    matrices = {id(parameter) for parameter in model.parameters() if _is_matrix(parameter)}
    for group in param_groups_weight_decay(model, weight_decay, no_weight_decay_list=names):
        for is_matrix, scale in ((False, 1), (True, width_divisor)):
            parameters = [each for each in group["params"] if (id(each) in matrices) == is_matrix]
            if parameters:
                scaled = {"lr_scale": scale} if is_matrix else {}
                yield {"params": parameters, "weight_decay": group["weight_decay"] / scale, **scaled}


def _is_matrix(parameter: nn.Parameter) -> bool:
    """Return whether the number of inputs of a weight is a width; one input: depthwise, three: the image."""
    return parameter.ndim > 1 and parameter.shape[1] not in (1, IMAGE_CHANNELS)
