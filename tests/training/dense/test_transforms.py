"""Augmentation of images with their annotations, and predictions brought back to the original image."""

import numpy as np
import pytest
import torch
from torch import Tensor

from hiri_search.training.dense.sources.annotated_source import UNLABELED, DenseTarget, mask_extent, object_target
from hiri_search.training.dense.transforms import (
    DenseAugmentation,
    TrainTransform,
    fitted_size,
    in_original,
    letterbox,
    logits_in_original,
    reduced,
    resized_target,
)
from hiri_search.training.rng import seeded_generators

SIDE = 48
RECTANGLES = np.array([[4, 6, 20, 30], [30, 2, 60, 18], [0, 40, 9, 48], [50, 30, 64, 48]])


def scene(height: int = 48, width: int = 64) -> tuple[Tensor, DenseTarget]:
    """An image (3, 48, 64) with rectangles of one colour each, which are the masks."""
    image, masks = np.zeros((height, width, 3), np.uint8), np.zeros((len(RECTANGLES), height, width), np.uint8)
    for number, (left, top, right, bottom) in enumerate(RECTANGLES):
        image[top:bottom, left:right] = 50 * (number + 1)
        masks[number, top:bottom, left:right] = 1
    target = object_target(RECTANGLES.astype(np.float32), np.arange(len(RECTANGLES)), masks=masks)
    return torch.from_numpy(image).permute(2, 0, 1), target


def augmented(seed: int, target: DenseTarget | None = None, **settings: object) -> tuple[Tensor, DenseTarget]:
    image, own = scene()
    with seeded_generators(seed):
        return TrainTransform(SIDE, DenseAugmentation(**settings))(image, target or own)


@pytest.mark.parametrize("flip", [0.0, 1.0])
@pytest.mark.parametrize("scale", [64 / SIDE, 128 / SIDE])  # no resizing, and each pixel twice: nothing is rounded
def test_flips_and_crops_of_boxes_are_those_of_masks_and_pixels(scale: float, flip: float):
    seen = 0
    for image, target in (augmented(seed, scale=(scale, scale), flip=flip) for seed in range(12)):
        assert image.shape == (3, SIDE, SIDE)
        for box, label, mask in zip(target["boxes"], target["labels"], target["masks"], strict=True):
            seen += 1
            assert tuple(box.tolist()) == mask_extent(mask.numpy() > 0)
            # Colours blur at the edges, and a thin rest of an object is an edge.
            assert (image[0, mask > 0] == 50 * (label + 1)).float().mean() > 0.7 or mask.sum() < 200
    assert seen > 8


def test_objects_that_are_cut_off_are_dropped_with_all_that_belongs_to_them():
    counts = set()
    for seed in range(12):
        _, target = augmented(seed, scale=(2.5, 2.5))
        counts.add(len(target["labels"]))
        assert {len(values) for values in target.values()} == {len(target["labels"])}
        edges = target["boxes"][:, 2:] - target["boxes"][:, :2]
        assert (edges >= 1).all()
    assert min(counts) < len(RECTANGLES)


def test_the_surroundings_of_a_small_image_are_grey_and_not_judged():
    semantic = torch.full((48, 64), 2, dtype=torch.uint8)
    semantic[:, 32:] = UNLABELED
    image, target = augmented(3, {"semantic": semantic}, scale=(0.5, 0.5), flip=0.0)
    assert set(target["semantic"].unique().tolist()) == {2, UNLABELED}
    assert (target["semantic"] == 2).sum() == 18 * 12  # half of an image of 24 x 18
    assert target["semantic"].dtype == torch.int64
    assert ((image == torch.tensor([124, 116, 104])[:, None, None]).all(0)).sum() == SIDE**2 - 18 * 24


@pytest.mark.parametrize("masks", [True, False])
def test_an_image_without_objects_stays_one(masks: bool):
    _, target = scene()
    empty = {name: values[:0] for name, values in target.items() if masks or name != "masks"}
    image, target = augmented(1, empty)
    assert image.shape == (3, SIDE, SIDE)
    assert target["boxes"].shape == (0, 4)
    assert not masks or target["masks"].shape == (0, SIDE, SIDE)


def test_colours_change_with_jitter_alone():
    plain, coloured, again = (augmented(5, jitter=jitter)[0] for jitter in (0.0, 0.6, 0.6))
    assert plain.shape == coloured.shape
    assert not torch.equal(plain, coloured)
    assert torch.equal(coloured, again)


@pytest.mark.parametrize(("height", "width"), [(48, 64), (333, 500), (7, 300), (90, 31)])
def test_predictions_in_the_letterbox_return_to_the_original(height: int, width: int):
    original = torch.tensor([[0.0, 0.0, width, height], [width / 4, height / 3, width / 2, height]])
    rows, columns = fitted_size((height, width), SIDE)
    assert max(rows, columns) == SIDE
    assert abs(rows * max(height, width) - height * SIDE) <= max(height, width)
    small = original * torch.tensor([columns / width, rows / height] * 2)
    masks = torch.zeros(1, 1, SIDE, SIDE)
    masks[..., :rows, :columns] = 1
    found = in_original({"boxes": small, "masks": masks, "scores": torch.ones(2)}, SIDE, (height, width))
    assert torch.allclose(found["boxes"], original, atol=1e-3)
    assert found["masks"].shape == (1, 1, height, width)
    assert found["masks"].all()


def test_the_letterbox_holds_the_whole_image_in_its_corner():
    image, _ = scene()
    boxed = letterbox(image, 32, (48, 64))
    assert boxed.shape == (3, 32, 32)
    assert torch.equal(boxed[:, :24].float().round(), boxed[:, :24].float())
    assert (boxed[:, 24:] == torch.tensor([124, 116, 104])[:, None, None]).all()
    assert torch.equal(letterbox(image, 64, (48, 64))[:, :48], image)


def test_logits_of_the_letterbox_return_to_the_original():
    logits = torch.zeros(2, 32, 32)
    logits[0], logits[1, :24, 16:] = 0.5, 1
    logits[1, 24:] = 9  # around the image
    found = logits_in_original(logits, 32, (48, 64)).argmax(0)
    assert torch.equal(found, (torch.arange(64) >= 32).long().expand(48, 64))


def test_a_smaller_copy_has_smaller_annotations():
    image, target = scene()
    small = reduced(image, 32)
    assert small.shape == (3, 24, 32)
    assert reduced(image, 64) is image
    half = resized_target(target, (48, 64), (24, 32))
    assert torch.equal(half["boxes"], target["boxes"] / 2)
    assert torch.equal(half["area"], target["area"] / 4)
    assert half["masks"].shape == (4, 24, 32)
