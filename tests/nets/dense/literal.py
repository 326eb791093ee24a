"""Formulas of papers in plain Python, one box at a time: slow second opinions for the tests of dense methods."""

import math
from collections.abc import Sequence

Box = Sequence[float]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def softmax(logits: Sequence[float]) -> list[float]:
    exponentials = [math.exp(x) for x in logits]
    return [x / sum(exponentials) for x in exponentials]


def area(box: Box) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def iou(a: Box, b: Box) -> float:
    shared = area((max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))
    return shared / (area(a) + area(b) - shared)


def giou(a: Box, b: Box) -> float:
    """Generalized IoU (Rezatofighi et al. 2019, algorithm 1)."""
    hull = area((min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])))
    shared = area((max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))
    union = area(a) + area(b) - shared
    return shared / union - (hull - union) / hull


def focal_loss(logit: float, positive: bool) -> float:
    """Focal loss (Lin et al. 2017, equation 5), alpha 0.25 and gamma 2."""
    p = sigmoid(logit)
    return -0.25 * (1 - p) ** 2 * math.log(p) if positive else -0.75 * p**2 * math.log(1 - p)


def decoded(deltas: Sequence[float], box: Box, weights: Sequence[float]) -> list[float]:
    """The box that deltas make of a box (Girshick et al. 2014, equations 1 to 4); deltas are divided by weights."""
    dx, dy, dw, dh = (d / w for d, w in zip(deltas, weights, strict=True))
    width, height = box[2] - box[0], box[3] - box[1]
    x, y = box[0] + width / 2 + dx * width, box[1] + height / 2 + dy * height
    width, height = width * math.exp(dw), height * math.exp(dh)
    return [x - width / 2, y - height / 2, x + width / 2, y + height / 2]


def encoded(target: Box, box: Box, weights: Sequence[float]) -> list[float]:
    """The deltas that make the target of a box: the inverse of `decoded`."""
    width, height = box[2] - box[0], box[3] - box[1]
    wide, high = target[2] - target[0], target[3] - target[1]
    dx = (target[0] + wide / 2 - box[0] - width / 2) / width
    dy = (target[1] + high / 2 - box[1] - height / 2) / height
    return [d * w for d, w in zip((dx, dy, math.log(wide / width), math.log(high / height)), weights, strict=True)]


def atss(levels: Sequence[Sequence[Box]], objects: Sequence[Box]) -> list[int | None]:
    """ATSS, algorithm 1: the object of each anchor, or None."""
    anchors = [anchor for level in levels for anchor in level]
    middle = lambda box: ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
    chosen: list[int | None] = [None] * len(anchors)
    for g, box in enumerate(objects):
        candidates, start = [], 0
        for level in levels:
            by_distance = sorted(range(len(level)), key=lambda n, level=level: math.dist(middle(level[n]), middle(box)))
            candidates += [start + n for n in by_distance[:9]]
            start += len(level)
        ious = [iou(anchors[n], box) for n in candidates]
        mean = sum(ious) / len(ious)
        threshold = mean + math.sqrt(sum((v - mean) ** 2 for v in ious) / (len(ious) - 1))
        for n, value in zip(candidates, ious, strict=True):
            x, y = middle(anchors[n])
            if value < threshold or not (box[0] < x < box[2] and box[1] < y < box[3]):
                continue
            before = chosen[n]
            if before is None or iou(anchors[n], objects[before]) < value:
                chosen[n] = g
    return chosen
