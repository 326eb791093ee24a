"""The test split: taken from test/, held out by a seed, or drawn; no image of it is trained on or validated with."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hiri_search.training.data.image_folder import DataError
from hiri_search.training.data.loader import Loader, open_loader
from hiri_search.training.data.prepare import fingerprint, prepare
from hiri_search.training.data.sources.folder_source import FolderSource
from hiri_search.training.job import DataSource, PreparedData
from hiri_search.training.probe import shrink_for_probe
from hiri_search.training.recipe import Recipe, SettingError
from tests.training.test_ensure_local import JOB

SIDE = 16
RECIPE = Recipe(batch=4)


@pytest.fixture(autouse=True)
def cache_in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIRI_SEARCH_CACHE", str(tmp_path / "cache"))


def _folder(root: Path, **counts: int) -> Path:
    """Images of the classes a and b, each of another colour, and all of one size on disk."""
    for index, (split, count) in enumerate(counts.items()):
        for label, name in enumerate("ab"):
            for number in range(count):
                file = root / split / name / f"{number:02}.ppm"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (20, 18), (10 * number, 90 - 30 * index, 255 - 10 * label)).save(file)
    return root


def _loader(data: DataSource, prepared: PreparedData, recipe: Recipe = RECIPE) -> Loader:
    return open_loader(data, prepared, side=SIDE, recipe=recipe, device=torch.device("cpu"))


def _names(data: DataSource) -> dict[str, set[str]]:
    source = FolderSource(data, None)
    return {split: {entry.name for entry in entries} for split, entries in source.entries.items()}


def test_studies_without_a_test_keep_their_images(tmp_path: Path):
    both, only = _folder(tmp_path / "both", train=5, val=2), _folder(tmp_path / "only", train=5)
    golden = {
        DataSource(f"folder:{both}"): "0ab6852cc7e6",
        DataSource(f"folder:{only}"): "11fc2eee9e90",
        DataSource(f"folder:{both}", train=7, val=3, seed=3): "5042ab140466",
        DataSource(train=8, val=4): "3f478665662d",
    }
    assert {data: fingerprint(data, SIDE, classes=None, cache="auto") for data in golden} == golden


SETUPS = [
    ("folder", "disk", RECIPE),
    ("folder", "none", RECIPE),
    ("folder", "disk", Recipe(batch=4, auto_augment="rand-m9-mstd0.5-inc1")),
    ("timm", "auto", RECIPE),
]


@pytest.mark.parametrize(("kind", "cache", "recipe"), SETUPS)
def test_a_folder_test_is_used_without_a_key(kind: str, cache: str, recipe: Recipe, tmp_path: Path):
    images = _folder(tmp_path / "images", train=5, val=3, testing=6)
    data, without = (DataSource(f"{kind}:{images}", test=test) for test in (None, 0))
    prepared, before = (prepare(each, SIDE, tmp_path, cache=cache) for each in (data, without))
    assert prepared.counts == {"train": 10, "val": 6, "test": 12}
    assert prepared.notes == ("The test images are those of testing/.",)
    assert before.counts == {"train": 10, "val": 6}
    assert before.notes[-1] == "testing/ was left out (files: 12)."
    assert prepared.folder != before.folder
    loader, old = _loader(data, prepared, recipe), _loader(without, before, recipe)
    test = list(loader.test())
    assert torch.cat([labels for _, labels in test]).tolist() == [0] * 6 + [1] * 6
    reds = torch.cat([batch[:, 0].mean((1, 2)) for batch, _ in test])
    assert reds[:6].tolist() == sorted(reds[:6].tolist()), "in their order, as they are on disk"
    for (images_now, _), (images_then, _) in zip(loader.val(), old.val(), strict=True):
        assert torch.equal(images_now, images_then)


def test_a_set_of_train_and_test_is_validated_on_held_out_training_images(tmp_path: Path):
    data = DataSource(f"folder:{_folder(tmp_path / 'images', train=10, test=3)}")
    prepared, names = prepare(data, SIDE, tmp_path), _names(data)
    assert prepared.counts == {"train": 16, "val": 4, "test": 6}
    assert prepared.notes[0].startswith("There is no val/: 20% of the images of each class")
    assert names["val"] == _names(DataSource(f"folder:{_folder(tmp_path / 'old', train=10)}"))["val"]
    assert all(name.startswith("test/") for name in names["test"])


@pytest.mark.parametrize(("test", "count"), [(0.2, 4), (0.01, 2), (6, 6)])
@pytest.mark.parametrize("counts", [{"train": 10}, {"train": 10, "val": 3}])
def test_a_test_is_held_out_of_the_training_images(test: float, count: int, counts: dict[str, int], tmp_path: Path):
    path = f"folder:{_folder(tmp_path / 'images', **counts)}"
    without, names, reseeded = (
        _names(DataSource(path, **keys)) for keys in ({}, {"test": test}, {"test": test, "seed": 1})
    )
    assert names["val"] == without["val"]
    assert names["train"] | names["test"] == without["train"]
    assert len(names["test"]) == count == len(without["train"]) - len(names["train"])
    assert {"a", "b"} == {name.split("/")[1] for name in names["test"]}
    assert names["test"] != reseeded["test"]
    source = FolderSource(DataSource(path, test=test, train=2), None)
    assert {entry.name for entry in source.entries["test"]} == names["test"], "a subset of the others leaves the test"
    assert (
        source.notes[-1] == f"There is no test/: {count} of the images, chosen with data.seed=0, were held out for it."
    )


def test_a_drawn_test_shares_no_image_and_changes_none(tmp_path: Path):
    data = DataSource(train=8, val=4, test=6)
    prepared, without = (prepare(each, SIDE, tmp_path) for each in (data, DataSource(train=8, val=4)))
    arrays = {split: np.load(prepared.folder / f"{split}_images.npy") for split in prepared.counts}
    assert {split: len(images) for split, images in arrays.items()} == {"train": 8, "val": 4, "test": 6}
    for split in ("train", "val"):
        assert np.array_equal(arrays[split], np.load(without.folder / f"{split}_images.npy"))
    assert len({image.tobytes() for images in arrays.values() for image in images}) == 18
    mapped, uncached = (_loader(data, prepare(data, SIDE, tmp_path, cache=cache)) for cache in ("disk", "none"))
    for (first, _), (second, _) in zip(mapped.test(), uncached.test(), strict=True):
        assert torch.equal(first, second)


@pytest.mark.parametrize("inside", ["", "unknown/", "test/"])
def test_test_images_without_classes_are_left_out_and_named(inside: str, tmp_path: Path):
    images = _folder(tmp_path / "images", train=5, val=3)
    (images / "test" / inside).mkdir(parents=True)
    shutil.copy(images / "val/a/00.ppm", images / "test" / inside)
    prepared = prepare(DataSource(f"folder:{images}"), SIDE, tmp_path)
    assert (prepared.counts, prepared.notes) == ({"train": 10, "val": 6}, ("test/ was left out (files: 1).",))


REFUSED = {
    "a share where there is a test": ({"test": 2}, 0.5, r"share to hold out, and .*images has test images of its own"),
    "fewer than classes": ({}, 1, r"data\.test=1 is fewer than the 2 classes"),
    "fewer than classes, of a folder": ({"test": 2}, 1, r"data\.test=1 is fewer than the 2 classes"),
    "all": ({}, 10, "test: 10 of 10 training images held out leave a class without any; hold out fewer"),
}


@pytest.mark.parametrize(("counts", "test", "message"), REFUSED.values(), ids=REFUSED)
def test_a_test_that_cannot_be_is_refused(counts: dict[str, int], test: float, message: str, tmp_path: Path):
    images = _folder(tmp_path / "images", train=5, val=2, **counts)
    with pytest.raises(DataError, match=message):
        prepare(DataSource(f"folder:{images}", test=test), SIDE, tmp_path)


def test_a_class_without_test_images_is_refused_with_a_way_out(tmp_path: Path):
    images = _folder(tmp_path / "images", train=5, val=2, test=2)
    shutil.rmtree(images / "test/b")
    with pytest.raises(
        DataError, match=r"'b' has no image in test/; add some or remove the class, or write data.test=0"
    ):
        prepare(DataSource(f"folder:{images}"), SIDE, tmp_path)


@pytest.mark.parametrize("cache", ["disk", "none"])
def test_unreadable_test_images_are_left_out_as_others_are(cache: str, tmp_path: Path):
    images = _folder(tmp_path / "images", train=5, val=2, test=2)
    (images / "test/a/00.ppm").write_bytes(b"x")
    prepared = prepare(DataSource(f"folder:{images}", skip_corrupt=True), SIDE, tmp_path, cache=cache)
    assert (prepared.test, prepared.skipped) == (3, ("test/a/00.ppm",))


@pytest.mark.parametrize("test", [-1, 1.0, 2.5, 0.0, float("nan")])
def test_impossible_tests_are_refused(test: float):
    with pytest.raises(SettingError, match=r"test=.* is not possible; write a number of images, a share such as 0\.1"):
        DataSource(test=test)
    with pytest.raises(SettingError, match="images are drawn for it; write their number"):
        DataSource(test=0.5)


def test_timm_has_no_test_of_its_own(tmp_path: Path):
    with pytest.raises(DataError, match=r"data\.test=5: of timm:torch/cifar10 there are training and validation"):
        prepare(DataSource("timm:torch/cifar10", test=5), SIDE, tmp_path)


@pytest.mark.parametrize("cache", ["disk", "none"])
def test_a_probe_measures_no_test(cache: str, tmp_path: Path):
    prepared = PreparedData(tmp_path, ("a", "b"), 8, 4, cache=cache, test=6)
    assert shrink_for_probe(JOB, prepared, tmp_path)[1].test == 0
