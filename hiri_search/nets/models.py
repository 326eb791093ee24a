"""The paper's networks S, B and L, and their names in timm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model

from hiri_search.language import Net, parse_net

if TYPE_CHECKING:
    from hiri_search.nets.hiri import HiriVit

# Table 1. Kinds, widths, expansions, depths and heads (of size 64) are printed there; the stems' hidden widths are
# inferred from the costs of Table 2. The last two downsamplings are IRDS-b, those before them IRDS-a (section 4.3).
SPECS = {
    "hirivit_small": (
        "hrstem(hs=32) -> hr(32 e=4)*2 -> hr(64 e=4)*2 -> cffn(128 e=6)*2 -> t(320 e=5)*9 -> t(512 e=5)*4"
    ),
    "hirivit_base": (
        "hrstem(hs=64) -> hr(64 e=4)*2 -> hr(96 e=4)*2 -> cffn(192 e=5)*3 -> t(320 e=4)*17 -> t(640 e=5)*4"
    ),
    "hirivit_large": (
        "hrstem(hs=64) -> hr(80 e=4)*4 -> hr(160 e=4)*4 -> cffn(224 e=5)*5 -> t(448 e=3)*25 -> t(640 e=5)*5"
    ),
}


def paper_net(name: str) -> Net:
    """The network of one of SPECS."""
    return parse_net(SPECS[name])


# No weights have been published, so there is no address here, and timm says so to `pretrained=True`.
default_cfgs = generate_default_cfgs(
    {
        name: {
            "num_classes": 1000,
            "input_size": (3, 448, 448),
            "pool_size": (7, 7),
            "crop_pct": 1.0,  # the paper says nothing of it; 1.0 is what timm has for networks of such sides
            "interpolation": "bicubic",
            "mean": IMAGENET_DEFAULT_MEAN,
            "std": IMAGENET_DEFAULT_STD,
            "first_conv": "stem.entry.0",
            "classifier": "head.fc",
            "origin_url": "https://arxiv.org/abs/2403.11999",
        }
        for name in SPECS
    }
)


# timm's contract for an entry point is `(pretrained, **kwargs)`, so the keywords have to be passed through here.
def _create(name: str, pretrained: bool, **kwargs: Any) -> HiriVit:
    # This module must load while `hiri_search.nets.blocks` is still loading: see hiri_search/__init__.py.
    from hiri_search.nets.hiri import HiriVit

    features = {"out_indices": (0, 1, 2, 3, 4), "flatten_sequential": True}
    return build_model_with_cfg(  # type: ignore[no-any-return]
        HiriVit, name, pretrained, feature_cfg=features, net=paper_net(name), **kwargs
    )


@register_model  # type: ignore[untyped-decorator]
def hirivit_small(pretrained: bool = False, **kwargs: Any) -> HiriVit:
    """HIRI-ViT-S (Table 1)."""
    return _create("hirivit_small", pretrained, **kwargs)


@register_model  # type: ignore[untyped-decorator]
def hirivit_base(pretrained: bool = False, **kwargs: Any) -> HiriVit:
    """HIRI-ViT-B (Table 1)."""
    return _create("hirivit_base", pretrained, **kwargs)


@register_model  # type: ignore[untyped-decorator]
def hirivit_large(pretrained: bool = False, **kwargs: Any) -> HiriVit:
    """HIRI-ViT-L (Table 1)."""
    return _create("hirivit_large", pretrained, **kwargs)
