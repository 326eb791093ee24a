"""The user's images with semantic maps: pairs of an image and a mask."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from hiri_search.nets.dense.upernet import UNLABELED
from hiri_search.system.file_tree.tree import READ_ERRORS, FileTree
from hiri_search.system.files import expanded
from hiri_search.system.text import printable
from hiri_search.training.data.image_decode import decode_each, stored_and_upright, to_rgb
from hiri_search.training.data.image_files import image_suffixes
from hiri_search.training.data.image_folder import DataError
from hiri_search.training.dense.sources.annotated_files import (
    AnnotatedFiles,
    WantedCounts,
    fault_note,
    open_annotated,
    pixels_of_size,
    random_subset,
    split_named,
    used_splits,
)
from hiri_search.training.dense.sources.annotated_source import MAX_SEMANTIC_CLASSES, AnnotatedImage

MASKS_LAYOUT = "a folder, .tar or .zip with train/x.jpg beside train/x.png, its mask, or images/train/ and masks/train/"
CLASS_NAMES, COLOUR_FILES = "classes.txt", ("colours.json", "colors.json")
NOT_JUDGED = frozenset({"unlabeled", "unlabelled", "void", "ignore", "ignored"})  # names of classes that are no class
IMAGE_FOLDERS = frozenset({"images", "image", "img", "imgs"})
MASK_FOLDERS = frozenset({"masks", "mask", "labels", "annotations", "annot", "gt", "segmentation"})
MASK_SUFFIXES = frozenset({".png", ".bmp", ".tif", ".tiff", ".gif"})  # without loss
SAMPLED = 32  # masks whose sizes are looked at for an estimate of all
MASK_ENDINGS = ("_mask", "_label", "_labels", "_gt")  # of the stem of a mask beside its image


@dataclass(frozen=True)
class Palette:
    """The meaning of the values or colours of masks."""

    classes: tuple[str, ...]  # empty: values are classes, and none has a name
    values: Mapping[int, int]  # the class, or UNLABELED, of each value, or of each colour as one number
    colours: bool = False

    def classes_of(self, mask: NDArray[np.uint32], where: str) -> NDArray[np.uint8]:
        """The class of each pixel (H, W). Raises DataError, with the value or colour, for one without a meaning."""
        present, inverse = np.unique(mask, return_inverse=True)
        meanings = {UNLABELED: UNLABELED} | dict(self.values) if not self.colours else self.values
        if not self.classes:
            meanings = {value: value for value in range(UNLABELED + 1)}
        for value in present.tolist():
            if value not in meanings:
                raise DataError(f"{where} {self._unknown(value)}")
        looked_up = np.array([meanings[value] for value in present.tolist()], np.uint8)
        return looked_up[inverse].reshape(mask.shape)

    def _unknown(self, value: int) -> str:
        if self.colours:
            colour = [value >> shift & 255 for shift in (16, 8, 0)]
            return f"has the colour {colour}, which {COLOUR_FILES[0]} has not; add it, as unlabeled if it is not judged"
        if not self.classes:
            most = MAX_SEMANTIC_CLASSES - 1
            return f"has the value {value}; write classes as 0 to {most}, and {UNLABELED} for what is not judged"
        last = max(self.values)
        return f"has the value {value}, and {CLASS_NAMES} names 0 to {last}; add a line, or write {UNLABELED}"


class MasksSource(AnnotatedFiles):
    """Images with the class of each pixel (`masks:PATH`).

    A mask has the name of its image, beside it or in a folder masks/. Its values, of 8 or 16 bits or of a palette, are
    classes from 0, and 255 is not judged. `classes.txt` names them, one in a line; a class named unlabeled or void is
    not judged, and those after it move up. `colours.json`, {"sky": [128, 128, 128], ...}, is for masks in colours.
    """

    def __init__(
        self, path: str, *, counts: WantedCounts | None = None, seed: int = 0, skip_corrupt: bool = False
    ) -> None:
        where = expanded(path)
        tree, names = open_annotated(where, MASKS_LAYOUT)
        pairs, self.notes = _pairs(str(where), names)
        wanted = counts or {}
        self._pairs = {
            split: random_subset(pairs[split], wanted.get(split), seed=seed) for split in used_splits(pairs, wanted)
        }
        for split in ("train", "val"):
            if not self._pairs.get(split):
                raise DataError(f"{where} has no image with a mask in {split}/; it must be {MASKS_LAYOUT}")
        self.palette, self.skip_corrupt = _read_palette(str(where), tree, names), skip_corrupt
        self.classes = self.palette.classes
        masks = [mask for found in self._pairs.values() for _, mask in found]
        images = {split: [image for image, _ in found] for split, found in self._pairs.items()}
        super().__init__(where, tree, images, masks, f"masks {self.palette} {skip_corrupt}")
        self._masks = dict(zip(images, _divided(self.folder.entries["annotations"], self.counts), strict=True))

    def stored_bytes(self, longest: int) -> int:
        masks = [mask for found in self._masks.values() for mask in found]
        sample = masks[:: -(-len(masks) // SAMPLED)]
        sizes = [float(longest**2)]
        with suppress(DataError):  # unreadable ones are reported when all are read
            decoded = decode_each(self.folder, sample, lambda data, image: image.size, skip_corrupt=True)
            sizes = [w * h * min(1, longest / max(w, h)) ** 2 for _, size in decoded if size for w, h in [size]]
        return round(4 * len(masks) * sum(sizes) / len(sizes))

    def images(self, split: str) -> Iterator[AnnotatedImage]:
        decode = partial(decode_each, self.folder, skip_corrupt=self.skip_corrupt)
        values = decode(self._masks[split], partial(_mask_values, colours=self.palette.colours))
        pairs = zip(decode(self.entries[split], stored_and_upright), values, strict=True)
        for (_, versions), (entry, mask) in pairs:
            where = f"{self.folder.path}: {printable(entry.name)}"
            if versions is None or mask is None:
                yield None
            else:
                if (pixels := pixels_of_size(versions, mask.shape[::-1])) is None:
                    sizes = "{} x {} pixels, and its image {} x {}".format(*mask.shape[::-1], *versions[1].size)
                    raise DataError(f"{where} has {sizes}; make them of one size, a mask without smoothing")
                yield pixels, {"semantic": torch.from_numpy(self.palette.classes_of(mask, where))}


_Key = tuple[str, tuple[str, ...], str]  # the split, the other folders, and the name of an image without suffix


def _divided(entries: Sequence[Any], counts: Mapping[str, int]) -> Iterator[Sequence[Any]]:
    start = 0
    for count in counts.values():
        yield entries[start : start + count]
        start += count


def _pairs(where: str, names: Sequence[str]) -> tuple[dict[str, list[tuple[str, str]]], tuple[str, ...]]:
    """The image and the mask of each pair, by split, and notes on images and masks without the other."""
    images: dict[_Key, str] = {}
    masks: dict[_Key, str] = {}
    same = 0
    for name in names:
        path = PurePosixPath(name)
        folders = [part.lower() for part in path.parts[:-1]]
        split = next((found for part in reversed(folders) if (found := split_named(part))), None)
        suffix, stem = path.suffix.lower(), path.stem
        if split is None or suffix not in image_suffixes():
            continue
        both = IMAGE_FOLDERS | MASK_FOLDERS
        kept = tuple(part for part in folders if split_named(part) != split and part not in both)
        in_masks = not MASK_FOLDERS.isdisjoint(folders)
        is_mask = in_masks or (suffix in MASK_SUFFIXES and IMAGE_FOLDERS.isdisjoint(folders))
        files, key = (masks, (split, kept, _image_stem(stem))) if is_mask else (images, (split, kept, stem))
        same += key in files
        files.setdefault(key, name)
    pairs: dict[str, list[tuple[str, str]]] = {}
    for key in images.keys() & masks.keys():
        pairs.setdefault(key[0], []).append((images[key], masks[key]))
    alone = Counter(
        {
            "images without a mask": len(images.keys() - masks.keys()),
            "masks without an image": len(masks.keys() - images.keys()),
            "files of the same name as another, but for its suffix": same,
        }
    )
    return {split: sorted(found) for split, found in pairs.items()}, fault_note(where, "left out are", +alone)


def _image_stem(stem: str) -> str:
    """The stem of the image of a mask."""
    ending = next((ending for ending in MASK_ENDINGS if stem.lower().endswith(ending)), "")
    return stem[: len(stem) - len(ending)]


def _read_palette(where: str, tree: FileTree, names: Sequence[str]) -> Palette:
    """The meaning of values or colours by the file that says it; the one nearest to the top counts."""
    wanted = {CLASS_NAMES, *COLOUR_FILES}
    found = [name for name in names if PurePosixPath(name).name.lower() in wanted]
    found.sort(key=lambda name: name.count("/"))
    if not found:
        return Palette((), {})
    try:
        with tree.open_reader() as read:
            text = read(found[0]).decode()
    except READ_ERRORS as error:
        raise DataError(f"{where}: {found[0]} cannot be read ({error}); save it as UTF-8 text") from error
    if found[0].lower().endswith(CLASS_NAMES):
        lines = [line.strip() for line in text.strip().splitlines()]
        return _palette(f"{where}: {found[0]}", list(enumerate(lines)), colours=False)
    return _palette(f"{where}: {found[0]}", _colours(f"{where}: {found[0]}", text), colours=True)


def _colours(where: str, text: str) -> list[tuple[int, str]]:
    """The number and the name of each colour."""
    try:
        named = json.loads(text)
        colours = [(int.from_bytes(bytes(colour)), name) for name, colour in named.items() if len(colour) == 3]
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f'{where} is not {{"NAME": [red, green, blue], ...}} ({error}); write it so') from error
    if len({number for number, _ in colours}) < len(named):
        raise DataError(f"{where}: each name needs one colour of three numbers from 0 to 255, which no other name has")
    return colours


def _palette(where: str, names: Sequence[tuple[int, str]], *, colours: bool) -> Palette:
    classes = tuple(name for _, name in names if name.lower() not in NOT_JUDGED)
    if len(set(classes)) < len(classes) or "" in classes:
        raise DataError(f"{where} has an empty name, or a name twice; name each class once")
    if not 2 <= len(classes) <= MAX_SEMANTIC_CLASSES or (not colours and len(names) > UNLABELED):
        raise DataError(f"{where} names {len(classes)} classes; write 2 to {MAX_SEMANTIC_CLASSES}")
    index = {name: number for number, name in enumerate(classes)}
    return Palette(classes, {value: index.get(name, UNLABELED) for value, name in names}, colours)


def _mask_values(data: bytes, image: Image.Image, *, colours: bool) -> NDArray[np.uint32]:
    """The values of a mask (H, W), or with `colours` its colours as numbers. Raises ValueError for another kind."""
    if not colours and image.mode in ("1", "L", "P", "I", "I;16", "I;16B", "I;16L"):
        return np.asarray(image).astype(np.uint32)
    pixels = np.asarray(to_rgb(image)).astype(np.uint32)
    if not colours and (pixels != pixels[..., :1]).any():
        raise ValueError(
            f'a mask in colours: write {COLOUR_FILES[0]}, {{"NAME": [red, green, blue], ...}}, beside train/'
        )
    return pixels @ np.array([1 << 16, 1 << 8, 1], np.uint32) if colours else pixels[..., 0]
