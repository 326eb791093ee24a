"""The decode cache of annotated images, and the batches of it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hiri_search.training.data import image_decode
from hiri_search.training.data.image_folder import DataError
from hiri_search.training.dense.annotated_loader import AnnotatedLoader
from hiri_search.training.dense.decoded_targets import DecodedTargets, prepare_annotated
from hiri_search.training.dense.scores import INSTANCE_SEGMENTATION, SEGMENTATION
from hiri_search.training.dense.sources.annotated_source import AnnotatedSource
from hiri_search.training.dense.sources.coco_source import CocoSource
from hiri_search.training.dense.sources.drawn_scenes import DrawnScenes
from hiri_search.training.dense.sources.masks_source import MasksSource
from hiri_search.training.dense.sources.run_lengths import to_counts
from hiri_search.training.dense.transforms import DenseAugmentation, in_original, logits_in_original
from hiri_search.training.recipe import Recipe
from tests.training.dense.annotated_data import SIZE, annotation, coco_document, write_coco, write_masks

RECIPE = Recipe(batch=2)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIRI_SEARCH_CACHE", str(tmp_path / "cache"))


def with_masks(root: Path) -> CocoSource:
    mask = np.zeros(SIZE[::-1], np.uint8)
    mask[3:11, 2:12] = 1
    segment = {"size": [*mask.shape], "counts": to_counts(mask).tolist()}
    objects = [annotation(1, segmentation=segment), annotation(2, category_id=7, segmentation=segment, iscrowd=1)]
    document = coco_document(annotations=objects)
    return CocoSource(str(write_coco(root, train=document, val=document)), masks=True)


SOURCES = {
    "boxes": lambda root: CocoSource(str(write_coco(root)), masks=False),
    "masks": with_masks,
    "semantic maps": lambda root: MasksSource(str(write_masks(root))),
    "drawn": lambda root: DrawnScenes({"train": 3, "val": 2}, side=48),
    "drawn maps": lambda root: DrawnScenes({"train": 3, "val": 2}, side=48, semantic=True),
}


@pytest.mark.parametrize("make", SOURCES.values(), ids=SOURCES)
def test_what_is_stored_is_what_the_source_gives(tmp_path: Path, make):
    source: AnnotatedSource = make(tmp_path / "data")
    prepared = prepare_annotated(source, 32, tmp_path)
    assert prepared.counts == source.counts
    for split in source.counts:
        stored = DecodedTargets(prepared.folder, split)
        for (image, target), (pixels, original) in zip(stored, source.images(split), strict=True):
            assert np.array_equal(image.permute(1, 2, 0), pixels)
            assert tuple(target.pop("size").tolist()) == pixels.shape[:2]
            assert target.keys() == original.keys()
            assert all(torch.equal(target[name], original[name]) for name in target)


def test_a_second_opening_decodes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    sources = [SOURCES[name](tmp_path / name) for name in ("masks", "semantic maps")]
    first = [prepare_annotated(source, 32, tmp_path) for source in sources]
    monkeypatch.setattr(image_decode, "_opened", lambda *_: pytest.fail("an image was decoded"))
    again = [MasksSource(str(tmp_path / "semantic maps")), CocoSource(str(tmp_path / "masks"), masks=True)]
    assert [prepare_annotated(source, 32, tmp_path) for source in reversed(again)] == first


def test_changed_annotations_are_other_data(tmp_path: Path):
    first = prepare_annotated(SOURCES["boxes"](tmp_path / "data"), 32, tmp_path)
    write_coco(
        tmp_path / "data", train=coco_document(annotations=[annotation(1), annotation(2, category_id=7, area=9)])
    )
    second = prepare_annotated(CocoSource(str(tmp_path / "data"), masks=False), 32, tmp_path)
    assert first.folder != second.folder


def test_large_images_are_stored_smaller_and_validation_stays_in_pixels_of_the_original(tmp_path: Path):
    prepared = prepare_annotated(with_masks(tmp_path / "data"), 6, tmp_path)
    train, val = (DecodedTargets(prepared.folder, split)[0] for split in ("train", "val"))
    assert train[0].shape == val[0].shape == (3, 8, 12)
    assert train[1]["boxes"].tolist() == [[1, 1.5, 6, 5.5]]
    assert train[1]["masks"].shape == (1, 8, 12)
    assert val[1]["boxes"].tolist() == [[2, 3, 12, 11]]
    assert val[1]["masks"].shape == (1, 16, 24)


def test_classes_of_masks_without_names_are_those_that_they_have(tmp_path: Path):
    values = np.zeros(SIZE[::-1], np.uint8)
    values[0, 0] = 4
    assert prepare_annotated(MasksSource(str(write_masks(tmp_path / "a", val_2=values))), 32, tmp_path).classes == (
        *("class 0", "class 1", "class 2", "class 3", "class 4"),
    )
    values[0, 0] = 255
    masks = {f"{split}_{number}": values for split in ("train", "val") for number in (1, 2)}
    one = MasksSource(str(write_masks(tmp_path / "b", **masks)))
    with pytest.raises(DataError, match=r"no class but 0 .*; write classes as 0, 1, 2"):
        prepare_annotated(one, 32, tmp_path)


def test_unreadable_images_are_left_out_and_named(tmp_path: Path):
    write_coco(tmp_path / "data")
    (tmp_path / "data" / "train" / "2.png").write_bytes(b"nothing")
    source = CocoSource(str(tmp_path / "data"), masks=False, skip_corrupt=True)
    prepared = prepare_annotated(source, 32, tmp_path)
    assert (prepared.train, prepared.skipped) == (1, ("train/2.png",))
    with pytest.raises(DataError, match=r"recipe\.batch=2 is more than the 1 training images"):
        prepare_annotated(source, 32, tmp_path, batch=2)


# ---- batches


def loader(prepared, *, side: int = 48, workers: int = 0) -> AnnotatedLoader:
    augmentation = DenseAugmentation(jitter=0.4)
    recipe = replace(RECIPE, workers=workers)
    return AnnotatedLoader(prepared, side=side, recipe=recipe, augmentation=augmentation, device=torch.device("cpu"))


def epoch(loader: AnnotatedLoader, order: int, augmentation: int) -> list:
    """The batches of an epoch with generators of these seeds."""
    generators = (torch.Generator().manual_seed(seed) for seed in (order, augmentation))
    return list(loader.train(*generators))


@pytest.fixture
def drawn(tmp_path: Path):
    return prepare_annotated(DrawnScenes({"train": 6, "val": 3}, side=48), 48, tmp_path)


def test_training_batches_are_squares_with_targets(drawn):
    opened = loader(drawn)
    batches = epoch(opened, 1, 2)
    assert len(batches) == len(opened) == 3
    for images, targets in batches:
        assert images.shape == (2, 3, 48, 48)
        assert images.is_contiguous(memory_format=torch.channels_last)
        assert abs(float(images.mean())) < 2
        assert [each["masks"].shape[1:] for each in targets] == [(48, 48)] * 2


def test_augmentation_depends_on_seed_and_image_alone(drawn):
    one, ordered, other = (epoch(loader(drawn), *seeds) for seeds in ((1, 2), (3, 2), (1, 4)))
    flat = [{image.numpy().tobytes() for images, _ in batches for image in images} for batches in (one, ordered, other)]
    assert flat[0] == flat[1]
    assert not flat[0] & flat[2]


def test_workers_change_nothing(drawn):
    alone, helped = (epoch(loader(drawn, workers=workers), 1, 2) for workers in (0, 1))
    for (images, targets), (same, same_targets) in zip(alone, helped, strict=True):
        assert torch.equal(images, same)
        assert all(torch.equal(t[name], s[name]) for t, s in zip(targets, same_targets, strict=True) for name in t)


def test_the_truth_itself_scores_100(tmp_path: Path, drawn):
    pytest.importorskip("faster_coco_eval", reason="the extra `dense` is not installed")
    meter = INSTANCE_SEGMENTATION.meter()
    for _, targets in loader(drawn, side=48).val():
        for target in targets:
            whole = {"boxes": target["boxes"], "labels": target["labels"], "masks": target["masks"][:, None]}
            found = whole | {"scores": torch.ones(len(target["labels"]))}
            meter.add([in_original(found, 48, (48, 48))], [target])
    scores = meter.scores()
    assert scores["ap"] == scores["mask_ap"] == pytest.approx(100)
    maps = prepare_annotated(MasksSource(str(write_masks(tmp_path / "maps"))), 24, tmp_path)
    meter = SEGMENTATION.meter()
    for images, targets in loader(maps, side=24).val():
        for image, target in zip(images, targets, strict=True):
            size = tuple(target["size"].tolist())
            logits = torch.zeros(2, 24, 24)
            logits[1, :, 12:] = 1
            assert image.shape == (3, 24, 24)
            meter.add([logits_in_original(logits, 24, size)], [target])
    assert meter.scores() == pytest.approx({"miou": 100, "pixel_accuracy": 100})
