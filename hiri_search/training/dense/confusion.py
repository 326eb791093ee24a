"""mIoU and pixel accuracy from counts of pixels, with standard errors."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hiri_search.nets.dense.upernet import UNLABELED
from hiri_search.training.dense.bootstrap import RESAMPLES, bootstrap_errors
from hiri_search.training.dense.sources.annotated_source import DenseTarget

PixelCounts = NDArray[np.int64]  # (3, classes) pixels of each class: right, predicted, and of the truth


class SegmentationMeter:
    """mIoU and pixel accuracy over all judged pixels of a split, as mmsegmentation has them.

    A class that is neither in an image nor predicted has no IoU.
    """

    def __init__(self) -> None:
        self._counts: list[PixelCounts] = []  # of each image

    def add(self, outputs: Iterable[Tensor], targets: Iterable[DenseTarget]) -> None:
        """Take logits (classes, H, W) of each image at the size of its semantic map."""
        for logits, target in zip(outputs, targets, strict=True):
            self._counts.append(class_counts(logits.argmax(0).cpu(), target["semantic"].cpu(), len(logits)))

    def scores(self) -> dict[str, float]:
        return _scores(np.sum(self._counts, 0))

    def standard_errors(self, *, resamples: int = RESAMPLES, seed: int = 0) -> dict[str, float]:
        """The standard error of each score, by a bootstrap over images."""
        per_image = np.stack(self._counts)
        return bootstrap_errors(lambda chosen: _scores(per_image[chosen].sum(0)), len(per_image), resamples, seed)


def class_counts(predicted: Tensor, truth: Tensor, classes: int) -> PixelCounts:
    """The judged pixels of each class that are right, predicted, and of the truth (3, classes)."""
    judged = truth != UNLABELED
    predicted, truth = predicted[judged].long(), truth[judged].long()
    right = truth[predicted == truth]
    return torch.stack([torch.bincount(values, minlength=classes) for values in (right, predicted, truth)]).numpy()


def _scores(counts: PixelCounts) -> dict[str, float]:
    right, predicted, truth = counts.astype(np.float64)
    if not truth.any():  # no pixel is judged
        return {}
    union = predicted + truth - right
    present = union > 0
    miou = 100 * (right[present] / union[present]).mean()
    return {"miou": float(miou), "pixel_accuracy": float(100 * right.sum() / truth.sum())}
