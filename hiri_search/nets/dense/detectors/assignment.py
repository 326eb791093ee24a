"""Assignment: the anchors or proposals of an image that are to find each of its objects."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torchvision.ops import box_iou

_CANDIDATES = 9  # of each level: the only hyperparameter of ATSS
_WORST = 1e8  # cost of a pair that cannot be computed


def centers(boxes: Tensor) -> Tensor:
    """Return the centres of boxes: (N, 4) -> (N, 2)."""
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def assign_by_statistics(anchors: Sequence[Tensor], boxes: Tensor) -> Tensor:
    """Return the object of each anchor, or -1 (ATSS, algorithm 1).

    anchors: (P, 4) of each level; boxes of the objects (N, 4) -> (sum of P,). The candidates of an object are the nine
    anchors of each level whose centres are nearest to its own. Those are positive whose IoU is at least mean +
    standard deviation of all candidates', and whose centre is inside the object; an anchor of two objects belongs to
    that of the higher IoU.
    """
    every = torch.cat(list(anchors))
    if not len(boxes):
        return torch.full((len(every),), -1, dtype=torch.int64, device=every.device)
    points = centers(every)
    distances = (points[:, None] - centers(boxes)[None]).pow(2).sum(2)  # (P, N)
    nearest, start = [], 0
    for part in torch.split(distances, [len(each) for each in anchors]):
        nearest.append(start + part.topk(min(_CANDIDATES, len(part)), dim=0, largest=False).indices)
        start += len(part)
    candidates = torch.cat(nearest)  # (at most 9 x levels, N)
    ious = box_iou(every, boxes)
    of_candidates = ious.gather(0, candidates)
    threshold = of_candidates.mean(0) + of_candidates.std(0)
    inside = ((points[candidates] > boxes[:, :2]) & (points[candidates] < boxes[:, 2:])).all(2)
    positive = torch.zeros_like(ious, dtype=torch.bool).scatter_(0, candidates, inside & (of_candidates >= threshold))
    best, objects = ious.where(positive, -1).max(1)
    return torch.where(best >= 0, objects, -1)


def match_by_cost(costs: Tensor) -> tuple[Tensor, Tensor]:
    """Return the one-to-one match of least cost: (P, N) -> proposals and objects, min(P, N) of each.

    Costs that are not numbers count as very high, so that a diverged training ends with its loss and not in here.
    """
    table = costs.detach().float().nan_to_num(_WORST, _WORST, -_WORST).cpu().numpy()
    proposals, objects = linear_sum_assignment(table)
    return torch.as_tensor(proposals, device=costs.device), torch.as_tensor(objects, device=costs.device)
