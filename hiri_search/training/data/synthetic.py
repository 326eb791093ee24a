"""Synthetic images from a seed: the same bytes on every machine, no download. numpy only."""

import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from math import gcd

import numpy as np
from numpy.typing import NDArray

NATIVE_SIDE = 128  # pixels; scenes are rendered at this side, and no larger side shows more
OCTAVES = 5  # of the background

# Each motif is its own mirror image, so that a horizontal flip keeps the label.
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
FINE = 8  # table samples across one stroke of a motif
CELL = 7  # strokes across one cell: a motif of five and a margin of one all round

Plane = NDArray[np.float32]


def draw(
    count: int, *, classes: int, side: int, seed: int, first: int = 0
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """`count` images of a seed from the `first`, (count, side, side, 3), with labels (count,) in turn 0, 1, 2, ...

    Image i and its label depend on `seed`, i and `classes` alone: a larger `count` adds images at the
    end; another `side`, in pixels, shows the same scenes averaged over areas. Two seeds share no image.
    """
    if not 1 <= classes <= len(MOTIFS):
        raise ValueError(f"classes={classes}: there are {len(MOTIFS)} motifs to draw; write 1 to {len(MOTIFS)}")
    labels = np.arange(first, first + count, dtype=np.int64) % classes
    images = np.empty((count, side, side, 3), np.uint8)
    for index, label in enumerate(labels):
        bits = np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(first + index,)))
        images[index] = _resized(_scene(_weaves()[label], bits), side)
    return images, labels


def draw_beside(
    count: int, *, classes: int, side: int, seed: int, first: int = 0
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """As `draw`, by a process of its own: numpy's small steps leave threads no time beside one another."""
    # The file alone, in safe mode: neither the caller's program nor anything heavy is imported again.
    command = [sys.executable, "-P", __file__, *map(str, (count, classes, side, seed, first))]
    drawn = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    labels = np.arange(first, first + count, dtype=np.int64) % classes
    return np.frombuffer(drawn.stdout, np.uint8).reshape(count, side, side, 3), labels


def _scene(weave: Plane, bits: np.random.PCG64) -> Plane:
    """One image at the native side, (3, N, N), whole numbers from 0 to 255."""
    canvas = _background(bits)
    for _ in range(4):
        _paint(canvas, _object(bits, 0.06, 0.25), bits)
    for _ in range(2):
        patch = _object(bits, 0.24, 0.38)
        _paint(canvas, patch, bits, texture=_texture(weave, patch, bits))
    for _ in range(2):
        _paint(canvas, _stroke(bits), bits)
    return _photograph(canvas, bits)


# ---- chance


def _between(bits: np.random.PCG64, low: float, high: float) -> float:
    return low + (high - low) * (int(bits.random_raw()) >> 40) * 2.0**-24


def _uniform(bits: np.random.PCG64, *shape: int) -> Plane:
    """Numbers in [0, 1) on a grid of 2**-8, coarse enough for exact sums."""
    return (bits.random_raw(shape) >> np.uint64(56)).astype(np.float32) * np.float32(2.0**-8)


# ---- objects


@dataclass(frozen=True)
class Patch:
    """An object's outline, inside the box of pixels, (h, w), beyond which it covers nothing."""

    box: tuple[slice, slice, slice]  # all three colours, rows, columns
    cover: Plane  # (h, w): 1 inside, 0 outside, soft at the edge
    across: Plane  # (h, w): pixels from the middle, along the object's own axes
    down: Plane


def _object(bits: np.random.PCG64, low: float, high: float) -> Patch:
    """An ellipse or a box, at most 12 degrees off upright, its half axes `low` to `high` of the side."""
    half = NATIVE_SIDE * _between(bits, low, high), NATIVE_SIDE * _between(bits, low, high)
    return _outline(bits, half, lean=_between(bits, -0.1, 0.1))


def _stroke(bits: np.random.PCG64) -> Patch:
    """A thin long thing in any direction, such as a twig or a wire."""
    half = NATIVE_SIDE * _between(bits, 0.1, 0.5), NATIVE_SIDE * _between(bits, 0.004, 0.02)
    return _outline(bits, half, lean=_between(bits, -1.0, 1.0))


def _outline(bits: np.random.PCG64, half: tuple[float, float], *, lean: float) -> Patch:
    """`lean` is the tangent of half the angle: cosine and sine follow from it without a call into libm."""
    cos, sin = (1 - lean * lean) / (1 + lean * lean), 2 * lean / (1 + lean * lean)
    edge = min(half) / _between(bits, 1.0, 3.0)  # how steeply the cover falls where the distance passes 1
    reach = 1 + 0.5 / edge
    columns, x = _span(bits, reach * (half[0] * cos + half[1] * abs(sin)))
    rows, y = _span(bits, reach * (half[1] * cos + half[0] * abs(sin)))
    across, down = cos * x[None, :] + sin * y[:, None], cos * y[:, None] - sin * x[None, :]
    u, v = np.abs(across) / half[0], np.abs(down) / half[1]
    distance = np.maximum(u, v) if _between(bits, 0, 1) < 0.5 else np.sqrt(u * u + v * v)
    cover: Plane = np.clip((1 - distance) * edge + 0.5, 0, 1).astype(np.float32, copy=False)
    return Patch((slice(None), rows, columns), cover, across, down)


def _span(bits: np.random.PCG64, reach: float) -> tuple[slice, Plane]:
    """The pixels of one axis within `reach` of a random middle, and how far from it their centres lie."""
    middle = NATIVE_SIDE * _between(bits, 0.2, 0.8)
    first, last = max(0, int(middle - reach)), min(NATIVE_SIDE, int(middle + reach) + 1)
    return slice(first, last), np.arange(first, last, dtype=np.float32) + np.float32(0.5 - middle)


def _paint(canvas: Plane, patch: Patch, bits: np.random.PCG64, *, texture: Plane | None = None) -> None:
    """Lays one muted colour, shaded from end to end, over `canvas`, (3, N, N), in place."""
    slope, grey = _between(bits, -0.3, 0.3) / NATIVE_SIDE, _between(bits, 0.3, 0.7)
    colour = grey + np.float32(0.4) * (_uniform(bits, 3, 1, 1) - np.float32(0.5))
    paint = colour * (1 + slope * patch.down)
    if texture is not None:
        paint += texture
    paint -= canvas[patch.box]
    paint *= patch.cover
    canvas[patch.box] += paint


# ---- motifs


@cache
def _weaves() -> tuple[Plane, ...]:
    """One cell of each motif, (CELL * FINE, CELL * FINE), with mean 0 and root mean square 1."""
    return tuple(_weave(rows) for rows in MOTIFS.values())


def _weave(rows: tuple[str, ...]) -> Plane:
    ink = np.pad(np.array([[mark == "#" for mark in row] for row in rows], np.int64), 1)
    fine = np.kron(ink, np.ones((FINE, FINE), np.int64))
    # A box as wide as a stroke stands for the camera's pixel; np.roll wraps, as cells repeat.
    for axis in (0, 1):
        fine = sum((np.roll(fine, step - FINE // 2, axis) for step in range(FINE)), np.zeros_like(fine))
    level = fine * fine.size - fine.sum()  # integers, so the mean is 0 exactly
    energy = float((level * level).sum()) / fine.size
    weave: Plane = (level / energy**0.5).astype(np.float32)
    return weave


def _texture(weave: Plane, patch: Patch, bits: np.random.PCG64) -> Plane:
    """The motif in bricks over the patch, (h, w), turned with it; some bricks are stronger than others."""
    pitch = CELL * _between(bits, 1.2, 1.7)  # native pixels from motif to motif
    down = patch.down / pitch + _between(bits, 20, 21)  # 20 bricks from the middle lie beyond any patch
    row = down.astype(np.int32)
    across = patch.across / pitch + _between(bits, 20, 21) + np.float32(0.5) * (row & 1)
    column = across.astype(np.int32)
    fine_row, fine_column = (
        ((place - brick) * len(weave)).astype(np.int32) for place, brick in ((down, row), (across, column))
    )
    strength = _uniform(bits, 48, 48) + np.float32(0.5)
    contrast = _between(bits, 0.3, 0.5) * (1 if _between(bits, 0, 1) < 0.5 else -1)
    texture: Plane = contrast * strength[row, column] * weave[fine_row, fine_column]
    return texture


# ---- background and camera


def _background(bits: np.random.PCG64) -> Plane:
    """Soft clouds, (3, N, N): each octave of detail half as strong as the one before; half of it in grey."""
    knots = np.zeros((3, 2**OCTAVES + 1, 2**OCTAVES + 1), np.float32)
    for octave in range(1, OCTAVES + 1):
        tents = _tents(2**octave, 2**OCTAVES)
        knots += tents @ _uniform(bits, 3, 2**octave + 1, 2**octave + 1) @ tents.T * np.float32(0.5**octave)
    knots = np.float32(0.5) * (knots + knots[:1])
    tents = _tents(2**OCTAVES, NATIVE_SIDE)[:-1]
    clouds: Plane = tents @ knots @ tents.T
    return clouds


@cache
def _tents(knots: int, points: int) -> Plane:
    """Linear interpolation from `knots` equal gaps to `points` equal gaps, (points + 1, knots + 1)."""
    step = points // knots
    apart = np.abs(np.arange(points + 1)[:, None] - step * np.arange(knots + 1)[None, :])
    tents: Plane = (np.maximum(step - apart, 0) / step).astype(np.float32)
    return tents


def _photograph(canvas: Plane, bits: np.random.PCG64) -> Plane:
    """Exposure, contrast, light from one side and sensor noise; (3, N, N) in whole numbers from 0 to 255."""
    ramp = np.arange(NATIVE_SIDE, dtype=np.float32) / NATIVE_SIDE
    x, y = (_between(bits, -0.4, 0.4) * ramp for _ in range(2))
    light = 255 * _between(bits, 0.7, 1.1) * (1 + x[None, :] + y[:, None])
    grain = bits.random_raw(canvas.size // 4).astype("<u8").view(np.uint8).reshape(2, *canvas.shape)
    noise = np.subtract(grain[0], grain[1], dtype=np.float32)  # a triangle 510 wide
    noise *= np.float32(_between(bits, 0.01, 0.04))
    lit: Plane = canvas - np.float32(0.5)
    lit *= light
    lit += noise
    lit += np.float32(255 * _between(bits, 0.4, 0.6))
    np.clip(lit, 0, 255, out=lit)
    return np.floor(lit, out=lit)


# ---- side


def _resized(image: Plane, side: int) -> NDArray[np.uint8]:
    """(3, N, N) averaged over areas to (side, side, 3), rounded to nearest."""
    if side != NATIVE_SIDE:
        overlaps = _overlaps(side)
        image = np.floor(overlaps @ image @ overlaps.T / overlaps[0].sum() ** 2 + np.float32(0.5))
    return image.astype(np.uint8).transpose(1, 2, 0)


@cache
def _overlaps(side: int) -> Plane:
    """How much of each native pixel lies in each pixel of `side`, (side, N), in whole units of one size."""
    unit = gcd(NATIVE_SIDE, side)
    length, native = NATIVE_SIDE // unit, side // unit  # of both pixels, in units that divide both
    start, left = np.arange(side)[:, None] * length, np.arange(NATIVE_SIDE)[None, :] * native
    shared = np.minimum(start + length, left + native) - np.maximum(start, left)
    overlaps: Plane = np.maximum(shared, 0).astype(np.float32)
    return overlaps


def _main(count: int, classes: int, side: int, seed: int, first: int) -> None:
    sys.stdout.buffer.write(draw(count, classes=classes, side=side, seed=seed, first=first)[0].data)


if __name__ == "__main__":  # of draw_beside
    _main(*map(int, sys.argv[1:]))
