"""Small annotated data sets, written into a folder."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIZE = 24, 16  # width and height of an image
CATEGORIES = [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}]
BOX = [2, 3, 10, 8]


def picture(seed: int = 0, size: tuple[int, int] = SIZE) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8))


def annotation(image: int = 1, **changes: Any) -> dict[str, Any]:
    return {"id": image, "image_id": image, "category_id": 3, "bbox": BOX, "iscrowd": 0} | changes


def coco_document(**changes: Any) -> dict[str, Any]:
    """A file with one object an image, of both categories in turn."""
    listed = [{"id": n, "file_name": f"{n}.png", "width": SIZE[0], "height": SIZE[1]} for n in (1, 2)]
    objects = [annotation(n, category_id=3 if n % 2 else 7) for n in (1, 2)]
    return {"images": listed, "annotations": objects, "categories": CATEGORIES} | changes


def write_coco(root: Path, **documents: dict[str, Any]) -> Path:
    """Write the annotation file of each split, by default of train and val, and its images."""
    for split, document in ({"train": coco_document(), "val": coco_document()} | documents).items():
        (root / split).mkdir(parents=True, exist_ok=True)
        (root / f"{split}.json").write_text(json.dumps(document))
        for number in (1, 2):
            picture(number).save(root / split / f"{number}.png")
    return root


def write_masks(root: Path, **masks: Any) -> Path:
    """Write two images a split with their masks, or with a mask of this name, such as `train_1`."""
    for split in ("train", "val"):
        (root / split).mkdir(parents=True, exist_ok=True)
        for number in (1, 2):
            picture(number).save(root / split / f"{number}.jpg")
            values = np.zeros(SIZE[::-1], np.uint8)
            values[:, 12:], values[0] = 1, 255
            mask = masks.get(f"{split}_{number}", values)
            (mask if isinstance(mask, Image.Image) else Image.fromarray(mask)).save(root / split / f"{number}.png")
    return root
