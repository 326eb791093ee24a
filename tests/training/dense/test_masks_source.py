"""Images with semantic maps: what values mean, and one clear error or note for each fault."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hiri_search.training.data.image_folder import DataError
from hiri_search.training.dense.sources.masks_source import MasksSource
from tests.training.dense.annotated_data import SIZE, picture, write_masks

VALUES = np.zeros(SIZE[::-1], np.uint8)
VALUES[:, 12:], VALUES[0] = 1, 255
PALETTE = [255, 0, 0, 0, 255, 0] + 254 * [0, 0, 0]


def palette_image(values: np.ndarray) -> Image.Image:
    image = Image.fromarray(values, "P")
    image.putpalette(PALETTE)
    return image


def semantic(root: Path, split: str = "train") -> np.ndarray:
    return next(MasksSource(str(root)).images(split))[1]["semantic"].numpy()


KINDS = {
    "8 bits": Image.fromarray(VALUES),
    "16 bits": Image.fromarray(VALUES.astype(np.uint16)),
    "a palette": palette_image(VALUES),
    "grey in three channels": Image.fromarray(np.stack([VALUES] * 3, -1)),
}


@pytest.mark.parametrize("mask", KINDS.values(), ids=KINDS)
def test_values_are_classes_and_255_is_not_judged(tmp_path: Path, mask: Image.Image):
    assert np.array_equal(semantic(write_masks(tmp_path, train_1=mask)), VALUES)


def test_named_classes_that_are_not_judged_move_the_others_up(tmp_path: Path):
    write_masks(tmp_path)
    (tmp_path / "classes.txt").write_text("unlabeled\nroad\nsky\n")
    assert MasksSource(str(tmp_path)).classes == ("road", "sky")
    assert np.array_equal(semantic(tmp_path), np.where(VALUES == 1, 0, 255))


def test_colours_are_classes(tmp_path: Path):
    colours = np.array([[10, 20, 30], [0, 0, 0], [9, 9, 9]], np.uint8)[np.minimum(VALUES, 2)]
    write_masks(tmp_path, **{f"{split}_{n}": colours for split in ("train", "val") for n in (1, 2)})
    with pytest.raises(DataError, match=r"a mask in colours: write colours\.json"):
        semantic(tmp_path)
    named = {"road": [10, 20, 30], "sky": [0, 0, 0], "void": [9, 9, 9]}
    (tmp_path / "colours.json").write_text(json.dumps(named))
    assert MasksSource(str(tmp_path)).classes == ("road", "sky")
    assert np.array_equal(semantic(tmp_path), VALUES)
    (tmp_path / "colours.json").write_text(json.dumps({"road": [10, 20, 30], "sky": [0, 0, 0]}))
    with pytest.raises(DataError, match=r"the colour \[9, 9, 9\], which colours\.json has not; add it"):
        semantic(tmp_path)


LAYOUTS = {
    "images and masks": ("images/{}/{}", "masks/{}/{}"),
    "ADE20K's": ("ADE/images/{}ing/{}", "ADE/annotations/{}ing/{}"),
    "in each split": ("{}/images/{}", "{}/masks/{}"),
    "in a folder named as a split": ("test/{}/{}", "test/{}/{}"),
}


@pytest.mark.parametrize(("image_name", "mask_name"), LAYOUTS.values(), ids=LAYOUTS)
def test_common_layouts_are_read(tmp_path: Path, image_name: str, mask_name: str):
    write_masks(tmp_path / "plain")
    for file in (tmp_path / "plain").glob("*/*"):
        split = {"train": "train", "val": "validat" if "ing" in mask_name else "val"}[file.parent.name]
        name = (mask_name if file.suffix == ".png" else image_name).format(split, file.name)
        target = tmp_path / "new" / name.replace("validating", "validation")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    source = MasksSource(str(tmp_path / "new"))
    assert source.counts == {"train": 2, "val": 2}
    assert np.array_equal(semantic(tmp_path / "new"), VALUES)


def test_images_and_masks_without_the_other_are_counted(tmp_path: Path):
    write_masks(tmp_path)
    picture().save(tmp_path / "train" / "3.jpg")
    (note,) = MasksSource(str(tmp_path)).notes
    assert note == f"{tmp_path}: left out are 1 images without a mask."


def test_images_that_differ_in_their_suffix_alone_are_counted(tmp_path: Path):
    write_masks(tmp_path)
    picture().save(tmp_path / "train" / "1.jpeg")
    source = MasksSource(str(tmp_path))
    assert source.counts == {"train": 2, "val": 2}
    assert source.notes == (f"{tmp_path}: left out are 1 files of the same name as another, but for its suffix.",)


def test_unreadable_masks_are_skipped_if_that_is_asked_for(tmp_path: Path):
    write_masks(tmp_path)
    (tmp_path / "train" / "1.png").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"1\.png cannot be read as an image"):
        list(MasksSource(str(tmp_path)).images("train"))
    first, second = MasksSource(str(tmp_path), skip_corrupt=True).images("train")
    assert first is None
    assert second is not None


WIDE = VALUES.astype(np.uint16)
WIDE[3, 3] = 300
ERRORS: dict[str, tuple[Any, str, str]] = {
    "a value over 255": (WIDE, "", "has the value 300; write classes as 0 to 254, and 255"),
    "a value without a name": (VALUES + (VALUES == 1), "road\nsky", r"has the value 2, and classes\.txt names 0 to 1"),
    "another size": (VALUES[1:], "", "has 24 x 15 pixels, and its image 24 x 16; make them of one size"),
    "one class": (VALUES, "road", "names 1 classes; write 2 to 255"),
    "a name twice": (VALUES, "road\nroad", "a name twice; name each class once"),
}


@pytest.mark.parametrize(("mask", "names", "error"), ERRORS.values(), ids=ERRORS)
def test_faults_are_one_clear_error(tmp_path: Path, mask: Any, names: str, error: str):
    write_masks(tmp_path, train_1=mask)
    if names:
        (tmp_path / "classes.txt").write_text(names)
    with pytest.raises(DataError, match=error):
        semantic(tmp_path)


@pytest.mark.parametrize(
    "text", ["[1]", '{"a": 3}', '{"a": [1, 2, 300]}', '{"a": [1, 2]}', "{", '{"a": [0,0,0], "b": [0,0,0]}']
)
def test_colours_that_are_none_are_an_error(tmp_path: Path, text: str):
    write_masks(tmp_path)
    (tmp_path / "colors.json").write_text(text)
    with pytest.raises(DataError, match=r"colors\.json(: each name needs one colour| is not .* write it so)"):
        MasksSource(str(tmp_path))


def test_a_split_without_pairs_is_an_error(tmp_path: Path):
    write_masks(tmp_path)
    shutil.rmtree(tmp_path / "val")
    with pytest.raises(DataError, match="no image with a mask in val/; it must be a folder"):
        MasksSource(str(tmp_path))
