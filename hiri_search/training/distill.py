"""EMA distillation (section 4.5, Eq. 4-5)."""

from __future__ import annotations

import torch
from torch import Tensor

from hiri_search.language import Net, Network, SpecError
from hiri_search.nets.eval_mode import eval_mode
from hiri_search.nets.hirivit import HiriVit
from hiri_search.training.mixup import Mixing


def check_teacher(network: Network) -> None:
    """Raise SpecError for a network that could not teach itself: only ours classifies every position."""
    if not isinstance(network, Net):
        raise SpecError(
            f"'{network}' cannot be trained with distillation: its head gives no prediction for each position;"
            " write a network of our language, or train this one without"
        )


def teacher_map(teacher: HiriVit, images: Tensor) -> Tensor:
    """P of Eq. 4-5: images (B, 3, side, side) -> probabilities at each position (B, H, W, classes), float32.

    The teacher runs in eval mode and without its last average pool; nothing of it changes, and no gradient
    reaches it.
    """
    with torch.no_grad(), eval_mode(teacher):
        return teacher.forward_map(images).float().softmax(-1)


def distilled(targets: Tensor, probabilities: Tensor, mixing: Mixing | None, side: int, alpha: float) -> Tensor:
    """alpha * y~ + (1 - alpha) * y^, where y^ is the mean over the positions of M * P_a + (1 - M) * P_b (Eq. 4-5).

    `targets` y~ (B, classes) are the labels of the mixed images, smoothed or not; `probabilities` (B, H, W, classes)
    the teacher's of the images before that, of `side` pixels. Gives (B, classes) whose rows sum to 1.
    `alpha` from 0 (the teacher alone) to 1 (the labels alone): the paper prints no value.
    """
    soft = _mixed(probabilities, mixing, side).mean((1, 2))
    return alpha * targets + (1 - alpha) * soft


def _mixed(probabilities: Tensor, mixing: Mixing | None, side: int) -> Tensor:  # (B, H, W, K) -> the same
    if mixing is None:
        return probabilities
    _, height, width, _ = probabilities.shape
    assert height == width, "images are square"
    mask = mixing.mask(side, height).to(probabilities.device)[..., None]  # (H, W, 1)
    return mask * probabilities + (1 - mask) * probabilities.flip(0)  # P_b is P_a of image B-1-i
