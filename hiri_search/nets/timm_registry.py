"""timm model names: hirivit_small, _base, _large, and hirivit for any spec."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model

from hiri_search.language import Net, SpecError, parse_net

if TYPE_CHECKING:
    from hiri_search.nets.hirivit import HiriVit


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
EXAMPLE = "hr(32 e=4)*2 -> cffn(128 e=6)*2 -> t(320 e=5)*9"


def paper_net(name: str) -> Net:
    """The network of one of SPECS."""
    return parse_net(SPECS[name])


SIDE = 448  # of the paper's Table 2
FIRST_CONV = {"hrstem": "stem.entry.0", "convstem": "stem.0.0", "vitstem": "stem.0"}

# No weights have been published, so there is no address here, and timm says so to `pretrained=True`.
default_cfgs = generate_default_cfgs(
    {
        name: {
            "num_classes": 1000,
            "input_size": (3, SIDE, SIDE),
            "pool_size": (7, 7),
            "crop_pct": 1.0,  # the paper says nothing of it; 1.0 is what timm has for networks of such sides
            "interpolation": "bicubic",
            "mean": IMAGENET_DEFAULT_MEAN,
            "std": IMAGENET_DEFAULT_STD,
            "first_conv": FIRST_CONV["hrstem"],
            "classifier": "head.fc",
            "origin_url": "https://arxiv.org/abs/2403.11999",
        }
        for name in (*SPECS, "hirivit")
    }
)


def _fitting(net: Net) -> dict[str, Any]:
    """What of a configuration in timm follows from the network: the least side from the paper's up that fits it."""
    side = -(-SIDE // net.side_unit) * net.side_unit
    grid = net.grids(side)[-1]
    return {
        "input_size": (3, side, side),
        "pool_size": (grid, grid),
        "first_conv": FIRST_CONV[net.stem.kind],
    }


# timm's contract for an entry point is `(pretrained, **kwargs)`, so the keywords have to be passed through here.
def _create(
    name: str, net: Net, pretrained: bool, pretrained_cfg_overlay: dict[str, Any] | None = None, **kwargs: Any
) -> HiriVit:
    # This module must load while `hiri_search.nets.blocks` is still loading: see hiri_search/__init__.py.
    from hiri_search.nets.hirivit import HiriVit

    fitting = _fitting(net) if kwargs.get("pretrained_cfg") is None else {}  # a saved one knows better
    return build_model_with_cfg(  # type: ignore[no-any-return]
        HiriVit,
        name,
        pretrained,
        pretrained_cfg_overlay=fitting | (pretrained_cfg_overlay or {}),
        feature_cfg={"out_indices": tuple(range(len(net.stages))), "flatten_sequential": True},
        net=net,
        **kwargs,
    )


@register_model  # type: ignore[untyped-decorator]
def hirivit_small(pretrained: bool = False, **kwargs: Any) -> HiriVit:
    """HIRI-ViT-S (Table 1)."""
    return _create("hirivit_small", paper_net("hirivit_small"), pretrained, **kwargs)


@register_model  # type: ignore[untyped-decorator]
def hirivit_base(pretrained: bool = False, **kwargs: Any) -> HiriVit:
    """HIRI-ViT-B (Table 1)."""
    return _create("hirivit_base", paper_net("hirivit_base"), pretrained, **kwargs)


@register_model  # type: ignore[untyped-decorator]
def hirivit_large(pretrained: bool = False, **kwargs: Any) -> HiriVit:
    """HIRI-ViT-L (Table 1)."""
    return _create("hirivit_large", paper_net("hirivit_large"), pretrained, **kwargs)


@register_model  # type: ignore[untyped-decorator]
def hirivit(pretrained: bool = False, *, spec: str = "", **kwargs: Any) -> HiriVit:
    """The network of any `spec`, written as `hr(32 e=4)*2 -> t(320 e=5)*9`; SpecError."""
    if not spec:
        raise SpecError(f'hirivit needs a network; write timm.create_model("hirivit", spec="{EXAMPLE}")')
    return _create("hirivit", parse_net(spec), pretrained, **kwargs)
