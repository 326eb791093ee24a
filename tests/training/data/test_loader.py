"""Batches are the same wherever the images lie, and each source of chance moves what is its own alone."""

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
from hiri_search.training.job import SPLITS, DataSource, PreparedData
from hiri_search.training.recipe import Recipe

SIDE, TRAIN, VAL = 16, 26, 21
CPU = torch.device("cpu")
RECIPE = Recipe(batch=8, erasing=0.5, jitter=0.2)
POLICY = replace(RECIPE, auto_augment="rand-m9-mstd0.5-inc1")
TIMM_LEAKS = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # its folder reader closes nothing


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


def _epoch(batches: Loader, order: int = 0, augmentation: int = 0) -> list[Batch]:
    return list(batches.train(*(torch.Generator().manual_seed(seed) for seed in (order, augmentation))))


def _same(one: Sequence[Batch], other: Sequence[Batch]) -> bool:
    pairs = zip(one, other, strict=True)
    return all(torch.equal(a, b) for first, second in pairs for a, b in zip(first, second, strict=True))


WAYS = [
    ("drawn", "auto", RECIPE),
    ("drawn", "none", RECIPE),
    ("folder", "disk", RECIPE),
    ("folder", "none", RECIPE),
    ("folder", "none", POLICY),
    ("folder", "disk", POLICY),
    ("timm", "auto", RECIPE),
]
IDS = [f"{source}, {cache}{', by timm' * bool(recipe.auto_augment)}" for source, cache, recipe in WAYS]
every_way = pytest.mark.parametrize(("source", "cache", "recipe"), WAYS, ids=IDS)


@TIMM_LEAKS
@every_way
def test_an_epoch_is_whole_batches_and_validation_is_all_in_order(source, cache, recipe, photos: Path):
    batches = _open(source, photos, cache=cache, recipe=recipe)
    trained, judged = _epoch(batches), list(batches.val())
    assert len(batches) == len(trained) == TRAIN // 8
    assert all(images.shape == (8, 3, SIDE, SIDE) and len(labels) == 8 for images, labels in trained)
    assert all(images.is_contiguous(memory_format=torch.channels_last) for images, _ in trained + judged)
    labels = torch.cat([labels for _, labels in judged]).tolist()
    assert labels == ([i % 2 for i in range(VAL)] if source == "drawn" else sorted(i % 2 for i in range(VAL)))
    assert _same(judged, list(batches.val()))


@TIMM_LEAKS
@every_way
def test_each_source_of_chance_moves_its_own_alone(source, cache, recipe, photos: Path):
    batches = _open(source, photos, cache=cache, recipe=recipe)
    plain, again, ordered, augmented = (_epoch(batches, *seeds) for seeds in ((0, 0), (0, 0), (1, 0), (0, 1)))
    labels = [torch.cat([labels for _, labels in epoch]).tolist() for epoch in (plain, ordered, augmented)]
    assert _same(plain, again)
    assert labels[0] != labels[1]
    assert labels[0] == labels[2]
    assert not any(torch.equal(a, b) for (a, _), (b, _) in zip(plain, augmented, strict=True))


@TIMM_LEAKS
@every_way
def test_nothing_is_drawn_from_what_the_network_draws_from(source, cache, recipe, photos: Path):
    batches = _open(source, photos, cache=cache, recipe=recipe)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    _epoch(batches)
    list(batches.val())
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (random.getstate(), np.random.get_state()[1].tolist())


@pytest.mark.parametrize("source", ["drawn", "folder"])
def test_the_digits_are_the_same_wherever_the_images_lie(source: str, photos: Path):
    mapped, fresh = (_open(source, photos, cache=cache) for cache in ("disk", "none"))
    stores = [GpuStore(mapped.prepared, split, CPU) for split in SPLITS]
    resident = BatchedLoader(stores[0], stores[1], mapped.prepared, side=SIDE, recipe=RECIPE)
    assert isinstance(mapped, BatchedLoader)
    assert isinstance(mapped.stores["train"], MmapStore)
    for other in (resident, fresh):
        assert _same(_epoch(mapped), _epoch(other))
        assert _same(list(mapped.val()), list(other.val()))


@pytest.mark.parametrize(("cache", "recipe"), [("none", RECIPE), ("disk", POLICY)])
def test_the_digits_are_the_same_with_any_number_of_workers(cache: str, recipe: Recipe, photos: Path):
    alone, beside = (
        _open("folder", photos, cache=cache, recipe=replace(recipe, workers=workers)) for workers in (0, 2)
    )
    assert _same(_epoch(alone), _epoch(beside))
    assert _same(list(alone.val()), list(beside.val()))


@pytest.mark.parametrize("name", ["x.tar", "x.zip"])
def test_an_archive_can_be_read_as_it_is_used(name: str, photos: Path, tmp_path: Path):
    shutil.make_archive(str(tmp_path / "x"), name[2:], photos)
    kept, fresh = (_open("folder", tmp_path / name, cache=cache) for cache in ("disk", "none"))
    assert _same(_epoch(kept), _epoch(fresh))


# ---- waiting


class _Clock:
    """Time that passes only where it is said to."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


@dataclass
class _Slow(PixelStore):
    clock: _Clock

    def gather(self, picks: Sequence[Tensor]) -> Iterator[Batch]:
        for chosen in picks:
            self.clock.now += 1
            yield torch.zeros(len(chosen), 20, 20, 3, dtype=torch.uint8), chosen


def test_the_time_that_a_training_waits_is_that_of_its_last_epoch(monkeypatch: pytest.MonkeyPatch):
    clock = _Clock()
    monkeypatch.setattr("hiri_search.training.data.loader.time", clock)
    store = _Slow(clock)
    batches = BatchedLoader(store, store, PreparedData(Path(), ("a", "b"), TRAIN, VAL), side=SIDE, recipe=RECIPE)
    for _ in range(2):
        for _ in batches.train(torch.Generator(), torch.Generator()):
            clock.now += 50  # the step: none of the waiting
        assert batches.seconds_waiting == 3
    list(batches.val())
    assert batches.seconds_waiting == 3, "nothing waits in validation"


# ---- on a GPU


def test_a_cache_on_a_gpu_that_is_not_there(photos: Path):
    with pytest.raises(DataError, match="cache: gpu wants a CUDA device, and there is none; write auto or disk"):
        _open("drawn", photos, cache="gpu")


NEEDED = 20**2 * 3 * (TRAIN + VAL)


@pytest.mark.parametrize(
    ("cache", "free", "wanted"),
    [("auto", 5 * NEEDED, True), ("auto", 3 * NEEDED, False), ("gpu", NEEDED, True), ("disk", 99 * NEEDED, False)],
)
def test_what_fits_beside_a_training_stays_on_the_gpu(
    cache: str, free: int, wanted: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda device: (free, 2 * free))
    prepared = PreparedData(Path(), ("a", "b"), TRAIN, VAL, cache=cache)
    assert fits_gpu(prepared, 20, torch.device("cuda")) is wanted


def test_what_is_demanded_and_does_not_fit_is_said_with_the_sizes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda device: (10**9, 10**10))
    prepared = PreparedData(Path(), ("a", "b"), 10**6, VAL, cache="gpu")
    with pytest.raises(DataError, match=r"cache: gpu wants 1\.20 GB for the images and the GPU has 1\.00 GB free"):
        fits_gpu(prepared, 20, torch.device("cuda"))


@pytest.mark.gpu
@pytest.mark.parametrize("cache", ["gpu", "disk", "none"])
def test_a_gpu_shows_what_the_cpu_shows(cache: str, photos: Path):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    data = DataSource(f"folder:{photos}")
    prepared = prepare(data, SIDE, photos, cache=cache)
    there = open_loader(data, prepared, side=SIDE, recipe=RECIPE, device=torch.device("cuda"))
    here = _open("folder", photos)
    for ours, theirs in ((_epoch(here), _epoch(there)), (list(here.val()), list(there.val()))):
        for (images, labels), (others, names) in zip(ours, theirs, strict=True):
            torch.testing.assert_close(others.cpu(), images, atol=0.03, rtol=0)  # a step of 255
            assert torch.equal(names.cpu(), labels)
