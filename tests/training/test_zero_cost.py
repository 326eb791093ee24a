"""Zero-cost scores against slow literal computations, and their properties on real networks."""

import math
import random
from collections.abc import Callable, Sequence
from itertools import pairwise, product

import numpy as np
import pytest
import torch
from timm.layers import LayerNorm2d
from torch import Tensor, nn

from hiri_search.language import Network, parse_net, parse_network
from hiri_search.nets.blocks import Attention
from hiri_search.networks import build
from hiri_search.training.rng import seed_globally
from hiri_search.training.zero_cost import NOISE, NOISE_IMAGES, ZERO_COST_SCORES, naswot, synflow, zen, zero_cost_scores

torch.set_num_threads(1)  # such small networks run faster on one thread

SPEC = "hrstem(hs=8) -> hr(8 e=4) -> hr(16 e=4) -> cffn(32 e=6) -> t(80 e=5 d=16)*3 -> t(128 e=5 d=16)"  # a small S
IMAGES = torch.randn(8, 3, 64, 64, generator=torch.Generator().manual_seed(0))

LayerFactory = Callable[[int], nn.Module]  # width -> layer
NONE: LayerFactory = lambda width: nn.Identity()
ACTIVATIONS = {kind.__name__: lambda width, kind=kind: kind() for kind in (nn.ReLU, nn.ReLU6, nn.GELU, nn.SiLU)}
NORMS: dict[str, LayerFactory] = {"bn": nn.BatchNorm2d, "ln": LayerNorm2d, "gn": lambda width: nn.GroupNorm(1, width)}


class OneMap(nn.Sequential):
    """A model whose output is the input of a head."""

    def forward_features(self, x: Tensor) -> Tensor:
        return self(x)


class TwoMaps(nn.Sequential):
    def forward_features(self, x: Tensor) -> list[Tensor]:
        return [self(x), self(x)]


def _chain(between: LayerFactory, widths: Sequence[int] = (3, 5, 4, 6)) -> OneMap:
    """Return 1x1 convolutions without bias, always with the same weights, and a layer between each two."""
    layers: list[nn.Module] = []
    for index, (fan_in, fan_out) in enumerate(pairwise(widths)):
        conv = nn.Conv2d(fan_in, fan_out, 1, bias=False)
        with torch.no_grad():
            conv.weight.normal_(0, 1, generator=torch.Generator().manual_seed(index))
        layers += [conv, between(fan_out)]
    return OneMap(*layers[:-1])


def _scores(
    network: Network | str, names: Sequence[str] = ZERO_COST_SCORES, *, seed: int = 0
) -> dict[str, float | None]:
    network = parse_network(network) if isinstance(network, str) else network
    return zero_cost_scores(network, IMAGES, 10, seed, names=names, repeats=1)


def _finite(scores: dict[str, float | None]) -> bool:
    return all(score is not None and math.isfinite(score) for score in scores.values())


def test_synflow_of_two_linear_layers_is_a_sum_over_all_paths():
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 3, bias=False), nn.ReLU(), nn.Linear(3, 2, bias=False))
    first, second = model[1].weight.abs().tolist(), model[3].weight.abs().tolist()
    paths = [first[j][i] * second[k][j] for i, j, k in product(range(12), range(3), range(2))]
    assert synflow(model, 2) == pytest.approx(math.log10(2 * sum(paths))), "each layer has the whole sum"


@pytest.mark.parametrize("between", [*ACTIVATIONS.values(), *NORMS.values()], ids=[*ACTIVATIONS, *NORMS])
def test_synflow_ignores_norms_and_activation_functions(between: LayerFactory):
    assert synflow(_chain(between), 2) == pytest.approx(synflow(_chain(NONE), 2), abs=1e-12)


@pytest.mark.parametrize("layer", ["q", "kv", "proj"])
def test_synflow_of_attention_depends_on_the_values_only(layer: str):
    attention = Attention(3, 1)
    nn.init.zeros_(attention.kv.bias)
    nn.init.zeros_(attention.proj.bias)
    model = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), attention)  # zero padding makes border positions differ
    initial = synflow(model, 4)
    with torch.no_grad():
        getattr(attention, layer).weight[:3] *= 10  # the first three rows of kv are the keys
    assert synflow(model, 4) == pytest.approx(initial + (layer == "proj"))


def test_synflow_of_a_hundred_layers_is_finite():
    assert synflow(_chain(NONE, [3, *[8] * 100]), 1) > 60


def test_naswot_is_the_log_determinant_of_the_agreements_of_image_pairs():
    model, images = _chain(ACTIVATIONS["GELU"]), IMAGES[:4, :, :2, :2]
    inputs = [model[0](images), model[:3](images)]  # of the two activation layers
    codes = [[unit > 0 for x in inputs for unit in x[index].flatten().tolist()] for index in range(4)]
    kernel = [[sum(a == b for a, b in zip(row, column, strict=True)) for column in codes] for row in codes]
    assert naswot(model, images) == pytest.approx(math.log(np.linalg.det(kernel)))


def test_naswot_uses_the_batch_norm_statistics_of_the_images():
    """With other statistics all units of the shifted images would be positive."""
    model = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU())
    assert naswot(model, IMAGES) == naswot(model, IMAGES + 100)


def test_naswot_of_two_equal_images_is_none():
    images = IMAGES[[0, 1, 1]]
    assert zero_cost_scores(parse_net(SPEC), images, 10, 0, names=["naswot"]) == {"naswot": None}


def _slow_zen(generator: torch.Generator) -> float:
    """Zen-score of a 3 to 2 channel convolution, BatchNorm and ReLU, in float64, computed per image and unit."""
    weight, x, noise = (
        torch.randn(shape, generator=generator).double()
        for shape in ((2, 3, 1, 1), (NOISE_IMAGES, 3, 2, 2), (NOISE_IMAGES, 3, 2, 2))
    )
    clean, noisy = (torch.einsum("oi,bihw->obhw", weight[..., 0, 0], y) for y in (x, x + NOISE * noise))
    changes, variances = [0.0] * NOISE_IMAGES, []
    for channel in range(2):
        (mean, var), (noisy_mean, noisy_var) = (
            (y[channel].mean(), y[channel].var(correction=0)) for y in (clean, noisy)
        )
        variances.append(var.item())
        for image, h, w in product(range(NOISE_IMAGES), range(2), range(2)):
            unit = (clean[channel, image, h, w] - mean) / (var + 1e-5).sqrt()
            noisy_unit = (noisy[channel, image, h, w] - noisy_mean) / (noisy_var + 1e-5).sqrt()
            changes[image] += abs(max(unit.item(), 0) - max(noisy_unit.item(), 0))
    return math.log(sum(changes) / NOISE_IMAGES) + 0.5 * math.log(sum(variances) / 2)


def test_zen_adds_the_feature_change_and_the_norm_scales():
    model = OneMap(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2), nn.ReLU())
    nn.init.zeros_(model[1].weight)  # a common initial value for the last norm of a branch
    generator = torch.Generator().manual_seed(0)
    expected = sum(_slow_zen(generator) for _ in range(3)) / 3
    assert zen(model, 2, torch.Generator().manual_seed(0), repeats=3) == pytest.approx(expected, abs=1e-3)


class Scaled(nn.Module):
    def __init__(self, factor: float, inner: nn.Module | None = None) -> None:
        super().__init__()
        self.factor, self.inner = factor, inner or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(self.factor * x)


@pytest.mark.parametrize("norm", [NONE, *NORMS.values()], ids=["none", *NORMS])
def test_zen_of_doubled_features_is_log_2_higher_with_every_norm(norm: LayerFactory):
    def score(factor: float) -> float:
        model = _chain(lambda width: Scaled(factor, norm(width)), [3, 8, 8])
        return zen(model, 2, torch.Generator().manual_seed(0))

    assert score(2) - score(1) == pytest.approx(math.log(2), abs=1e-3)


@pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS)
def test_zen_with_a_norm_is_close_to_zen_without(norm: LayerFactory):
    with_norm, without = (
        zen(_chain(between, [3, 64, 64, 64]), 4, torch.Generator().manual_seed(0)) for between in (norm, NONE)
    )
    assert with_norm == pytest.approx(without, abs=0.3)
    assert without > 2 * math.log(64) / 2, "two layers of 64 channels each add about half of log 64"


def test_zen_ignores_the_weights_and_biases_of_the_model():
    scores = set()
    for value in (0, 1):
        model = OneMap(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 4, 1))
        for weight in model.parameters():
            nn.init.constant_(weight, value)
        scores.add(zen(model, 2, torch.Generator().manual_seed(0)))
    assert len(scores) == 1


@pytest.mark.parametrize(
    "spec",
    [
        SPEC,
        SPEC.replace("hrstem(hs=8)", "vitstem").replace("d=16", "d=16 norm=ln"),
        SPEC.replace("hrstem(hs=8)", "convstem").replace("d=16", "d=16 norm=bn"),
        "vitstem -> cffn(16 e=2 norm=ln) -> t(32 e=2 d=16 norm=ln ffn=plain sr=2) -> t(64 e=2 d=16 norm=ln)",
        "hr(8 e=4 r=1) -> cffn(16 e=4 down=conv) -> t(32 e=2 d=16 ffn=plain norm=mix)",
        "timm:regnety_002",
        "timm:pvt_v2_b0",
        "timm:hrnet_w18_small_hiri",
    ],
)
def test_every_network_has_finite_scores(spec: str):
    assert _finite(_scores(spec))


def test_zen_uses_all_feature_maps():
    single, double = (zen(kind(nn.Conv2d(3, 2, 1)), 2, torch.Generator().manual_seed(0)) for kind in (OneMap, TwoMaps))
    assert double == pytest.approx(single + math.log(2))


@pytest.mark.parametrize("name", ZERO_COST_SCORES)
@pytest.mark.parametrize(
    "larger", [SPEC.replace("hr(16", "hr(32"), SPEC.replace("e=6", "e=12"), SPEC.replace(")*3", ")*6")]
)
def test_larger_networks_have_higher_scores(name: str, larger: str):
    small, large = (_scores(spec, [name])[name] for spec in (SPEC, larger))
    assert small is not None
    assert large is not None
    assert large > small


def test_scores_are_repeatable_and_depend_on_the_seed():
    first, second, other_seed = _scores(SPEC), _scores(SPEC), _scores(SPEC, seed=1)
    assert first == second
    assert not set(first.items()) & set(other_seed.items())


def test_scores_do_not_depend_on_the_requested_names():
    assert _scores(SPEC) == {name: _scores(SPEC, [name])[name] for name in ZERO_COST_SCORES}
    assert list(_scores(SPEC, ["zen"])) == ["zen"]


def test_the_weights_are_the_initial_weights_of_a_training_with_the_seed():
    seed_globally(3, "weights")
    model = build(parse_net(SPEC), 64, classes=10)
    expected = {"synflow": synflow(model, 64), "naswot": naswot(model, IMAGES)}
    assert _scores(SPEC, ["synflow", "naswot"], seed=3) == expected


def _random_states() -> tuple[object, ...]:
    return torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()


def test_the_global_random_states_stay_unchanged():
    states = _random_states()
    _scores(SPEC)
    assert _random_states() == states


def test_a_model_stays_unchanged():
    model = build(parse_net(SPEC), 64, classes=10).train()
    model.stages[1].eval()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    for score in (lambda: synflow(model, 64), lambda: naswot(model, IMAGES)):
        score()
    zen(model, 64, torch.Generator(), repeats=1)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert all(weight.grad is None for weight in model.parameters())


@pytest.mark.gpu
def test_a_gpu_gives_nearly_the_same_scores_as_a_cpu():
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    cpu, cuda = (zero_cost_scores(parse_net(SPEC), IMAGES.to(device), 10, 0, repeats=2) for device in ("cpu", "cuda"))
    assert cpu == pytest.approx(cuda, rel=1e-2)
