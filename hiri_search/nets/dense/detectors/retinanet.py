"""RetinaNet of torchvision on any body (Table 4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torchvision.models.detection import retinanet

from hiri_search.nets.dense.detectors.batches import BatchTransform
from hiri_search.nets.dense.detectors.boxes import StridedAnchors, Targets, in_float32, without_ignored
from hiri_search.nets.dense.parts import Called, DensePart, Shape, level_shapes, pyramid_part
from hiri_search.nets.dense.pyramid import FeaturePyramid, group_norm

_SCALES, _RATIOS = (4.0, 4 * 2 ** (1 / 3), 4 * 2 ** (2 / 3)), (0.5, 1.0, 2.0)


class RetinaNet(retinanet.RetinaNet):  # type: ignore[misc]
    """A pyramid of the last three maps, two more levels on the last map, and two towers with nine anchors a position.

    `forward(images, targets)` as in torchvision; labels are 0 to `classes` - 1.
    """

    def __init__(
        self, body: nn.Module, classes: int, *, width: int = 256, side: int | None = None, norms: bool = False
    ) -> None:
        pyramid = FeaturePyramid(body, width, more="on_input", side=side, norms=norms)
        anchors = StridedAnchors(pyramid.strides, _RATIOS, _SCALES)
        head = retinanet.RetinaNetHead(
            width, len(_SCALES) * len(_RATIOS), classes, norm_layer=group_norm if norms else None
        )
        super().__init__(pyramid, classes, anchor_generator=anchors, head=in_float32(head))
        self.transform = BatchTransform()

    def forward(self, images: Tensor, targets: Targets | None = None) -> Any:
        return super().forward(images, targets and without_ignored(targets))

    def parts(self, shapes: Sequence[Shape]) -> list[DensePart]:
        """Return the parts behind a body whose maps have these shapes."""
        head = Called(lambda *levels: self.head(list(levels)), self.head)
        return [pyramid_part(self.backbone, shapes), DensePart("head", head, level_shapes(self.backbone, shapes))]
