"""Predictions of a trained dense network beside the truth, as arrays for a picture."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.ops import nms

from hiri_search.training.data.augment import normalise
from hiri_search.training.data.prepare import ABOUT_FILE
from hiri_search.training.dense.decoded_targets import DecodedTargets
from hiri_search.training.dense.dense_step import in_originals
from hiri_search.training.dense.transforms import MASK_THRESHOLD, letterbox

_SAME_PLACE = 0.5  # IoU of two detections that are shown as one


@dataclass(frozen=True)
class Annotation:
    """Objects of an image, or the class of each of its pixels; in pixels of the original image."""

    boxes: NDArray[np.float32]  # (N, 4), x and y of two corners
    labels: NDArray[np.int64]  # (N,)
    scores: NDArray[np.float32] | None = None  # (N,); None: of the truth
    masks: NDArray[np.bool_] | None = None  # (N, H, W)
    semantic: NDArray[np.int64] | None = None  # (H, W)


@dataclass(frozen=True)
class Example:
    """An image of a split, and what is annotated in it."""

    pixels: NDArray[np.uint8]  # (h, w, 3), as stored: perhaps smaller than the original
    size: tuple[int, int]  # height and width of the original
    truth: Annotation


def class_names(folder: Path) -> tuple[str, ...]:
    """Return the names of the classes of prepared images."""
    return tuple(json.loads((folder / ABOUT_FILE).read_text())["classes"])


def examples(folder: Path, split: str, count: int) -> list[Example]:
    """Return some images of a split, at equal distances in its order."""
    stored = DecodedTargets(folder, split)
    return [_example(*stored[index]) for index in _indices(len(stored), count)]


def _indices(length: int, count: int) -> list[int]:
    return sorted({round(index) for index in np.linspace(0, length - 1, min(count, length))})


def _example(image: Tensor, target: Mapping[str, Tensor]) -> Example:
    if "ignored" in target:  # a crowd is no object to find
        target = {name: values if name == "size" else values[~target["ignored"]] for name, values in target.items()}
    height, width = target["size"].tolist()
    return Example(image.permute(1, 2, 0).numpy(), (height, width), _annotation(target))


@torch.no_grad()
def predictions(model: nn.Module, found_in: list[Example], side: int) -> list[Annotation]:
    """Return what a network, in eval mode, finds: of detections the best ones, as many as the image has objects.

    Of detections of several classes at one place, the best alone.
    """
    images = [letterbox(torch.from_numpy(each.pixels).permute(2, 0, 1), side, each.size) for each in found_in]
    outputs = model(normalise(torch.stack(images).contiguous(memory_format=torch.channels_last).float()))
    found = in_originals(outputs, [each.size for each in found_in], side)
    return [_best(output, len(each.truth.labels)) for output, each in zip(found, found_in, strict=True)]


def _best(output: Any, count: int) -> Annotation:
    if isinstance(output, Tensor):  # logits (classes, H, W)
        return _annotation({"semantic": output.argmax(0)})
    best = nms(output["boxes"].float(), output["scores"].float(), _SAME_PLACE)[: max(count, 1)]
    return _annotation({name: values[best] for name, values in output.items()})


def _annotation(target: Mapping[str, Tensor]) -> Annotation:
    if "semantic" in target:
        return Annotation(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), semantic=target["semantic"].numpy())
    masks = target.get("masks")
    return Annotation(
        target["boxes"].float().numpy(),
        target["labels"].numpy(),
        target["scores"].float().numpy() if "scores" in target else None,
        None if masks is None else (masks.reshape(len(masks), *masks.shape[-2:]) >= MASK_THRESHOLD).numpy(),
    )
