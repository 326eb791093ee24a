"""Drawn scenes of several objects: boxes, instance masks and a semantic map follow from how they are made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from hiri_search.system.files import Say
from hiri_search.training.data.image_folder import DataError
from hiri_search.training.data.synthetic import (
    MEDIUM,
    MOTIFS,
    Patch,
    Plane,
    area_weights,
    average_areas,
    between,
    cluttered_background,
    finish_scene,
    paint_motif,
    random_shape,
)
from hiri_search.training.dense.sources.annotated_source import AnnotatedImage, DenseTarget, mask_extent, object_target

SCENE_SIDE = 256  # pixels of a rendered scene; a larger image shows no more detail
SCENE_CLASSES = 6
FEWEST_OBJECTS, MOST_OBJECTS = 3, 6  # in a scene
SEMI_AXES = 0.07, 0.18  # of an object, in sides of the scene
CENTRES = 0.06, 0.94  # of objects, in sides: some are cut by the edge of the image
VISIBLE_SHARE = 0.5  # of an object, under which it is no instance
BACKGROUND = "background"  # first class of a semantic map: all that has no motif
_TEST_SEEDS = 2**64  # the first seed that no training or validation scene has


@dataclass(frozen=True)
class Scene:
    """A drawn scene: its pixels, and what is where."""

    image: NDArray[np.uint8]  # (S, S, 3)
    boxes: NDArray[np.float32]  # (N, 4), left, top, right, bottom: the extents of the masks
    labels: NDArray[np.int64]  # (N,), the motif of each object
    masks: NDArray[np.uint8]  # (N, S, S), the visible pixels of each object
    semantic: NDArray[np.uint8]  # (S, S): 0 is background, 1 + label a motif


def draw_scene(index: int, *, classes: int, side: int, seed: int, difficulty: float = MEDIUM) -> Scene:
    """Scene `index` of a seed, `side` pixels wide and high: each object has a motif, which is its class.

    Objects of which less than half is visible are in the semantic map alone. Shapes without a motif and the thin lines
    in front of all are background. `difficulty` is that of `generate_images`. Another `side` shows the same scene
    averaged over areas: a pixel belongs to what covers most of it. Numpy only: the same bytes everywhere.
    """
    if not 1 <= classes <= len(MOTIFS):
        raise ValueError(f"classes={classes}: there are {len(MOTIFS)} motifs; write 1 to {len(MOTIFS)}")
    rng = np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(index,)))
    pixels, owner, labels, areas = _paint_objects(classes, difficulty, rng)
    shown = _majority(owner, len(labels), side)
    masks, instances = [], []
    for number, (label, area) in enumerate(zip(labels, areas, strict=True), start=1):
        if (owner == number).sum() >= VISIBLE_SHARE * area and (shown == number).any():
            masks.append(shown == number)
            instances.append(label)
    semantic = np.array([0, *(label + 1 for label in labels)], np.uint8)[shown]
    boxes = np.array([mask_extent(mask) for mask in masks], np.float32).reshape(-1, 4)
    stacked = np.array(masks, np.uint8).reshape(-1, side, side)
    return Scene(average_areas(pixels, side), boxes, np.array(instances, np.int64), stacked, semantic)


def _paint_objects(
    classes: int, difficulty: float, rng: np.random.PCG64
) -> tuple[Plane, NDArray[np.int16], list[int], list[int]]:
    """The pixels of a scene (3, N, N); the number of the object, from 1, that each shows (N, N), or 0; the label of
    each object, and its area in pixels if nothing covered it.
    """
    canvas = cluttered_background(difficulty, rng, native=SCENE_SIDE)
    owner = np.zeros((SCENE_SIDE, SCENE_SIDE), np.int16)
    labels, areas = [], []
    for number in range(1, 1 + int(between(rng, FEWEST_OBJECTS, MOST_OBJECTS + 1))):
        label, across, height = int(between(rng, 0, classes)), between(rng, *CENTRES), between(rng, *CENTRES)
        shape = random_shape(rng, *SEMI_AXES, height=height, across=across, native=SCENE_SIDE)
        paint_motif(canvas, shape, label, difficulty, rng)
        labels.append(label)
        areas.append(_own(owner, shape, number))
    pixels, lines = finish_scene(canvas, rng)
    for line in lines:
        _own(owner, line, 0)
    return pixels, owner, labels, areas


def _own(owner: NDArray[np.int16], patch: Patch, number: int) -> int:
    """Give the pixels that a patch covers by half or more to an object; return how many they are."""
    covered = patch.opacity >= 0.5
    owner[patch.box[1:]][covered] = number
    return int(covered.sum())


def _majority(owner: NDArray[np.int16], objects: int, side: int) -> NDArray[np.intp]:
    """The object, or 0, that covers most of each pixel of `side`, (side, side); of equals the one in front."""
    weights = area_weights(side, SCENE_SIDE)
    front_first = np.arange(objects, -1, -1)
    shares = weights @ (owner == front_first[:, None, None]).astype(np.float32) @ weights.T
    shown: NDArray[np.intp] = front_first[shares.argmax(0)]
    return shown


class DrawnScenes:
    """Scenes made from a seed, with boxes and masks, or with semantic maps."""

    def __init__(
        self,
        counts: Mapping[str, int],
        *,
        side: int,
        classes: int = SCENE_CLASSES,
        seed: int = 0,
        difficulty: float = MEDIUM,
        semantic: bool = False,
    ) -> None:
        """`counts`: the scenes of train, val and perhaps test. With `semantic`, background is the first class."""
        if not 1 <= classes <= len(MOTIFS):
            problem = f"proxy.classes={classes}: drawn scenes have 1 to {len(MOTIFS)} classes"
            raise DataError(f"{problem}; write one of these")
        self.classes = (*((BACKGROUND,) if semantic else ()), *list(MOTIFS)[:classes])
        self.counts, self.side, self.semantic, self.difficulty = dict(counts), side, semantic, difficulty
        self.notes: tuple[str, ...] = ()
        # Each split has its own seed: another size of one split does not change the scenes of another.
        self.seeds = {"train": 2 * seed, "val": 2 * seed + 1, "test": _TEST_SEEDS + seed}

    def stored_bytes(self, longest: int) -> int:
        return sum(self.counts.values()) * 3 * min(self.side, longest) ** 2

    def stat_fingerprint(self) -> str:
        return f"drawn scenes {self.side} {self.classes} {self.seeds['train']} {self.difficulty} {self.semantic}"

    def content_fingerprint(self, stat_digest: str, cache_dir: Path, say: Say) -> str:
        return stat_digest

    def name(self, split: str, index: int) -> str:
        return f"scene {index}"

    def images(self, split: str) -> Iterator[AnnotatedImage]:
        for index in range(self.counts[split]):
            classes, seed = len(self.classes) - self.semantic, self.seeds[split]
            scene = draw_scene(index, classes=classes, side=self.side, seed=seed, difficulty=self.difficulty)
            yield scene.image, self._target(scene)

    def _target(self, scene: Scene) -> DenseTarget:
        if self.semantic:
            return {"semantic": torch.from_numpy(scene.semantic)}
        area = scene.masks.sum((1, 2), dtype=np.float32)
        return object_target(scene.boxes, scene.labels, area=area, masks=scene.masks)
