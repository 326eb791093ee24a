"""Synthetic images: the same for the same seed; fine detail alone distinguishes their classes."""

import hashlib
from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from hiri_search.training.data.synthetic import MOTIFS, ORDER, TEXTURE, generate_images

CLASSES = 8
CHANCE = 1 / CLASSES
Images = NDArray[np.uint8]
Features = NDArray[np.float64]


# ---- the same bytes


def test_the_bytes_are_the_same_on_every_machine():
    images = np.concatenate([generate_images(12, classes=12, side=side, seed=7)[0].ravel() for side in (128, 96, 40)])
    assert hashlib.sha256(images.tobytes()).hexdigest() == (
        "0d6aa76959a5efec80290d760083ab0c4e146835ab4743f6e67d4a37c0113c78"
    )


def test_the_bytes_of_pairs_in_order_are_the_same_on_every_machine():
    images, _ = generate_images(12, classes=12, side=96, seed=7, task=ORDER, difficulty=0.8)
    assert (
        hashlib.sha256(images.tobytes()).hexdigest()
        == "acd0c7341968379918e748172d91828e8c6bd43231efa6d92a5c6e78e992a957"
    )


def test_a_larger_count_only_adds_images():
    few, few_labels = generate_images(5, classes=CLASSES, side=64, seed=3)
    many, many_labels = generate_images(9, classes=CLASSES, side=64, seed=3)
    assert np.array_equal(few, many[:5])
    assert np.array_equal(few_labels, many_labels[:5])


def test_seeds_share_no_image():
    seeds = (0, 1, 2, 2**32, 2**32 + 1)
    images = [
        image.tobytes() for seed in seeds for image in generate_images(16, classes=CLASSES, side=32, seed=seed)[0]
    ]
    assert len(set(images)) == len(images)


def test_a_smaller_side_shows_the_same_scene_averaged():
    native = generate_images(4, classes=CLASSES, side=128, seed=5)[0].astype(float)
    half = generate_images(4, classes=CLASSES, side=64, seed=5)[0]
    means = native.reshape(4, 64, 2, 64, 2, 3).mean((2, 4))
    assert np.abs(means - half).max() <= 0.5


@pytest.mark.parametrize("side", [32, 97, 128, 160, 512])
def test_images_have_any_side(side: int):
    images, labels = generate_images(2, classes=CLASSES, side=side, seed=0)
    assert (images.shape, images.dtype, labels.dtype) == ((2, side, side, 3), np.uint8, np.int64)
    assert images.std() > 10


# ---- labels


@pytest.mark.parametrize(("count", "classes"), [(40, 8), (43, 8), (30, 12), (5, 1), (3, 8)])
def test_labels_are_balanced(count: int, classes: int):
    counts = np.bincount(generate_images(count, classes=classes, side=8, seed=1)[1], minlength=classes)
    assert counts.sum() == count
    assert np.ptp(counts) <= 1


def test_every_motif_is_its_own_mirror_image():
    assert all(row == row[::-1] for rows in MOTIFS.values() for row in rows)


@pytest.mark.parametrize("classes", [0, 13])
def test_the_number_of_classes_is_limited_by_the_motifs(classes: int):
    with pytest.raises(ValueError, match="12 motifs"):
        generate_images(1, classes=classes, side=32, seed=0)


# ---- what distinguishes the classes


def test_a_linear_probe_of_coarse_pixels_is_at_chance():
    assert _score(_coarse, 8) < CHANCE + 0.08


@pytest.mark.parametrize("task", [TEXTURE, ORDER])
def test_difficult_images_have_less_contrast(task: str):
    easy, hard = (
        np.abs(np.diff(images.mean(-1))).mean()
        for difficulty in (0, 1)
        for images in [generate_images(40, classes=CLASSES, side=128, seed=1, task=task, difficulty=difficulty)[0]]
    )
    assert easy > 1.3 * hard


def test_two_classes_of_a_pair_differ_in_the_order_of_their_motifs_alone():
    def halves(label: int) -> Features:
        images, labels = generate_images(240, classes=2, side=64, seed=1, task=ORDER, difficulty=0)
        return np.stack([_energies(images[labels == label][:, rows]).mean(0) for rows in (slice(32), slice(32, 64))])

    first, second = halves(0), halves(1)
    assert np.abs(first - second[::-1]).mean() < 0.5 * np.abs(first - second).mean()


@pytest.mark.slow
def test_accuracy_rises_with_the_side():
    scores = {side: _score(_energies, side) for side in (64, 32, 16)}
    assert scores[64] > 0.7
    assert scores[64] > scores[32] + 0.1
    assert scores[32] > scores[16] + 0.1


@pytest.mark.slow
def test_accuracy_falls_to_chance_when_detail_is_blurred_away():
    assert _score(lambda images: _energies(_blurred(images, 5)), 128) < CHANCE + 0.08


def _score(features, side: int) -> float:
    """Top-1 of a linear probe on 320 images of one seed, fitted to 240 images of another seed."""
    train, labels = generate_images(240, classes=CLASSES, side=side, seed=1)
    val, val_labels = generate_images(320, classes=CLASSES, side=side, seed=2)
    return float((_probe(features(train), labels, features(val)) == val_labels).mean())


def _probe(train: Features, labels: NDArray[np.int64], val: Features) -> NDArray[np.int64]:
    """Labels of `val` predicted by ridge regression on standardised features."""
    mean, std = train.mean(0), train.std(0)
    train, val = ((features - mean) / std for features in (train, val))
    penalty = 0.1 * train.shape[1] * np.eye(train.shape[1])
    weights = np.linalg.solve(train.T @ train + penalty, train.T @ (np.eye(CLASSES)[labels] - CHANCE))
    return (val @ weights).argmax(1)


def _energies(images: Images) -> Features:
    """Relative mean strength of eight 3x3 derivative filters over each image: (count, 8)."""
    grey = images.mean(-1)
    taps = (np.array([1, 2, 1]), np.array([1, 0, -1]), np.array([1, -2, 1]))
    kernels = [np.outer(rows, columns) for rows, columns in product(taps, taps)][1:]  # the first is a blur
    strengths = np.log(1 + np.stack([np.abs(_filtered(grey, kernel)).mean((1, 2)) for kernel in kernels], 1))
    return strengths - strengths.mean(1, keepdims=True)


def _filtered(grey: Features, kernel: NDArray[np.int64]) -> Features:
    inner = grey.shape[1] - 2
    return sum(kernel[y, x] * grey[:, y : y + inner, x : x + inner] for y, x in product(range(3), range(3)))


def _coarse(images: Images) -> Features:
    return images.reshape(len(images), -1).astype(float)


def _blurred(images: Images, radius: float) -> Images:
    blur = ImageFilter.GaussianBlur(radius)
    return np.stack([np.asarray(Image.fromarray(image).filter(blur)) for image in images])
