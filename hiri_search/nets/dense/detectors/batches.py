"""Batches for torchvision's detectors: images of one size, which are normalised."""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import paste_masks_in_image

from hiri_search.nets.dense.detectors.boxes import Detections, Targets


class BatchTransform(nn.Module):
    """Stands in for torchvision's transform, which normalises and resizes images of several sizes."""

    def forward(self, images: Tensor, targets: Targets | None = None) -> tuple[ImageList, Targets | None]:
        height, width = images.shape[-2:]
        return ImageList(images, [(height, width)] * len(images)), targets

    def postprocess(
        self, results: Detections, sizes: list[tuple[int, int]], originals: list[tuple[int, int]]
    ) -> Detections:
        """Return the results with masks of the size of the images."""
        for result, size in zip(results, sizes, strict=False):  # in training there are none
            if "masks" in result:
                result["masks"] = paste_masks_in_image(result["masks"], result["boxes"], size)
        return results
