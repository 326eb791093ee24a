"""Sparse R-CNN against a literal reading of its paper."""

import math
from itertools import permutations

import pytest
import torch
from torch import Tensor, nn

from hiri_search.nets.dense.detectors.assignment import match_by_cost
from hiri_search.nets.dense.detectors.sparse_rcnn import (
    DynamicConvolution,
    DynamicHead,
    SparseRCNN,
    best_of_set,
    set_losses,
)
from tests.nets.dense import literal
from tests.nets.dense.small import CLASSES, SmallBody, drawn_images

SIZE = (48, 64)  # height and width
SIDES = (64, 48, 64, 48)


def _boxes(*shape: int) -> Tensor:
    middle, half = torch.rand(*shape, 2) * torch.tensor([64, 48]), torch.rand(*shape, 2) * 14 + 2
    return torch.cat([middle - half, middle + half], -1)


def _targets(*counts: int) -> list[dict[str, Tensor]]:
    return [{"boxes": _boxes(n), "labels": torch.randint(CLASSES, (n,))} for n in counts]


def _l1(box: list[float], other: list[float]) -> float:
    return sum(abs(a - b) / side for a, b, side in zip(box, other, SIDES, strict=True))


def _literal_losses(logits: Tensor, boxes: Tensor, targets: list[dict[str, Tensor]]) -> list[float]:
    """Return the losses by trying every one-to-one match of each image."""
    totals = [0.0, 0.0, 0.0]
    for image, target in enumerate(targets):
        found, true, labels = boxes[image].tolist(), target["boxes"].tolist(), target["labels"].tolist()
        scores = logits[image].tolist()

        def cost(p: int, g: int, found=found, true=true, labels=labels, scores=scores) -> float:
            score = scores[p][labels[g]]
            focal = literal.focal_loss(score, True) - literal.focal_loss(score, False)
            return 2 * focal + 5 * _l1(found[p], true[g]) - 2 * literal.giou(found[p], true[g])

        matches = permutations(range(len(found)), len(true))
        best = min(matches, key=lambda chosen, cost=cost: sum(cost(p, g) for g, p in enumerate(chosen)))
        wanted = {(p, labels[g]) for g, p in enumerate(best)}
        for p, row in enumerate(scores):
            totals[0] += 2 * sum(literal.focal_loss(x, (p, label) in wanted) for label, x in enumerate(row))
        totals[1] += 5 * sum(_l1(found[p], true[g]) for g, p in enumerate(best))
        totals[2] += 2 * sum(1 - literal.giou(found[p], true[g]) for g, p in enumerate(best))
    return [total / max(1, sum(len(target["boxes"]) for target in targets)) for total in totals]


@pytest.mark.parametrize("counts", [(3, 1), (4, 4), (0, 2), (0, 0)], ids=str)
def test_losses_are_those_of_the_best_of_all_matches(counts: tuple[int, int]):
    logits, boxes, targets = torch.randn(2, 5, CLASSES), _boxes(2, 5), _targets(*counts)
    losses = set_losses(logits, boxes, targets, SIZE)
    assert list(losses) == ["classification", "l1", "giou"]
    assert [loss.item() for loss in losses.values()] == pytest.approx(_literal_losses(logits, boxes, targets), rel=1e-4)


def test_with_fewer_proposals_than_objects_each_proposal_has_one():
    losses = set_losses(torch.randn(1, 2, CLASSES), _boxes(1, 2), _targets(5), SIZE)
    assert all(loss.isfinite() for loss in losses.values())
    proposals, objects = match_by_cost(torch.rand(2, 5))
    assert proposals.tolist() == [0, 1]
    assert len(set(objects.tolist())) == 2


def test_costs_that_are_not_numbers_are_avoided():
    proposals, objects = match_by_cost(torch.tensor([[math.nan, 3.0], [1.0, math.inf]]))
    assert [*zip(proposals.tolist(), objects.tolist(), strict=True)] == [(0, 1), (1, 0)]


def _norm(values: list[float], norm: nn.LayerNorm) -> list[float]:
    mean = sum(values) / len(values)
    deviation = math.sqrt(sum((x - mean) ** 2 for x in values) / len(values) + norm.eps)
    return [
        (x - mean) / deviation * w + b for x, w, b in zip(values, norm.weight.tolist(), norm.bias.tolist(), strict=True)
    ]


@torch.no_grad()
def test_the_dynamic_convolution_is_that_of_the_paper():
    module, width, hidden = DynamicConvolution(8), 8, 2
    for norm in module.norms:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    pooled, features = torch.randn(3, width, 7, 7), torch.randn(3, width)
    result = module(pooled, features)
    for n in range(3):
        made = (module.weights.weight @ features[n] + module.weights.bias).tolist()
        rows = []
        for y in range(7):
            for x in range(7):
                at = pooled[n, :, y, x].tolist()
                inner = [sum(at[c] * made[c * hidden + h] for c in range(width)) for h in range(hidden)]
                inner = [max(0, v) for v in _norm(inner, module.norms[0])]
                start = width * hidden
                outer = [sum(inner[h] * made[start + h * width + c] for h in range(hidden)) for c in range(width)]
                rows += [max(0, v) for v in _norm(outer, module.norms[1])]
        out = [
            max(0, v)
            for v in _norm((module.out.weight @ torch.tensor(rows) + module.out.bias).tolist(), module.norms[2])
        ]
        assert result[n].tolist() == pytest.approx(out, rel=1e-3, abs=1e-4)


@torch.no_grad()
def test_a_head_is_attention_convolution_and_feed_forward_each_with_a_shortcut():
    head = DynamicHead(16, CLASSES)
    pooled, features = torch.randn(2 * 5, 16, 7, 7), torch.randn(2, 5, 16)
    logits, deltas, after = head(pooled, features)
    for image in range(2):
        x = features[image]
        q, k, v = (x @ head.attention.in_proj_weight.T + head.attention.in_proj_bias).split(16, dim=1)
        parts = []
        for part in range(8):  # heads of two channels
            mine = slice(2 * part, 2 * part + 2)
            parts.append((q[:, mine] @ k[:, mine].T / math.sqrt(2)).softmax(1) @ v[:, mine])
        x = head.norms[0](x + head.attention.out_proj(torch.cat(parts, 1)))
        x = head.norms[1](x + head.convolution(pooled[5 * image : 5 * image + 5], x))
        first, _, second = head.feedforward
        x = head.norms[2](x + second(first(x).relu()))
        torch.testing.assert_close(after[image], x, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(logits[image], head.classification(x), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(deltas[image], head.regression(x), rtol=1e-4, atol=1e-5)


def test_each_head_refines_the_boxes_of_the_one_before_and_learns_from_its_own_losses_only():
    model = SparseRCNN(SmallBody(4), CLASSES, width=16, regions=4, heads=3)
    for head in model.heads:
        nn.init.normal_(head.regression[-1].weight, std=0.5)
    images, targets = drawn_images(2, side=64)
    maps, expected = model.pyramid(images), {}
    boxes = [[[0.0, 0, 64, 64]] * 4] * 2  # all proposals begin as the whole image
    features = model.features.weight.expand(2, -1, -1)
    for number, head in enumerate(model.heads, 1):
        logits, deltas, features = head(model.pool(maps, [torch.tensor(each) for each in boxes]), features)
        boxes = [
            [literal.decoded(delta, box, (2, 2, 1, 1)) for delta, box in zip(mine, before, strict=True)]
            for mine, before in zip(deltas.tolist(), boxes, strict=True)
        ]
        losses = set_losses(logits, torch.tensor(boxes), targets, (64, 64))
        expected |= {f"head{number}_{name}": loss.item() for name, loss in losses.items()}
    losses = model(images, targets)
    assert {name: loss.item() for name, loss in losses.items()} == pytest.approx(expected, rel=1e-3)
    losses["head3_l1"].backward()
    assert model.boxes.weight.grad is None  # the boxes are detached between heads
    assert model.heads[0].regression[-1].weight.grad is None
    assert model.heads[0].feedforward[0].weight.grad.any()  # the features are not


def test_detections_are_the_best_pairs_of_box_and_class():
    logits, boxes = torch.tensor([[-1.0, 3], [2, 0]]), torch.tensor([[-5.0, 0, 30, 60], [10, 10, 20, 20]])
    found = best_of_set(logits, boxes, SIZE)
    assert found["boxes"].tolist() == [[0, 0, 30, 48], [10, 10, 20, 20], [10, 10, 20, 20], [0, 0, 30, 48]]
    assert found["labels"].tolist() == [1, 0, 1, 0]
    assert found["scores"].tolist() == pytest.approx([literal.sigmoid(x) for x in (3, 2, 0, -1)])
