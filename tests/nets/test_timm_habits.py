"""What users of timm do with its models works on ours: tracing, transforms, precisions, features, pruning."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.layers import set_fused_attn
from timm.models import FeatureInfo, group_parameters
from timm.optim import create_optimizer_v2
from torch import Tensor, fx, nn
from torch.autograd import forward_ad
from torch.func import functional_call, grad, jvp, vmap
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

from hiri_search.language import TimmNetwork, parse_network
from hiri_search.models import HR_FRONT_LAYERS, SPECS
from tests.nets.variants import HR_FRONT_NETWORKS

SIDE, CLASSES = 64, 5
# Together every kind of stage; at this side both end in a grid of 2x2, where the depthwise gradient is our own.
OWN_SPECS = {
    "HR": "hr(8 e=2) -> hr(8 e=2) -> cffn(16 e=2) -> t(16 e=2 d=16)",
    "LN": (
        "vitstem -> cffn(8 e=2 norm=ln) -> t(16 e=2 d=8 sr=2 norm=ln down=conv) -> t(16 e=2 d=8 ffn=plain down=b)"
        " -> t(16 e=2 d=8 norm=bn down=a) -> cffn(24 e=2 down=conv s=1)"
    ),
}
Make = Callable[..., nn.Module]
OWN: dict[str, Make] = {name: partial(timm.create_model, "hirivit", spec=spec) for name, spec in OWN_SPECS.items()}


def _with_front(text: str) -> Make:
    network = parse_network(text)
    assert isinstance(network, TimmNetwork)
    return partial(timm.create_model, network.name, **dict(network.arguments))


FRONTS = {name: _with_front(text) for name, text in HR_FRONT_NETWORKS.items()}


def images(count: int = 2, side: int = SIDE, *, channels: int = 3) -> Tensor:
    return torch.randn(count, channels, side, side).to(memory_format=torch.channels_last)


def _made(make: Make, **arguments: Any) -> nn.Module:
    return make(num_classes=CLASSES, **arguments).to(memory_format=torch.channels_last)


def _close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-4)


def _learns(model: nn.Module, loss: Tensor) -> None:
    """Assert that every parameter has a finite gradient of its own dtype."""
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.dtype == parameter.dtype, name


def _same_elsewhere(model: nn.Module, other: Callable[[Tensor], Tensor]) -> None:
    """Assert equal outputs for batches and sides other than those of the first pass."""
    for x in (images(1), images(3, 2 * SIDE)):
        _close(other(x), model(x))


def is_traced(make: Make) -> None:
    model = _made(make).eval()
    _same_elsewhere(model, torch.jit.trace(model, images()))


def is_scripted(make: Make) -> None:
    model = _made(make).eval()
    _same_elsewhere(model, torch.jit.script(model))
    scripted = torch.jit.script(model.train())
    _learns(scripted, scripted(images(3)).sum())


def is_traced_by_fx(make: Make) -> None:
    model = _made(make).eval()
    _same_elsewhere(model, fx.symbolic_trace(model))
    graph = fx.symbolic_trace(model.train())
    _learns(graph, graph(images(3)).sum())


def is_scripted_after_fx(make: Make) -> None:
    model = _made(make).eval()
    _same_elsewhere(model, torch.jit.script(fx.symbolic_trace(model)))


def has_nodes_for_torchvision(make: Make) -> None:
    model, x = _made(make).eval(), images()
    nodes = get_graph_node_names(model)[1]
    _close(create_feature_extractor(model, nodes[-1:])(x)[nodes[-1]], model(x))


def is_compiled(make: Make) -> None:
    model = _made(make).train()
    _learns(model, torch.compile(model, backend="aot_eager", fullgraph=True)(images(3)).sum())


def has_gradients_of_each_image(make: Make) -> None:
    model, x = _made(make).eval(), images()
    weights, buffers = dict(model.named_parameters()), dict(model.named_buffers())

    def loss(weights: dict[str, Tensor], image: Tensor) -> Tensor:
        return functional_call(model, (weights, buffers), (image[None],)).square().sum()  # type: ignore[no-any-return]

    detached = {name: weight.detach() for name, weight in weights.items()}
    together = vmap(grad(loss), (None, 0))(detached, x)
    for index, image in enumerate(x):
        alone = torch.autograd.grad(loss(weights, image), list(weights.values()))
        for (name, actual), expected in zip(together.items(), alone, strict=True):
            assert (actual[index] - expected).norm() <= 1e-3 * expected.norm() + 1e-4, name


def has_higher_derivatives(make: Make) -> None:
    fused, x = _made(make).eval(), images()
    set_fused_attn(False)  # torch's fused attention has only first derivatives
    try:
        model = _made(make).eval()
    finally:
        set_fused_attn(True)
    model.load_state_dict(fused.state_dict())
    output, tangent = jvp(model, (x,), (x,))
    _close(output, fused(x))
    with forward_ad.dual_level():
        _close(forward_ad.unpack_dual(model(forward_ad.make_dual(x, x))).tangent, tangent)
    (slope,) = torch.autograd.grad(model(x.requires_grad_()).square().sum(), x, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.square().sum(), x)
    assert curvature.any()


def trains_with_autocast(make: Make) -> None:
    for memory_format in (torch.channels_last, torch.contiguous_format):
        model = make(num_classes=CLASSES).to(memory_format=memory_format).train()
        with torch.autocast("cpu", torch.bfloat16):
            output = model(images(3).contiguous(memory_format=memory_format))
        _learns(model, output.float().square().sum())


def trains_in_any_precision(make: Make) -> None:
    for dtype in (torch.bfloat16, torch.float64):
        model = _made(make, dtype=dtype).train()
        assert {parameter.dtype for parameter in model.parameters()} == {dtype}
        _learns(model, model(images(3).to(dtype)).square().sum())


def is_copied(make: Make) -> None:
    model, x = _made(make).eval(), images()
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        _close(other(x), model(x))


def gets_another_classifier(make: Make) -> None:
    for device, dtype in (("cpu", torch.bfloat16), ("cpu", torch.float64), ("meta", torch.float32)):
        model = make(num_classes=CLASSES, device=device, dtype=dtype)
        for training, classes in ((True, 7), (False, 0), (False, 3)):
            model.train(training).reset_classifier(classes)
            assert model.num_classes == classes
            assert {module.training for module in model.modules()} == {training}
            assert {value.device.type for value in (*model.parameters(), *model.buffers())} == {device}
            assert {value.dtype for value in model.parameters()} == {dtype}
        assert model(images().to(device, dtype)).shape == (2, 3)


def is_described(make: Make) -> None:
    model = _made(make, in_chans=4, drop_rate=0.1).eval()
    assert (model.num_classes, model.in_chans) == (CLASSES, 4)
    assert model.default_cfg is model.pretrained_cfg
    features = model.forward_features(images(channels=4))
    assert features.shape[1] == model.num_features
    assert model.forward_head(features, pre_logits=True).shape == (2, model.head_hidden_size)
    headless = make(num_classes=0).eval()
    assert headless(images()).shape == (2, headless.head_hidden_size)
    names = [name for name, _ in model.named_parameters()]
    for coarse in (False, True):
        grouped = group_parameters(model, model.group_matcher(coarse=coarse))
        assert sorted(name for group in grouped.values() for name in group) == sorted(names)
    create_optimizer_v2(model, "adamw", lr=1.0, layer_decay=0.5)


# Each with the names of the networks that it is tried on: what timm's own layers do behind a front is not ours.
HABITS: dict[Callable[[Make], None], dict[str, Make]] = {
    is_traced: OWN,
    is_scripted: OWN,
    is_traced_by_fx: OWN | FRONTS,
    is_scripted_after_fx: OWN,
    has_nodes_for_torchvision: OWN,
    is_compiled: {"HR": OWN["HR"]},
    has_gradients_of_each_image: OWN,
    has_higher_derivatives: OWN,
    trains_with_autocast: OWN | FRONTS,
    trains_in_any_precision: OWN,
    is_copied: OWN | FRONTS,
    gets_another_classifier: OWN | FRONTS,
    is_described: OWN | FRONTS,
}
TRIALS = [
    pytest.param(make, habit, id=f"{name}-{habit.__name__}")
    for habit, of in HABITS.items()
    for name, make in of.items()
]


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")  # torch.func, where it loops
@pytest.mark.filterwarnings("ignore:The TorchScript type system:UserWarning")  # about modules of torch.fx
@pytest.mark.parametrize(("make", "habit"), TRIALS)
def test_a_network(make: Make, habit: Callable[[Make], None]) -> None:
    habit(make)


@pytest.mark.parametrize("feature_class", ["list", "dict", "hook", "fx", "getter"])
@pytest.mark.parametrize("spec", OWN_SPECS.values(), ids=OWN_SPECS)
def test_features_by_every_class_of_timm(spec: str, feature_class: str) -> None:
    model = timm.create_model("hirivit", spec=spec, features_only=True, feature_cls=feature_class).train()
    maps = model(images(3))
    maps = list(maps.values()) if isinstance(maps, dict) else maps
    assert [m.shape[1] for m in maps] == model.feature_info.channels()
    assert [SIDE // m.shape[2] for m in maps] == model.feature_info.reduction()
    sum(m.square().mean() for m in maps).backward()


@pytest.mark.parametrize(
    ("make", "arguments"),
    [
        *((OWN["HR"], {"feature_cls": name}) for name in ("list", "dict", "hook", "fx", "getter")),
        *((make, {}) for make in FRONTS.values()),
        (OWN["LN"], {"out_indices": (-2, -1)}),
        (OWN["LN"], {"out_indices": (0, 1)}),
    ],
)
def test_features_and_hidden_features_begin_from_the_checkpoint_of_a_classifier(
    make: Make, arguments: dict[str, Any], tmp_path: Path
) -> None:
    classifier, path, x = _made(make).eval(), tmp_path / "last.pt", images()
    torch.save({"model": classifier.state_dict(), "model_ema": None}, path)
    maps = make(features_only=True, checkpoint_path=path, **arguments).eval()(x)
    indices = arguments.get("out_indices")
    expected = classifier.forward_intermediates(x, indices, intermediates_only=True)
    for actual, wanted in zip(maps.values() if isinstance(maps, dict) else maps, expected, strict=True):
        _close(actual, wanted)
    hidden = make(num_classes=0, checkpoint_path=path).eval()(x)
    _close(hidden, classifier.forward_head(classifier.forward_features(x), pre_logits=True))


@pytest.mark.parametrize(("old", "new"), [("*2", ""), ("", "*2")], ids=["more blocks", "fewer blocks"])
def test_features_refuse_the_checkpoint_of_another_classifier(old: str, new: str, tmp_path: Path) -> None:
    torch.save(timm.create_model("hirivit", spec=OWN_SPECS["HR"] + old).state_dict(), tmp_path / "w.pth")
    with pytest.raises(RuntimeError, match=r"stages.3\.blocks\.1"):
        timm.create_model("hirivit", spec=OWN_SPECS["HR"] + new, features_only=True, checkpoint_path=tmp_path / "w.pth")


@pytest.mark.parametrize("name", OWN)
def test_maps_of_the_stages(name: str) -> None:
    model, x = _made(OWN[name]).eval(), images()
    final, maps = model.forward_intermediates(x)
    info = FeatureInfo(model.feature_info, len(maps))
    assert [m.shape[1] for m in maps] == info.channels()
    assert [SIDE // m.shape[2] for m in maps] == info.reduction()
    _close(final, model.forward_features(x))
    _close(maps[-1], final)
    some = partial(model.forward_intermediates, x, intermediates_only=True)
    for indices, expected in ((2, maps[-2:]), ([0, -2], [maps[0], maps[-2]]), ((1,), maps[1:2])):
        for stop_early in (False, True):
            for actual, wanted in zip(some(indices, stop_early=stop_early), expected, strict=True):
                _close(actual, wanted)
    assert model.forward_intermediates(x, [0], stop_early=True)[0].shape == maps[0].shape
    _close(some(1, norm=True)[0], model.head.norm(final))
    _close(some([0], norm=True)[0], maps[0])
    batch, channels, height, width = final.shape
    shapes = {"NHWC": (batch, height, width, channels), "NLC": (batch, height * width, channels)}
    for layout, shape in (shapes | {"NCL": (batch, channels, height * width)}).items():
        assert some(1, output_fmt=layout)[0].shape == shape
    _close(model.get_intermediate_layers(x, 2, reshape=True)[1], final)
    assert model.get_intermediate_layers(x)[0].shape == shapes["NLC"]
    with pytest.raises(ValueError, match="CHW"):
        some(output_fmt="CHW")


@pytest.mark.parametrize("indices", [1, 2, [0], [0, 1], [-1], (-2,)], ids=str)
@pytest.mark.parametrize("prune_norm", [False, True])
def test_stages_that_nobody_reads_are_pruned(indices: Any, prune_norm: bool) -> None:
    model, x = _made(OWN["HR"]).eval(), images()
    _, maps = model.forward_intermediates(x)
    taken = model.prune_intermediate_layers(indices, prune_norm=prune_norm)
    for index, actual in zip(taken, model.forward_intermediates(x, taken, intermediates_only=True), strict=True):
        _close(actual, maps[index])
    last = taken[-1]
    assert len(model.stages) == len(model.net.stages) == last + 1
    assert model.num_features == model.head_hidden_size == maps[last].shape[1]
    _close(model(x), maps[last])
    assert any(name.startswith("head.") for name in model.state_dict()) == (last == 3 and not prune_norm)
    model.reset_classifier(3, "avg")
    assert (model(x).shape, model.num_classes) == ((2, 3), 3)


def test_a_head_whose_stages_all_stay_may_stay() -> None:
    model, x = _made(OWN["HR"]).eval(), images()
    expected = model(x)
    assert model.prune_intermediate_layers([0, 3], prune_head=False) == [0, 3]
    _close(model(x), expected)


@pytest.mark.parametrize("name", [*SPECS, *HR_FRONT_LAYERS])
def test_a_registered_name_is_built_on_its_device_and_in_its_dtype(name: str) -> None:
    model = timm.create_model(name, device="meta", dtype=torch.bfloat16).eval()
    values = [*model.parameters(), *model.buffers()]
    assert {value.device.type for value in values} == {"meta"}
    assert {value.dtype for value in values if value.is_floating_point()} == {torch.bfloat16}
    maps = model.forward_intermediates(images(1).to("meta", torch.bfloat16), intermediates_only=True)
    assert [m.shape[1] for m in maps] == [info["num_chs"] for info in model.feature_info]


@pytest.mark.parametrize("side", [SIDE, 2 * SIDE])
def test_a_batch_of_one_image_cannot_be_trained_on(side: int) -> None:
    model = _made(OWN["HR"]).train()
    with pytest.raises(ValueError, match=r"BatchNorm behind the pool .* give two images or more, or write model\.eval"):
        model(images(1, side))
    model.reset_classifier(CLASSES, "")
    assert model(images(1, side)).shape[0] == 1, "each position is a value"
    model.reset_classifier(CLASSES, "avg")
    model.head.bn.eval()
    assert model(images(1, side)).shape == (1, CLASSES), "a frozen BatchNorm takes any batch"
