"""One annotation file in COCO's format, read and checked."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from hiri_search.system.text import printable
from hiri_search.training.data.image_folder import DataError
from hiri_search.training.dense.sources.run_lengths import MIN_POLYGON

MAX_OVERHANG = 1.0  # pixels that a box may reach outside its image without being counted
MAX_IMAGE_SIDE = 2**16  # pixels of an image
MAX_NUMBER = 1e9  # of coordinates and areas; more is no number of pixels

Segmentation = list[list[float]] | dict[str, Any]  # polygons, or run lengths


@dataclass
class CocoImage:
    """The annotations of one image."""

    file: str  # as in `file_name`
    size: tuple[int, int]  # width and height in pixels
    boxes: list[tuple[float, float, float, float]] = field(default_factory=list)  # left, top, right, bottom
    categories: list[Hashable] = field(default_factory=list)  # the id of each object's category
    ignored: list[bool] = field(default_factory=list)  # crowds
    areas: list[float] = field(default_factory=list)
    segmentations: list[Segmentation | None] = field(default_factory=list)

    @property
    def box_array(self) -> NDArray[np.float32]:
        """All boxes, (N, 4)."""
        return np.array(self.boxes, np.float32).reshape(-1, 4)


@dataclass
class CocoFile:
    """The content of an annotation file."""

    categories: dict[Hashable, str]  # name by id
    images: list[CocoImage]
    faults: Counter[str]  # what is left out or changed, in words, and how often

    @property
    def used(self) -> set[Hashable]:
        """The ids of the categories that have an object."""
        return {category for image in self.images for category in image.categories}


def read_coco(content: bytes, where: str, *, masks: bool) -> CocoFile:
    """Read an annotation file; `where` names it in messages. Without `masks`, segmentations are not looked at.

    Left out or changed, and counted, are boxes that reach outside their image (clipped), that are empty or outside it,
    annotations of images that are not listed, and polygons of fewer than three corners. Crowds are objects that are
    not judged. Ids of annotations have no meaning here. Raises DataError, with the place and what to write, for all
    else that cannot be trained on.
    """
    document = _document(content, where)
    listed = _by_id(document, "categories", where)
    names = {id: _name(entry, f"{where}: the category with id {id!r}") for id, entry in listed}
    listed = _by_id(document, "images", where)
    images = {id: _image(entry, f"{where}: the image with id {id!r}") for id, entry in listed}
    if not images:
        raise DataError(f"{where} lists no image; write the images of the split in images")
    files = Counter(image.file for image in images.values())
    if twice := [file for file, count in files.items() if count > 1]:
        raise DataError(f"{where}: two of images have the file_name {twice[0]!r}; list each image once")
    coco, ids = CocoFile(names, list(images.values()), Counter()), Counter[Any]()
    for position, entry in enumerate(document["annotations"]):
        place = f"{where}: annotations[{position}]"
        if not isinstance(entry, dict):
            raise DataError(f"{place} is no object in braces; write {{...}} with image_id, category_id and bbox")
        ids[repr(entry.get("id", position))] += 1
        _add(coco, images, entry, place, masks=masks)
    if repeated := sum(ids.values()) - len(ids):
        coco.faults["with the id of another one (kept)"] = repeated
    if not coco.used:
        raise DataError(f"{where} has no object; write the objects of its images in annotations")
    return coco


def _document(content: bytes, where: str) -> dict[str, Any]:
    try:
        document: Any = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} cannot be read as JSON ({error}); export it again") from error
    lists = document if isinstance(document, dict) else {}
    missing = [name for name in ("images", "annotations", "categories") if not isinstance(lists.get(name), list)]
    if missing:
        problem = f"{where} has no list {' and '.join(missing)}"
        raise DataError(f"{problem}; write COCO's format: lists images, annotations and categories")
    return lists


def _by_id(document: dict[str, Any], name: str, where: str) -> Iterator[tuple[Hashable, dict[str, Any]]]:
    seen = set()
    for position, entry in enumerate(document[name]):
        id = entry.get("id") if isinstance(entry, dict) else None
        if isinstance(id, bool) or not isinstance(id, int | float | str):
            raise DataError(f'{where}: {name}[{position}] has no id; write "id": a number that no other of them has')
        if id in seen:
            raise DataError(f"{where}: two of {name} have the id {id!r}; give each its own, or remove one")
        seen.add(id)
        yield id, entry


def _name(entry: dict[str, Any], place: str) -> str:
    name = entry.get("name")
    if not isinstance(name, str) or not name:
        raise DataError(f'{place} has no name; write "name": "..."')
    return name


def _image(entry: dict[str, Any], place: str) -> CocoImage:
    file, sides = entry.get("file_name"), (entry.get("width"), entry.get("height"))
    if not isinstance(file, str) or not file:
        raise DataError(f'{place} has no file name; write "file_name": "..."')
    if not all(_is_number(side) and 1 <= side <= MAX_IMAGE_SIDE and side == int(side) for side in sides):
        raise DataError(f"{place}, {printable(file)}, has no width and height; write them in pixels")
    return CocoImage(file, (int(sides[0]), int(sides[1])))  # type: ignore[arg-type]


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < MAX_NUMBER


def _add(coco: CocoFile, images: dict[Hashable, CocoImage], entry: dict[str, Any], place: str, *, masks: bool) -> None:
    """Add an annotation to its image."""
    image_id, category, box = entry.get("image_id"), entry.get("category_id"), entry.get("bbox")
    image = images.get(image_id) if isinstance(image_id, int | float | str) else None
    if image is None:
        coco.faults["of an image that is not listed (left out)"] += 1
        return
    if not isinstance(category, int | float | str) or category not in coco.categories:
        known = ", ".join(map(repr, list(coco.categories)[:9]))
        raise DataError(f"{place} has the category_id {category!r}, and categories has {known}; add it, or correct it")
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        raise DataError(f"{place} has the bbox {box!r}; write [left, top, width, height] in pixels")
    clipped = _clipped(box, image.size, coco.faults)
    if clipped is None:
        return
    area = entry.get("area")
    image.boxes.append(clipped)
    image.categories.append(category)
    image.ignored.append(entry.get("iscrowd") == 1)
    own_area = (clipped[2] - clipped[0]) * (clipped[3] - clipped[1])
    image.areas.append(area if _is_number(area) and area > 0 else own_area)
    segmentation = entry.get("segmentation") if masks else None
    image.segmentations.append(_segmentation(segmentation, image.size, place, coco.faults))


def _clipped(box: list[float], size: tuple[int, int], faults: Counter[str]) -> tuple[float, float, float, float] | None:
    """The part of a box inside its image: left, top, right and bottom; None if there is none."""
    left, top, width, height = box
    if width <= 0 or height <= 0:
        faults["with an empty box (left out)"] += 1
        return None
    whole = left, top, left + width, top + height
    first, second, third, last = (min(max(edge, 0), limit) for edge, limit in zip(whole, (*size, *size), strict=True))
    inside = first, second, third, last
    if third <= first or last <= second:
        faults["with a box outside its image (left out)"] += 1
        return None
    if max(abs(old - new) for old, new in zip(whole, inside, strict=True)) > MAX_OVERHANG:
        faults["with a box that reaches outside its image (clipped)"] += 1
    return inside


def _segmentation(value: Any, size: tuple[int, int], place: str, faults: Counter[str]) -> Segmentation | None:
    """Polygons or run lengths; None where there are none."""
    if not value:
        return None
    width, height = size
    if isinstance(value, dict):
        counts = value.get("counts")
        whole = isinstance(counts, list) and all(isinstance(count, int) for count in counts)
        if value.get("size") != [height, width] or not (isinstance(counts, str) or whole):
            remedy = f'write {{"size": [{height}, {width}], "counts": ...}}, the height first'
            raise DataError(f"{place} has run lengths of another size than its image, or none; {remedy}")
        return value
    if not isinstance(value, list) or not all(isinstance(polygon, list) for polygon in value):
        raise DataError(f"{place} has a segmentation that is no list of polygons; write [[x1, y1, x2, y2, ...], ...]")
    if not all(_is_number(number) for polygon in value for number in polygon):
        raise DataError(f"{place} has a polygon with what is no number; write [x1, y1, x2, y2, ...]")
    polygons = [polygon for polygon in value if len(polygon) >= MIN_POLYGON and len(polygon) % 2 == 0]
    if len(polygons) < len(value):
        faults["with a polygon of fewer than three corners (that polygon is left out)"] += 1
    return polygons or None
