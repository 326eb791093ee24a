"""Cost and gain of the cache of decoded images: its size, the time to fill it, epochs with and without it, its check.

python benchmarks/cache.py --help
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from hiri_search.system.cache_dir import CACHE_VARIABLE
from hiri_search.system.checksums import find_damage, seal
from hiri_search.system.hardware import training_device
from hiri_search.training.data.image_folder import DataError
from hiri_search.training.data.loader import Loader, open_loader
from hiri_search.training.data.prepare import prepare
from hiri_search.training.job import DataSource, PreparedData
from hiri_search.training.recipe import Recipe

PACK = Path(__file__).parents[2] / "shared" / "data" / "grocery81.tar"
POLICY = "rand-m9-mstd0.5-inc1"
CHUNK_BYTES = 10_000_000
REPEATS = 5
CHECK_HEAD = "| check | median s | from disk, median s | from disk, longest s |"
HEAD = "| images | cache | made s | MB | first epoch s | later epochs s | images/s later | validation s |"


@dataclass(frozen=True)
class Way:
    """One way to bring images to a training."""

    name: str
    cache: str
    recipe: Recipe


@dataclass(frozen=True)
class Epochs:
    """Seconds of each epoch; no training step runs."""

    train: list[float]
    val: list[float]


def ways(given: argparse.Namespace) -> list[Way]:
    """Return the ways that this machine supports."""
    recipe = Recipe(batch=given.batch, erasing=0.25)
    kept = [Way("in batches", "disk", recipe)] + [Way("in batches", "gpu", recipe)] * torch.cuda.is_available()
    fresh = [
        Way(f"in batches, {workers} worker(s)", "none", replace(recipe, workers=workers)) for workers in given.workers
    ]
    return [*kept, *fresh, Way("one by one, RandAugment", "disk", replace(recipe, auto_augment=POLICY))]


def run(batches: Loader, device: torch.device, epochs: int) -> Epochs:
    """Iterate over the batches as a trial does."""
    train, val = [], []
    for epoch in range(epochs):
        order, augmentation = (torch.Generator().manual_seed(2 * epoch + one) for one in (0, 1))
        train.append(_seconds(batches.train(order, augmentation), device))
        val.append(_seconds(batches.val(), device))
    return Epochs(train, val)


def _seconds(batches: Iterator[object], device: torch.device) -> float:
    started = time.perf_counter()
    for _ in batches:
        pass
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def line(way: Way, prepared: PreparedData, made: float, found: Epochs, images: int) -> str:
    """Return one row of the table."""
    size = sum(file.stat().st_size for file in prepared.folder.glob("*")) if prepared.cache != "none" else 0
    later = min(found.train[1:] or found.train)
    cells = [way.name, way.cache, f"{made:.2f}", f"{size / 1e6:.1f}", f"{found.train[0]:.2f}", f"{later:.2f}"]
    return f"| {' | '.join([*cells, f'{images / later:,.0f}', f'{min(found.val):.2f}'])} |"


def _said(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--source", default=f"folder:{PACK}", help="drawn or folder:PATH")
    add("--side", type=int, default=96, help="pixels of the network's input")
    add("--epochs", type=int, default=3, help="the fastest epoch after the first one counts")
    add("--limit", type=int, help="number of training images; default: all")
    add("--batch", type=int, default=64, help="images in one step")
    add("--workers", type=int, nargs="+", default=[0, 2], help="processes that decode when nothing is cached")
    add("--check", type=float, metavar="GB", help="only time the check of a cache of this size")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    if given.check:
        check(given.check)
        return
    if given.source == f"folder:{PACK}" and not PACK.exists():
        sys.exit(f"{PACK} does not exist; name other images with --source")
    torch.set_num_threads(1)  # as in a trial
    device = training_device()
    with tempfile.TemporaryDirectory() as place:
        os.environ[CACHE_VARIABLE] = place
        try:
            table(given, device)
        except DataError as error:
            sys.exit(str(error))


def table(given: argparse.Namespace, device: torch.device) -> None:
    """Print each row when it is measured; the first row fills the cache that later rows use."""
    data = DataSource(given.source, train=given.limit)
    print(f"{data.source}, side {given.side}, batch {given.batch}, {device.type}, load {os.getloadavg()[0]:.1f}")
    print(f"{HEAD}\n|-|-|-:|-:|-:|-:|-:|-:|")
    for way in ways(given):
        started = time.perf_counter()
        prepared = prepare(data, given.side, Path(), cache=way.cache, say=_said)
        batches = open_loader(data, prepared, side=given.side, recipe=way.recipe, device=device)
        made = time.perf_counter() - started
        found = run(batches, device, given.epochs)
        print(line(way, prepared, made, found, len(batches) * given.batch), flush=True)


def check(gigabytes: float) -> None:
    """Print the seconds to seal a file of noise, and to check a sample or all of it, from memory and from disk."""
    with tempfile.TemporaryDirectory() as place:
        file, rng = Path(place) / "train_images.npy", np.random.default_rng(0)
        with file.open("wb") as output:
            for _ in range(round(gigabytes * 1e9 / CHUNK_BYTES)):
                output.write(rng.bytes(CHUNK_BYTES))
        size, started = file.stat().st_size, time.perf_counter()
        seal(Path(place))
        sealed = time.perf_counter() - started
        print(f"{size / 1e9:.2f} GB, sealed in {sealed:.2f} s, load {os.getloadavg()[0]:.1f}")
        print(f"{CHECK_HEAD}\n|-|-:|-:|-:|")
        for name, whole in (("when opened", False), ("by verify", True)):
            seconds = [_check_seconds(file, whole=whole, cold=cold) for cold in [False] * REPEATS + [True] * REPEATS]
            warm, cold_ones = sorted(seconds[:REPEATS]), sorted(seconds[REPEATS:])
            cells = [f"{warm[REPEATS // 2]:.2f}", f"{cold_ones[REPEATS // 2]:.2f}", f"{cold_ones[-1]:.2f}"]
            print(f"| {' | '.join([name, *cells])} |", flush=True)


def _check_seconds(file: Path, *, whole: bool, cold: bool) -> float:
    if cold:  # drop the file from the system's memory
        with file.open("rb") as opened:
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    started = time.perf_counter()
    damage = find_damage(file.parent, whole=whole)
    assert not damage, damage
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
