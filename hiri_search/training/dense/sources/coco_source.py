"""The user's images with boxes and masks in COCO's format."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from hiri_search.system.file_tree.tree import READ_ERRORS, FileTree
from hiri_search.system.files import expanded
from hiri_search.system.text import first_names, printable
from hiri_search.training.data.image_decode import decode_each, stored_and_upright
from hiri_search.training.data.image_folder import DataError
from hiri_search.training.dense.sources.annotated_files import (
    AnnotatedFiles,
    WantedCounts,
    fault_note,
    named_files,
    open_annotated,
    pixels_of_size,
    random_subset,
    split_named,
    used_splits,
)
from hiri_search.training.dense.sources.annotated_source import AnnotatedImage, DenseTarget, object_target
from hiri_search.training.dense.sources.coco_annotations import CocoFile, CocoImage, read_coco
from hiri_search.training.dense.sources.run_lengths import mask_of

COCO_LAYOUT = "a folder, .tar or .zip with train/*.jpg, train.json, val/*.jpg and val.json in COCO's format"
MAX_JSON_BYTES = 2 << 30
ROBOFLOW = "_annotations.coco"  # name of the annotations beside the images of a split
FOLDERS = ("annotations", "labels")  # in which the annotations of all splits may lie


@dataclass(frozen=True)
class _Split:
    """A split: its annotation file, and the images with the names of their files in the tree."""

    where: str
    digest: str  # of the annotation file
    coco: CocoFile
    images: list[CocoImage]
    files: list[str]


class CocoSource(AnnotatedFiles):
    """Images with objects (`coco:PATH`, or `coco:PATH#SET` for one of several sets in a folder or archive).

    Each set has one JSON file a split: SPLIT.json or annotations/instances_SPLIT2017.json, or
    SPLIT/_annotations.coco.json; images lie in SPLIT/, images/SPLIT/, images/ or where `file_name` says.
    """

    def __init__(
        self, path: str, *, masks: bool, counts: WantedCounts | None = None, seed: int = 0, skip_corrupt: bool = False
    ) -> None:
        """`masks`: the targets have masks, for which each object needs a segmentation; objects without are left out."""
        where, subset = _path_and_set(path)
        tree, names = open_annotated(where, COCO_LAYOUT)
        files = _annotation_files(where, names, subset)
        wanted = counts or {}
        read = {
            split: _read_split(where, tree, names, split, files[split], masks=masks, skip_corrupt=skip_corrupt)
            for split in used_splits(files, wanted)
        }
        ids, self.classes, notes = _common_classes(read)
        self._labels = {id: label for label, id in enumerate(ids)}
        self._masks, self.skip_corrupt = masks, skip_corrupt
        self.notes = (*notes, *(note for split in read.values() for note in _notes(split, masks=masks)))
        self._images: dict[str, list[CocoImage]] = {}
        used_files: dict[str, list[str]] = {}
        for split, content in read.items():
            if masks and not any(segment for image in content.images for segment in image.segmentations):
                problem = f"{content.where} has boxes alone, without segmentation"
                raise DataError(f"{problem}; add masks, or train a method that needs boxes alone, such as retinanet")
            pairs = random_subset(list(zip(content.images, content.files, strict=True)), wanted.get(split), seed=seed)
            self._images[split] = [image for image, _ in pairs]
            used_files[split] = [file for _, file in pairs]
        digests = [content.digest for content in read.values()]
        super().__init__(where, tree, used_files, (), f"coco {digests} {self.classes} {masks} {skip_corrupt}")

    def stored_bytes(self, longest: int) -> int:
        sizes = [image.size for images in self._images.values() for image in images]
        return sum(3 * round(w * h * min(1, longest / max(w, h)) ** 2 + w + h) for w, h in sizes)

    def images(self, split: str) -> Iterator[AnnotatedImage]:
        entries = self.entries[split]
        decoded = decode_each(self.folder, entries, stored_and_upright, skip_corrupt=self.skip_corrupt)
        for (entry, versions), image in zip(decoded, self._images[split], strict=True):
            if versions is None:
                yield None
            else:
                yield self._annotated(f"{self.folder.path}: {printable(entry.name)}", versions, image)

    def _annotated(self, where: str, versions: tuple[Image.Image, Image.Image], image: CocoImage) -> AnnotatedImage:
        if (pixels := pixels_of_size(versions, image.size)) is None:
            sizes = "{} x {} pixels, and it has {} x {}".format(*image.size, *versions[1].size)
            raise DataError(f"{where} has annotations for {sizes}; correct width and height, and the boxes")
        return pixels, self._target(where, image)

    def _target(self, where: str, image: CocoImage) -> DenseTarget:
        kept = [i for i, segment in enumerate(image.segmentations) if segment or not self._masks]
        labels = np.array([self._labels[image.categories[i]] for i in kept], np.int64)
        masks = np.zeros((len(kept), *image.size[::-1]), np.uint8) if self._masks else None
        for position, i in enumerate(kept if masks is not None else ()):
            try:
                masks[position] = mask_of(image.segmentations[i], *image.size[::-1])  # type: ignore[index]
            except ValueError as error:
                raise DataError(f"{where}: the mask of object {i + 1} cannot be read: {error}; correct it") from error
        ignored, area = np.array(image.ignored, bool)[kept], np.array(image.areas, np.float32)[kept]
        return object_target(image.box_array[kept], labels, ignored=ignored, area=area, masks=masks)


def _path_and_set(text: str) -> tuple[Path, str]:
    """The path and the set in `PATH#SET`; a # may be part of the path."""
    if expanded(text).exists() or "#" not in text:
        return expanded(text), ""
    path, _, subset = text.rpartition("#")
    return expanded(path), subset.strip("/")


def _annotation_files(path: Path, names: Sequence[str], subset: str) -> dict[str, str]:
    """The annotation file of each split of a set."""
    sets: dict[str, dict[str, str]] = {}
    for name in names:
        if place := _place(PurePosixPath(name)):
            root, split = place
            other = sets.setdefault(root, {}).setdefault(split, name)
            if other != name:
                raise DataError(f"{path} has two annotation files of {split}, {other} and {name}; remove one")
    found = {root: files for root, files in sets.items() if not subset or root == subset or root.endswith(f"/{subset}")}
    if len(found) > 1:
        choices = ", ".join(sorted(root or "." for root in found))
        raise DataError(f"{path} has several sets; write coco:{path}#SET, where SET is one of {choices}")
    if not found:
        known = f"; its sets are {first_names(sorted(sets))}" if sets else ""
        missing = f"set {subset!r}" if subset else "annotation file such as train.json"
        raise DataError(f"{path} has no {missing}{known}; it must be {COCO_LAYOUT}")
    (files,) = found.values()
    for split in ("train", "val"):
        if split not in files:
            raise DataError(f"{path} has no annotation file of {split}, {split}.json; it must be {COCO_LAYOUT}")
    return files


def _place(name: PurePosixPath) -> tuple[str, str] | None:
    """The root of the set and the split of an annotation file; None for another file."""
    if name.suffix.lower() != ".json":
        return None
    folder = name.parent
    if name.stem == ROBOFLOW:
        split, folder = split_named(folder.name), folder.parent
    else:
        split = split_named(name.stem.lower().removeprefix("instances_"))
        folder = folder.parent if folder.name.lower() in FOLDERS else folder
    return ("" if str(folder) == "." else str(folder), split) if split else None


def _read_split(
    path: Path, tree: FileTree, names: Sequence[str], split: str, file: str, *, masks: bool, skip_corrupt: bool
) -> _Split:
    where = f"{path}: {file}"
    try:
        with tree.open_reader(MAX_JSON_BYTES) as read:
            content = read(file)
            coco = read_coco(content, where, masks=masks)
    except READ_ERRORS as error:
        raise DataError(f"{where} cannot be read ({error}); copy it again") from error
    known, folders = frozenset(names), _image_folders(PurePosixPath(file), split, names)
    found = [(image, _find(image.file, folders, known)) for image in coco.images]
    missing = [image.file for image, name in found if name is None]
    if len(missing) == len(found) or (missing and not skip_corrupt):
        problem = f"{where} lists images that are missing: {named_files(missing)} of {len(found):,}"
        remedy = f"put them in {split}/" + " or set data.skip_corrupt=true to leave them out" * (not skip_corrupt)
        raise DataError(f"{problem}; {remedy}")
    coco.faults["of the images missing (left out)"] += len(missing)
    present = [(image, name) for image, name in found if name is not None]
    digest = hashlib.sha256(content).hexdigest()
    return _Split(where, digest, coco, [image for image, _ in present], [name for _, name in present])


def _image_folders(file: PurePosixPath, split: str, names: Sequence[str]) -> list[PurePosixPath]:
    """The folders in which the images of an annotation file may lie, the most probable first."""
    place = _place(file)
    root = PurePosixPath(place[0] if place else "")
    folders = {PurePosixPath(name).parent for name in names}
    within = {whole for folder in folders for whole in (folder, *folder.parents) if whole.is_relative_to(root)}
    year = file.stem.rpartition("_")[2]  # train2017 of instances_train2017
    own = [folder for folder in within if split_named(folder.name) == split]
    own.sort(key=lambda folder: (folder.name != year, len(folder.parts), folder))
    return [*own, root / "images", root, file.parent]


def _find(file: str, folders: Sequence[PurePosixPath], names: frozenset[str]) -> str | None:
    """The name in the tree of an image; some tools write its whole path on another machine."""
    for wanted in (file.replace("\\", "/"), PurePosixPath(file.replace("\\", "/")).name):
        for folder in folders:
            if (name := str(folder / wanted.lstrip("/"))) in names:
                return name
    return None


def _common_classes(splits: Mapping[str, _Split]) -> tuple[list[object], tuple[str, ...], list[str]]:
    """The ids and names of the categories with objects, in the order of the training file, and notes."""
    train = splits["train"].coco
    for split in splits.values():
        for id, name in split.coco.categories.items():
            if id in split.coco.used and train.categories.get(id) != name:
                problem = f"{split.where} has the category {name!r} with id {id!r}"
                raise DataError(f"{problem}, and the training file has not; give both files the same categories")
    used = set().union(*(split.coco.used for split in splits.values()))
    ids: list[object] = [id for id in train.categories if id in used]
    names = tuple(train.categories[id] for id in train.categories if id in used)
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise DataError(f"{splits['train'].where}: two categories are named {twice[0]!r}; rename or join them")
    empty = [name for id, name in train.categories.items() if id not in used]
    return ids, names, [f"Categories without an object are left out: {named_files(empty)}."] if empty else []


def _notes(split: _Split, *, masks: bool) -> tuple[str, ...]:
    faults = +split.coco.faults  # those that there are
    without = sum(segment is None for image in split.images for segment in image.segmentations)
    if masks and without:
        faults["without a mask (left out)"] = without
    crowds = sum(sum(image.ignored) for image in split.images)
    if crowds:
        faults["that are crowds (not judged)"] = crowds
    empty = sum(not image.boxes for image in split.images)
    note = (f"{split.where}: {empty:,} of {len(split.images):,} images have no object.",) if empty else ()
    return (*fault_note(split.where, "annotations", faults), *note)
