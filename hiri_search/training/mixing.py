"""How pictures of a batch are mixed and what is then asked of the network."""

from __future__ import annotations

from timm.data import Mixup

from hiri_search.training.recipe import Recipe


def mixer(recipe: Recipe, classes: int) -> Mixup:
    """Mixup and CutMix, half of the batches each, as timm has them; targets come out smoothed and as shares.

    With both off it mixes nothing, and only the targets are smoothed.
    """
    on = recipe.mixup > 0 or recipe.cutmix > 0
    return Mixup(
        mixup_alpha=recipe.mixup,
        cutmix_alpha=recipe.cutmix,
        prob=recipe.mix_share if on else 0.0,
        label_smoothing=recipe.label_smoothing,
        num_classes=classes,
    )
