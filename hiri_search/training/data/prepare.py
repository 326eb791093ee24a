"""Data preparation: images decoded once, kept under a content fingerprint, found again."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hiri_search.system.checksums import find_damage
from hiri_search.system.files import Say
from hiri_search.system.text import printable
from hiri_search.training.data.decode_cache import (
    Progress,
    cache_folder,
    fingerprint_folder,
    has_cached_fingerprint,
    make_once,
    write_array,
)
from hiri_search.training.data.image_folder import DataError
from hiri_search.training.data.sources import timm_datasets
from hiri_search.training.data.sources.dataset_source import DatasetSource
from hiri_search.training.data.sources.folder_source import FolderSource
from hiri_search.training.data.sources.image_source import ImageSource
from hiri_search.training.data.sources.synthetic_source import SyntheticSource
from hiri_search.training.job import CACHES, SPLITS, DataSource, PreparedData

DISK_MARGIN = 1.25  # stored images are larger than the network's input, so that crops keep their detail
CACHE_FORMAT = 2  # of the stored images: increased when the same source would give other bytes
ABOUT_FILE = "about.json"


def prepare(
    data: DataSource,
    side: int,
    home: Path,
    *,
    classes: int | None = None,
    batch: int = 1,
    cache: str = "auto",
    say: Say = lambda text: None,
) -> PreparedData:
    """Decode all images once, before any training, for all trials of all studies.

    They are stored in `cache_folder(home)`, in a folder named by the content fingerprint: the bytes, order and labels
    of the chosen images, the classes and the side. A copy or an archive of the data has the same fingerprint. Files
    are read for the fingerprint once, and again if their path, names, sizes or times change. Stored images that are
    damaged are made again. `classes` limits the data to its first classes by name.

    With `cache: none`, and for `timm:`, nothing is stored: images are decoded at each access. `folder` is then only a
    name, made from path, names, sizes and times: a copy counts as other data, and a change of bytes that keeps size and
    time is not noticed. Of `python:` the fingerprint is that of the code, its arguments, and what it says of itself;
    tensors are not stored.

    Raises DataError, naming the file or folder, for every fault of the data that would stop a training.
    """
    if cache not in CACHES:
        raise DataError(f"cache: {cache} is not known; write {', '.join(CACHES)}")
    if data.is_named:
        names, counts = timm_datasets.inspect_timm(data, classes)
        require_one_batch(counts["train"], batch)
        folder = home / _folder_name(side, names, counts, data.source)
        return PreparedData(folder, names, counts["train"], counts["val"], cache=cache)
    source = open_source(data, classes)
    require_one_batch(source.counts["train"], batch)  # before the files are read, which may take minutes
    if cache == "none" or data.kind == "timm" or source.transformed:
        prepared = replace(_undecoded(source, data, side, home, say), cache=cache)
    else:
        prepared = replace(_read_about(_store_images(source, data, side, home, say), source), cache=cache)
    require_one_batch(prepared.train, batch)
    return prepared


def _undecoded(source: ImageSource, data: DataSource, side: int, home: Path, say: Say) -> PreparedData:
    """The images without a copy; with `skip_corrupt` each is decoded once, to find those that cannot be read."""
    folder = home / _folder_name(side, source.classes, source.counts, source.stat_fingerprint())
    if isinstance(source, DatasetSource):
        source.check_side(side)
    counts, skipped = dict(source.counts), []
    if data.skip_corrupt and data.kind != "drawn":
        say(f"looking for unreadable images of {data.source}")
        progress = Progress(sum(counts.values()), say, done="checked")
        for split in source.counts:
            decoded = _Decoded(source, split, stored_side(side), progress)
            counts[split] = sum(1 for _ in decoded.images())
            skipped += [source.name(split, index) for index in decoded.unreadable]
    return _prepared(folder, source, counts, skipped)


def _read_about(folder: Path, source: ImageSource) -> PreparedData:
    about = json.loads((folder / ABOUT_FILE).read_text())
    skipped = [source.name(split, index) for split, index in about["skipped"]]
    return _prepared(folder, source, about, skipped)


def _prepared(folder: Path, source: ImageSource, counts: Mapping[str, int], skipped: Iterable[str]) -> PreparedData:
    train, val, test = (counts.get(split, 0) for split in SPLITS)
    return PreparedData(
        folder, source.classes, train, val, tuple(skipped), source.notes, test=test, transformed=source.transformed
    )


def is_prepared(data: DataSource, side: int, home: Path, *, classes: int | None = None, cache: str = "auto") -> bool:
    """Return True if `prepare` has nothing to decode; reads no image."""
    if data.kind == "timm" or cache == "none":
        return True
    source, cache_dir = open_source(data, classes), cache_folder(home)
    if source.transformed:
        return True
    stat_digest = source.stat_fingerprint()
    if data.kind == "folder" and not has_cached_fingerprint(cache_dir, stat_digest):
        return False
    content = source.content_fingerprint(stat_digest, cache_dir, lambda text: None)
    return not find_damage(cache_dir / _folder_name(side, source.classes, source.counts, content))


def fingerprint(
    data: DataSource, side: int, *, classes: int | None, cache: str, read: bool = True, say: Say = lambda text: None
) -> str:
    """The name that `prepare` gives to the folder of these images; nothing is decoded or stored.

    With `read`, all files are read again and no cached fingerprint is trusted; otherwise files of the same names, sizes
    and times count as unchanged. Raises DataError if the images no longer exist.
    """
    if data.is_named:
        return _folder_name(side, *timm_datasets.inspect_timm(data, classes), data.source)
    source = open_source(data, classes)
    digest = source.stat_fingerprint()
    if cache != "none" and data.kind != "timm":
        with fingerprint_folder(read=read) as cache_dir:
            digest = source.content_fingerprint(digest, cache_dir, say)
    return _folder_name(side, source.classes, source.counts, digest)


def open_source(data: DataSource, classes: int | None, skipped: Sequence[str] = ()) -> ImageSource:
    """The source of images that are drawn, in a folder or archive, or in the user's Datasets, without those `skipped`.

    Raises DataError if it cannot be trained on.
    """
    if data.kind == "drawn":
        return SyntheticSource(data, classes)
    return (DatasetSource if data.kind == "python" else FolderSource)(data, classes, skipped)


def stored_side(side: int) -> int:
    """Side in pixels of the stored images, for a network with inputs of `side` pixels."""
    return round(side * DISK_MARGIN)


def require_one_batch(train: int, batch: int) -> None:
    """Raise DataError if there are fewer training images than a batch has."""
    if train < batch:
        raise DataError(f"recipe.batch={batch} is more than the {train} training images; make it smaller")


def _folder_name(side: int, classes: tuple[str, ...], counts: dict[str, int], digest: str) -> str:
    """Name of a folder of decoded images: the same for the same images."""
    key = f"{CACHE_FORMAT} {stored_side(side)} {classes} {counts} {digest}"
    return hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()[:12]


def _store_images(source: ImageSource, data: DataSource, side: int, home: Path, say: Say) -> Path:
    """The folder of all decoded images: from the cache, or filled now."""
    cache_dir, stat_digest = cache_folder(home), source.stat_fingerprint()
    content = source.content_fingerprint(stat_digest, cache_dir, say)
    folder = cache_dir / _folder_name(side, source.classes, source.counts, content)
    total = sum(source.counts.values())

    def fill(unfinished: Path) -> None:
        say(f"preparing the images of {data.source} for side {side}, in {cache_dir}")
        _decode_into(unfinished, source, stored_side(side), Progress(total, say))
        if source.stat_fingerprint() != stat_digest:  # the folder's name would not match its content
            raise DataError(f"{data.source} was changed while it was read; run again when its images are in place")

    make_once(folder, total * stored_side(side) ** 2 * 3, fill, say)
    return folder


def _decode_into(folder: Path, source: ImageSource, stored: int, progress: Progress) -> None:
    about: dict[str, Any] = {}
    skipped: list[tuple[str, int]] = []  # split and index: file names are not part of the fingerprint
    for split in source.counts:
        decoded = _Decoded(source, split, stored, progress)
        shape = (source.counts[split], stored, stored, 3)
        about[split] = write_array(folder / f"{split}_images.npy", decoded.images(), shape)
        np.save(folder / f"{split}_labels.npy", np.array(decoded.labels, np.int64))
        skipped += [(split, index) for index in decoded.unreadable]
    (folder / ABOUT_FILE).write_text(json.dumps(about | {"skipped": skipped}))


class _Decoded:
    """The readable images of a split, with their labels, and the indices of the others."""

    def __init__(self, source: ImageSource, split: str, stored: int, progress: Progress) -> None:
        self.source, self.split, self.stored, self.progress = source, split, stored, progress
        self.labels: list[int] = []
        self.unreadable: list[int] = []

    def images(self) -> Iterator[NDArray[np.uint8]]:
        """Yield each readable image. Raises DataError at the end if a class has none."""
        # Hide Pillow's warnings of odd EXIF blocks and palettes. Set here, as warning filters apply to all threads.
        with warnings.catch_warnings(action="ignore"):
            for index, (image, label) in enumerate(self.source.images(self.split, self.stored)):
                self.progress.step()
                if image is None:
                    self.unreadable.append(index)
                else:
                    self.labels.append(label)
                    yield image
        if not self.unreadable:
            return
        for label in sorted(set(range(len(self.source.classes))) - set(self.labels)):
            problem = f"class {self.source.classes[label]!r} has no readable image in {self.split}/"
            unreadable = printable(self.source.name(self.split, self.unreadable[0]))
            raise DataError(f"{problem}; repair some ({unreadable} is one) or remove the class")
