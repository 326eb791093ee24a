"""Images and their annotations brought to one square side: augmented for training, whole for validation, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from timm.data import IMAGENET_DEFAULT_MEAN
from torch import Tensor
from torch.nn import functional
from torchvision import tv_tensors
from torchvision.transforms import v2

from hiri_search.training.dense.sources.annotated_source import DenseTarget

FILL = tuple(round(255 * mean) for mean in IMAGENET_DEFAULT_MEAN)  # around an image: about 0 once normalised
MIN_EDGE = 1.0  # pixels of a box that remains of an object, under which the object is dropped
MASK_THRESHOLD = 0.5  # from which a pixel belongs to a predicted mask


@dataclass(frozen=True)
class DenseAugmentation:
    """Augmentation of images with boxes, masks or semantic maps."""

    flip: float = 0.5  # share of images flipped horizontally
    scale: tuple[float, float] = (0.5, 2.0)  # the longer side of the image, in sides of the network's input
    jitter: float = 0.0  # strength of the changes of brightness, contrast and saturation


class TrainTransform:
    """Random augmentation by torchvision's global generator, to an image of `side` x `side` pixels.

    The image keeps its ratio of sides. It is scaled at random, cut where it is larger than the square, and lies at a
    random place, on grey, where it is smaller. Objects that are cut off are dropped.
    """

    def __init__(self, side: int, augmentation: DenseAugmentation) -> None:
        self.side, self.scale, jitter = side, augmentation.scale, augmentation.jitter
        fill = {tv_tensors.Image: FILL, "others": 0}
        steps = [v2.RandomHorizontalFlip(augmentation.flip), v2.RandomCrop(side, pad_if_needed=True, fill=fill)]
        self.steps = v2.Compose([*([v2.ColorJitter(jitter, jitter, jitter)] if jitter else []), *steps])

    def __call__(self, image: Tensor, target: DenseTarget) -> tuple[Tensor, DenseTarget]:
        """Take and return an image (3, H, W), uint8, and its annotation."""
        low, high = self.scale
        longest = self.side * (low + (high - low) * float(torch.rand(())))
        size = list(fitted_size(size_of(image), longest))
        sample = _sample(image, target)
        sample = {name: v2.functional.resize(part, size, antialias=True) for name, part in sample.items()}
        return _from_sample(self.steps(sample), target)


def _sample(image: Tensor, target: DenseTarget) -> dict[str, Any]:
    """The parts that torchvision transforms together."""
    sample = {"image": tv_tensors.Image(image)}
    if "semantic" in target:
        # UNLABELED, 255, becomes 0, which fills the surroundings.
        sample["planes"] = tv_tensors.Mask(target["semantic"][None] + 1)
    else:
        sample["boxes"] = tv_tensors.BoundingBoxes(target["boxes"], format="XYXY", canvas_size=image.shape[-2:])
        if len(target.get("masks", ())):
            sample["planes"] = tv_tensors.Mask(target["masks"])
    return sample


def _from_sample(sample: dict[str, Any], target: DenseTarget) -> tuple[Tensor, DenseTarget]:
    parts = {name: part.as_subclass(Tensor) for name, part in sample.items()}
    image = parts["image"]
    if "semantic" in target:
        return image, {"semantic": (parts["planes"][0] - 1).long()}
    boxes = parts["boxes"].float()
    kept = (boxes[:, 2:] - boxes[:, :2] >= MIN_EDGE).all(1)
    if "masks" in target:
        masks = parts.get("planes", target["masks"].new_zeros((0, *image.shape[-2:])))
        kept &= masks.flatten(1).bool().any(1)
    whole = target | {"boxes": boxes} | ({"masks": masks} if "masks" in target else {})
    return image, {name: values[kept] for name, values in whole.items()}


def fitted_size(size: tuple[int, int], longest: float) -> tuple[int, int]:
    """Height and width, 1 or more, of an image of this size whose longer side is brought to `longest` pixels."""
    height, width = size
    scale = longest / max(size)
    return max(1, round(height * scale)), max(1, round(width * scale))


def size_of(image: Tensor) -> tuple[int, int]:
    """The height and width of an image (3, H, W)."""
    return image.shape[-2], image.shape[-1]


def letterbox(image: Tensor, side: int, size: tuple[int, int]) -> Tensor:
    """The whole image (3, H, W), uint8, in the upper left corner of `side` x `side` pixels, on grey.

    `size` is height and width of the original, of which `image` may be a smaller copy.
    """
    height, width = fitted_size(size, side)
    resized = v2.functional.resize(image, [height, width], antialias=True)
    whole = torch.tensor(FILL, dtype=torch.uint8)[:, None, None].repeat(1, side, side)
    whole[:, :height, :width] = resized
    return whole


def reduced(image: Tensor, longest: int) -> Tensor:
    """The image (3, H, W), or a copy whose longer side has `longest` pixels if it is larger."""
    if max(size_of(image)) <= longest:
        return image
    copy: Tensor = v2.functional.resize(image, list(fitted_size(size_of(image), longest)), antialias=True)
    return copy


def resized_target(target: DenseTarget, old: tuple[int, int], new: tuple[int, int]) -> DenseTarget:
    """The annotation of an image of height and width `old`, for a copy of `new`."""
    if old == new:
        return target
    sample = {name: part for name, part in _sample(torch.empty(3, *old), target).items() if name != "image"}
    planes = {name: v2.functional.resize(part, list(new)).as_subclass(Tensor) for name, part in sample.items()}
    if "semantic" in target:
        return {"semantic": planes["planes"][0] - 1}
    scale = new[0] * new[1] / (old[0] * old[1])
    masks = {"masks": planes.get("planes", target["masks"].new_zeros((0, *new)))} if "masks" in target else {}
    return target | {"boxes": planes["boxes"], "area": target["area"] * scale} | masks


def in_original(detections: DenseTarget, side: int, size: tuple[int, int]) -> DenseTarget:
    """Detections in a letterboxed image of `side` pixels, as those in its original of height and width `size`.

    Masks (N, 1, side, side) from 0 to 1 become masks (N, 1, H, W) of 0 and 1.
    """
    height, width = fitted_size(size, side)
    edges = torch.tensor(size[::-1] * 2, dtype=torch.float32, device=detections["boxes"].device)
    scale = edges / torch.tensor([width, height] * 2, device=edges.device)
    whole = detections | {"boxes": torch.minimum((detections["boxes"].float() * scale).clamp(min=0), edges)}
    if "masks" in detections:
        inside = detections["masks"][..., :height, :width].float()
        masks = torch.zeros((len(inside), 1, *size), dtype=torch.uint8, device=inside.device)
        for mask, small in zip(masks, inside, strict=True):  # one at a time: originals may be large
            mask[:] = functional.interpolate(small[None], size, mode="bilinear")[0] >= MASK_THRESHOLD
        whole["masks"] = masks
    return whole


def logits_in_original(logits: Tensor, side: int, size: tuple[int, int]) -> Tensor:
    """Logits (classes, side, side) of a letterboxed image, as those (classes, H, W) of its original."""
    height, width = fitted_size(size, side)
    inside = logits[None, :, :height, :width].float()
    return functional.interpolate(inside, size, mode="bilinear")[0]
