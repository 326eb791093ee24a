"""Data sets of timm in other forms: WebDataset shards, and folders that Hugging Face's `datasets` reads."""

import io
import json
from collections.abc import Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hiri_search.training.data.image_folder import DataError
from hiri_search.training.data.loader import Loader, open_loader
from hiri_search.training.data.prepare import prepare
from hiri_search.training.job import DataSource
from hiri_search.training.parallel.ranks import ONE_PROCESS, Ranks
from hiri_search.training.recipe import Recipe
from tests.training.data.shard_files import SIDE, jpeg, write_shards

BATCH = 8
TRAIN, VAL = 22, 7  # 22 images: two batches and a rest
pytestmark = [  # of other packages
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # files that readers leave open
]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Shards of eight, seven and seven images of one shade each, which names the image."""
    pytest.importorskip("webdataset", reason="webdataset is not installed: the extra wds")
    return write_shards(tmp_path_factory.mktemp("shards"), train=TRAIN, val=VAL)


def _loader(
    source: str, home: Path, workers: int = 0, classes: int | None = None, *, ranks: Ranks = ONE_PROCESS
) -> Loader:
    data = DataSource(source)
    prepared = prepare(data, SIDE, home, classes=classes, batch=BATCH)
    recipe = Recipe(batch=BATCH, workers=workers, crop=1.0, flip=0.0)
    return open_loader(data, prepared, side=SIDE, recipe=recipe, device=torch.device("cpu"), ranks=ranks)


def _loaders(size: int, *arguments: Any) -> list[Loader]:
    return [_loader(*arguments, ranks=Ranks(rank, size)) for rank in range(size)]


def _epoch(loader: Loader, epoch: int) -> list[int]:
    order, augmentation = (torch.Generator().manual_seed(2 * epoch + each) for each in (0, 1))
    return list(_shades(loader.train(order, augmentation)))


def _shades(batches: Iterator[tuple[Tensor, Tensor]]) -> Iterator[int]:
    for images, labels in batches:
        shades = [round(float(image[0].mean() * 0.229 * 25.5 + 0.485 * 25.5)) for image in images]
        assert labels.tolist() == [shade % 2 for shade in shades]
        yield from shades


@pytest.mark.parametrize(("size", "workers"), [(1, 0), (1, 5), (2, 0), (2, 3), (4, 1)])
def test_processes_share_an_epoch_of_shards_without_an_image_twice(
    shards: str, tmp_path: Path, size: int, workers: int
):
    """Also where there are more processes than shards; the epoch depends on its number alone."""
    loaders = _loaders(size, shards, tmp_path, workers, 2)
    first, second = ([_epoch(loader, number) for loader in loaders] for number in (0, 1))
    for shares in (first, second):
        assert [len(share) for share in shares] == [2 * BATCH / size] * size
        assert len(set(chain(*shares))) == 2 * BATCH
    assert first != second, "shuffled anew"
    again = [_epoch(loader, 1) for loader in _loaders(size, shards, tmp_path, workers, 2)]
    assert again == second, "as a training does that is resumed"


@pytest.mark.parametrize(("size", "workers"), [(1, 0), (1, 5), (2, 2), (4, 0)])
def test_each_validation_image_is_read_once(shards: str, tmp_path: Path, size: int, workers: int):
    loaders = _loaders(size, shards, tmp_path, workers, 2)
    for _ in range(2):
        assert sorted(chain(*(_shades(loader.val()) for loader in loaders))) == list(range(VAL))


def test_processes_augment_their_images_differently(shards: str, tmp_path: Path):
    """In all processes each shard is the first of the epoch, as far as augmentation is concerned."""
    data = DataSource(shards)
    prepared = prepare(data, SIDE, tmp_path, classes=2, batch=BATCH)
    recipe, device = Recipe(batch=BATCH, crop=1.0, flip=0.0, erasing=1.0, workers=1), torch.device("cpu")
    erased = []
    for rank in range(2):
        loader = open_loader(data, prepared, side=SIDE, recipe=recipe, device=device, ranks=Ranks(rank, 2))
        images, _ = next(loader.train(torch.Generator(), torch.Generator().manual_seed(0)))
        erased.append(images.var(1) > 0.1)  # noise is coloured, and the images are grey
    assert all(mask.any() for mask in erased)
    assert not torch.equal(*erased)


def _change(folder: Path, **changes: Any) -> None:
    info = json.loads((folder / "_info.json").read_text())
    info["splits"]["train"] |= changes
    (folder / "_info.json").write_text(json.dumps(info))


FAULTY = {
    "a missing shard": (
        lambda folder: (folder / "x-train-1.tar").unlink(),
        "there is no shard .*/x-train-1.tar, which",
    ),
    "numbers that contradict each other": (
        lambda folder: _change(folder, num_samples=21),
        r"/_info.json: of train 3 filenames have 3 shard_lengths, 22 images in all; write .* 21 \(num_samples\) in all",
    ),
    "no number for a shard": (lambda folder: _change(folder, shard_lengths=[15, 7]), "3 filenames have 2 shard_len"),
    "a shard twice": (lambda folder: _change(folder, filenames=["x-train-0.tar"] * 3), "3 filenames have 3 shard_len"),
}


@pytest.mark.parametrize(("spoil", "message"), FAULTY.values(), ids=FAULTY)
def test_shards_that_are_not_those_of_the_list_are_refused_before_a_training(
    spoil: Any, message: str, tmp_path: Path, shards: str
):
    source = write_shards(tmp_path, train=TRAIN, val=VAL)
    spoil(tmp_path)
    with pytest.raises(DataError, match=message):
        _loader(source, tmp_path, classes=2)


def _spoil(folder: Path) -> None:
    (folder / "x-train-1.tar").write_bytes(b"no archive" * 100)


DAMAGED = {
    "images that the list alone has": (
        lambda folder: _change(folder, shard_lengths=[9, 6, 7]),
        "x-train-0.tar has fewer images than the 9 that _info.json says; write it again",
    ),
    "no archive": (_spoil, "x-train-1.tar cannot be read; write it again"),
}


@pytest.mark.parametrize(("spoil", "message"), DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_shard_ends_the_training(spoil: Any, message: str, tmp_path: Path, shards: str):
    source = write_shards(tmp_path, train=TRAIN, val=VAL)
    spoil(tmp_path)
    loader = _loader(source, tmp_path, classes=2)
    with pytest.raises(DataError, match=message):
        list(map(partial(_epoch, loader), range(3)))  # the rest that an epoch leaves out may be in this shard


def test_others_come_in_the_place_of_images_that_cannot_be_read(tmp_path: Path, shards: str):
    """So all processes have as many steps, and none waits for another."""
    source = write_shards(tmp_path, train=TRAIN, val=VAL, broken=range(2, 6))
    shares = [_epoch(loader, 0) for loader in _loaders(2, source, tmp_path, 0, 2)]
    assert [len(share) for share in shares] == [BATCH, BATCH]
    assert not set(chain(*shares)) & set(range(2, 6))
    assert sorted(chain(*(_shades(each.val()) for each in _loaders(2, source, tmp_path, 0, 2)))) == [0, 1, 6]


def test_images_of_which_none_can_be_read_end_the_training(tmp_path: Path, shards: str):
    source = write_shards(tmp_path, train=TRAIN, val=VAL, broken=range(TRAIN))
    with pytest.raises(
        DataError, match="has no images for 2 of the 2 steps of an epoch: too many of them cannot be read"
    ):
        _epoch(_loader(source, tmp_path, classes=2), 0)


@pytest.fixture
def hugging_face(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    package = pytest.importorskip("datasets", reason="datasets is not installed: the extra hfds")
    monkeypatch.setattr(package.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return package


def test_a_folder_that_hugging_face_reads_names_its_classes(tmp_path: Path, hugging_face: Any):
    for split, count in (("train", 16), ("validation", 4)):
        for name in ("apple", "pear"):
            (tmp_path / "set" / split / name).mkdir(parents=True)
        for number in range(count):
            name = ("apple", "pear")[number % 2]
            (tmp_path / "set" / split / name / f"{number}.jpg").write_bytes(jpeg(10 * number))
    source = f"timm:hfds/{tmp_path}/set"
    loader = _loader(source, tmp_path)
    assert loader.prepared.classes == ("apple", "pear")
    alone = _epoch(loader, 0)
    assert sorted(alone) == list(range(16))
    assert sorted(_shades(loader.val())) == list(range(4))
    halves = [_epoch(each, 0) for each in _loaders(2, source, tmp_path)]
    assert [*halves[0][:2], *halves[1][:4], *halves[0][2:4]] == alone[:BATCH], "the order of one process"
    assert sorted(chain(*(_shades(each.val()) for each in _loaders(2, source, tmp_path)))) == list(range(4))


@pytest.mark.parametrize(("size", "workers"), [(2, 2)])
def test_processes_share_a_stream_of_hugging_face(tmp_path: Path, hugging_face: Any, size: int, workers: int):
    features = hugging_face.Features(image=hugging_face.Image(), label=hugging_face.ClassLabel(names=["even", "odd"]))
    (tmp_path / "set" / "data").mkdir(parents=True)
    splits = {"train": TRAIN, "validation": VAL}
    for split, count in splits.items():
        for shard in range(3):
            numbers = range(shard, count, 3)
            columns = {"image": [{"bytes": jpeg(10 * number)} for number in numbers], "label": [n % 2 for n in numbers]}
            content = io.BytesIO()
            hugging_face.Dataset.from_dict(columns, features=features).to_parquet(content)
            (tmp_path / "set" / "data" / f"{split}-{shard:05}-of-00003.parquet").write_bytes(content.getvalue())
    about = {"splits": [{"name": name, "num_examples": count, "num_bytes": 1} for name, count in splits.items()]}
    (tmp_path / "set" / "README.md").write_text(f"---\ndataset_info: {json.dumps(about)}\n---\n")
    loaders = _loaders(size, f"timm:hfids/{tmp_path}/set", tmp_path, workers, 2)
    shares = [_epoch(loader, 0) for loader in loaders]
    assert [len(share) for share in shares] == [2 * BATCH / size] * size
    assert not set.intersection(*map(set, shares)) or size == 1
    assert sorted(chain(*(_shades(loader.val()) for loader in loaders))) == list(range(VAL))
