"""The user's own Datasets: cached and augmented like folders, or taken as tensors; wrong ones get one sentence."""

import pickle
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hiri_search.training.data.image_folder import DataError
from hiri_search.training.data.loader import BatchedLoader, Loader, TimmTransformLoader, open_loader
from hiri_search.training.data.prepare import fingerprint, is_prepared, prepare
from hiri_search.training.data.sources import dataset_reader, user_datasets
from hiri_search.training.data.sources.dataset_source import DatasetSource
from hiri_search.training.inputs.ensure_local import NodeMismatch, ensure_local
from hiri_search.training.job import DataSource, Job, PreparedData
from hiri_search.training.probe import UndecodedImages, image_seconds, shrink_for_probe
from hiri_search.training.recipe import Recipe, SettingError
from tests.training.data import own_data
from tests.training.test_ensure_local import JOB

SIDE = 16
RECIPE = Recipe(batch=8, erasing=0.5, jitter=0.2)
WITH_POLICY = replace(RECIPE, auto_augment="rand-m9-mstd0.5-inc1")
PAGE = Path(__file__).parents[3] / "docs" / "own_data.md"


@pytest.fixture(autouse=True)
def cache_in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("HIRI_SEARCH_CACHE", str(tmp_path / "cache"))
    yield
    user_datasets.forget_datasets()


def _data(name: str, arguments: dict[str, Any] | None = None, **keys: Any) -> DataSource:
    return DataSource(f"python:{own_data.__name__}:{name}", arguments=arguments, **keys)


def _prepared(data: DataSource, home: Path, **keys: Any) -> PreparedData:
    return prepare(data, SIDE, home, **keys)


def _loader(data: DataSource, prepared: PreparedData, recipe: Recipe = RECIPE) -> Loader:
    return open_loader(data, prepared, side=SIDE, recipe=recipe, device=torch.device("cpu"))


def _epoch(loader: Loader, augmentation: int = 0) -> Tensor:
    seeds = torch.Generator().manual_seed(0), torch.Generator().manual_seed(augmentation)
    return torch.cat([images for images, _ in loader.train(*seeds)])


@pytest.mark.parametrize(("cache", "recipe"), [("disk", RECIPE), ("none", RECIPE), ("disk", WITH_POLICY)])
def test_images_are_trained_on_as_those_of_a_folder(cache: str, recipe: Recipe, tmp_path: Path):
    data = _data("make", {"test": 9})
    prepared = _prepared(data, tmp_path, cache=cache)
    assert (prepared.counts, prepared.classes) == ({"train": 30, "val": 12, "test": 9}, tuple(own_data.CLASSES))
    assert prepared.notes == ()
    loader = _loader(data, prepared, recipe)
    assert isinstance(loader, TimmTransformLoader if recipe is WITH_POLICY else BatchedLoader)
    for images, labels in (*loader.val(), *loader.test()):
        assert images.mean((2, 3)).argmax(1).tolist() == labels.tolist()
    assert not torch.equal(_epoch(loader), _epoch(loader, augmentation=1))
    again = _loader(data, _prepared(data, tmp_path, cache="disk" if cache == "none" else "none"), recipe)
    assert torch.equal(_epoch(loader), _epoch(again))


@pytest.mark.parametrize("name", ["as_arrays", "as_tensors", "labels_in_arrays"])
def test_arrays_and_tensors_of_bytes_are_images(name: str, tmp_path: Path):
    folders = [_prepared(_data(each), tmp_path).folder for each in ("make", name)]
    for file in ("train_images.npy", "train_labels.npy"):
        assert np.array_equal(*(np.load(folder / file) for folder in folders))


def test_images_of_other_modes_are_converted_as_those_of_a_folder(tmp_path: Path):
    images = np.load(_prepared(_data("of_modes"), tmp_path).folder / "train_images.npy")
    assert set(np.unique(images)) == {100}


@pytest.mark.parametrize("workers", [0, 2])
def test_tensors_are_taken_as_they_are_and_augmented_by_their_dataset(workers: int, tmp_path: Path):
    data, recipe = _data("floats"), replace(RECIPE, workers=workers)
    prepared = _prepared(data, tmp_path)
    assert (prepared.transformed, prepared.folder.exists()) == (True, False)
    (note,) = prepared.notes
    assert "are tensors: the study neither resizes nor augments them" in note
    loader, generator = _loader(data, prepared, recipe), torch.get_rng_state()
    first, again, other = _epoch(loader), _epoch(loader), _epoch(loader, augmentation=1)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    val = [images for images, _ in loader.val()]
    assert all(torch.equal(*pair) for pair in zip(val, (images for images, _ in loader.val()), strict=True))
    assert torch.equal(generator, torch.get_rng_state())
    assert val[0].min() >= 0
    assert val[0].max() < 1
    assert is_prepared(data, SIDE, tmp_path)


SIZES = {
    "two classes": ({}, {}, 2, {"train": 20, "val": 8}),
    "numbers": ({}, {"train": 9, "val": 6}, None, {"train": 9, "val": 6}),
    "no val": ({"val": 0}, {}, None, {"train": 24, "val": 6}),
    "no val, two classes": ({"val": 0}, {}, 2, {"train": 16, "val": 4}),
    "no val, a share": ({"val": 0}, {"test": 0.1}, None, {"train": 21, "val": 6, "test": 3}),
    "test of a number": ({}, {"test": 6}, None, {"train": 24, "val": 12, "test": 6}),
    "some of its test": ({"test": 9}, {"test": 3}, None, {"train": 30, "val": 12, "test": 3}),
    "without its test": ({"test": 9}, {"test": 0}, None, {"train": 30, "val": 12}),
}


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize(("returned", "keys", "classes", "counts"), SIZES.values(), ids=SIZES)
def test_splits_are_chosen_as_those_of_a_folder(
    returned: dict[str, int], keys: dict[str, Any], classes: int | None, counts: dict[str, int], told: bool
):
    data = _data("make", {**returned, "told": told}, **keys)
    source = DatasetSource(data, classes)
    assert source.counts == counts
    names = {split: {source.name(split, index) for index in range(count)} for split, count in counts.items()}
    assert sum(map(len, names.values())) == len(set().union(*names.values())), "no image is in two splits"
    labels = {split: [label for _, label in source.images(split, 8)] for split in counts}
    for found in labels.values():
        assert set(np.bincount(found)) == {len(found) // len(source.classes)}
    assert DatasetSource(data, classes, skipped=[source.name("val", 0)]).counts == counts | {"val": counts["val"] - 1}
    held_out = [split for split in counts if any(f"gives no {split} images" in note for note in source.notes)]
    assert held_out == [split for split in counts if split != "train" and returned.get(split, split == "val") == 0]


def test_labels_that_a_dataset_does_not_tell_are_read_once(monkeypatch: pytest.MonkeyPatch):
    read, get = [], own_data.Colours.__getitem__
    monkeypatch.setattr(own_data.Colours, "__getitem__", lambda data, index: (read.append(index), get(data, index))[1])
    for _ in range(2):
        DatasetSource(_data("make", {"val": 0, "told": False}, train=9, val=3, test=3), 2)
    assert len(read) == 30 + 2, "the first image is read to see what it is"


def test_what_the_function_draws_is_the_same_in_every_process():
    states, found = torch.get_rng_state(), []
    for _ in range(2):
        source = DatasetSource(_data("split_at_random"), None)
        found.append([image.tobytes() for image, _ in source.images("val", 8)])
        user_datasets.forget_datasets()
    assert found[0] == found[1]
    assert torch.equal(states, torch.get_rng_state())


def test_classes_may_be_an_attribute_and_val_none(tmp_path: Path):
    prepared = _prepared(_data("with_attribute"), tmp_path)
    assert (prepared.counts, prepared.classes) == ({"train": 32, "val": 8, "test": 9}, tuple(own_data.CLASSES))


def test_several_processes_read_many_images_in_order(monkeypatch: pytest.MonkeyPatch):
    source = DatasetSource(_data("broken", {"index": 17}, skip_corrupt=True), None)
    expected = list(source.images("train", 8))
    monkeypatch.setattr(dataset_reader, "_MANY", 1)
    found = list(source.images("train", 8))
    assert [label for _, label in found] == [label for _, label in expected]
    assert found[17][0] is expected[17][0] is None
    assert all(np.array_equal(a, b) for (a, _), (b, _) in zip(found, expected, strict=True) if a is not None)
    copy = pickle.loads(pickle.dumps(source))  # in a worker process that is not forked
    assert np.array_equal(copy.image("train", 3, 8)[0], expected[3][0])


@pytest.mark.parametrize("cache", ["disk", "none"])
@pytest.mark.parametrize("told", [True, False])
def test_an_image_that_raises_is_named_and_can_be_left_out(cache: str, told: bool, tmp_path: Path):
    refused, data = (_data("broken", {"index": 4, "told": told}, train=27, skip_corrupt=skip) for skip in (False, True))
    with pytest.raises(
        DataError, match=r"train\[4\] cannot be read \(OSError: no such slice\); .*data\.skip_corrupt=true"
    ):
        _epoch(_loader(refused, _prepared(refused, tmp_path, cache=cache)))
    prepared = _prepared(data, tmp_path, cache=cache)
    assert (prepared.train, prepared.skipped) in ((26, ("train[4]",)), (27, ()))  # as the subset has it or not
    assert len(_epoch(_loader(data, prepared))) == 24


REFUSED = {
    "number": r"train is no torch Dataset but of type int; return train, \(train, val\)",
    "nothing": "returns 0 values; return train",
    "none": "returns None for train",
    "four": "returns 4 values; return train",
    "no classes": "names 0 classes; return a list of two or more names, each a text, last, or set",
    "one class": "names 1 classes; return a list of two or more",
    "stream": "val is an IterableDataset, of which images cannot be read by index",
    "empty": "val has 0 images; return None in its place",
    "text": "val is no torch Dataset but of type str",
    "no length": r"len\(train\) fails: NotImplementedError: length unknown",
    "targets out of range": r"train\[2\]: label 2 is none of the 2 classes, which have 0 to 1",
    "mixed kinds": "images of some splits are tensors of floats; write one kind for all",
    "mixed images": r"train\[1\]: some images are tensors of floats, and others are not",
    "label 3": r"train\[0\]: label 3 is none of the 3 classes, which have 0 to 2",
    "label text": r"train\[0\]: the label 'red' is no integer",
    "dict": r"train\[0\]: an item is \(image, label\), and this is of type dict",
    "three": r"an item is \(image, label\), and this is of type tuple of length 3",
    "array (9,)": r"image is of type ndarray \(9,\) of uint8; write a PIL image",
    "no pixel": r"image is of type Tensor \(3, 0, 0\) of torch\.uint8; write a PIL image",
    "array (3, H, W)": r"image is of type ndarray \(3, 20, 20\) of uint8; write a PIL image, an array \(H, W, 3\)",
    "array of floats": r"image is of type ndarray \(20, 20, 3\) of float64; write a PIL image",
    "signed": r"train\[0\] cannot be read \(pixels with a sign or 32 bits",
}


@pytest.mark.parametrize(("kind", "message"), REFUSED.items(), ids=REFUSED)
def test_what_cannot_be_trained_on_is_refused_in_a_sentence(kind: str, message: str, tmp_path: Path):
    with pytest.raises(DataError, match=message) as caught:
        _prepared(_data("as_is", {"kind": kind}), tmp_path)
    assert "\n" not in str(caught.value)


CALLS = {
    "missing module": (
        DataSource("python:no_such_module:make"),
        "no_such_module:make cannot be imported: .*under imports:",
    ),
    "missing name": (_data("no_such_name"), "has no no_such_name"),
    "wrong argument": (_data("make", {"side": 3}), "fails: TypeError: .*unexpected keyword argument 'side'"),
    "an exception": (_data("fails", {"path": "/x"}), "own_data:fails fails: FileNotFoundError: /x"),
    "side": (
        _data("floats", {"side": 8}),
        r"train\[0\] is a tensor \(3, 8, 8\); write \(3, 16, 16\), for trainings at",
    ),
    "side of val": (_data("floats", {"val_side": 8}), r"val\[0\] is a tensor \(3, 8, 8\)"),
    "augmented val": (_data("floats", test=3), "gives no test, and tensors of train may be augmented"),
    "share of a test": (_data("make", {"test": 9}, test=0.5), "share to hold out, and .* has a test"),
}


@pytest.mark.parametrize(("data", "message"), CALLS.values(), ids=CALLS)
def test_calls_that_fail_are_refused_in_a_sentence(data: DataSource, message: str, tmp_path: Path):
    with pytest.raises(DataError, match=message):
        _prepared(data, tmp_path)
    with pytest.raises(DataError, match=r"proxy\.classes=4: .* has 3 classes; write 2 to 3"):
        _prepared(_data("make"), tmp_path, classes=4)


@pytest.mark.parametrize("arguments", [{"file": Path("x")}, {1: {2}}])
def test_arguments_are_those_of_a_function_and_plain(arguments: dict[Any, Any]):
    with pytest.raises(SettingError, match="write numbers, texts, lists and mappings"):
        _data("make", arguments)
    with pytest.raises(SettingError, match="source=drawn takes none"):
        DataSource(arguments={"n": 1})
    with pytest.raises(SettingError, match="'python:my_data' names no function; write python:MODULE:NAME"):
        DataSource("python:my_data")
    assert hash(_data("make", {"train": 9})) == hash(_data("make")), "jobs are keys of tables"


def test_the_fingerprint_is_code_arguments_sizes_and_what_the_code_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def found(name: str = "make", arguments: dict[str, Any] | None = None, **keys: Any) -> str:
        user_datasets.forget_datasets()
        return fingerprint(_data(name, arguments, **keys), SIDE, classes=None, cache="auto")

    first = found()
    assert first == found(arguments={})
    others = [found(arguments={"train": 33}), found(train=9), found(train=9, seed=1), found("as_arrays")]
    monkeypatch.setattr(own_data.make, "fingerprint", "v2", raising=False)
    others.append(found())
    monkeypatch.setattr(own_data.Colours, "fingerprint", lambda dataset: "v3", raising=False)
    others.append(found())
    changed = tmp_path / "own_data.py"
    changed.write_text(Path(own_data.__file__).read_text() + "# another\n")
    monkeypatch.setattr(own_data, "__file__", str(changed))
    others.append(found())
    assert len({first, *others}) == 8


def test_another_machine_makes_the_same_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    job = replace(JOB, data=_data("make"), side=SIDE, classes=None)
    on_driver = _prepared(job.data, tmp_path)
    (tmp_path / "cache").rename(tmp_path / "of another machine")
    monkeypatch.setenv("HIRI_SEARCH_CACHE", str(tmp_path / "own"))
    local = ensure_local(on_driver, job, lambda: None, print)
    assert local.folder == tmp_path / "own" / on_driver.folder.name
    for file in ("train_images.npy", "val_labels.npy"):
        assert (local.folder / file).read_bytes() == (
            tmp_path / "of another machine" / local.folder.name / file
        ).read_bytes()


@pytest.mark.parametrize("cache", ["disk", "none"])
def test_other_data_on_another_machine_is_its_fault(cache: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "count.txt"
    file.write_text("30")
    job = Job(JOB.spec, SIDE, None, 0, JOB.recipe, _data("from_file", {"file": str(file)}))
    on_driver = _prepared(job.data, tmp_path, cache=cache)
    monkeypatch.setenv("HIRI_SEARCH_CACHE", str(tmp_path / "own"))
    ensure_local(on_driver, job, lambda: None, print)
    on_driver = replace(on_driver, folder=tmp_path / "other" / on_driver.folder.name)
    for change, message in ((lambda: file.write_text("33"), "other"), (file.unlink, "FileNotFoundError")):
        change()
        user_datasets.forget_datasets()
        with pytest.raises(NodeMismatch, match=message):
            ensure_local(on_driver, job, lambda: None, print)


@pytest.mark.parametrize("name", ["make", "floats"])
def test_a_probe_reads_no_image_but_tensors(name: str, tmp_path: Path):
    job = replace(JOB, data=_data(name), side=SIDE, classes=None)
    prepared = replace(_prepared(job.data, tmp_path, cache="none"), cache="auto")
    probed, images = shrink_for_probe(job, prepared, tmp_path)
    assert (probed.data == job.data, images.test) == (name == "floats", 0)
    assert image_seconds(UndecodedImages(_data("make"), SIDE, None)) > 0


def test_the_example_of_the_documentation_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("torchvision")
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (tmp_path / "my_data.py").write_text(example)
    monkeypatch.syspath_prepend(tmp_path)
    arrays = {
        f"{split}_{kind}": np.arange(12).reshape(12, 1) % 3 if kind == "labels" else np.zeros((12, 20, 20, 3), np.uint8)
        for split in ("train", "val", "test")
        for kind in ("images", "labels")
    }
    np.savez(tmp_path / "blood.npz", **arrays)
    arguments = {"file": str(tmp_path / "blood.npz"), "classes": ["basophil", "eosinophil", "lymphocyte"]}
    prepared = _prepared(DataSource("python:my_data:arrays", arguments=arguments), tmp_path)
    assert prepared.counts == {"train": 12, "val": 12, "test": 12}
