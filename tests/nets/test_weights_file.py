"""Files of weights: what timm's `checkpoint_path` takes is read, and anything else is refused with what was found."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from hiri_search.language import parse_net, parse_network
from hiri_search.nets.hirivit import build_hirivit
from hiri_search.nets.weights_file import WeightsError, read_weights
from hiri_search.networks import build
from tests.nets.variants import HR_FRONT_NETWORKS

SPEC = "vitstem -> hr(8 e=2) -> t(8 e=2 d=8)"
CLASSES = 5
State = dict[str, Tensor]


def _network(spec: str = SPEC, *, classes: int = CLASSES) -> nn.Module:
    return build_hirivit(parse_net(spec), classes=classes).eval()


def _prefixed(prefix: str, state: State) -> State:
    return {prefix + name: value for name, value in state.items()}


def _zeros(state: State) -> State:
    return {name: torch.zeros_like(value) for name, value in state.items()}


# What torch.save gets for a network's state dict.
CHECKPOINTS: dict[str, Callable[[State], Any]] = {
    "a state dict": lambda state: state,
    "of timm's training": lambda state: {"state_dict": state, "epoch": 3, "args": argparse.Namespace(lr=0.1)},
    "under model": lambda state: {"model": state, "optimizer": {}},
    "averaged, of timm's training": lambda state: {"state_dict": _zeros(state), "state_dict_ema": state},
    "averaged, of a trial": lambda state: {"model": _zeros(state), "model_ema": state, "curve": [], "parts": 1},
    "of a trial without an average": lambda state: {"model": state, "model_ema": None, "curve": [], "parts": 1},
    "parallel": lambda state: {"state_dict": _prefixed("module.", state)},
    "compiled": lambda state: _prefixed("_orig_mod.", state),
    "parallel and compiled": lambda state: _prefixed("module._orig_mod.", state),
    "compiled and parallel": lambda state: {"model": _prefixed("_orig_mod.module.", state)},
    "without counters of BatchNorm": lambda state: {k: v for k, v in state.items() if not k.endswith("_tracked")},
    "in double precision": lambda state: {k: v.double() if v.is_floating_point() else v for k, v in state.items()},
}


def _loaded(path: Path, *, into: nn.Module) -> set[str]:
    """Load a file as a training does; return the names of what keeps its initial value."""
    fitting = read_weights(str(path)).fitting(into)
    into.load_state_dict(fitting, strict=False)
    return {name for name in into.state_dict() if name not in fitting}


@pytest.mark.parametrize("content", CHECKPOINTS.values(), ids=CHECKPOINTS)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_checkpoint_is_loaded(content: Callable[[State], Any], zipped: bool, tmp_path: Path) -> None:
    saved, network = _network(), _network()
    torch.save(content(saved.state_dict()), tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    assert all(name.endswith("_tracked") for name in _loaded(tmp_path / "w.pth", into=network))
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(network(images), saved(images))


def test_safetensors_and_the_users_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved, network = _network(), _network()
    save_file(saved.state_dict(), tmp_path / "w.safetensors")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert _loaded(Path("~/w.safetensors"), into=network) == set()
    assert torch.equal(network.head.fc.weight, saved.head.fc.weight)


@pytest.mark.parametrize("text", [SPEC, *HR_FRONT_NETWORKS.values(), "timm:efficientformerv2_s0"])
@pytest.mark.parametrize("classes", [3, CLASSES, 0])
def test_a_last_layer_for_other_classes_begins_anew(text: str, classes: int, tmp_path: Path) -> None:
    saved = build(parse_network(text), 64, classes=CLASSES)
    network = build(parse_network(text), 64, classes=classes or CLASSES)
    state = saved.state_dict()
    if not classes:
        saved.reset_classifier(0)
        state = {name: value for name, value in state.items() if name in saved.state_dict()}
    torch.save(state, tmp_path / "w.pth")
    file, anew = read_weights(str(tmp_path / "w.pth")), _loaded(tmp_path / "w.pth", into=network)
    shapes = {name: value.shape for name, value in state.items()}
    assert anew == {name for name, value in network.state_dict().items() if shapes.get(name) != value.shape}
    assert bool(anew) == (classes != CLASSES)
    assert file.classes(network) == (CLASSES if classes else 0)


class _Code:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("ran",)


def _half(path: Path) -> None:
    torch.save(_network().state_dict(), path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _saved(content: Any) -> Callable[[Path], None]:
    return lambda path: torch.save(content, path)


CODE = r"holds objects whose code would be run \("
REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "empty": (lambda path: path.write_bytes(b""), "is damaged, or is no such file"),
    "text": (lambda path: path.write_text("hello"), "is damaged, or is no such file"),
    "a page": (lambda path: path.write_text("<html>404</html>"), "is damaged, or is no such file"),
    "half": (_half, "is damaged, or is no such file"),
    "code": (_saved({"state_dict": {}, "hook": _Code()}), CODE + r"(posix|nt)\.mkdir\)"),
    "a whole network": (_saved(nn.Linear(2, 2)), CODE + r".*torch\.nn\.modules\.linear\.Linear"),
    "TorchScript": (lambda path: torch.jit.save(torch.jit.script(nn.Linear(2, 2)), path), "is a TorchScript archive"),
    "a tensor": (_saved(torch.ones(2)), "holds no state dict"),
    "a list": (_saved([1]), "holds no state dict"),
    "a folder": (Path.mkdir, "is a folder"),
    "a pipe": (os.mkfifo, "is no regular file"),
    "not finite": (_saved({"a": torch.ones(2), "b": torch.tensor([1, torch.nan])}), "holds NaN or infinity in b;"),
    "infinite": (_saved({"a": torch.ones(2), "b": torch.tensor([1, torch.inf])}), "holds NaN or infinity in b;"),
    "a counter beside weights": (_saved({"a": torch.ones(2), "epoch": 3}), "holds values that are no weights: epoch;"),
    "of no device": (_saved({"a": torch.ones(2, device="meta")}), "holds values that are no weights: a;"),
    "nothing": (_saved(None), "holds no state dict"),
    "a name for a network": (_saved({"model": "vit", "epoch": 1}), "holds no state dict"),
    "no weights": (_saved({}), "holds no weights"),
    "settings": (
        _saved({"epoch": 1, "lr": 0.1, "seed": 3, "batch": 4}),
        "holds values that are no weights: epoch, lr, seed, and 1 more",
    ),
}


@pytest.mark.filterwarnings("ignore:'torch.load' received a zip file that looks like a TorchScript:UserWarning")
@pytest.mark.parametrize(("write", "expected"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_another_file_is_refused(
    write: Callable[[Path], Any], expected: str, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / f"w{suffix}"
    write(path)
    expected = expected if suffix == ".pth" else "is|holds objects"
    with pytest.raises(WeightsError, match=f"weights=.*w{suffix} ({expected})"):
        read_weights(str(path))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(("name", "error"), [("missing.pth", FileNotFoundError), ("w.pth/w", NotADirectoryError)])
def test_a_file_that_cannot_be_opened_is_an_error_of_the_system(
    name: str, error: type[OSError], tmp_path: Path
) -> None:
    (tmp_path / "w.pth").write_bytes(b"")
    with pytest.raises(error):
        read_weights(str(tmp_path / name))


OTHERS = {
    "wider": (
        SPEC.replace("t(8", "t(16"),
        r"of another shape: stages\.1\..* \(16 there, 8 in the network\), .*, and [0-9]+ more$",
    ),
    "deeper": (SPEC + "*2", r"not in the network: stages\.1\.blocks\.1\.norm1\.weight, "),
    "shorter": (SPEC.partition(" -> t")[0], r"missing there: stages\.1\..*, and [0-9]+ more"),
    "another norm": (SPEC.replace("d=8", "d=8 norm=ln"), r"missing there: .*norm2\.running_mean"),
    "another stem": (SPEC.replace("vitstem", "convstem"), "missing there: stem.*; not in the network: stem"),
}


@pytest.mark.parametrize(("spec", "expected"), OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("classes", [CLASSES, 3])
def test_weights_of_another_network_are_refused(spec: str, expected: str, classes: int, tmp_path: Path) -> None:
    torch.save(_network(spec, classes=classes).state_dict(), tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=f"w.pth holds another network's weights; .*{expected}"):
        read_weights(str(tmp_path / "w.pth")).fitting(_network())
