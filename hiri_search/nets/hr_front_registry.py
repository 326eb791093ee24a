"""timm model names of Table 9's backbones with the high-resolution front."""

from __future__ import annotations

from typing import Any

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import nn

# What timm's own builders of these names pass to their classes.
PVT_V2_B2 = {"depths": (3, 4, 6, 3), "embed_dims": (64, 128, 320, 512), "num_heads": (1, 2, 5, 8)}
DAVIT_TINY = {"depths": (1, 1, 3, 1), "embed_dims": (96, 192, 384, 768), "num_heads": (3, 6, 12, 24)}

# The first and the last layer of each.
FIRST_AND_LAST = {
    "hrnet_w18_hiri": ("conv1.0.entry.0", "classifier"),
    "hrnet_w18_small_hiri": ("conv1.0.entry.0", "classifier"),
    "pvt_v2_b2_hiri": ("patch_embed.proj.early.0.entry.0", "head"),
    "davit_tiny_hiri": ("stem.conv.early.0.entry.0", "head.fc"),
}

# No weights have been published, so there is no address here, and timm says so to `pretrained=True`.
default_cfgs = generate_default_cfgs(
    {
        name: {
            "num_classes": 1000,
            "input_size": (3, 448, 448),
            "pool_size": (7, 7),
            "crop_pct": 1.0,  # as for our own networks: see models.py
            "interpolation": "bicubic",
            "mean": IMAGENET_DEFAULT_MEAN,
            "std": IMAGENET_DEFAULT_STD,
            "first_conv": first,
            "classifier": last,
            "origin_url": "https://arxiv.org/abs/2403.11999",
        }
        for name, (first, last) in FIRST_AND_LAST.items()
    }
)


# timm's contract for an entry point is `(pretrained, **kwargs)`, so the keywords have to be passed through here. The
# classes are imported late, because this module must load while `hiri_search.nets.blocks` is still loading.
def _create_hrnet(name: str, pretrained: bool, **kwargs: Any) -> nn.Module:
    from timm.models.hrnet import cfg_cls

    from hiri_search.nets.hr_front import HrFrontHrnet

    # The modules do not run one behind another, so features have to be asked for.
    features = {"out_indices": (0, 1, 2, 3, 4), "feature_cls": "getter"}
    cfg = cfg_cls[name.removesuffix("_hiri")]
    return build_model_with_cfg(  # type: ignore[no-any-return]
        HrFrontHrnet, name, pretrained, model_cfg=cfg, feature_cfg=features, **kwargs
    )


@register_model  # type: ignore[untyped-decorator]
def hrnet_w18_hiri(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """HRNet-W18 with the front (Table 9)."""
    return _create_hrnet("hrnet_w18_hiri", pretrained, **kwargs)


@register_model  # type: ignore[untyped-decorator]
def hrnet_w18_small_hiri(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """The smallest HRNet with the front: not in the paper, for short trainings."""
    return _create_hrnet("hrnet_w18_small_hiri", pretrained, **kwargs)


@register_model  # type: ignore[untyped-decorator]
def pvt_v2_b2_hiri(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """PVTv2-B2 with the front (Table 9)."""
    from hiri_search.nets.hr_front import HrFrontPvt

    features = {"out_indices": (0, 1, 2, 3), "flatten_sequential": True}
    return build_model_with_cfg(  # type: ignore[no-any-return]
        HrFrontPvt, "pvt_v2_b2_hiri", pretrained, feature_cfg=features, **{**PVT_V2_B2, **kwargs}
    )


@register_model  # type: ignore[untyped-decorator]
def davit_tiny_hiri(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """DaViT-Tiny with the front (Table 9)."""
    from hiri_search.nets.hr_front import HrFrontDavit

    features = {"out_indices": (0, 1, 2, 3), "flatten_sequential": True}
    return build_model_with_cfg(  # type: ignore[no-any-return]
        HrFrontDavit, "davit_tiny_hiri", pretrained, feature_cfg=features, **{**DAVIT_TINY, **kwargs}
    )
