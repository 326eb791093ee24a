"""Batches are the same with every cache, and each random generator affects only its own part of a training."""

import random
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from hiri_search.training.data.image_folder import DataError
from hiri_search.training.data.loader import BatchedLoader, Loader, open_loader
from hiri_search.training.data.pixel_stores import Batch, GpuStore, MmapStore, PixelStore, fits_gpu
from hiri_search.training.data.prepare import prepare
from hiri_search.training.job import DataSource, PreparedData
from hiri_search.training.recipe import Recipe

SIDE, TRAIN, VAL = 16, 26, 21
CPU = torch.device("cpu")
RECIPE = Recipe(batch=8, erasing=0.5, jitter=0.2)
WITH_POLICY = replace(RECIPE, auto_augment="rand-m9-mstd0.5-inc1")
TIMM_LEAKS = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # timm's folder reader closes no file


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for split, count in (("train", TRAIN), ("val", VAL)):
        for number in range(count):
            file = root / split / "ab"[number % 2] / f"{number:02}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (24, 30, 3), np.uint8)).save(file)
    return root


def _open(source: str, photos: Path, *, cache: str = "auto", recipe: Recipe = RECIPE) -> Loader:
    counts = {"train": TRAIN, "val": VAL} if source == "drawn" else {}
    data = DataSource(source if source == "drawn" else f"{source}:{photos}", **counts)
    prepared = prepare(data, SIDE, photos.parent, classes=2, cache=cache)
    return open_loader(data, prepared, side=SIDE, recipe=recipe, device=CPU)


def _epoch(loader: Loader, order: int = 0, augmentation: int = 0) -> list[Batch]:
    return list(loader.train(*(torch.Generator().manual_seed(seed) for seed in (order, augmentation))))


def _equal(first: Sequence[Batch], second: Sequence[Batch]) -> bool:
    pairs = zip(first, second, strict=True)
    return all(torch.equal(a, b) for batches in pairs for a, b in zip(*batches, strict=True))


SETUPS = [
    ("drawn", "auto", RECIPE),
    ("drawn", "none", RECIPE),
    ("folder", "disk", RECIPE),
    ("folder", "none", RECIPE),
    ("folder", "none", WITH_POLICY),
    ("folder", "disk", WITH_POLICY),
    ("timm", "auto", RECIPE),
]
IDS = [f"{source}, {cache}{', with policy' * bool(recipe.auto_augment)}" for source, cache, recipe in SETUPS]
every_setup = pytest.mark.parametrize(("source", "cache", "recipe"), SETUPS, ids=IDS)


@TIMM_LEAKS
@every_setup
def test_training_takes_full_batches_and_validation_all_images_in_order(source, cache, recipe, photos: Path):
    loader = _open(source, photos, cache=cache, recipe=recipe)
    train, val = _epoch(loader), list(loader.val())
    assert len(loader) == len(train) == TRAIN // 8
    assert all(images.shape == (8, 3, SIDE, SIDE) and len(labels) == 8 for images, labels in train)
    assert all(images.is_contiguous(memory_format=torch.channels_last) for images, _ in train + val)
    labels = torch.cat([labels for _, labels in val]).tolist()
    assert labels == ([i % 2 for i in range(VAL)] if source == "drawn" else sorted(i % 2 for i in range(VAL)))
    assert _equal(val, list(loader.val()))


@TIMM_LEAKS
@every_setup
def test_each_generator_decides_only_its_own_part(source, cache, recipe, photos: Path):
    loader = _open(source, photos, cache=cache, recipe=recipe)
    plain, repeated, reordered, reaugmented = (_epoch(loader, *seeds) for seeds in ((0, 0), (0, 0), (1, 0), (0, 1)))
    labels = [torch.cat([labels for _, labels in epoch]).tolist() for epoch in (plain, reordered, reaugmented)]
    assert _equal(plain, repeated)
    assert labels[0] != labels[1]
    assert labels[0] == labels[2]
    assert not any(torch.equal(a, b) for (a, _), (b, _) in zip(plain, reaugmented, strict=True))


@TIMM_LEAKS
@every_setup
def test_loading_leaves_the_global_generators_unchanged(source, cache, recipe, photos: Path):
    loader = _open(source, photos, cache=cache, recipe=recipe)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    _epoch(loader)
    list(loader.val())
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1:] == (random.getstate(), np.random.get_state()[1].tolist())


@pytest.mark.parametrize("source", ["drawn", "folder"])
def test_images_are_bitwise_the_same_with_every_cache(source: str, photos: Path):
    mapped, uncached = (_open(source, photos, cache=cache) for cache in ("disk", "none"))
    stores = {split: GpuStore(mapped.prepared, split, CPU) for split in mapped.prepared.counts}
    in_device_memory = BatchedLoader(stores, mapped.prepared, side=SIDE, recipe=RECIPE)
    assert isinstance(mapped, BatchedLoader)
    assert isinstance(mapped.stores["train"], MmapStore)
    for loader in (in_device_memory, uncached):
        assert _equal(_epoch(mapped), _epoch(loader))
        assert _equal(list(mapped.val()), list(loader.val()))


@pytest.mark.parametrize(("cache", "recipe"), [("none", RECIPE), ("disk", WITH_POLICY)])
def test_images_are_bitwise_the_same_with_any_number_of_workers(cache: str, recipe: Recipe, photos: Path):
    no_workers, two_workers = (
        _open("folder", photos, cache=cache, recipe=replace(recipe, workers=workers)) for workers in (0, 2)
    )
    assert _equal(_epoch(no_workers), _epoch(two_workers))
    assert _equal(list(no_workers.val()), list(two_workers.val()))


@pytest.mark.parametrize("name", ["x.tar", "x.zip"])
def test_an_archive_can_be_decoded_during_training(name: str, photos: Path, tmp_path: Path):
    shutil.make_archive(str(tmp_path / "x"), name[2:], photos)
    mapped, uncached = (_open("folder", tmp_path / name, cache=cache) for cache in ("disk", "none"))
    assert _equal(_epoch(mapped), _epoch(uncached))


# ---- waiting time


class _Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


@dataclass
class _SlowStore(PixelStore):
    """Takes one second for each batch."""

    clock: _Clock

    def gather(self, batches: Sequence[Tensor]) -> Iterator[Batch]:
        for indices in batches:
            self.clock.now += 1
            yield torch.zeros(len(indices), 20, 20, 3, dtype=torch.uint8), indices


def test_waiting_time_is_that_of_the_last_training_epoch(monkeypatch: pytest.MonkeyPatch):
    clock = _Clock()
    monkeypatch.setattr("hiri_search.training.data.loader.time", clock)
    stores = dict.fromkeys(("train", "val"), _SlowStore(clock))
    loader = BatchedLoader(stores, PreparedData(Path(), ("a", "b"), TRAIN, VAL), side=SIDE, recipe=RECIPE)
    for _ in range(2):
        for _ in loader.train(torch.Generator(), torch.Generator()):
            clock.now += 50  # the training step, which is no waiting time
        assert loader.seconds_waiting == 3
    list(loader.val())
    assert loader.seconds_waiting == 3, "validation adds no waiting time"


# ---- GPU


def test_a_gpu_cache_needs_a_gpu(photos: Path):
    with pytest.raises(DataError, match="cache: gpu needs a CUDA device, and there is none; write auto or disk"):
        _open("drawn", photos, cache="gpu")


NEEDED = 20**2 * 3 * (TRAIN + VAL)


@pytest.mark.parametrize(
    ("cache", "free", "expected"),
    [("auto", 5 * NEEDED, True), ("auto", 3 * NEEDED, False), ("gpu", NEEDED, True), ("disk", 99 * NEEDED, False)],
)
def test_images_are_in_gpu_memory_if_they_leave_plenty_free(
    cache: str, free: int, expected: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda device: (free, 2 * free))
    prepared = PreparedData(Path(), ("a", "b"), TRAIN, VAL, cache=cache)
    assert fits_gpu(prepared, 20, torch.device("cuda")) is expected


def test_a_gpu_cache_that_does_not_fit_is_an_error_with_the_sizes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda device: (10**9, 10**10))
    prepared = PreparedData(Path(), ("a", "b"), 10**6, VAL, cache="gpu")
    with pytest.raises(DataError, match=r"cache: gpu needs 1\.20 GB for the images and the GPU has 1\.00 GB free"):
        fits_gpu(prepared, 20, torch.device("cuda"))


@pytest.mark.gpu
@pytest.mark.parametrize("cache", ["gpu", "disk", "none"])
def test_the_gpu_gives_the_batches_of_the_cpu(cache: str, photos: Path):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    data = DataSource(f"folder:{photos}")
    prepared = prepare(data, SIDE, photos, cache=cache)
    on_gpu = open_loader(data, prepared, side=SIDE, recipe=RECIPE, device=torch.device("cuda"))
    on_cpu = _open("folder", photos)
    for cpu_batches, gpu_batches in ((_epoch(on_cpu), _epoch(on_gpu)), (list(on_cpu.val()), list(on_gpu.val()))):
        for (images, labels), (gpu_images, gpu_labels) in zip(cpu_batches, gpu_batches, strict=True):
            torch.testing.assert_close(gpu_images.cpu(), images, atol=0.03, rtol=0)  # one of 255 levels
            assert torch.equal(gpu_labels.cpu(), labels)
