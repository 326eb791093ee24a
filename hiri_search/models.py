"""timm models: the paper's networks, `hirivit` for any spec, and Table 9's backbones with the high-resolution front.

Importing this module registers their names, so that `timm.create_model("hirivit_small")` works.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import Any

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.hrnet import cfg_cls
from torch import nn

from hiri_search.language import Net, SpecError, parse_net
from hiri_search.nets.hirivit import HiriVit
from hiri_search.nets.hr_front import HrFrontDavit, HrFrontHrnet, HrFrontPvt
from hiri_search.nets.pieces import StemPiece
from hiri_search.system.units import PAPER_SIDE

# Table 1 prints stage types, widths, expansions, depths and heads (of size 64). The hidden widths of the stems are
# inferred from the costs of Table 2. The last two downsamplings are IRDS-b, the earlier ones IRDS-a (section 4.3).
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
_EXAMPLE = "hr(32 e=4)*2 -> cffn(128 e=6)*2 -> t(320 e=5)*9"
_FIRST_CONV = "stem.entry.0"  # of the default stem

# First convolution and classifier of each backbone with the front.
HR_FRONT_LAYERS = {
    "hrnet_w18_hiri": ("conv1.0.entry.0", "classifier"),
    "hrnet_w18_small_hiri": ("conv1.0.entry.0", "classifier"),
    "pvt_v2_b2_hiri": ("patch_embed.proj.early.0.entry.0", "head"),
    "davit_tiny_hiri": ("stem.conv.early.0.entry.0", "head.fc"),
}
# Arguments that timm's own builders of these backbones pass to their classes.
_PVT_V2_B2 = {"depths": (3, 4, 6, 3), "embed_dims": (64, 128, 320, 512), "num_heads": (1, 2, 5, 8)}
_DAVIT_TINY = {"depths": (1, 1, 3, 1), "embed_dims": (96, 192, 384, 768), "num_heads": (3, 6, 12, 24)}


def paper_net(name: str) -> Net:
    """Return the network of SPECS with this name."""
    return parse_net(SPECS[name])


def _default_cfg(first_conv: str, classifier: str) -> dict[str, Any]:
    """Return timm's configuration of a model; it has no URL of weights, because none are published."""
    return {
        "num_classes": 1000,
        "input_size": (3, PAPER_SIDE, PAPER_SIDE),
        "pool_size": (7, 7),
        "crop_pct": 1.0,  # not in the paper; timm's value for networks with inputs of this side
        "interpolation": "bicubic",
        "mean": IMAGENET_DEFAULT_MEAN,
        "std": IMAGENET_DEFAULT_STD,
        "first_conv": first_conv,
        "classifier": classifier,
        "origin_url": "https://arxiv.org/abs/2403.11999",
    }


_LAYERS = {name: (_FIRST_CONV, "head.fc") for name in (*SPECS, "hirivit")} | HR_FRONT_LAYERS
# timm reads this name when a model is registered.
default_cfgs = generate_default_cfgs({name: _default_cfg(*layers) for name, layers in _LAYERS.items()})


def _cfg_of(net: Net) -> dict[str, Any]:
    """Return the entries of timm's configuration that depend on the network."""
    side = net.side_from(PAPER_SIDE)
    grid = net.grids(side)[-1]
    with torch.device("meta"):
        stem = StemPiece(net.stem, net.stages[0].width).build(side)
    convolutions = (f"stem.{name}" for name, module in stem.named_modules() if isinstance(module, nn.Conv2d))
    return {"input_size": (3, side, side), "pool_size": (grid, grid), "first_conv": next(convolutions, "")}


# Arguments of timm that a classifier has not, or that do not change the names of its weights.
_NOT_OF_NAMES = (
    *("features_only", "feature_cls", "feature_cfg", "out_indices", "num_classes", "device", "dtype"),
    *("pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"),
)


def _built(model_class: type[nn.Module], name: str, pretrained: bool, **kwargs: Any) -> nn.Module:
    """Build a model by timm; also of features alone, or without classes, it loads the state dict of its classifier."""
    model: nn.Module = build_model_with_cfg(model_class, name, pretrained, **kwargs)
    arguments = {key: value for key, value in kwargs.items() if key not in _NOT_OF_NAMES}
    names = partial(_names_of_classifier, model_class, name, arguments)
    model.register_load_state_dict_pre_hook(partial(_take_classifier, names))  # type: ignore[no-untyped-call]
    return model


def _names_of_classifier(model_class: type[nn.Module], name: str, arguments: dict[str, Any]) -> Collection[str]:
    with torch.device("meta"):
        return build_model_with_cfg(model_class, name, False, **arguments).state_dict().keys()  # type: ignore[no-any-return]


def _take_classifier(
    names: Callable[[], Collection[str]], model: nn.Module, state: dict[str, Any], prefix: str, *_: Any
) -> None:
    """Rename the values of a classifier as a model of its features names them, and leave out those that it has not.

    A hook of torch, before it loads `state`. What is no value of the classifier stays there, as an error of torch.
    """
    own = model.state_dict().keys()
    given = [key.removeprefix(prefix) for key in state if key.startswith(prefix)]
    if own >= set(given):
        return
    renamed, of_classifier = {_flat(name): name for name in own}, names()
    for name in set(given) - own:
        if _flat(name) in renamed:
            state[prefix + renamed[_flat(name)]] = state.pop(prefix + name)
        elif name in of_classifier:
            del state[prefix + name]


def _flat(name: str) -> str:
    """Return the name of a value without what timm's feature models change in it: `stages_0.` for `stages.0.`."""
    return name.removeprefix("model.").removeprefix("graph_module.").replace(".", "_")


# timm calls an entry point with `(pretrained, **kwargs)`, so the functions below pass keywords through.
def _create_hirivit(
    name: str, net: Net, pretrained: bool, pretrained_cfg_overlay: dict[str, Any] | None = None, **kwargs: Any
) -> HiriVit:
    own_cfg = _cfg_of(net) if kwargs.get("pretrained_cfg") is None else {}  # the configuration of a saved model wins
    return _built(  # type: ignore[return-value]
        HiriVit,
        name,
        pretrained,
        pretrained_cfg_overlay=own_cfg | (pretrained_cfg_overlay or {}),
        feature_cfg={"out_indices": tuple(range(len(net.stages))), "flatten_sequential": True},
        net=net,
        **kwargs,
    )


@register_model  # type: ignore[untyped-decorator]
def hirivit_small(pretrained: bool = False, **kwargs: Any) -> HiriVit:
    """HIRI-ViT-S (Table 1)."""
    return _create_hirivit("hirivit_small", paper_net("hirivit_small"), pretrained, **kwargs)


@register_model  # type: ignore[untyped-decorator]
def hirivit_base(pretrained: bool = False, **kwargs: Any) -> HiriVit:
    """HIRI-ViT-B (Table 1)."""
    return _create_hirivit("hirivit_base", paper_net("hirivit_base"), pretrained, **kwargs)


@register_model  # type: ignore[untyped-decorator]
def hirivit_large(pretrained: bool = False, **kwargs: Any) -> HiriVit:
    """HIRI-ViT-L (Table 1)."""
    return _create_hirivit("hirivit_large", paper_net("hirivit_large"), pretrained, **kwargs)


@register_model  # type: ignore[untyped-decorator]
def hirivit(pretrained: bool = False, *, spec: str = "", **kwargs: Any) -> HiriVit:
    """HiriVit of any `spec`, such as `hr(32 e=4)*2 -> t(320 e=5)*9`. Raises SpecError."""
    if not spec:
        raise SpecError(f'hirivit needs a network; write timm.create_model("hirivit", spec="{_EXAMPLE}")')
    return _create_hirivit("hirivit", parse_net(spec), pretrained, **kwargs)


def _create_hrnet(name: str, pretrained: bool, **kwargs: Any) -> nn.Module:
    # HRNet's branches are no sequence of modules, so timm gets its features by `forward_intermediates`.
    features = {"out_indices": (0, 1, 2, 3, 4), "feature_cls": "getter"}
    model_cfg = cfg_cls[name.removesuffix("_hiri")]
    return _built(HrFrontHrnet, name, pretrained, model_cfg=model_cfg, feature_cfg=features, **kwargs)


def _create_sequential(model_class: type[nn.Module], name: str, pretrained: bool, **kwargs: Any) -> nn.Module:
    features = {"out_indices": (0, 1, 2, 3), "flatten_sequential": True}
    return _built(model_class, name, pretrained, feature_cfg=features, **kwargs)


@register_model  # type: ignore[untyped-decorator]
def hrnet_w18_hiri(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """HRNet-W18 with the front (Table 9)."""
    return _create_hrnet("hrnet_w18_hiri", pretrained, **kwargs)


@register_model  # type: ignore[untyped-decorator]
def hrnet_w18_small_hiri(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """HRNet-W18-small with the front: not in the paper, for short trainings."""
    return _create_hrnet("hrnet_w18_small_hiri", pretrained, **kwargs)


@register_model  # type: ignore[untyped-decorator]
def pvt_v2_b2_hiri(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """PVTv2-B2 with the front (Table 9)."""
    return _create_sequential(HrFrontPvt, "pvt_v2_b2_hiri", pretrained, **_PVT_V2_B2 | kwargs)


@register_model  # type: ignore[untyped-decorator]
def davit_tiny_hiri(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """DaViT-Tiny with the front (Table 9)."""
    return _create_sequential(HrFrontDavit, "davit_tiny_hiri", pretrained, **_DAVIT_TINY | kwargs)
