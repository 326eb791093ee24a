"""Drawn scenes: boxes, masks and semantic maps agree with each other, and the same seed gives the same bytes."""

import hashlib

import numpy as np
import pytest

from hiri_search.training.data.image_folder import DataError
from hiri_search.training.dense.sources.annotated_source import mask_extent
from hiri_search.training.dense.sources.drawn_scenes import DrawnScenes, draw_scene

SCENES = [draw_scene(index, classes=6, side=128, seed=3) for index in range(12)]


def test_the_bytes_are_the_same_on_every_machine():
    digest = hashlib.sha256()
    for side in (256, 97):
        scene = draw_scene(4, classes=12, side=side, seed=7)
        for array in (scene.image, scene.boxes, scene.labels, scene.masks, scene.semantic):
            digest.update(array.tobytes())
    assert digest.hexdigest() == "763c7086cf7608eccb2cc0e99b00d2d27bc826861b833cd8202d0cd18b31632c"


def test_annotations_agree_with_each_other():
    assert sum(len(scene.labels) for scene in SCENES) > 30
    for scene in SCENES:
        assert scene.masks.sum(0).max() <= 1  # a pixel belongs to one object
        for box, label, mask in zip(scene.boxes, scene.labels, scene.masks, strict=True):
            assert tuple(box) == mask_extent(mask > 0)
            assert set(scene.semantic[mask > 0]) == {label + 1}


def test_objects_look_unlike_the_background():
    inside, outside = [], []
    for scene in SCENES:
        detail = np.abs(np.diff(scene.image.astype(float), axis=1)).mean(2)
        inside.append(detail[scene.semantic[:, 1:] > 0].mean())
        outside.append(detail[scene.semantic[:, 1:] == 0].mean())
    assert np.mean(inside) > 1.5 * np.mean(outside)


def test_another_side_shows_the_same_scene():
    large = draw_scene(1, classes=6, side=256, seed=3)
    assert np.array_equal(large.labels, SCENES[1].labels)
    assert np.abs(large.boxes / 2 - SCENES[1].boxes).max() <= 1
    assert np.abs(large.image.reshape(128, 2, 128, 2, 3).mean((1, 3)) - SCENES[1].image).max() <= 0.5


def test_the_scenes_of_splits_differ_and_more_scenes_only_come_at_the_end():
    few, many = (DrawnScenes({"train": count, "val": 2}, side=64) for count in (2, 3))
    first, again = ([item[0] for item in source.images("train")] for source in (few, many))
    assert all(np.array_equal(one, other) for one, other in zip(first, again, strict=False))
    assert not np.array_equal(first[0], next(iter(few.images("val")))[0])


def test_background_is_a_class_of_semantic_maps_alone():
    objects, maps = (DrawnScenes({"train": 1}, side=64, classes=2, semantic=semantic) for semantic in (False, True))
    assert maps.classes == ("background", *objects.classes)
    assert set(next(maps.images("train"))[1]) == {"semantic"}
    with pytest.raises(DataError, match="1 to 12 classes"):
        DrawnScenes({"train": 1}, side=64, classes=13)
