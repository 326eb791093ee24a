"""Zero-cost scores (synflow, NASWOT, Zen-score) of untrained networks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
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
from hiri_search.system.hardware import training_device
from hiri_search.training.data.loader import open_loader
from hiri_search.training.job import Job, PreparedData
from hiri_search.training.rng import derive

ZERO_COST_SCORES = ("synflow", "naswot", "zen")
_NASWOT_IMAGES = 32
_ZEN_REPEATS = 8  # 32 in the authors' code
NOISE_IMAGES, NOISE = 16, 0.01  # for Zen-score, as in the authors' code

_Replacements = Mapping[str, Callable[..., Any]]

# Names of PyTorch functions. Sigmoid is missing because networks use it in gates, not as an activation.
_PIECEWISE_LINEAR = ("relu", "relu_", "relu6", "hardtanh", "leaky_relu", "prelu", "hardswish")
_SMOOTH = ("gelu", "silu", "mish", "elu", "celu", "selu")
_ACTIVATIONS = (*_PIECEWISE_LINEAR, *_SMOOTH)
_ATTENTION = ("softmax", "scaled_dot_product_attention")
_NORMS: dict[str, Callable[..., Tensor]] = {  # norm -> its input as (..., values normalised together)
    "batch_norm": lambda x, *_: x.transpose(0, 1).flatten(1),
    "layer_norm": lambda x, shape, *_: x.flatten(-len(shape)),
    "rms_norm": lambda x, shape, *_: x.flatten(-len(shape)),
    "group_norm": lambda x, groups, *_: x.reshape(len(x), groups, -1),
    "instance_norm": lambda x, *_: x.flatten(2),
}


def job_scores(job: Job, prepared: PreparedData, names: Sequence[str]) -> dict[str, float | None]:
    """Return the zero-cost scores of a job's network, with its initial weights and on its training device."""
    if prepared.cache != "none":  # for one batch, no split is copied to the GPU
        prepared = replace(prepared, cache="disk")
    batches = open_loader(job.data, prepared, side=job.side, recipe=job.recipe, device=training_device())
    images = next(batches.val())[0][:_NASWOT_IMAGES]
    with one_thread():
        return zero_cost_scores(parse_network(job.spec), images, len(prepared.classes), job.seed, names=names)


def zero_cost_scores(
    network: Network,
    images: Tensor,
    classes: int,
    seed: int,
    *,
    names: Sequence[str] = ZERO_COST_SCORES,
    repeats: int = _ZEN_REPEATS,
) -> dict[str, float | None]:
    """Return the scores by name, higher is better, computed on the device of the images (B, 3, side, side).

    Only naswot uses the images, at least two. A score that is not finite is None: naswot if the activations do not
    separate all images, or if there are no activations; synflow and zen if values overflow, as in some timm networks
    that multiply features; synflow also if the last layer starts with zeros. The global random generators stay
    unchanged.
    """
    side = images.shape[-1]
    with torch.random.fork_rng(devices=()):
        # The initial weights of a training with this seed. torch.manual_seed would seed CUDA too.
        torch.default_generator.manual_seed(derive(seed, "weights"))
        model = build(network, side, classes=classes).to(images.device)
    scores: dict[str, Callable[[], float]] = {
        "synflow": lambda: synflow(model, side),
        "naswot": lambda: naswot(model, images),
        "zen": lambda: zen(model, side, torch.Generator().manual_seed(derive(seed, "zen")), repeats=repeats),
    }
    values = {name: scores[name]() for name in names}
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


@torch.enable_grad()
def synflow(model: nn.Module, side: int) -> float:
    """Return log10 of the sum of |w * dR/dw| over all weights w, where R is the output sum for an input of ones.

    Tanaka et al. 2020 (arXiv:2006.05467), summed over a network as by Abdelfattah et al. 2021 (arXiv:2101.08134). All
    weights are replaced by their absolute values. The authors skip BatchNorm, which is the identity in eval mode
    before training; here every norm is skipped, because LN would remove the scale that the score measures.
    Activations are the identity, as ReLU is for values that are not negative. Attention weights are uniform. So R is
    the sum over all paths of the product of the weights along a path; norms, queries and keys do not enter.
    """
    model = deepcopy(model).double().eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.abs_()
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    identity = lambda function, x, *args, **kwargs: x
    with _Replaced(dict.fromkeys([*_NORMS, *_ACTIVATIONS], identity) | dict.fromkeys(_ATTENTION, _uniform)):
        output = model(torch.ones(1, IMAGE_CHANNELS, side, side).to(weights[0])).sum()
    gradients = torch.autograd.grad(output, weights, materialize_grads=True)
    saliencies = [(weight.detach() * gradient).abs().sum() for weight, gradient in zip(weights, gradients, strict=True)]
    return float(torch.stack(saliencies).sum().log10())


@torch.no_grad()
def naswot(model: nn.Module, images: Tensor) -> float:
    """Return log |det K|; K[i, j] counts the units with the same input sign (positive or not) for images i and j.

    Mellor et al. 2020 (arXiv:2006.04647, in the form of ICML 2021). The authors use the units of ReLUs; here the units
    of all activation functions count. As in the authors' code BatchNorm uses the statistics of these images. The
    score grows with the number of images, so compare networks on the same images.
    """
    kernel = torch.zeros(len(images), len(images), dtype=torch.float64)

    def add_agreement(activation: Callable[..., Any], x: Tensor, *args: Any, **kwargs: Any) -> Any:
        if len(x) == len(images):  # false if the tensor is shared by all images
            signs = (x.flatten(1) > 0).float() * 2 - 1  # (B, units)
            kernel.add_((signs @ signs.T + signs.shape[1]).cpu() / 2)  # exact in float32: integers below 2**24
        return activation(x, *args, **kwargs)

    with eval_mode(model), _Replaced({"batch_norm": _batch_statistics, **dict.fromkeys(_ACTIVATIONS, add_agreement)}):
        model(images)
    return float(torch.linalg.slogdet(kernel).logabsdet)


@torch.no_grad()
def zen(model: nn.Module, side: int, generator: torch.Generator, *, repeats: int = _ZEN_REPEATS) -> float:
    """Return log E|f(x) - f(x + 0.01 e)| plus the sum of log s over all norms, averaged over `repeats` networks f.

    Lin et al. 2021 (arXiv:2102.01063): weights, x and e are Gaussian, f are the features before the pool, |.| is the
    sum of absolute values, as in the authors' code, and s is the divisor of a norm, one number for all its channels.
    The authors treat BatchNorm only; LN hides the scale in the same way, so its s is added too. The authors remove
    residual connections; here they stay, because a residual sum looks like any other sum.
    """
    # On CUDA convolutions round to TF32, too coarse for these small differences; on CPUs float64 is slow.
    dtype = torch.float32 if next(model.parameters()).device.type == "cpu" else torch.float64
    copy = deepcopy(model).to(dtype).eval()
    return sum(_zen_once(copy, side, generator) for _ in range(repeats)) / repeats


def _zen_once(model: nn.Module, side: int, generator: torch.Generator) -> float:
    _randomise(model, generator)
    shape, like = (NOISE_IMAGES, IMAGE_CHANNELS, side, side), next(model.parameters())
    x, noise = (torch.randn(shape, generator=generator).to(like) for _ in range(2))
    scales: list[Tensor] = []

    def record_scale(norm: Callable[..., Tensor], x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        scales.append(_NORMS[norm.__name__](x, *args).var(-1, correction=0).mean().sqrt())
        return _batch_statistics(norm, x, *args, **kwargs) if norm is F.batch_norm else norm(x, *args, **kwargs)

    features = _features(model, x, dict.fromkeys(_NORMS, record_scale))
    perturbed = _features(model, x + NOISE * noise, {"batch_norm": _batch_statistics})
    change = (features - perturbed).abs().sum(1).mean()
    return float(change.log() + sum(scale.log() for scale in scales))


def _features(model: nn.Module, x: Tensor, replacements: _Replacements) -> Tensor:
    """Return the input of the head: (B, features); all maps if there are several, as in a few timm networks."""
    with _Replaced(replacements):
        output = model.forward_features(x)  # type: ignore[operator]
    maps = output if isinstance(output, list | tuple) else [output]
    return torch.cat([features.flatten(1) for features in maps], 1)


def _randomise(model: nn.Module, generator: torch.Generator) -> None:
    """Give layers Gaussian weights and zero biases, and norms the weight 1 and bias 0."""
    for layer in model.modules():
        if isinstance(layer, _ConvNd | nn.Linear):
            layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator))
        elif isinstance(layer, _BatchNorm | nn.LayerNorm | nn.GroupNorm) and layer.weight is not None:
            layer.weight.fill_(1)
        else:
            continue
        if layer.bias is not None:
            layer.bias.zero_()


class _Replaced(TorchFunctionMode):
    """Context in which PyTorch functions are replaced by name; a replacement gets the function as first argument."""

    def __init__(self, replacements: _Replacements) -> None:
        super().__init__()
        self.replacements = replacements

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Iterable[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        replacement = self.replacements.get(getattr(func, "__name__", ""))
        return replacement(func, *args, **(kwargs or {})) if replacement else func(*args, **(kwargs or {}))


def _uniform(attention: Callable[..., Tensor], x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Attention with zeros for `x`, the scores or the queries; a mask still applies."""
    return attention(torch.zeros_like(x), *args, **kwargs)


def _batch_statistics(batch_norm: Callable[..., Tensor], x: Tensor, *statistics: Any, **kwargs: Any) -> Tensor:
    """BatchNorm with the batch statistics, as in training; the running statistics stay unchanged."""
    return batch_norm(x, None, None, **{**kwargs, "training": True})
