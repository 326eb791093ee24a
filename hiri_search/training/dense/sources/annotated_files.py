"""Common parts of sources of annotated image files: opening, choosing images, fingerprints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hiri_search.system.file_tree.tree import FileTree
from hiri_search.system.files import Say
from hiri_search.system.text import first_names, printable
from hiri_search.training.data.decode_cache import cached_fingerprint
from hiri_search.training.data.image_decode import DECODER_VERSION
from hiri_search.training.data.image_files import is_hidden
from hiri_search.training.data.image_folder import SPLIT_NAMES, ImageEntry, ImageFolder, opened_tree
from hiri_search.training.data.sources.folder_source import content_fingerprint, stat_fingerprint

_Chosen = TypeVar("_Chosen")

WantedCounts = Mapping[str, int | None]  # images of each split that a study wants; None: all


class AnnotatedFiles:
    """Image files with their annotation files in a folder or archive; fingerprints are of all of them."""

    def __init__(
        self, path: Path, tree: FileTree, images: Mapping[str, Sequence[str]], annotations: Sequence[str], kind: str
    ) -> None:
        self.entries = {split: tuple(ImageEntry(name, 0) for name in names) for split, names in images.items()}
        everything = self.entries | {"annotations": tuple(ImageEntry(name, 0) for name in annotations)}
        self.folder = ImageFolder(path, everything, (), tree, (), held_out=False)
        self.counts = {split: len(entries) for split, entries in self.entries.items()}
        self._kind = kind  # all that decides the targets beside the files

    def stat_fingerprint(self) -> str:
        return stat_fingerprint(self.folder, self.folder.entries)

    def content_fingerprint(self, stat_digest: str, cache_dir: Path, say: Say) -> str:
        compute = partial(content_fingerprint, self.folder, self.folder.entries, say)
        return f"{cached_fingerprint(cache_dir, stat_digest, compute)} {self._kind} {DECODER_VERSION}"

    def name(self, split: str, index: int) -> str:
        return self.entries[split][index].name


def open_annotated(path: Path, layout: str) -> tuple[FileTree, list[str]]:
    """The files of a folder or archive that are not hidden, sorted; raises DataError, which says what `layout` is."""
    with opened_tree(path, f"it must be {layout}") as tree:
        names = [name for name, is_file in tree.files("") if is_file and not any(map(is_hidden, name.split("/")))]
    return tree, sorted(names)


def pixels_of_size(versions: tuple[Image.Image, Image.Image], size: tuple[int, int]) -> NDArray[np.uint8] | None:
    """The pixels of an image of this width and height: mostly as it is shown, and sometimes as it is stored.

    Annotations know the one or the other; None where neither has this size.
    """
    stored, turned = versions
    return next((np.asarray(each) for each in (turned, stored) if each.size == size), None)


def split_named(name: str) -> str | None:
    """The split that a folder or file is named after, such as train of `Training` and `train2017`."""
    bare = name.lower().rstrip("0123456789")
    return next((split for split, names in SPLIT_NAMES.items() if bare in names), None)


def random_subset(items: Sequence[_Chosen], count: int | None, *, seed: int) -> list[_Chosen]:
    """All items, or `count` of them, chosen with the seed, in their order."""
    if count is None or count >= len(items):
        return list(items)
    return [items[index] for index in sorted(Random(seed).sample(range(len(items)), count))]


def used_splits(found: Iterable[str], wanted: WantedCounts) -> list[str]:
    """The splits to read: train, val, and test where there is one and it is wanted."""
    return [split for split in SPLIT_NAMES if split in found and wanted.get(split) != 0]


def fault_note(where: str, what: str, faults: Counter[str]) -> tuple[str, ...]:
    """A sentence that counts what is left out or changed, if anything is."""
    counts = ", ".join(f"{count:,} {fault}" for fault, count in faults.items())
    return (f"{printable(where)}: {what} {counts}.",) if counts else ()


def named_files(names: Sequence[str]) -> str:
    """The number of files, and the first of them."""
    return f"{len(names):,} ({first_names(names)})"
