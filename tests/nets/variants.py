"""Every variant of the language as small networks, and helpers for tests of outputs."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from hiri_search.kinds import Cffn, Hr
from hiri_search.language.net import Net
from hiri_search.language.stages import KINDS, Stage, arguments, names
from hiri_search.nets.hirivit import HiriVit, build_hirivit

CLASSES = 7
# Numbers that change the layers of a block, as words do. `down` and `s` belong to a second stage.
NUMBERS = {"r": (1, 2), "sr": (1, 2), "s": (1, 2)}
SIZES = {"w": 16, "e": 2, "d": 8}

_NARROW = "front_hidden=4 front_width=8"
HR_FRONT_NETWORKS = {  # small backbones of Table 9
    "hrnet": f"timm:hrnet_w18_small_hiri {_NARROW}",
    "pvt": f"timm:pvt_v2_b2_hiri embed_dims=16,32,80,128 depths=1,1,2,1 num_heads=1,2,5,8 {_NARROW}",
    "davit": f"timm:davit_tiny_hiri embed_dims=24,48,96,192 depths=1,1,1,1 num_heads=1,2,4,8 {_NARROW}",
}


def variants() -> dict[str, Net]:
    """Return each stem, each stage type with all its choices, and each downsampling before each norm, by spec."""
    stems = [kind() for kind in KINDS.values() if not issubclass(kind, Stage)]
    nets = [Net.of([stem, _stages(Hr)[0]]) for stem in stems]
    nets += [Net.of([stage]) for kind in KINDS.values() if issubclass(kind, Stage) for stage in _stages(kind)]
    nets += list(_with_downsamplings())
    return {str(net): net for net in nets}


def _stages(stage_type: type[Stage]) -> list[Stage]:
    """Return a stage for each combination of words and NUMBERS, all with the width of SIZES."""
    choices = {
        letter: argument.words or NUMBERS[letter]
        for letter, argument in arguments(stage_type).items()
        if letter not in ("down", "s") and (argument.words or letter in NUMBERS)
    }
    sizes = {letter: value for letter, value in SIZES.items() if letter in names(stage_type)}
    combinations = (dict(zip(choices, values, strict=True)) for values in product(*choices.values()))
    return [_stage(stage_type, sizes | values) for values in combinations]


def _stage(stage_type: type[Stage], values: dict[str, int | str]) -> Stage:
    return stage_type(**{names(stage_type)[letter]: value for letter, value in values.items()})  # type: ignore[arg-type]


def _with_downsamplings() -> Iterator[Net]:
    words = arguments(Cffn)["down"].words, arguments(Cffn)["norm"].words
    for down, norm, stride in product(*words, NUMBERS["s"]):
        if down != "none" or stride == 1:
            second = _stage(Cffn, {"w": 16, "e": 2, "norm": norm, "down": down, "s": stride})
            yield Net.of([_stage(Cffn, {"w": 16, "e": 1}), second])


def randomised(model: nn.Module, seed: int = 0) -> nn.Module:
    """Draw every weight and statistic at random, so that each layer has an effect of its own."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, values in model.state_dict().items():
            if name.endswith("running_var"):
                values.uniform_(0.3, 3, generator=generator)
            elif values.dim() > 1:
                values.normal_(0, values[0].numel() ** -0.5, generator=generator)
            elif values.is_floating_point():
                mean = 1.0 if name.endswith("weight") else 0.0
                values.normal_(mean, 0.3, generator=generator)
    return model


def randomised_net(net: Net) -> HiriVit:
    """Return the network with random weights, in eval mode, with CLASSES classes."""
    model = randomised(build_hirivit(net, classes=CLASSES).eval())
    assert isinstance(model, HiriVit)
    return model


def images(count: int = 2, height: int = 32, width: int | None = None) -> Tensor:
    """Return (count, 3, height, width), each image of its own colour; image i is the same for every count."""
    generator = torch.Generator().manual_seed(0)
    pairs = [torch.randn(3, height, (width or height) + 1, generator=generator) for _ in range(count)]
    return torch.stack([pair[..., 1:] + 2 * pair[:, :1, :1] for pair in pairs])


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """Return the largest difference, relative to the largest expected number, which must not be tiny."""
    assert actual.shape == expected.shape
    scale = expected.abs().max().item()
    assert 1e-3 < scale < float("inf")
    return (actual.double() - expected.double()).abs().max().item() / scale


def batch_norms(model: nn.Module) -> list[str]:
    """Return the names of the BatchNorms of a model."""
    return [name for name, module in model.named_modules() if isinstance(module, _BatchNorm)]
