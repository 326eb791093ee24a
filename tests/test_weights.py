"""Weights to begin with, timm's own or of a file, fit classifiers, dense networks and their backbones."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor

from hiri_search.language import SpecError, parse_network
from hiri_search.nets.dense.body import backbone_in
from hiri_search.nets.weights_file import WeightsError, read_weights
from hiri_search.networks import build
from hiri_search.weights import Fitted, fitted, pretrained_weights
from tests.timm_cache import put, use_cache

VIT, RESNET = parse_network("timm:test_vit"), parse_network("timm:test_resnet")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    use_cache(tmp_path, monkeypatch)
    return tmp_path


def test_pretrained_weights_are_those_in_the_cache_of_timm(cache: Path) -> None:
    state, random = put("test_resnet", cache), torch.random.get_rng_state()
    weights = pretrained_weights(RESNET, True)
    assert weights.name == "timm:test_resnet.r160_in1k"
    assert pretrained_weights(RESNET, "r160_in1k").fingerprint == weights.fingerprint
    assert all(torch.equal(state[name], value) for name, value in weights.values.items())
    assert torch.equal(random, torch.random.get_rng_state()), "a training's own random numbers stay"
    put("test_resnet", cache)
    assert pretrained_weights(RESNET, True).fingerprint != weights.fingerprint
    assert "normalised by mean 0.5, 0.5, 0.5 and std 0.5, 0.5, 0.5; here" in weights.note


@pytest.mark.parametrize(("side", "adapted"), [(160, ""), (64, "pos_embed (1x101x64 -> 1x17x64)")])
@pytest.mark.parametrize("pretrained", [True, False], ids=["timm's", "a file"])
def test_positions_are_resized_for_another_side_and_the_rest_is_kept(
    side: int, adapted: str, pretrained: bool, cache: Path
) -> None:
    state = put("test_vit", cache)
    torch.save({"state_dict": state}, cache / "w.pth")
    weights = pretrained_weights(VIT, True) if pretrained else read_weights(str(cache / "w.pth"))
    model = build(VIT, side, classes=4)
    values = fitted(weights, VIT, side, model).values
    assert weights.changed(values) == adapted
    assert {name for name in model.state_dict() if name not in values} == {"head.weight", "head.bias"}
    assert {name for name, value in values.items() if not torch.equal(value, state[name])} == {"pos_embed"} & {
        adapted.partition(" ")[0]
    }
    resized = timm.create_model(
        "test_vit", pretrained=True, img_size=side, pretrained_cfg_overlay={"file": str(cache / "w.pth")}
    )
    assert torch.equal(values["pos_embed"], resized.pos_embed)


NO_PRETRAINED = [
    ("hr(32 e=4)", True, SpecError, "timm has no weights for 'hr.*; write recipe: {pretrained: true} in rows of timm"),
    ("timm:hirivit_small", True, SpecError, "has no weights for 'timm:hirivit_small'; leave it out"),
    ("timm:test_vit", "a1_in1k", SpecError, "a1_in1k is no tag of 'timm:test_vit'; write r160_in1k"),
    ("timm:test_vit embed_dim=32", True, WeightsError, "write other arguments.*size mismatch for cls_token"),
    ("timm:test_vit2", True, WeightsError, r"connect this machine .*recipe.weights .*\(LocalEntryNotFoundError"),
]


@pytest.mark.parametrize(("spec", "tag", "error", "message"), NO_PRETRAINED)
def test_weights_that_cannot_be_had(
    spec: str, tag: bool | str, error: type[Exception], message: str, cache: Path
) -> None:
    put("test_vit", cache)
    with pytest.raises(error, match=message):
        pretrained_weights(parse_network(spec), tag)


def test_weights_of_another_network_are_refused_after_timm_has_tried(cache: Path) -> None:
    torch.save(put("test_resnet", cache), cache / "w.pth")
    with pytest.raises(WeightsError, match="another network's weights; missing there: cls_token"):
        fitted(read_weights(str(cache / "w.pth")), VIT, 64, build(VIT, 64))


SPEC = "hr(8 e=2) -> hr(8 e=2) -> cffn(16 e=2) -> t(16 e=2 d=16)"
RETINANET = f"retinanet(w=16 norm=bn):{SPEC}"
SIDE, CLASSES = 64, 3


def _fitted(source: str, target: str, path: Path, *, classes: int = CLASSES, prefix: str = "") -> Fitted:
    """Save a network for some classes, for 0 without its last layers, and fit it to the other network."""
    state = build(parse_network(source), SIDE, classes=classes or CLASSES + 1).state_dict()
    network = parse_network(target)
    model = build(network, SIDE, classes=CLASSES)
    if not classes:
        state = {name: value for name, value in state.items() if value.shape == model.state_dict()[name].shape}
    torch.save({"model": {prefix + name: value for name, value in state.items()}}, path / "w.pth")
    return fitted(read_weights(str(path / "w.pth")), network, SIDE, model)


BACKBONES = {
    "a classifier": (SPEC, RETINANET, "", r"left out: head\.norm\.weight, .*and 8 more"),
    "a classifier with a prefix": (
        SPEC,
        f"upernet(w=16):{SPEC}",
        "encoder.",
        r"left out: encoder\.head\.norm\.weight, ",
    ),
    "timm's": ("timm:test_resnet", "atss(w=16):timm:test_resnet", "", r"left out: fc\.weight, fc\.bias"),
    "another method": (RETINANET, f"atss(w=16):{SPEC}", "", r"left out: backbone\.norms\.0\.weight, "),
}


@pytest.mark.parametrize(("source", "target", "prefix", "left_out"), BACKBONES.values(), ids=BACKBONES)
def test_the_backbone_of_a_dense_network_begins_from(
    source: str, target: str, prefix: str, left_out: str, tmp_path: Path
) -> None:
    found = _fitted(source, target, tmp_path, prefix=prefix)
    start, backbone = backbone_in(build(parse_network(target), SIDE, classes=CLASSES))
    assert found.values.keys() == {start + name for name in backbone.state_dict()}
    saved = torch.load(tmp_path / "w.pth")["model"]
    name = next(iter(backbone.state_dict()))
    assert any(key.endswith(name) and torch.equal(found.values[start + name], value) for key, value in saved.items())
    assert (found.classes, found.remarks[0]) == (None, "only the backbone begins from it")
    assert re.match(left_out, found.remarks[1])


METHODS = {method: f"{method}(w=16 norm=bn):{SPEC}" for method in ("retinanet", "mask_rcnn", "upernet")}


@pytest.mark.parametrize("network", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize("classes", [CLASSES, 5, 0])
def test_a_dense_network_begins_from_its_own_kind_but_for_the_layers_of_other_classes(
    network: str, classes: int, tmp_path: Path
) -> None:
    found = _fitted(network, network, tmp_path, classes=classes)
    model = build(parse_network(network), SIDE, classes=CLASSES)
    saved: dict[str, Tensor] = torch.load(tmp_path / "w.pth")["model"]
    anew = {name for name in model.state_dict() if name not in found.values}
    assert bool(anew) == (classes != CLASSES)
    assert all(name not in saved or saved[name].shape != model.state_dict()[name].shape for name in anew)
    assert (found.classes, found.remarks) == (classes, ())


OTHERS = {
    "a wider backbone": (SPEC.replace("cffn(16", "cffn(32"), RETINANET, r"of another shape: stages\.2\."),
    "other blocks": (SPEC.replace("cffn(16 e=2)", "hr(16 e=2)"), RETINANET, r"missing there: stages\.2\."),
    "a deeper backbone": (SPEC + "*2", RETINANET, r"not in the network: stages\.3\.blocks\.1\."),
    "a network of timm": ("timm:test_resnet", RETINANET, r"missing there: stem\.entry"),
    "a wider one of its kind": (RETINANET.replace("t(16", "t(32"), RETINANET, r"of another shape: stages\.3\."),
}


@pytest.mark.parametrize(("source", "target", "message"), OTHERS.values(), ids=OTHERS)
def test_weights_of_another_backbone_are_refused(source: str, target: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=f"w.pth holds another network's weights; .*{message}"):
        _fitted(source, target, tmp_path)


def test_the_backbone_of_a_dense_network_begins_from_the_weights_of_timm(cache: Path) -> None:
    state, network = put("test_resnet", cache), parse_network("retinanet:timm:test_resnet")
    found = fitted(pretrained_weights(network, True), network, SIDE, build(network, SIDE, classes=CLASSES))
    start, _ = backbone_in(build(network, SIDE))
    assert all(torch.equal(value, state[name.removeprefix(start)]) for name, value in found.values.items())
    with pytest.raises(SpecError, match=f"timm has no weights for '{re.escape(SPEC)}'"):
        pretrained_weights(parse_network(RETINANET), True)
