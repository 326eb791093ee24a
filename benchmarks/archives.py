"""CPU seconds to prepare the same images from a folder and from archives of it, with members in mixed order.

python benchmarks/archives.py --help
"""

from __future__ import annotations

import argparse
import os
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from hiri_search.system.cache_dir import CACHE_VARIABLE
from hiri_search.training.data.prepare import prepare
from hiri_search.training.job import DataSource

COMPRESSIONS = ("", "gz", "bz2", "xz")


def write_images(root: Path, *, classes: int, images: int, side: int) -> list[str]:
    """Write images of noise, half of them for validation; return their names in mixed order."""
    rng, names = np.random.default_rng(0), []
    for number in range(images):
        name = f"{('train', 'val')[number % 2]}/c{number // 2 % classes:03}/{number}.png"
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (side, side, 3), np.uint8)).save(root / name)
        names.append(name)
    Random(0).shuffle(names)
    return names


def packed(root: Path, names: list[str]) -> Iterator[Path]:
    """Yield the folder and its archives."""
    yield root
    for compression in COMPRESSIONS:
        path = root.with_suffix(f".tar.{compression}".rstrip("."))
        with tarfile.open(path, f"w:{compression}") as tar:  # type: ignore[call-overload]
            for name in names:
                tar.add(root / name, name)
        yield path
    with zipfile.ZipFile(root.with_suffix(".zip"), "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.write(root / name, name)
    yield root.with_suffix(".zip")


def cpu_seconds(path: Path, cache: Path, side: int) -> tuple[float, str]:
    """CPU seconds to prepare the images at `path` in an empty cache, and their fingerprint."""
    os.environ[CACHE_VARIABLE] = str(cache)
    started = time.process_time()
    prepared = prepare(DataSource(f"folder:{path}"), side, cache)
    return time.process_time() - started, prepared.folder.name


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--classes", type=int, default=40)
    parser.add_argument("--images", type=int, default=1600, help="number of images")
    parser.add_argument("--side", type=int, default=96, help="pixels of the images and of the network's input")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        root = Path(place) / "images"
        names = write_images(root, classes=given.classes, images=given.images, side=given.side)
        print(f"{given.images} images of {given.classes} classes, side {given.side}, load {os.getloadavg()[0]:.1f}")
        print("| images | CPU s | times the tar | fingerprint |\n|-|-:|-:|-|")
        rows = {
            path: cpu_seconds(path, Path(place) / f"cache{path.suffix}", given.side) for path in packed(root, names)
        }
        tar = rows[root.with_suffix(".tar")][0]
        for path, (seconds, fingerprint) in rows.items():
            name = path.name.removeprefix("images") or "folder"
            print(f"| {name} | {seconds:.2f} | {seconds / tar:.2f} | {fingerprint} |")


if __name__ == "__main__":
    main()
