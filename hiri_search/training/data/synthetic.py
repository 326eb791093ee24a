"""Synthetic images from a seed: the same bytes on every machine, no download. numpy only."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from math import gcd

import numpy as np
from numpy.typing import NDArray

NATIVE_SIDE = 128  # pixels of a rendered scene; a larger image shows no more detail
OCTAVES = 5  # of the background noise

# Each motif equals its mirror image, so that a horizontal flip keeps the label. Two neighbours make a pair.
MOTIFS = {
    "rows": ("#####", ".....", "#####", ".....", "#####"),
    "columns": ("#.#.#", "#.#.#", "#.#.#", "#.#.#", "#.#.#"),
    "plus": ("..#..", "..#..", "#####", "..#..", "..#.."),
    "saltire": ("#...#", ".#.#.", "..#..", ".#.#.", "#...#"),
    "ring": ("#####", "#...#", "#...#", "#...#", "#####"),
    "check": ("#.#.#", ".#.#.", "#.#.#", ".#.#.", "#.#.#"),
    "roof": ("..#..", ".#.#.", "#.#.#", ".#.#.", "#...#"),
    "valley": ("#...#", ".#.#.", "#.#.#", ".#.#.", "..#.."),
    "tee": ("#####", "..#..", "..#..", "..#..", "..#.."),
    "cup": ("#...#", "#...#", "#...#", "#...#", "#####"),
    "ladder": ("#...#", "#...#", "#####", "#...#", "#...#"),
    "target": ("#####", "#...#", "#.#.#", "#...#", "#####"),
}
STROKE_SAMPLES = 8  # samples of a tile across one stroke of a motif
TILE_STROKES = 7  # strokes across a tile: a motif of five, and a margin of one on each side

TEXTURE, ORDER = "texture", "order"  # what the class of a scene is
MEDIUM = 0.5  # difficulty

Plane = NDArray[np.float32]


def generate_images(
    count: int,
    *,
    classes: int,
    side: int,
    seed: int,
    first: int = 0,
    task: str = TEXTURE,
    difficulty: float = MEDIUM,
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images `first` to `first + count` of a seed, (count, side, side, 3), and labels (count,) that cycle 0, 1, 2, ...

    `task`: the class is the motif of two large patches (TEXTURE: fine detail), or which two motifs two smaller patches
    have and which of the two is above the other (ORDER: fine detail, and a relation between places). `difficulty`, from
    0 to 1, lowers the contrast of the motifs, adds shapes without a motif, and brings the two patches of ORDER closer:
    far apart, the height of each in the image tells their order.

    Image i and its label depend only on `seed`, i, `classes`, `task` and `difficulty`: a larger `count` adds images at
    the end, and another `side`, in pixels, shows the same scenes averaged over areas. Two seeds share no image.
    """
    if not 1 <= classes <= len(MOTIFS):
        raise ValueError(f"classes={classes}: there are {len(MOTIFS)} motifs; write 1 to {len(MOTIFS)}")
    scene = {TEXTURE: _textures, ORDER: _pair_in_order}[task]
    labels = np.arange(first, first + count, dtype=np.int64) % classes
    images = np.empty((count, side, side, 3), np.uint8)
    for index, label in enumerate(labels):
        rng = np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(first + index,)))
        images[index] = average_areas(scene(int(label), difficulty, rng), side)
    return images, labels


def generate_in_subprocess(
    count: int,
    *,
    classes: int,
    side: int,
    seed: int,
    first: int = 0,
    task: str = TEXTURE,
    difficulty: float = MEDIUM,
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The images of `generate_images`, from a subprocess: threads do not run numpy's many small steps in parallel."""
    # Run this file alone, in safe mode: neither the caller's program nor a heavy package is imported.
    command = [sys.executable, "-P", __file__, *map(str, (count, classes, side, seed, first, task, difficulty))]
    process = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    labels = np.arange(first, first + count, dtype=np.int64) % classes
    return np.frombuffer(process.stdout, np.uint8).reshape(count, side, side, 3), labels


def _textures(label: int, difficulty: float, rng: np.random.PCG64) -> Plane:
    """A scene of TEXTURE at the native side, (3, N, N), integers from 0 to 255."""
    canvas = cluttered_background(difficulty, rng)
    for _ in range(2):
        paint_motif(canvas, random_shape(rng, 0.24, 0.38), label, difficulty, rng)
    return finish_scene(canvas, rng)[0]


def _pair_in_order(label: int, difficulty: float, rng: np.random.PCG64) -> Plane:
    """A scene of ORDER at the native side, (3, N, N), integers from 0 to 255."""
    canvas = cluttered_background(difficulty, rng)
    pair, order = divmod(label, 2)
    gap = between(rng, 0.45 - 0.25 * difficulty, 0.7 - 0.25 * difficulty)  # between the centres, in native sides
    above = between(rng, 0.14, 0.86 - gap)
    for centre, motif in ((above, 2 * pair + order), (above + gap, 2 * pair + 1 - order)):
        paint_motif(canvas, random_shape(rng, 0.16, 0.26, height=centre), motif, difficulty, rng)
    return finish_scene(canvas, rng)[0]


def cluttered_background(difficulty: float, rng: np.random.PCG64, *, native: int = NATIVE_SIDE) -> Plane:
    """A canvas (3, N, N) of N = `native` pixels with clouds and, on them, shapes without a motif."""
    canvas = _background(rng, native)
    for _ in range(round(8 * difficulty)):
        _paint(canvas, random_shape(rng, 0.06, 0.25, native=native), rng)
    return canvas


def paint_motif(canvas: Plane, patch: Patch, motif: int, difficulty: float, rng: np.random.PCG64) -> None:
    """Paint an object with a motif on `canvas`, (3, N, N), in place."""
    _paint(canvas, patch, rng, texture=_texture(_tiles()[motif], patch, rng, contrast=1.5 - difficulty))


def finish_scene(canvas: Plane, rng: np.random.PCG64) -> tuple[Plane, list[Patch]]:
    """Paint thin lines on a canvas and expose it: (3, N, N), integers from 0 to 255, and the lines."""
    lines = []
    for _ in range(2):
        lines.append(_random_line(rng, canvas.shape[1]))
        _paint(canvas, lines[-1], rng)
    return _expose(canvas, rng), lines


# Random numbers come from raw bits: numpy may change its distributions between versions.
def between(rng: np.random.PCG64, low: float, high: float) -> float:
    return low + (high - low) * (int(rng.random_raw()) >> 40) * 2.0**-24


def _uniform(rng: np.random.PCG64, *shape: int) -> Plane:
    """Numbers in [0, 1), multiples of 2**-8: coarse enough for exact sums."""
    return (rng.random_raw(shape) >> np.uint64(56)).astype(np.float32) * np.float32(2.0**-8)


@dataclass(frozen=True)
class Patch:
    """An object on the canvas, given in the bounding box (h, w) outside of which its opacity is 0."""

    box: tuple[slice, slice, slice]  # all three colours, rows, columns
    opacity: Plane  # (h, w): 1 inside the object, 0 outside, soft at the edge
    x: Plane  # (h, w): pixels from the object's centre, along its own axes
    y: Plane
    native: int  # side of the canvas in pixels


def random_shape(
    rng: np.random.PCG64,
    low: float,
    high: float,
    *,
    height: float | None = None,
    across: float | None = None,
    native: int = NATIVE_SIDE,
) -> Patch:
    """An ellipse or rectangle, rotated by at most 12 degrees, with semi-axes of `low` to `high` of the native side.

    `height` and `across` are those of its centre, from the top and from the left, in native sides; None: random.
    """
    semi_axes = native * between(rng, low, high), native * between(rng, low, high)
    return _patch(rng, semi_axes, native, half_tangent=between(rng, -0.1, 0.1), height=height, across=across)


def _random_line(rng: np.random.PCG64, native: int) -> Patch:
    """A long thin object in any direction, such as a twig or a wire."""
    semi_axes = native * between(rng, 0.1, 0.5), native * between(rng, 0.004, 0.02)
    return _patch(rng, semi_axes, native, half_tangent=between(rng, -1.0, 1.0))


def _patch(
    rng: np.random.PCG64,
    semi_axes: tuple[float, float],
    native: int,
    *,
    half_tangent: float,
    height: float | None = None,
    across: float | None = None,
) -> Patch:
    """`half_tangent` is the tangent of half the rotation: it gives cosine and sine without a call into libm."""
    square = half_tangent * half_tangent
    cos, sin = (1 - square) / (1 + square), 2 * half_tangent / (1 + square)
    slope = min(semi_axes) / between(rng, 1.0, 3.0)  # of the opacity at the edge, where the distance is 1
    margin = 1 + 0.5 / slope
    columns, x = _axis(rng, native, margin * (semi_axes[0] * cos + semi_axes[1] * abs(sin)), centre=across)
    rows, y = _axis(rng, native, margin * (semi_axes[1] * cos + semi_axes[0] * abs(sin)), centre=height)
    rotated_x, rotated_y = cos * x[None, :] + sin * y[:, None], cos * y[:, None] - sin * x[None, :]
    u, v = np.abs(rotated_x) / semi_axes[0], np.abs(rotated_y) / semi_axes[1]
    distance = np.maximum(u, v) if between(rng, 0, 1) < 0.5 else np.sqrt(u * u + v * v)
    opacity: Plane = np.clip((1 - distance) * slope + 0.5, 0, 1).astype(np.float32, copy=False)
    return Patch((slice(None), rows, columns), opacity, rotated_x, rotated_y, native)


def _axis(rng: np.random.PCG64, native: int, radius: float, *, centre: float | None = None) -> tuple[slice, Plane]:
    """The pixels of one axis within `radius` of a centre, by default random, and their distances from it."""
    centre = native * (between(rng, 0.2, 0.8) if centre is None else centre)
    first, last = max(0, int(centre - radius)), min(native, int(centre + radius) + 1)
    return slice(first, last), np.arange(first, last, dtype=np.float32) + np.float32(0.5 - centre)


def _paint(canvas: Plane, patch: Patch, rng: np.random.PCG64, *, texture: Plane | None = None) -> None:
    """Paint a patch in one muted colour, with a linear gradient, on `canvas`, (3, N, N), in place."""
    slope, grey = between(rng, -0.3, 0.3) / patch.native, between(rng, 0.3, 0.7)
    colour = grey + np.float32(0.4) * (_uniform(rng, 3, 1, 1) - np.float32(0.5))
    paint = colour * (1 + slope * patch.y)
    if texture is not None:
        paint += texture
    paint -= canvas[patch.box]
    paint *= patch.opacity
    canvas[patch.box] += paint


@cache
def _tiles() -> tuple[Plane, ...]:
    """One tile of each motif: a square of TILE_STROKES * STROKE_SAMPLES samples, mean 0, root mean square 1."""
    return tuple(_tile(rows) for rows in MOTIFS.values())


def _tile(rows: tuple[str, ...]) -> Plane:
    strokes = np.pad(np.array([[mark == "#" for mark in row] for row in rows], np.int64), 1)
    samples = np.kron(strokes, np.ones((STROKE_SAMPLES, STROKE_SAMPLES), np.int64))
    # A box filter as wide as a stroke imitates the camera's pixel. np.roll wraps around, as tiles repeat.
    for axis in (0, 1):
        shifted = (np.roll(samples, step - STROKE_SAMPLES // 2, axis) for step in range(STROKE_SAMPLES))
        samples = sum(shifted, np.zeros_like(samples))
    level = samples * samples.size - samples.sum()  # integers: the mean is exactly 0
    energy = float((level * level).sum()) / samples.size
    tile: Plane = (level / energy**0.5).astype(np.float32)
    return tile


def _texture(tile: Plane, patch: Patch, rng: np.random.PCG64, *, contrast: float) -> Plane:
    """Tiles laid like bricks over the patch, (h, w), along its own axes; each brick has its own share of `contrast`."""
    # Pixels from brick to brick: the same share of the scene on a canvas of any side.
    pitch = TILE_STROKES * between(rng, 1.2, 1.7) * patch.native / NATIVE_SIDE
    y = patch.y / pitch + between(rng, 20, 21)  # an offset of 20 bricks keeps all coordinates positive
    row = y.astype(np.int32)
    x = patch.x / pitch + between(rng, 20, 21) + np.float32(0.5) * (row & 1)
    column = x.astype(np.int32)
    tile_row, tile_column = (
        ((position - brick) * len(tile)).astype(np.int32) for position, brick in ((y, row), (x, column))
    )
    strength = _uniform(rng, 48, 48) + np.float32(0.5)
    contrast *= between(rng, 0.3, 0.5) * (1 if between(rng, 0, 1) < 0.5 else -1)
    return contrast * strength[row, column] * tile[tile_row, tile_column]


def _background(rng: np.random.PCG64, native: int) -> Plane:
    """Cloud noise, (3, N, N): each octave has half the amplitude of the previous one; half of the noise is grey."""
    knots = np.zeros((3, 2**OCTAVES + 1, 2**OCTAVES + 1), np.float32)
    for octave in range(1, OCTAVES + 1):
        weights = _interpolation(2**octave, 2**OCTAVES)
        knots += weights @ _uniform(rng, 3, 2**octave + 1, 2**octave + 1) @ weights.T * np.float32(0.5**octave)
    knots = np.float32(0.5) * (knots + knots[:1])
    weights = _interpolation(2**OCTAVES, native)[:-1]
    clouds: Plane = weights @ knots @ weights.T
    return clouds


@cache
def _interpolation(knots: int, points: int) -> Plane:
    """Weights (points + 1, knots + 1) of linear interpolation from `knots` equal intervals to `points`."""
    step = points // knots
    distance = np.abs(np.arange(points + 1)[:, None] - step * np.arange(knots + 1)[None, :])
    weights: Plane = (np.maximum(step - distance, 0) / step).astype(np.float32)
    return weights


def _expose(canvas: Plane, rng: np.random.PCG64) -> Plane:
    """Imitate a camera: exposure, contrast, light from one side and sensor noise; integers from 0 to 255."""
    native = canvas.shape[1]
    ramp = np.arange(native, dtype=np.float32) / native
    x, y = (between(rng, -0.4, 0.4) * ramp for _ in range(2))
    light = 255 * between(rng, 0.7, 1.1) * (1 + x[None, :] + y[:, None])
    grain = rng.random_raw(canvas.size // 4).astype("<u8").view(np.uint8).reshape(2, *canvas.shape)
    noise = np.subtract(grain[0], grain[1], dtype=np.float32)  # triangular distribution, 510 wide
    noise *= np.float32(between(rng, 0.01, 0.04))
    exposed: Plane = canvas - np.float32(0.5)
    exposed *= light
    exposed += noise
    exposed += np.float32(255 * between(rng, 0.4, 0.6))
    np.clip(exposed, 0, 255, out=exposed)
    return np.floor(exposed, out=exposed)


def average_areas(image: Plane, side: int) -> NDArray[np.uint8]:
    """(3, N, N) averaged over areas to (side, side, 3), rounded to nearest."""
    if side != image.shape[1]:
        weights = area_weights(side, image.shape[1])
        image = np.floor(weights @ image @ weights.T / weights[0].sum() ** 2 + np.float32(0.5))
    return image.astype(np.uint8).transpose(1, 2, 0)


@cache
def area_weights(side: int, native: int) -> Plane:
    """Overlap of each native pixel with each pixel of `side`, (side, N), in units that divide both pixels."""
    unit = gcd(native, side)
    length, native_length = native // unit, side // unit
    start, native_start = np.arange(side)[:, None] * length, np.arange(native)[None, :] * native_length
    overlap = np.minimum(start + length, native_start + native_length) - np.maximum(start, native_start)
    weights: Plane = np.maximum(overlap, 0).astype(np.float32)
    return weights


if __name__ == "__main__":  # run by generate_in_subprocess
    count, classes, side, seed, first = map(int, sys.argv[1:6])
    task, difficulty = sys.argv[6], float(sys.argv[7])
    generated, _ = generate_images(
        count, classes=classes, side=side, seed=seed, first=first, task=task, difficulty=difficulty
    )
    sys.stdout.buffer.write(generated.data)
