"""Images with boxes and masks in COCO's format: what is read, and one clear error or note for each fault."""

import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hiri_search.system.file_tree.tree import MAX_FILE_BYTES
from hiri_search.training.data.image_folder import DataError
from hiri_search.training.dense.sources import coco_source
from hiri_search.training.dense.sources.coco_source import CocoSource
from hiri_search.training.dense.sources.run_lengths import from_counts, mask_of, to_counts
from tests.training.dense.annotated_data import CATEGORIES, SIZE, annotation, coco_document, picture, write_coco

DETECTION = Path(__file__).parents[3].parent / "shared" / "data" / "detection.tar"
WIDTH, HEIGHT = SIZE


def targets(source: CocoSource, split: str = "train") -> list[dict[str, Any]]:
    return [item[1] for item in source.images(split) if item is not None]


def test_boxes_and_classes_are_read(tmp_path: Path):
    source = CocoSource(str(write_coco(tmp_path)), masks=False)
    assert (source.classes, source.counts, source.notes) == (("cat", "dog"), {"train": 2, "val": 2}, ())
    image, target = next(source.images("train"))
    assert np.array_equal(image, np.asarray(picture(1)))
    assert target["boxes"].tolist() == [[2, 3, 12, 11]]
    assert [each["labels"].tolist() for each in targets(source)] == [[0], [1]]


@pytest.mark.skipif(not DETECTION.exists(), reason=f"{DETECTION} is not there")
def test_real_sets_of_an_archive_are_read():
    source = CocoSource(f"{DETECTION}#bccd", masks=False, counts={"train": 9})
    assert (source.classes, source.counts) == (("RBC", "WBC", "Platelets"), {"train": 9, "val": 72})
    found = list(source.images("val"))
    assert sum(len(target["labels"]) for _, target in found) == 945
    assert all(image.shape == (480, 640, 3) for image, _ in found)
    with pytest.raises(DataError, match=r"several sets; write coco:.*detection/cards"):
        CocoSource(str(DETECTION), masks=False)


LAYOUTS = {
    "COCO's own": ("annotations/instances_{}2017.json", "{}2017/{}"),
    "all images together": ("annotations/{}.json", "images/{1}"),
    "images by split": ("{}.json", "images/{}/{}"),
    "Roboflow": ("{}/_annotations.coco.json", "{}/{}"),
    "in a folder": ("set/{}.json", "set/{}/{}"),
}


@pytest.mark.parametrize(("json_name", "image_name"), LAYOUTS.values(), ids=LAYOUTS)
def test_common_layouts_are_read(tmp_path: Path, json_name: str, image_name: str):
    write_coco(tmp_path / "plain")
    for split in ("train", "val"):
        content = (tmp_path / "plain" / f"{split}.json").read_text()
        for target, text in [(tmp_path / "new" / json_name.format(split), content)]:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        for image in (tmp_path / "plain" / split).iterdir():
            target = tmp_path / "new" / image_name.format(split, image.name)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(image, target)
    assert len(targets(CocoSource(str(tmp_path / "new"), masks=False), "val")) == 2


# ---- masks


def test_masks_are_read_from_run_lengths_and_polygons(tmp_path: Path):
    pytest.importorskip("faster_coco_eval", reason="the extra `dense` is not installed")
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[3:11, 2:12] = 1
    compressed = _compressed(to_counts(mask).tolist())
    kinds = [
        {"size": [HEIGHT, WIDTH], "counts": to_counts(mask).tolist()},
        {"size": [HEIGHT, WIDTH], "counts": compressed},
        [[2, 3, 12, 3, 12, 11, 2, 11]],
    ]
    objects = [annotation(1, id=n, segmentation=kind, iscrowd=n == 0) for n, kind in enumerate(kinds)]
    train = coco_document(annotations=[*objects, annotation(2, category_id=7, segmentation=[[1, 2, 3, 4]])])
    val = coco_document(annotations=objects)
    source = CocoSource(str(write_coco(tmp_path, train=train, val=val)), masks=True)
    first, second = targets(source)
    assert first["masks"].shape == (3, HEIGHT, WIDTH)
    assert all(np.array_equal(each, mask) for each in first["masks"].numpy())
    assert first["ignored"].tolist() == [True, False, False]
    assert second["masks"].shape == (0, HEIGHT, WIDTH)  # an object without a mask is left out
    assert "1 with a polygon of fewer than three corners" in source.notes[0]
    assert "1 without a mask (left out), 1 that are crowds (not judged)" in source.notes[0]


def _compressed(counts: list[int]) -> str:
    """COCO's compression, written anew from its definition."""
    text = ""
    for index, count in enumerate(counts):
        value, more = count - (counts[index - 2] if index > 2 else 0), True
        while more:
            bits, value = value & 31, value >> 5
            more = value != (-1 if bits & 16 else 0)
            text += chr(48 + (bits | 32 * more))
    return text


@pytest.mark.parametrize("seed", range(5))
def test_run_lengths_give_the_mask_again(seed: int):
    mask = np.random.default_rng(seed).integers(0, 2, (7, 9)).astype(np.uint8)
    assert np.array_equal(from_counts(to_counts(mask), 7, 9), mask)
    assert np.array_equal(mask_of({"size": [7, 9], "counts": _compressed(to_counts(mask).tolist())}, 7, 9), mask)


# ---- orientation


@pytest.mark.parametrize(("size", "shape"), [((HEIGHT, WIDTH), (24, 16)), ((WIDTH, HEIGHT), (16, 24))])
def test_boxes_match_the_image_as_it_is_shown_or_as_it_is_stored(
    tmp_path: Path, size: tuple[int, int], shape: tuple[int, int]
):
    entry = {"id": 1, "file_name": "1.jpg", "width": size[0], "height": size[1]}
    write_coco(tmp_path, train=coco_document(images=[entry], annotations=[annotation()]))
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    picture().save(tmp_path / "train" / "1.jpg", exif=exif)
    image, _ = next(CocoSource(str(tmp_path), masks=False).images("train"))
    assert image.shape[:2] == shape


# ---- faults


def changed(**changes: Any) -> dict[str, Any]:
    return coco_document(annotations=[annotation(**changes), annotation(2, category_id=7)])


OUTSIDE = "with a box outside its image (left out)"
NOTES = {
    "a box reaches outside": (changed(bbox=[-5, 3, 10, 8]), "1 with a box that reaches outside its image (clipped)"),
    "a box is outside": (changed(bbox=[30, 3, 10, 8]), f"1 {OUTSIDE}"),
    "an empty box": (changed(bbox=[2, 3, 0, 8]), "1 with an empty box (left out)"),
    "a negative box": (changed(bbox=[2, 3, 4, -8]), "1 with an empty box (left out)"),
    "another image": (changed(image_id=9), "1 of an image that is not listed (left out)"),
    "a crowd": (changed(iscrowd=1), "1 that are crowds (not judged)"),
    "an image without objects": (changed(image_id=2), "1 of 2 images have no object"),
    "ids twice": (changed(id=2), "1 with the id of another one (kept)"),
    "an unused category": (
        coco_document(categories=[{"id": 0, "name": "cells"}, *CATEGORIES]),
        "Categories without an object are left out: 1 (cells)",
    ),
}


@pytest.mark.parametrize(("train", "note"), NOTES.values(), ids=NOTES)
def test_small_faults_are_counted(tmp_path: Path, train: dict[str, Any], note: str):
    val = coco_document(categories=train["categories"])
    source = CocoSource(str(write_coco(tmp_path, train=train, val=val)), masks=False)
    assert note in " ".join(source.notes)
    for target in targets(source):
        assert ((target["boxes"] >= 0) & (target["boxes"] <= 24)).all()
        assert (target["boxes"][:, 2:] > target["boxes"][:, :2]).all()


IMAGES = coco_document()["images"]
ERRORS = {
    "an unknown category": (changed(category_id=5), "category_id 5, and categories has 3, 7; add it"),
    "no box": (changed(bbox=None), r"bbox None; write \[left, top, width, height\]"),
    "three numbers": (changed(bbox=[1, 2, 3]), r"bbox \[1, 2, 3\]; write"),
    "not a number": (changed(bbox=[1, 2, float("nan"), 4]), "bbox .*; write"),
    "no annotation at all": (coco_document(annotations=[]), "has no object; write"),
    "no annotations": ({"images": [], "categories": []}, "has no list annotations; write COCO's format"),
    "no image": (coco_document(images=[]), "lists no image; write"),
    "a list": ([1, 2], "has no list images and annotations and categories"),
    "an image twice": (coco_document(images=[IMAGES[0], IMAGES[0]]), "two of images have the id 1; give each its own"),
    "a file twice": (coco_document(images=[IMAGES[0], IMAGES[0] | {"id": 2}]), "two of images have the file_name"),
    "a category twice": (coco_document(categories=[CATEGORIES[0]] * 2), "two of categories have the id 3"),
    "two names": (
        coco_document(categories=[{"id": 3, "name": "cat"}, {"id": 7, "name": "cat"}]),
        "two categories are named 'cat'; rename",
    ),
    "no size": (coco_document(images=[{"id": 1, "file_name": "1.png"}]), "has no width and height; write"),
    "no name": (coco_document(images=[{"id": 1}]), "has no file name; write"),
    "a missing image": (
        coco_document(images=[IMAGES[0], IMAGES[1] | {"file_name": "gone.png"}]),
        r"missing: 1 \(gone.png\) of 2; put them in train/ or set data.skip_corrupt=true",
    ),
    "run lengths of another size": (changed(segmentation={"size": [9, 9], "counts": [81]}), "of another size"),
    "no polygons": (changed(segmentation=["1 2 3"]), "no list of polygons; write"),
}


@pytest.mark.parametrize(("train", "error"), ERRORS.values(), ids=ERRORS)
def test_faults_are_one_clear_error(tmp_path: Path, train: Any, error: str):
    val = coco_document(categories=train["categories"]) if "two categories" in error else coco_document()
    with pytest.raises(DataError, match=f"train.json.*{error}"):
        CocoSource(str(write_coco(tmp_path, train=train, val=val)), masks=True)


def test_broken_files_are_one_clear_error(tmp_path: Path):
    write_coco(tmp_path)
    (tmp_path / "val.json").write_text('{"images": [')
    with pytest.raises(DataError, match=r"val\.json cannot be read as JSON .*; export it again"):
        CocoSource(str(tmp_path), masks=False)
    (tmp_path / "val.json").unlink()
    with pytest.raises(DataError, match=r"no annotation file of val, val\.json; it must be a folder"):
        CocoSource(str(tmp_path), masks=False)
    with pytest.raises(DataError, match="does not exist; it must be a folder"):
        CocoSource(str(tmp_path / "gone"), masks=False)


def test_an_image_of_another_size_than_its_annotations_is_an_error(tmp_path: Path):
    write_coco(tmp_path)
    picture(size=(30, 20)).save(tmp_path / "train" / "2.png")
    source = CocoSource(str(tmp_path), masks=False)
    with pytest.raises(DataError, match="annotations for 24 x 16 pixels, and it has 30 x 20; correct"):
        list(source.images("train"))


@pytest.mark.parametrize("counts", ["00\x7f", "1", [3, -1], [HEIGHT * WIDTH + 1]])
def test_a_mask_that_cannot_be_read_is_an_error(tmp_path: Path, counts: Any):
    train = changed(segmentation={"size": [HEIGHT, WIDTH], "counts": counts})
    val = changed(segmentation={"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH]})
    source = CocoSource(str(write_coco(tmp_path, train=train, val=val)), masks=True)
    with pytest.raises(DataError, match="the mask of object 1 cannot be read"):
        list(source.images("train"))


def test_boxes_alone_do_not_train_masks(tmp_path: Path):
    with pytest.raises(DataError, match="boxes alone, without segmentation; add masks, or train a method"):
        CocoSource(str(write_coco(tmp_path)), masks=True)


def test_unreadable_images_are_skipped_if_that_is_asked_for(tmp_path: Path):
    write_coco(tmp_path)
    (tmp_path / "train" / "2.png").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"2\.png cannot be read as an image"):
        list(CocoSource(str(tmp_path), masks=False).images("train"))
    first, second = CocoSource(str(tmp_path), masks=False, skip_corrupt=True).images("train")
    assert first is not None
    assert second is None


def test_an_annotation_file_may_be_larger_than_other_files_and_has_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write_coco(tmp_path / "set")
    with tarfile.open(tmp_path / "set.tar", "w") as tar:
        tar.add(tmp_path / "set", "set")
    assert coco_source.MAX_JSON_BYTES > MAX_FILE_BYTES
    assert CocoSource(str(tmp_path / "set.tar"), masks=False).counts == {"train": 2, "val": 2}
    monkeypatch.setattr(coco_source, "MAX_JSON_BYTES", 10)
    with pytest.raises(DataError, match="bytes are more than the limit of 10"):
        CocoSource(str(tmp_path / "set.tar"), masks=False)
