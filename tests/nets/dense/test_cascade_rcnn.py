"""Cascade Mask R-CNN against a literal reading of its paper."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torchvision.models.detection.roi_heads import paste_masks_in_image
from torchvision.ops import roi_align

from hiri_search.nets.dense.detectors.cascade_rcnn import CascadeRCNN
from tests.nets.dense import literal
from tests.nets.dense.small import CLASSES, SmallBody, drawn_images

SIDE = 64
STAGES = ((0.5, (10, 10, 5, 5), 1.0), (0.6, (20, 20, 10, 10), 0.5), (0.7, (30, 30, 15, 15), 0.25))
Boxes = list[list[float]]


@pytest.fixture
def model() -> CascadeRCNN:
    """Return a model that samples all regions, and whose deltas move the boxes visibly."""
    model = CascadeRCNN(SmallBody(4), CLASSES, width=32, norms=True, regions=10_000)
    for stage in model.stages:
        nn.init.normal_(stage.box_predictor.bbox_pred.weight, std=0.06)
        nn.init.normal_(stage.box_predictor.cls_score.weight, std=0.5)
    return model


def _regions(targets: list[dict[str, Tensor]]) -> list[Tensor]:
    """Return for each image copies of its objects that are moved a little, and boxes anywhere."""
    regions = []
    for target in targets:
        moved = target["boxes"].repeat(6, 1) + torch.randn(6 * len(target["boxes"]), 4) * 2.5
        corner = torch.rand(5, 2) * SIDE * 0.5
        regions.append(torch.cat([moved, torch.cat([corner, corner + torch.rand(5, 2) * SIDE * 0.4 + 3], 1)]))
    return regions


def _heads(stage: nn.Module, maps: dict[str, Tensor], regions: list[Boxes]) -> tuple[Boxes, Tensor]:
    """Return probabilities and deltas (N, 1 + CLASSES, 4) of the regions of all images."""
    pooled = stage.box_roi_pool(maps, [torch.tensor(each).view(-1, 4) for each in regions])
    logits, deltas = stage.box_predictor(stage.box_head(pooled))
    return [literal.softmax(row) for row in logits.tolist()], deltas.view(len(logits), -1, 4)


def _refined(delta: Tensor, region: list[float], divisors: tuple[int, ...]) -> list[float]:
    return [min(max(edge, 0), SIDE) for edge in literal.decoded(delta.tolist(), region, divisors)]


def _smooth_l1(x: float) -> float:
    return 0.5 * x**2 if abs(x) < 1 else abs(x) - 0.5


def _mask_loss(
    stage: nn.Module, maps: dict[str, Tensor], positive: list[tuple[int, list[float], Tensor, int]]
) -> float:
    """Return the mean loss of the masks of positive regions: of (image, region, mask of the object, class)."""
    regions = [torch.tensor([box for n, box, *_ in positive if n == image]).view(-1, 4) for image in range(3)]
    logits = stage.mask_predictor(stage.mask_head(stage.mask_roi_pool(maps, regions)))
    losses = [
        binary_cross_entropy_with_logits(
            row[label], roi_align(mask[None, None].float(), [torch.tensor([box])], 28)[0, 0]
        )
        for row, (_, box, mask, label) in zip(logits, positive, strict=True)
    ]
    return torch.stack(losses).mean().item()


def test_losses_of_the_stages(model: CascadeRCNN):
    images, targets = drawn_images(3, side=SIDE)
    targets[1] = {name: value[:0] for name, value in targets[1].items()}
    maps = model.pyramid(images)
    proposals = _regions(targets)
    losses = model.losses(maps, proposals, (SIDE, SIDE), targets)
    expected, counts = {}, []
    regions = [each.tolist() for each in proposals]
    objects = [[*zip(t["boxes"].tolist(), t["labels"].tolist(), t["masks"], strict=True)] for t in targets]
    for number, (stage, (least, divisors, weight)) in enumerate(zip(model.stages, STAGES, strict=True), 1):
        regions = [mine + [box for box, *_ in there] for mine, there in zip(regions, objects, strict=True)]
        shares, deltas = _heads(stage, maps, regions)
        classification, boxes, positive, following = 0.0, 0.0, [], [[], [], []]
        rows = [(image, region) for image, mine in enumerate(regions) for region in mine]
        for (image, region), share, delta in zip(rows, shares, deltas, strict=True):
            best = max(objects[image], key=lambda one, region=region: literal.iou(region, one[0]), default=None)
            label = 0
            if best is not None and literal.iou(region, best[0]) >= least:
                label = 1 + best[1]
                wanted = literal.encoded(best[0], region, divisors)
                boxes += sum(_smooth_l1(a - b) for a, b in zip(delta[label].tolist(), wanted, strict=True))
                positive.append((image, region, best[2], best[1]))
            classification -= math.log(share[label])
            if region not in [box for box, *_ in objects[image]]:
                chosen = label or max(range(1, 1 + CLASSES), key=share.__getitem__)
                following[image].append(_refined(delta[chosen], region, divisors))
        expected[f"stage{number}_classification"] = weight * classification / len(rows)
        expected[f"stage{number}_boxes"] = weight * boxes / len(rows)
        expected[f"stage{number}_masks"] = weight * _mask_loss(stage, maps, positive)
        counts.append(len(positive))
        regions = following
    assert counts[0] > counts[1] > counts[2] > 4, counts  # of four objects: the stages differ
    assert {name: loss.item() for name, loss in losses.items()} == pytest.approx(expected, rel=1e-3)


@torch.no_grad()
def test_detections_are_means_of_three_scores_and_boxes_refined_three_times(model: CascadeRCNN):
    images, targets = drawn_images(3, side=SIDE)
    model.eval()
    maps = model.pyramid(images)
    regions = [each.tolist() for each in _regions(targets)]
    found = model.detections(maps, [torch.tensor(each) for each in regions], (SIDE, SIDE))
    scores = []
    for stage, (_, divisors, _) in zip(model.stages, STAGES, strict=True):
        shares, deltas = _heads(stage, maps, regions)
        scores.append(shares)
        rows = iter(zip(shares, deltas, strict=True))
        last = [[(region, next(rows)[1]) for region in mine] for mine in regions]
        best = iter([max(range(1, 1 + CLASSES), key=share.__getitem__) for share in shares])
        regions = [[_refined(delta[next(best)], region, divisors) for region, delta in mine] for mine in last]
    means = iter([[sum(each) / 3 for each in zip(*three, strict=True)] for three in zip(*scores, strict=True)])
    for image, (one, mine) in enumerate(zip(found, last, strict=True)):
        candidates = []
        for region, delta in mine:
            mean = next(means)
            candidates += [
                (mean[label], label - 1, _refined(delta[label], region, STAGES[2][1]))
                for label in range(1, 1 + CLASSES)
            ]
        kept: list[tuple[float, int, list[float]]] = []
        for score, label, box in sorted(candidates, reverse=True):
            wide = box[2] - box[0] >= 0.01 and box[3] - box[1] >= 0.01
            if score > 0.05 and wide and all(label != n or literal.iou(box, b) <= 0.5 for _, n, b in kept):
                kept.append((score, label, box))
        assert one["labels"].tolist() == [label for _, label, _ in kept]
        torch.testing.assert_close(one["scores"], torch.tensor([score for score, *_ in kept]), rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(one["boxes"], torch.tensor([box for *_, box in kept]), rtol=1e-3, atol=1e-2)
        places = [one["boxes"] if n == image else torch.zeros(0, 4) for n in range(3)]
        logits = [stage.mask_predictor(stage.mask_head(stage.mask_roi_pool(maps, places))) for stage in model.stages]
        masks = sum(each[range(len(kept)), one["labels"]].sigmoid() for each in logits) / 3
        pasted = paste_masks_in_image(masks[:, None], one["boxes"], (SIDE, SIDE))
        torch.testing.assert_close(one["masks"], pasted)
