"""Images of a split by their labels: a subset of a split, and a test that is held out of the training images."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from hiri_search.training.data.image_folder import DataError


def subset(split: str, labels: Sequence[int], count: int | None, *, classes: int, seed: int) -> Sequence[int]:
    """The indices of all images of a split, or of `count`, chosen with the seed, ascending.

    Each class keeps its share, and at least one image. Raises DataError if there are more classes than `count`.
    """
    if count is None or count >= len(labels):
        return range(len(labels))
    _require_one_each(split, count, classes)
    return stratified_sample(labels, count, seed=seed)


def held_out(split: str, labels: Sequence[int], wanted: float, *, whole: int, classes: int, seed: int) -> list[int]:
    """The indices of the training images that are held out for a split: so many, or a share of `whole`, ascending.

    Each class keeps its share, and at least one image in both. Raises DataError where that is not possible.
    """
    count = max(classes, round(wanted * whole)) if wanted < 1 else int(wanted)
    _require_one_each(split, count, classes)
    chosen = stratified_sample(labels, count, seed=seed)
    taken = set(chosen)
    if len(set(labels)) > len({label for index, label in enumerate(labels) if index not in taken}):
        problem = f"{split}: {count:,} of {len(labels):,} training images held out leave a class without any"
        raise DataError(f"{problem}; hold out fewer, or add images")
    return chosen


def _require_one_each(split: str, count: int, classes: int) -> None:
    """Raise DataError if `count` images of a split are too few for one of each class."""
    if count < classes:
        remedy = f"write {classes} or more, or fewer classes with proxy.classes"
        raise DataError(f"data.{split}={count} is fewer than the {classes} classes, and each needs an image; {remedy}")


def stratified_sample(labels: Sequence[int], count: int, *, seed: int) -> list[int]:
    """The indices of `count` images, ascending: at least one of each class, and otherwise the same share of each."""
    by_label: dict[int, list[int]] = {}
    for index, label in enumerate(labels):
        by_label.setdefault(label, []).append(index)
    ranked = []
    for indices in by_label.values():
        shuffled = Random(seed).sample(indices, len(indices))
        ranked += [(rank > 0, rank / len(indices), index) for rank, index in enumerate(shuffled)]
    return sorted(index for *_, index in sorted(ranked)[:count])
