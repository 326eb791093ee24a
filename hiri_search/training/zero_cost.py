"""Zero-cost proxies (synflow, NASWOT, Zen-score) of untrained networks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.overrides import TorchFunctionMode

from hiri_search.language import Network, parse_network
from hiri_search.nets.eval_mode import eval_mode, one_thread
from hiri_search.nets.pieces import IMAGE_CHANNELS
from hiri_search.networks import build
from hiri_search.training.data.loader import open_loader
from hiri_search.training.job import Job, PreparedData
from hiri_search.training.rng import derive

ZERO_COST_SCORES = ("synflow", "naswot", "zen")
IMAGES = 32  # of naswot
REPEATS = 8  # of zen; 32 in its authors' code
NOISE_IMAGES, NOISE = 16, 0.01  # of zen, as in its authors' code

# Names of PyTorch's functions. Sigmoids stand in gates, not behind layers, so they are not among these.
_CORNERED = ("relu", "relu_", "relu6", "hardtanh", "leaky_relu", "prelu", "hardswish")
_SMOOTH = ("gelu", "silu", "mish", "elu", "celu", "selu")
RECTIFIERS = (*_CORNERED, *_SMOOTH)
COMPARISONS = ("softmax", "scaled_dot_product_attention")
NORM_LAYERS: dict[str, Callable[..., Tensor]] = {  # to its input as (..., values that it brings to one scale)
    "batch_norm": lambda x, *_: x.transpose(0, 1).flatten(1),
    "layer_norm": lambda x, shape, *_: x.flatten(-len(shape)),
    "rms_norm": lambda x, shape, *_: x.flatten(-len(shape)),
    "group_norm": lambda x, groups, *_: x.reshape(len(x), groups, -1),
    "instance_norm": lambda x, *_: x.flatten(2),
}


def job_scores(job: Job, prepared: PreparedData, names: Sequence[str]) -> dict[str, float | None]:
    """The scores of what a job trains, with the weights that it begins with, on the device that it is trained on."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    batches = open_loader(job.data, prepared, side=job.side, recipe=job.recipe, device=device)
    images, _ = next(batches.val())
    with one_thread():
        return zero_cost_scores(parse_network(job.spec), images[:IMAGES], len(prepared.classes), job.seed, names=names)


def zero_cost_scores(
    network: Network,
    images: Tensor,
    classes: int,
    seed: int,
    *,
    names: Sequence[str] = ZERO_COST_SCORES,
    repeats: int = REPEATS,
) -> dict[str, float | None]:
    """The scores of these names, higher is better; computed where the images (B, 3, side, side) are.

    Only naswot looks at the images, two at least. None stands for a score that is not finite: of naswot where the
    rectifiers do not tell all images apart, or there are none; of synflow and zen where numbers grow too large, as in
    some networks of timm that multiply features; of synflow also where the last layer begins with zeros.
    The global sources of randomness are left as they were.
    """
    side = images.shape[-1]
    model = _begun(network, side, classes, seed).to(images.device)
    scores: dict[str, Callable[[], float]] = {
        "synflow": lambda: synflow(model, side),
        "naswot": lambda: naswot(model, images),
        "zen": lambda: zen(model, side, torch.Generator().manual_seed(derive(seed, "zen")), repeats=repeats),
    }
    found = {name: scores[name]() for name in names}
    return {name: score if math.isfinite(score) else None for name, score in found.items()}


def _begun(network: Network, side: int, classes: int, seed: int) -> nn.Module:
    """With the weights that a training of this seed begins with."""
    with torch.random.fork_rng(devices=()):
        torch.default_generator.manual_seed(derive(seed, "weights"))  # torch.manual_seed would touch CUDA's too
        return build(network, side, classes=classes)


@torch.enable_grad()
def synflow(model: nn.Module, side: int) -> float:
    """log10 of the sum of |w * dR/dw| over all weights w, made absolute; R is the sum of the outputs for ones.

    Tanaka et al. 2020 (arXiv:2006.05467), summed over a network as by Abdelfattah et al. 2021 (arXiv:2101.08134). They
    leave BatchNorm out, which in eval mode would change nothing before a training; here no norm changes anything, for
    LN would take away the very scale that is measured. Rectifiers pass everything, as ReLU passes what is not
    negative. Attention weighs all positions alike, as where all are alike. So R is the product of the weights along a
    path, summed over all paths; norms, queries and keys have no part in it.
    """
    flow = deepcopy(model).double().eval()
    with torch.no_grad():
        for weight in flow.parameters():
            weight.abs_()
    weights = [weight for weight in flow.parameters() if weight.requires_grad]
    with _Instead(dict.fromkeys([*NORM_LAYERS, *RECTIFIERS], _passing) | dict.fromkeys(COMPARISONS, _evenly)):
        flowing = flow(torch.ones(1, IMAGE_CHANNELS, side, side).to(weights[0])).sum()
    gradients = torch.autograd.grad(flowing, weights, materialize_grads=True)
    shares = [(weight.detach() * gradient).abs().sum() for weight, gradient in zip(weights, gradients, strict=True)]
    return float(torch.stack(shares).sum().log10())


@torch.no_grad()
def naswot(model: nn.Module, images: Tensor) -> float:
    """log |det K|; K[i, j] is the number of units whose input is positive for both images i and j, or for neither.

    Mellor et al. 2020 (arXiv:2006.04647, in the form of ICML 2021). Their units were those of ReLUs; here they are
    those of all RECTIFIERS, whatever these make of what is negative. As in their code BatchNorm has the statistics of
    these images. More images make a higher score: compare networks on the same ones.
    """
    kernel = torch.zeros(len(images), len(images), dtype=torch.float64)

    def compared(rectifier: Callable[..., Any], x: Tensor, *args: Any, **kwargs: Any) -> Any:
        if len(x) == len(images):  # not so where a network rectifies what is the same for all of them
            kernel.add_(_agreement(x.flatten(1)).cpu())
        return rectifier(x, *args, **kwargs)

    with eval_mode(model), _Instead({"batch_norm": _by_batch, **dict.fromkeys(RECTIFIERS, compared)}):
        model(images)
    return float(torch.linalg.slogdet(kernel).logabsdet)


def _agreement(x: Tensor) -> Tensor:  # (B, units) -> (B, B)
    signs = (x > 0).float() * 2 - 1
    return (signs @ signs.T + signs.shape[1]) / 2  # exact: whole numbers, and under 2**24 units


@torch.no_grad()
def zen(model: nn.Module, side: int, generator: torch.Generator, *, repeats: int = REPEATS) -> float:
    """log E|f(x) - f(x + 0.01 e)| plus the sum of log s over all norms, averaged over `repeats` networks f.

    Lin et al. 2021 (arXiv:2102.01063): weights, x and e are Gaussian, f are the features in front of the pool, |.| is
    the sum of absolute values, as in their code, and s what a norm divides by, as one number for all its channels. They
    know BatchNorm only; LN hides the scale as it does, so it is given back too. Residual links, which they take out,
    stay in: no call tells them from other sums.
    """
    # CUDA would round convolutions to TF32, too roughly for such small differences; CPUs are slow at double ones.
    exact = torch.float32 if next(model.parameters()).device.type == "cpu" else torch.float64
    drawn = deepcopy(model).to(exact).eval()
    return sum(_zen_once(drawn, side, generator) for _ in range(repeats)) / repeats


def _zen_once(model: nn.Module, side: int, generator: torch.Generator) -> float:
    _draw(model, generator)
    shape, like = (NOISE_IMAGES, IMAGE_CHANNELS, side, side), next(model.parameters())
    x, noise = (torch.randn(shape, generator=generator).to(like) for _ in range(2))
    spreads: list[Tensor] = []

    def noted(norm: Callable[..., Tensor], x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        spreads.append(NORM_LAYERS[norm.__name__](x, *args).var(-1, correction=0).mean().sqrt())
        return _by_batch(norm, x, *args, **kwargs) if norm is F.batch_norm else norm(x, *args, **kwargs)

    features = _features(model, x, dict.fromkeys(NORM_LAYERS, noted))
    moved = _features(model, x + NOISE * noise, {"batch_norm": _by_batch})
    change = (features - moved).abs().sum(1).mean()
    return float(change.log() + sum(spread.log() for spread in spreads))


def _features(model: nn.Module, x: Tensor, others: Mapping[str, Callable[..., Any]]) -> Tensor:
    """What the head is given: (B, features); of several maps, as a few networks of timm have, all."""
    with _Instead(others):
        found = model.forward_features(x)  # type: ignore[operator]
    maps = found if isinstance(found, list | tuple) else [found]
    return torch.cat([features.flatten(1) for features in maps], 1)


def _draw(model: nn.Module, generator: torch.Generator) -> None:
    """Gaussian weights of layers, no biases; norms that only normalise."""
    for layer in model.modules():
        if isinstance(layer, _ConvNd | nn.Linear):
            layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator))
        elif isinstance(layer, _BatchNorm | nn.LayerNorm | nn.GroupNorm) and layer.weight is not None:
            layer.weight.fill_(1)
        else:
            continue
        if layer.bias is not None:
            layer.bias.zero_()


class _Instead(TorchFunctionMode):
    """Within it, other functions are called in place of PyTorch's of these names, and get them in front."""

    def __init__(self, others: Mapping[str, Callable[..., Any]]) -> None:
        super().__init__()
        self.others = others

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Iterable[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        other = self.others.get(getattr(func, "__name__", ""))
        return other(func, *args, **(kwargs or {})) if other else func(*args, **(kwargs or {}))


def _passing(function: Callable[..., Tensor], x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return x


def _evenly(comparison: Callable[..., Tensor], compared: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """As if all scores, or the queries that they come from, were zero: where there is a mask, it stays."""
    return comparison(torch.zeros_like(compared), *args, **kwargs)


def _by_batch(batch_norm: Callable[..., Tensor], x: Tensor, *statistics: Any, **kwargs: Any) -> Tensor:
    """With the statistics of the batch, as in a training; those of the model are left as they are."""
    return batch_norm(x, None, None, **{**kwargs, "training": True})
