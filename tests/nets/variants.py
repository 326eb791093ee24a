"""Every variant the language can write, as small networks, and what tests of outputs need."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from hiri_search.language.net import Net
from hiri_search.language.stages import STAGES, STEMS, Stage, arguments, names
from hiri_search.nets.hirivit import HiriVit, build_hirivit

CLASSES = 7
# Numbers that change what a block is made of, beside all words; `down` and `s` are those of a second stage.
NUMBERS = {"r": (1, 2), "sr": (1, 2), "s": (1, 2)}
SIZES = {"w": 16, "e": 2, "d": 8}


def variants() -> dict[str, Net]:
    """Each stem, each kind with each choice it has, and each downsampling in front of each kind of norm."""
    nets = [Net.of([STEMS[kind](), _stages(STAGES["hr"])[0]]) for kind in STEMS]
    nets += [Net.of([stage]) for kind in STAGES.values() for stage in _stages(kind)]
    nets += list(_with_downsamplings())
    return {str(net): net for net in nets}


def _stages(kind: type[Stage]) -> list[Stage]:
    """A stage for each combination of words and NUMBERS; all on the width of SIZES."""
    choices = {
        letter: argument.words or NUMBERS[letter]
        for letter, argument in arguments(kind).items()
        if letter not in ("down", "s") and (argument.words or letter in NUMBERS)
    }
    sizes = {letter: value for letter, value in SIZES.items() if letter in names(kind)}
    return [_stage(kind, sizes | dict(zip(choices, values, strict=True))) for values in product(*choices.values())]


def _stage(kind: type[Stage], values: dict[str, int | str]) -> Stage:
    return kind(**{names(kind)[letter]: value for letter, value in values.items()})  # type: ignore[arg-type]


def _with_downsamplings() -> Iterator[Net]:
    kind = STAGES["cffn"]
    for down, norm, stride in product(arguments(kind)["down"].words, arguments(kind)["norm"].words, NUMBERS["s"]):
        if down != "none" or stride == 1:
            second = _stage(kind, {"w": 16, "e": 2, "norm": norm, "down": down, "s": stride})
            yield Net.of([_stage(kind, {"w": 16, "e": 1}), second])


def lively(model: nn.Module, seed: int = 0) -> nn.Module:
    """The model with every weight and statistic drawn, so that no layer is idle and none is like another."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, values in model.state_dict().items():
            if name.endswith("running_var"):
                values.uniform_(0.3, 3, generator=generator)
            elif values.dim() > 1:
                values.normal_(0, values[0].numel() ** -0.5, generator=generator)
            elif values.is_floating_point():
                centre = 1.0 if name.endswith("weight") else 0.0
                values.normal_(centre, 0.3, generator=generator)
    return model


def lively_net(net: Net) -> HiriVit:
    """In eval mode, with CLASSES classes."""
    model = lively(build_hirivit(net, classes=CLASSES).eval())
    assert isinstance(model, HiriVit)
    return model


def images(count: int = 2, height: int = 32, width: int | None = None) -> Tensor:
    """(count, 3, height, width), each of another colour; the first ones alike whatever the count."""
    generator = torch.Generator().manual_seed(0)
    pairs = [torch.randn(3, height, (width or height) + 1, generator=generator) for _ in range(count)]
    return torch.stack([pair[..., 1:] + 2 * pair[:, :1, :1] for pair in pairs])


def error(found: Tensor, expected: Tensor) -> float:
    """The greatest difference, relative to the greatest number expected; there is something to expect."""
    assert found.shape == expected.shape
    scale = expected.abs().max().item()
    assert 1e-3 < scale < float("inf")
    return (found.double() - expected.double()).abs().max().item() / scale


def batch_norms(model: nn.Module) -> list[str]:
    return [name for name, module in model.named_modules() if isinstance(module, _BatchNorm)]
