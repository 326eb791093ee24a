"""EMA distillation (section 4.5, Eq. 4-5)."""

from __future__ import annotations

import torch
from torch import Tensor

from hiri_search.language import Net, Network, SpecError
from hiri_search.nets.eval_mode import eval_mode
from hiri_search.nets.hirivit import HiriVit
from hiri_search.training.mixup import Mixing


def check_teacher(network: Network) -> None:
    """Raise SpecError if the network has no per-position predictions and so cannot be its own teacher."""
    if not isinstance(network, Net):
        problem = f"'{network}' cannot be trained with distillation: its head gives no prediction for each position"
        raise SpecError(f"{problem}; write a network of our language, or train this one without distillation")


def teacher_map(teacher: HiriVit, images: Tensor) -> Tensor:
    """P of Eq. 4-5: images (B, 3, side, side) -> class probabilities at each position (B, H, W, classes), float32.

    The teacher runs in eval mode and without its final average pool. Its state stays unchanged, and no gradient
    reaches it.
    """
    with torch.no_grad(), eval_mode(teacher):
        return teacher.forward_map(images).float().softmax(-1)


def distilled_targets(targets: Tensor, probabilities: Tensor, mixing: Mixing | None, side: int, alpha: float) -> Tensor:
    """alpha * y~ + (1 - alpha) * y^, where y^ is the mean over the positions of M * P_a + (1 - M) * P_b (Eq. 4-5).

    `targets` y~ (B, classes) are the labels of the mixed images, smoothed or not. `probabilities` (B, H, W, classes)
    are the teacher's outputs for the unmixed images of `side` pixels. Return (B, classes) with rows that sum to 1.
    `alpha` goes from 0 (teacher only) to 1 (labels only); the paper gives no value.
    """
    soft = _mixed(probabilities, mixing, side).mean((1, 2))
    return alpha * targets + (1 - alpha) * soft


def _mixed(probabilities: Tensor, mixing: Mixing | None, side: int) -> Tensor:  # (B, H, W, K) -> the same shape
    if mixing is None:
        return probabilities
    _, height, width, _ = probabilities.shape
    assert height == width, "images are square"
    mask = mixing.mask(side, height).to(probabilities.device)[..., None]  # (H, W, 1)
    return mask * probabilities + (1 - mask) * probabilities.flip(0)  # P_b is P_a of image B-1-i
