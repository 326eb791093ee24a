"""Data preparation: images decoded once, kept under a content fingerprint, found again."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hiri_search.system.files import Say
from hiri_search.training.data import timm_datasets
from hiri_search.training.data.decode_cache import (
    Progress,
    cache_folder,
    has_cached_fingerprint,
    make_once,
    write_array,
)
from hiri_search.training.data.image_folder import DataError
from hiri_search.training.data.sources import FolderSource, ImageSource, Made, SyntheticSource
from hiri_search.training.job import CACHES, SPLITS, DataSource, PreparedData

DISK_MARGIN = 1.25  # decoded images are larger than the net's side, so that crops keep their detail
FORMAT = 2  # of what is kept: another number where the same source would give other bytes
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
    """Decode everything once, before anything is trained, and leave it for all trials of all studies.

    It lies in `cache_place(home)`, in a folder named by what decides its bytes: those of the chosen images, their
    order and labels, the classes, the side. A copy of the data, or an archive of it, has the same; files are read for
    that once, and again when their path, names, sizes or times have changed. `classes` takes the first so many of the
    data's, None all of them.

    With `cache` none, and from timm, nothing is kept: images are decoded whenever they are used. `folder` is then a
    name only, made of the path, names, sizes and times, so that nothing is read before the training: a copy counts as
    other images, and bytes changed behind the same size and time are not seen.

    Raises DataError, naming the file or folder, for whatever would stop a training later: fewer training images
    than `batch`, for one.
    """
    if cache not in CACHES:
        raise DataError(f"cache: {cache} is not known; write {', '.join(CACHES)}")
    place = cache_folder(home)
    if data.kind == "timm":
        names, counts, seen = timm_datasets.inspect_timm(data, classes)
        _demand_batch(counts["train"], batch)
        return PreparedData(place / _key(side, names, counts, seen), names, counts["train"], counts["val"], cache=cache)
    supply = open_source(data, classes)
    _demand_batch(supply.counts["train"], batch)  # before anything is read, which may take minutes
    if cache == "none":
        _demand_readable(data)
        folder = place / _key(side, supply.classes, supply.counts, supply.stat_fingerprint())
        return PreparedData(folder, supply.classes, supply.counts["train"], supply.counts["val"], cache=cache)
    kept = replace(_kept_in(_keep(supply, data, side, place, say), supply), cache=cache)
    _demand_batch(kept.train, batch)
    return kept


def _kept_in(folder: Path, supply: ImageSource) -> PreparedData:
    """What a folder of decoded images says of itself."""
    about = json.loads((folder / ABOUT_FILE).read_text())
    skipped = tuple(supply.name(split, index) for split, index in about["skipped"])
    return PreparedData(folder, supply.classes, about["train"], about["val"], skipped)


def is_prepared(data: DataSource, side: int, home: Path, *, classes: int | None = None, cache: str = "auto") -> bool:
    """Whether `prepare` has nothing to decode; no image is read to know it."""
    if data.kind == "timm" or cache == "none":
        return True
    supply, place = open_source(data, classes), cache_folder(home)
    seen = supply.stat_fingerprint()
    if data.kind == "folder" and not has_cached_fingerprint(place, seen):
        return False
    content = supply.content_fingerprint(seen, place, lambda text: None)
    return (place / _key(side, supply.classes, supply.counts, content)).exists()


def fingerprint(
    data: DataSource, side: int, *, classes: int | None, cache: str, read: bool = True, say: Say = lambda text: None
) -> str:
    """The name that `prepare` would give the folder of images, where nothing of them is decoded or kept.

    With `read`, the bytes of all files are read again, whatever is remembered of them; without, files of the same
    names, sizes and times are taken to be the same. DataError where there are no images any more.
    """
    if data.kind == "timm":
        names, counts, seen = timm_datasets.inspect_timm(data, classes)
        return _key(side, names, counts, seen)
    supply = open_source(data, classes)
    if cache == "none":
        return _key(side, supply.classes, supply.counts, supply.stat_fingerprint())
    with TemporaryDirectory() as nothing_remembered:
        place = Path(nothing_remembered) if read else cache_folder(Path(nothing_remembered))
        return _key(
            side, supply.classes, supply.counts, supply.content_fingerprint(supply.stat_fingerprint(), place, say)
        )


def open_source(data: DataSource, classes: int | None) -> ImageSource:
    """Of drawn images, or of a folder or archive; DataError where it cannot be trained on."""
    return FolderSource(data, classes) if data.kind == "folder" else SyntheticSource(data, classes)


def stored_side(side: int) -> int:
    """Of the squares that images are kept as, for a network that sees `side` pixels."""
    return round(side * DISK_MARGIN)


def _demand_batch(train: int, batch: int) -> None:
    if train < batch:
        raise DataError(f"recipe.batch={batch} is more than the {train} training images; make it smaller")


def _demand_readable(data: DataSource) -> None:
    if data.skip_corrupt:
        raise DataError("data.skip_corrupt: what is unreadable is found by decoding all; with cache: none leave it out")


def _key(side: int, classes: tuple[str, ...], counts: dict[str, int], what: str) -> str:
    """The same for the same images."""
    whole = f"{FORMAT} {stored_side(side)} {classes} {counts} {what}"
    return hashlib.sha256(whole.encode(errors="surrogateescape")).hexdigest()[:12]


def _keep(supply: ImageSource, data: DataSource, side: int, place: Path, say: Say) -> Path:
    """The folder with all images decoded, filled now or found."""
    seen = supply.stat_fingerprint()
    folder = place / _key(side, supply.classes, supply.counts, supply.content_fingerprint(seen, place, say))
    if not folder.exists():
        say(f"preparing the images of {data.source} for side {side}")
    total = sum(supply.counts.values())

    def fill(unfinished: Path) -> None:
        _fill(supply, stored_side(side), Progress(total, say), unfinished)
        if supply.stat_fingerprint() != seen:  # the folder's name would be that of others
            raise DataError(f"{data.source} was changed while it was read; run again when its images are in place")

    make_once(folder, total * stored_side(side) ** 2 * 3, fill, say)
    return folder


def _fill(supply: ImageSource, stored: int, progress: Progress, folder: Path) -> None:
    about: dict[str, Any] = {}
    skipped: list[tuple[str, int]] = []  # by split and index: names are not of the content
    for split in SPLITS:
        labels: list[int] = []
        left_out: list[int] = []
        # Odd EXIF blocks and palettes are not the study's business. Set here: filters are not of one thread alone.
        with warnings.catch_warnings(action="ignore"):
            kept = _kept(supply.images(split, stored), labels, left_out, progress)
            shape = (supply.counts[split], stored, stored, 3)
            about[split] = write_array(folder / f"{split}_images.npy", kept, shape)
        np.save(folder / f"{split}_labels.npy", np.array(labels, np.int64))
        skipped += [(split, index) for index in left_out]
    (folder / ABOUT_FILE).write_text(json.dumps(about | {"skipped": skipped}))


def _kept(
    made: Iterable[Made], labels: list[int], left_out: list[int], progress: Progress
) -> Iterator[NDArray[np.uint8]]:
    """The images that are kept; their labels and the indices of the others are added to the lists."""
    for index, (image, label) in enumerate(made):
        progress.step()
        if image is None:
            left_out.append(index)
        else:
            labels.append(label)
            yield image
