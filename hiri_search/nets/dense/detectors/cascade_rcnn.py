"""Cascade Mask R-CNN: three stages of box and mask heads, each trained at a higher IoU (Cai and Vasconcelos 2019)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, smooth_l1_loss
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import (
    RoIHeads,
    maskrcnn_inference,
    maskrcnn_loss,
    paste_masks_in_image,
)
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import clip_boxes_to_image

from hiri_search.nets.dense.detectors.boxes import (
    Detections,
    RoIPool,
    StridedAnchors,
    Targets,
    in_float32,
    sampled,
    without_ignored,
)
from hiri_search.nets.dense.parts import (
    BOX_GRID,
    MASK_GRID,
    DensePart,
    Shape,
    level_shapes,
    proposal_part,
    pyramid_part,
    region_parts,
)
from hiri_search.nets.dense.pyramid import FeaturePyramid, group_norm

# Of each stage: the IoU that makes a region positive, the divisors of its deltas (1 / standard deviation) and the
# weight of its losses.
_STAGES = (
    (0.5, (10.0, 10.0, 5.0, 5.0), 1.0),
    (0.6, (20.0, 20.0, 10.0, 10.0), 0.5),
    (0.7, (30.0, 30.0, 15.0, 15.0), 0.25),
)


class CascadeRCNN(nn.Module):
    """Cascade Mask R-CNN on a body with four maps: proposals, and three stages that refine each other's boxes.

    `side` and `norms` are those of the pyramid; `norms` puts GroupNorm in the mask heads too. An image has `regions`
    proposals, in training twice as many, of which each stage samples 512 of 1,000, at most a quarter of them positive.
    In training `forward` returns the losses of the proposals and of each stage's classes, boxes and masks; else the
    detections of each image with masks. Targets have `masks`.
    """

    def __init__(
        self,
        body: nn.Module,
        classes: int,
        *,
        width: int = 256,
        side: int | None = None,
        norms: bool = False,
        regions: int = 1000,
    ) -> None:
        super().__init__()
        self.regions = regions
        self.pyramid = FeaturePyramid(body, width, more="pool", side=side, norms=norms)
        anchors = StridedAnchors(self.pyramid.strides, ratios=(0.5, 1.0, 2.0))
        before = {"training": 2000, "testing": 1000}  # of each level, before the suppression
        after = {"training": 2 * regions, "testing": regions}
        self.rpn = RegionProposalNetwork(anchors, in_float32(RPNHead(width, 3)), 0.7, 0.3, 256, 0.5, before, after, 0.7)
        strides: tuple[int, ...] = body.strides  # type: ignore[assignment]
        pools = RoIPool(strides, BOX_GRID), RoIPool(strides, MASK_GRID)
        self.stages = nn.ModuleList(
            RoIHeads(
                pools[0],
                FastRCNNConvFCHead((width, BOX_GRID, BOX_GRID), [width] * 4, [4 * width], norm_layer=nn.BatchNorm2d),
                in_float32(FastRCNNPredictor(4 * width, classes + 1)),
                *(iou, iou, sampled(regions), 0.25, divisors),
                *(0.05, 0.5, 100),  # least score, IoU of the suppression and most detections
                pools[1],
                MaskRCNNHeads(width, (width,) * 4, 1, norm_layer=group_norm if norms else None),
                in_float32(MaskRCNNPredictor(width, width, classes)),
            )
            for iou, divisors, _ in _STAGES
        )

    def forward(self, images: Tensor, targets: Targets | None = None) -> dict[str, Tensor] | Detections:
        size = (images.shape[-2], images.shape[-1])
        maps = {name: each.float() for name, each in self.pyramid(images).items()}
        if not self.training:
            regions, _ = self.rpn(ImageList(images, [size] * len(images)), maps)
            return self.detections(maps, regions, size)
        assert targets is not None
        targets = without_ignored(targets)
        regions, losses = self.rpn(ImageList(images, [size] * len(images)), maps, targets)
        return {**losses, **self.losses(maps, regions, size, targets)}

    def parts(self, shapes: Sequence[Shape]) -> list[DensePart]:
        """Return the parts behind a body whose maps have these shapes; heads run on one region of interest."""
        return [
            pyramid_part(self.pyramid, shapes),
            proposal_part(self.rpn.head, level_shapes(self.pyramid, shapes)),
            *(
                part
                for number, stage in enumerate(self.stages, start=1)
                for part in region_parts(stage, self.pyramid.out_channels, self.regions, str(number))
            ),
        ]

    def losses(
        self, maps: dict[str, Tensor], regions: list[Tensor], size: tuple[int, int], targets: Targets
    ) -> dict[str, Tensor]:
        """Return the losses of the three stages for maps of the pyramid and proposals (N, 4) of each image."""
        losses = {}
        shifted = [{**target, "labels": target["labels"] + 1} for target in targets]  # 0 is background here
        for number, (stage, (*_, weight)) in enumerate(zip(self.stages, _STAGES, strict=True), start=1):
            regions, objects, labels, wanted = stage.select_training_samples(regions, shifted)  # type: ignore[operator]
            logits, deltas = _boxes(stage, maps, regions)
            classification, boxes = box_losses(logits, deltas, torch.cat(labels), torch.cat(wanted))
            losses[f"stage{number}_classification"] = weight * classification
            losses[f"stage{number}_boxes"] = weight * boxes
            positive = [each > 0 for each in labels]
            masks = _mask_loss(stage, maps, _chosen(regions, positive), _chosen(objects, positive), targets)
            losses[f"stage{number}_masks"] = weight * masks
            refined = refined_boxes(stage, logits, deltas, regions, size, torch.cat(labels))
            # The objects themselves are among the regions, and the next stage adds them again.
            found = [~_among(each, target["boxes"]) for each, target in zip(regions, targets, strict=True)]
            regions = _chosen(refined, found)
        return losses

    def detections(self, maps: dict[str, Tensor], regions: list[Tensor], size: tuple[int, int]) -> Detections:
        """Return the detections: boxes of the last stage, scores and masks as the means of all three stages'."""
        scores, last = [], self.stages[-1]
        for stage in self.stages:
            logits, deltas = _boxes(stage, maps, regions)
            scores.append(logits.softmax(1))
            if stage is not last:
                regions = refined_boxes(stage, logits, deltas, regions, size)
        mean = torch.stack(scores).mean(0).log()  # torchvision takes its softmax, which gives the mean itself
        sizes = [size] * len(regions)
        boxes, found, labels = last.postprocess_detections(mean, deltas, regions, sizes)  # type: ignore[operator]
        labels = [each - 1 for each in labels]
        by_stage = [maskrcnn_inference(_masks(stage, maps, boxes), labels) for stage in self.stages]
        masks = [torch.stack(each).mean(0) for each in zip(*by_stage, strict=True)]
        return [
            {"boxes": b, "scores": s, "labels": n, "masks": paste_masks_in_image(m, b, size)}
            for b, s, n, m in zip(boxes, found, labels, masks, strict=True)
        ]


def box_losses(logits: Tensor, deltas: Tensor, labels: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Return the losses of classes and boxes of the regions of a stage.

    logits (N, 1 + classes), deltas (N, 4 x (1 + classes)), labels (N,) with 0 for background, wanted deltas (N, 4).
    Both are means over all regions; smooth L1 as in Fast R-CNN, on the deltas of the true class of positive regions.
    """
    positive = labels > 0
    mine = _by_class(deltas)[positive, labels[positive]]
    boxes = smooth_l1_loss(mine, wanted[positive], reduction="sum") / max(1, len(labels))
    return cross_entropy(logits, labels, reduction="sum") / max(1, len(labels)), boxes


def refined_boxes(
    stage: RoIHeads,
    logits: Tensor,
    deltas: Tensor,
    regions: Sequence[Tensor],
    size: tuple[int, int],
    labels: Tensor | None = None,
) -> list[Tensor]:
    """Return the regions of the next stage, without gradients: each refined for its class, and cut to the image.

    Its class is its label where it is positive, else the likeliest one that is not background.
    """
    chosen = logits[:, 1:].argmax(1) + 1
    if labels is not None:
        chosen = torch.where(labels > 0, labels, chosen)
    mine = _by_class(deltas.detach())[torch.arange(len(chosen), device=deltas.device), chosen]
    boxes = clip_boxes_to_image(stage.box_coder.decode_single(mine, torch.cat(list(regions))), size)
    return list(torch.split(boxes, [len(each) for each in regions]))


def _boxes(stage: RoIHeads, maps: dict[str, Tensor], regions: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Return class logits and deltas of all regions."""
    predicted: tuple[Tensor, Tensor] = stage.box_predictor(stage.box_head(stage.box_roi_pool(maps, regions)))
    return predicted


def _masks(stage: RoIHeads, maps: dict[str, Tensor], regions: list[Tensor]) -> Tensor:
    """Return mask logits of all regions: (N, classes, 28, 28)."""
    logits: Tensor = stage.mask_predictor(stage.mask_head(stage.mask_roi_pool(maps, regions)))
    return logits


def _mask_loss(
    stage: RoIHeads, maps: dict[str, Tensor], regions: list[Tensor], objects: list[Tensor], targets: Targets
) -> Tensor:
    """Return the loss of the masks of positive regions, each for the class of its object."""
    masks, labels = [target["masks"] for target in targets], [target["labels"] for target in targets]
    loss: Tensor = maskrcnn_loss(_masks(stage, maps, regions), regions, masks, labels, objects)
    return loss


def _by_class(deltas: Tensor) -> Tensor:
    """Return deltas as (N, 1 + classes, 4); there may be no region at all."""
    return deltas.view(len(deltas), deltas.shape[1] // 4, 4)


def _chosen(images: Sequence[Tensor], masks: Sequence[Tensor]) -> list[Tensor]:
    return [each[mask] for each, mask in zip(images, masks, strict=True)]


def _among(boxes: Tensor, others: Tensor) -> Tensor:
    """Return which boxes are exactly one of the others: (N, 4), (M, 4) -> (N,)."""
    return (boxes[:, None] == others[None]).all(2).any(1)
