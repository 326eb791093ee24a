"""Images per second that reach a training, by how they are stored and decoded: cache, folder, WebDataset shards.

python benchmarks/decoding.py --help
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from PIL import Image

from hiri_search.system.cache_dir import CACHE_VARIABLE
from hiri_search.training.data import image_decode
from hiri_search.training.data.loader import open_loader
from hiri_search.training.data.prepare import open_source, prepare
from hiri_search.training.data.sources.folder_source import FolderSource
from hiri_search.training.job import DataSource
from hiri_search.training.recipe import Recipe

PACK = Path(__file__).parents[2] / "shared" / "data" / "grocery81.tar"
HEAD = "| images | decoded by | workers | made s | MB | images/s | images/CPU-s | of the cache |"
SHARDS = 8
QUALITY = 90  # of the JPEG files in shards and in the folder


@dataclass(frozen=True)
class Way:
    """One way to bring images to a training."""

    name: str
    decoder: str
    source: str
    cache: str = "none"


def write_files(source: FolderSource, side: int, folder: Path) -> None:
    """Write the training images with this shorter side, as ImageNet is often stored: as a folder and as shards."""
    shards = folder / "shards"
    shards.mkdir(parents=True)
    order = list(range(source.counts["train"]))
    random.Random(0).shuffle(order)
    names = [f"x-train-{number}.tar" for number in range(SHARDS)]
    with ExitStack() as stack:
        tars = [stack.enter_context(tarfile.open(shards / name, "w")) for name in names]
        _write_images(source, order, side, folder / "folder" / "train", tars)
    for label in (folder / "folder" / "train").iterdir():  # a small validation split: it is not timed
        (folder / "folder" / "val" / label.name).mkdir(parents=True)
        first = min(label.iterdir())
        (folder / "folder" / "val" / label.name / first.name).write_bytes(first.read_bytes())
    lengths = [len(order[number::SHARDS]) for number in range(SHARDS)]
    split_info = {"num_samples": len(order), "filenames": names, "shard_lengths": lengths}
    info = {name: {"name": name, **split_info} for name in ("train", "validation")}
    (shards / "_info.json").write_text(json.dumps({"splits": info}))


def _write_images(
    source: FolderSource, order: Sequence[int], side: int, folder: Path, tars: Sequence[tarfile.TarFile]
) -> None:
    for place, index in enumerate(order):
        image, label = source.whole_image("train", index)
        scale = side / min(image.size)
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
        file = io.BytesIO()
        image.save(file, "JPEG", quality=QUALITY)
        split = folder / f"{label:03d}"
        split.mkdir(parents=True, exist_ok=True)
        (split / f"{index:06d}.jpg").write_bytes(file.getvalue())
        for suffix, content in (("jpg", file.getvalue()), ("cls", str(label).encode())):
            entry = tarfile.TarInfo(f"{index:06d}.{suffix}")
            entry.size = len(content)
            tars[place % SHARDS].addfile(entry, io.BytesIO(content))


def ways(folder: Path) -> Iterator[Way]:
    """Yield the ways that the installed packages allow; the first one is the measure of the others."""
    plain = f"folder:{folder / 'folder'}"
    yield Way("cache of decoded images", "-", plain, "disk")
    yield Way("folder", "Pillow", plain)
    if find_spec("torchcodec"):
        yield Way("folder", "torchcodec", plain)
    yield Way("folder, timm's transforms", "Pillow", f"timm:{folder / 'folder'}")
    if find_spec("webdataset"):
        yield Way("shards, timm's transforms", "Pillow", f"timm:wds/x@{folder / 'shards'}")


def measure(way: Way, workers: int, given: argparse.Namespace, classes: int) -> tuple[float, float, float, float]:
    """Return seconds to prepare, bytes on the disk, and images per second and per CPU second of the best epoch."""
    image_decode._jpeg_decoder.cache_clear()
    if way.decoder == "Pillow":
        sys.modules["torchcodec.decoders"] = None  # type: ignore[assignment]  # as where it is not installed
    started = time.perf_counter()
    data = DataSource(way.source)
    named = classes if "wds/" in way.source else None
    prepared = prepare(data, given.side, Path(), classes=named, cache=way.cache)
    recipe = Recipe(batch=given.batch, workers=workers)
    loader = open_loader(data, prepared, side=given.side, recipe=recipe, device=torch.device("cpu"))
    made, best, best_cpu = time.perf_counter() - started, 0.0, 0.0
    for epoch in range(given.epochs):
        order, augmentation = (torch.Generator().manual_seed(2 * epoch + one) for one in (0, 1))
        began, cpu = time.perf_counter(), sum(os.times()[:4])
        images = sum(len(labels) for _, labels in loader.train(order, augmentation))
        best = max(best, images / (time.perf_counter() - began))
        best_cpu = max(best_cpu, images / (sum(os.times()[:4]) - cpu))
    sys.modules.pop("torchcodec.decoders", None)
    size = prepared.folder if way.cache == "disk" else Path(way.source.rpartition("@")[2].rpartition(":")[2])
    bytes_on_disk = sum(file.stat().st_size for file in size.rglob("*") if file.is_file() and "val" not in file.parts)
    return made, bytes_on_disk, best, best_cpu


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--source", default=str(PACK), help="folder or archive with train/CLASS and val/CLASS")
    add("--side", type=int, default=448, help="pixels of the network's input; files are stored a quarter larger")
    add("--limit", type=int, default=512, help="number of training images")
    add("--batch", type=int, default=64, help="images in one step")
    add("--epochs", type=int, default=3, help="the fastest one counts")
    add("--workers", type=int, nargs="+", default=[1, 2], help="processes that decode")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    if not Path(given.source).exists():
        sys.exit(f"{given.source} does not exist; name other images with --source")
    torch.set_num_threads(1)  # as in a trial
    source = open_source(DataSource(f"folder:{given.source}", train=given.limit), None)
    assert isinstance(source, FolderSource)
    print(f"{given.limit} images, side {given.side}, batch {given.batch}, load {os.getloadavg()[0]:.1f}")
    print(f"{HEAD}\n|-|-|-:|-:|-:|-:|-:|-:|")
    with tempfile.TemporaryDirectory() as place:
        os.environ[CACHE_VARIABLE] = place
        write_files(source, round(given.side * 1.25), Path(place) / "files")
        measured = 0.0
        for way in ways(Path(place) / "files"):
            for workers in [0] if way.cache == "disk" else given.workers:
                made, size, rate, per_cpu = measure(way, workers, given, len(source.classes))
                measured = measured or per_cpu
                cells = [way.name, way.decoder, f"{workers}", f"{made:.1f}", f"{size / 1e6:.0f}", f"{rate:,.0f}"]
                print(f"| {' | '.join([*cells, f'{per_cpu:,.0f}', f'{per_cpu / measured:.2f}'])} |", flush=True)


if __name__ == "__main__":
    main()
