"""Data sets of timm in other forms: WebDataset shards, and a folder that Hugging Face's `datasets` reads."""

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from hiri_search.training.data.loader import Loader, open_loader
from hiri_search.training.data.prepare import prepare
from hiri_search.training.job import DataSource
from hiri_search.training.recipe import Recipe

SIDE, BATCH = 32, 4
TRAIN, VAL, SHARDS = 22, 6, 3  # 22 images: five batches and a rest
pytestmark = [  # of other packages
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # files that readers leave open
]


def _jpeg(shade: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (SIDE, SIDE), (shade, shade, shade)).save(file, "JPEG")
    return file.getvalue()


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Shards of images of one shade each, which names the image."""
    pytest.importorskip("webdataset", reason="webdataset is not installed: the extra wds")
    folder, info = tmp_path_factory.mktemp("shards"), {}
    for split, count in (("train", TRAIN), ("validation", VAL)):
        numbers = [range(shard, count, SHARDS) for shard in range(SHARDS)]
        names = [f"x-{split}-{shard}.tar" for shard in range(SHARDS)]
        for name, of_shard in zip(names, numbers, strict=True):
            with tarfile.open(folder / name, "w") as tar:
                for number in of_shard:
                    for suffix, content in (("jpg", _jpeg(10 * number)), ("cls", str(number % 2).encode())):
                        entry = tarfile.TarInfo(f"{number:06d}.{suffix}")
                        entry.size = len(content)
                        tar.addfile(entry, io.BytesIO(content))
        lengths = list(map(len, numbers))
        info[split] = {"name": split, "num_samples": count, "filenames": names, "shard_lengths": lengths}
    (folder / "_info.json").write_text(json.dumps({"splits": info}))
    return f"timm:wds/x@{folder}"


def _loader(source: str, home: Path, workers: int = 0, classes: int | None = None) -> Loader:
    data = DataSource(source)
    prepared = prepare(data, SIDE, home, classes=classes, batch=BATCH)
    recipe = Recipe(batch=BATCH, workers=workers, crop=1.0, flip=0.0)
    return open_loader(data, prepared, side=SIDE, recipe=recipe, device=torch.device("cpu"))


def _epoch(loader: Loader, epoch: int) -> list[int]:
    order, augmentation = (torch.Generator().manual_seed(2 * epoch + each) for each in (0, 1))
    return list(_shades(loader.train(order, augmentation)))


def _shades(batches: Iterator[tuple[Tensor, Tensor]]) -> Iterator[int]:
    for images, _ in batches:
        yield from (round(float(image[0].mean() * 0.229 * 25.5 + 0.485 * 25.5)) for image in images)


@pytest.mark.parametrize("workers", [0, 5], ids="{} workers".format)
def test_an_epoch_of_shards_has_its_batches_and_depends_on_its_number_alone(shards: str, tmp_path: Path, workers: int):
    loader = _loader(shards, tmp_path, workers, classes=2)
    first, second = _epoch(loader, 0), _epoch(loader, 1)
    assert len(first) == len(second) == len(loader) * BATCH == 20
    assert first != second, "shuffled anew"
    assert _epoch(_loader(shards, tmp_path, workers, classes=2), 1) == second, "as a training does that is resumed"
    if workers == 0:
        assert len(set(first)) == 20, "no image twice"


@pytest.mark.parametrize("workers", [0, 5], ids="{} workers".format)
def test_each_validation_image_is_read_once(shards: str, tmp_path: Path, workers: int):
    loader = _loader(shards, tmp_path, workers, classes=2)
    for _ in range(2):
        assert sorted(_shades(loader.val())) == list(range(VAL))


def test_a_folder_that_hugging_face_reads_names_its_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("datasets", reason="datasets is not installed: the extra hfds")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    for split, count in (("train", 8), ("validation", 4)):
        for name in ("apple", "pear"):
            (tmp_path / "set" / split / name).mkdir(parents=True)
            for number in range(count // 2):
                (tmp_path / "set" / split / name / f"{number}.jpg").write_bytes(_jpeg(10 * number))
    loader = _loader(f"timm:hfds/{tmp_path}/set", tmp_path)
    assert loader.prepared.classes == ("apple", "pear")
    assert len(_epoch(loader, 0)) == 8
    assert sorted(_shades(loader.val())) == [0, 0, 1, 1]
