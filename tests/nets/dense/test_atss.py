"""ATSS and GFL against a literal reading of their papers."""

import math

import pytest
import torch
from torch import Tensor

from hiri_search.nets.dense.detectors.assignment import assign_by_statistics
from hiri_search.nets.dense.detectors.atss import ATSS
from hiri_search.nets.dense.detectors.boxes import StridedAnchors
from hiri_search.nets.dense.detectors.gfl import GFL
from tests.nets.dense import literal
from tests.nets.dense.small import CLASSES, SmallBody

GRIDS = {8: (8, 6), 16: (4, 3), 32: (2, 2)}  # of images of 64 x 48, the last one rounded up
WEIGHTS = (10, 10, 5, 5)


def _levels() -> list[Tensor]:
    return StridedAnchors(tuple(GRIDS), (1.0,)).levels([torch.empty(1, 1, *grid) for grid in GRIDS.values()])


def _targets(*counts: int) -> list[dict[str, Tensor]]:
    """Random objects of 4 to 40 pixels, partly outside the image."""
    targets = []
    for count in counts:
        middle, half = torch.rand(count, 2) * torch.tensor([48, 64]), torch.rand(count, 2) * 18 + 2
        targets.append(
            {"boxes": torch.cat([middle - half, middle + half], 1), "labels": torch.randint(CLASSES, (count,))}
        )
    return targets


def test_anchors_lie_at_multiples_of_their_stride():
    anchors = _levels()[2]
    assert anchors.tolist() == [[x - 128, y - 128, x + 128, y + 128] for y in (0, 32) for x in (0, 32)]


@pytest.mark.parametrize("count", [0, 1, 2, 5, 20])
@pytest.mark.parametrize("seed", range(3))
def test_assignment_is_algorithm_1(count: int, seed: int):
    torch.manual_seed(seed)
    levels, boxes = _levels(), _targets(count)[0]["boxes"]
    expected = literal.atss([level.tolist() for level in levels], boxes.tolist())
    assert assign_by_statistics(levels, boxes).tolist() == [-1 if g is None else g for g in expected]
    assert count == 0 or any(g is not None for g in expected)


def _positives(targets: list[dict[str, Tensor]]) -> list[tuple[int, int, list[float], list[float], int]]:
    """Return image, position, anchor, box and label of each positive."""
    levels = [level.tolist() for level in _levels()]
    anchors = [anchor for level in levels for anchor in level]
    return [
        (image, n, anchors[n], target["boxes"][g].tolist(), int(target["labels"][g]))
        for image, target in enumerate(targets)
        for n, g in enumerate(literal.atss(levels, target["boxes"].tolist()))
        if g is not None
    ]


def _edges(anchor: list[float], box: list[float]) -> list[float]:
    x, y = (anchor[0] + anchor[2]) / 2, (anchor[1] + anchor[3]) / 2
    return [x - box[0], y - box[1], box[2] - x, box[3] - y]


CASES = pytest.mark.parametrize("counts", [(3, 1), (0, 6), (0, 0)], ids=str)


@CASES
def test_losses_of_atss(counts: tuple[int, int]):
    targets, positions = _targets(*counts), sum(h * w for h, w in GRIDS.values())
    logits, deltas, central = (torch.randn(2, positions, channels) for channels in (CLASSES, 4, 1))
    positives = _positives(targets)
    wanted = {(image, n, label) for image, n, _, _, label in positives}
    classification = sum(
        literal.focal_loss(float(logits[image, n, label]), (image, n, label) in wanted)
        for image in range(2)
        for n in range(positions)
        for label in range(CLASSES)
    )
    centerness, boxes, weights = 0.0, 0.0, 0.0
    for image, n, anchor, box, _ in positives:
        left, top, right, bottom = _edges(anchor, box)
        weight = math.sqrt(min(left, right) / max(left, right) * min(top, bottom) / max(top, bottom))
        score = literal.sigmoid(float(central[image, n]))
        centerness -= weight * math.log(score) + (1 - weight) * math.log(1 - score)
        boxes += weight * (1 - literal.giou(literal.decoded(deltas[image, n].tolist(), anchor, WEIGHTS), box))
        weights += weight
    count = max(1, len(positives))
    expected = [classification / count, 2 * boxes / max(1, weights), centerness / count]
    model = ATSS(SmallBody(3), CLASSES, width=32)
    losses = model.losses([logits, deltas, central], _levels(), targets)
    assert list(losses) == ["classification", "boxes", "centerness"]
    assert [float(loss) for loss in losses.values()] == pytest.approx(expected, rel=1e-4)


@CASES
def test_losses_of_gfl(counts: tuple[int, int]):
    targets, positions = _targets(*counts), sum(h * w for h, w in GRIDS.values())
    logits, edges = (torch.randn(2, positions, channels) for channels in (CLASSES, 4 * 17))
    quality, boxes, distributions, weights = {}, 0.0, 0.0, 0.0
    positives = _positives(targets)
    for image, n, anchor, box, label in positives:
        stride = (anchor[2] - anchor[0]) / 8
        x, y = (anchor[0] + anchor[2]) / 2, (anchor[1] + anchor[3]) / 2
        shares = [literal.softmax(edges[image, n, 17 * side : 17 * side + 17].tolist()) for side in range(4)]
        left, top, right, bottom = (stride * sum(i * p for i, p in enumerate(share)) for share in shares)
        found = [x - left, y - top, x + right, y + bottom]
        quality[image, n, label] = literal.iou(found, box)
        weight = max(literal.sigmoid(float(logit)) for logit in logits[image, n])
        boxes += weight * (1 - literal.giou(found, box))
        for share, distance in zip(shares, _edges(anchor, box), strict=True):
            true = distance / stride
            near = int(true)
            loss = -((near + 1 - true) * math.log(share[near]) + (true - near) * math.log(share[near + 1]))
            distributions += weight * loss / 4
        weights += weight
    classification = 0.0
    for image in range(2):
        for n in range(positions):
            for label in range(CLASSES):
                true, score = quality.get((image, n, label), 0.0), literal.sigmoid(float(logits[image, n, label]))
                entropy = -(true * math.log(score) + (1 - true) * math.log(1 - score))
                classification += abs(true - score) ** 2 * entropy
    total = max(1, weights)
    expected = [classification / max(1, len(positives)), 2 * boxes / total, distributions / 4 / total]
    losses = GFL(SmallBody(3), CLASSES, width=32).losses([logits, edges], _levels(), targets)
    assert list(losses) == ["classification", "boxes", "edges"]
    assert [float(loss) for loss in losses.values()] == pytest.approx(expected, rel=1e-4)


def test_detections_of_atss_are_the_best_of_each_class_after_suppression():
    levels = [torch.tensor([[0.0, 0, 64, 64], [2, 0, 66, 64], [100, 100, 164, 164]])]
    logits = torch.tensor([[[2.0, -9], [3, 1], [-9, 0]]])  # two overlapping boxes, and a third one
    central = torch.tensor([[[0.0], [0], [2]]])
    model = ATSS(SmallBody(3), 2, width=32)
    found = model.detections([logits, torch.zeros(1, 3, 4), central], levels, (150, 200))[0]
    expected = [  # box, label, score of the class, of centerness
        ([2, 0, 66, 64], 0, 3, 0),
        ([100, 100, 164, 150], 1, 0, 2),
        ([2, 0, 66, 64], 1, 1, 0),
    ]
    assert found["boxes"].tolist() == [box for box, *_ in expected]
    assert found["labels"].tolist() == [label for _, label, *_ in expected]
    scores = [literal.sigmoid(score) * literal.sigmoid(center) for *_, score, center in expected]
    assert found["scores"].tolist() == pytest.approx(scores)
