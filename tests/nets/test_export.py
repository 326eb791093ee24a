"""A trained network is exported: as a checkpoint for timm, with torch.export, and as ONNX."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.models import load_checkpoint
from torch import Tensor, nn

from hiri_search.language import parse_net
from hiri_search.models import paper_net
from hiri_search.nets.fuse_batchnorm import fuse_batchnorm
from hiri_search.nets.hirivit import build_hirivit
from hiri_search.training.data.loader import open_loader
from hiri_search.training.data.prepare import prepare
from hiri_search.training.job import DataSource, Epoch, Job
from hiri_search.training.loop import train
from hiri_search.training.recipe import Recipe
from tests.nets.variants import images, randomised_net, relative_error

SMALL = paper_net("hirivit_small").scaled_down(width=8, depth=9)
JOB = Job(SMALL.canonical_text, 64, 4, 0, Recipe(epochs=2, batch=16, lr=4e-3), DataSource("drawn", train=64, val=48))
NETS = {
    "S": SMALL,
    "LayerNorms": parse_net("convstem(hs=8) -> cffn(16 e=2 norm=ln) -> t(32 e=2 d=8 sr=2 norm=ln down=conv)"),
    "plain": parse_net("vitstem -> hr(16 e=2 r=1) -> t(32 e=2 d=8 ffn=plain norm=bn down=a s=1)"),
}
# The layers of S and of LayerNorms in one network, because an export as ONNX takes seconds.
BOTH = parse_net(
    "hr(8 e=2) -> cffn(16 e=2 norm=ln down=conv) -> t(32 e=2 d=8 sr=2 norm=ln down=a) -> t(32 e=2 d=8 down=b)"
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Epoch, list[tuple[Tensor, Tensor]]]:
    """Return a checkpoint, the last epoch of its trial, and the validation batches."""
    folder = tmp_path_factory.mktemp("trained")
    prepared = prepare(JOB.data, JOB.side, folder / "images", classes=JOB.classes)
    last = train(JOB, prepared, folder / "last.pt")[-1]
    batches = open_loader(JOB.data, prepared, side=JOB.side, recipe=JOB.recipe, device=torch.device("cpu"))
    return folder / "last.pt", last, list(batches.val())


def _top1(model: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> float:
    with torch.no_grad():
        correct = torch.cat([model.eval()(images).argmax(1) == labels for images, labels in batches])
    return 100 * float(correct.double().mean())


def _weights(checkpoint: Path, *, ema: bool) -> dict[str, Tensor]:
    """Return the weights that timm loads: with `ema` the moving average, where the checkpoint has one."""
    content = torch.load(checkpoint, weights_only=True)
    weights: dict[str, Tensor] = (content.get("model_ema") if ema else None) or content["model"]
    return weights


@pytest.mark.parametrize("ema", [True, False])
def test_timm_loads_a_checkpoint(trained: Any, ema: bool) -> None:
    checkpoint, last, batches = trained
    reference = build_hirivit(SMALL, classes=JOB.classes).eval()
    reference.load_state_dict(_weights(checkpoint, ema=ema))
    if ema:
        model = timm.create_model(
            "hirivit", spec=JOB.spec, num_classes=JOB.classes, checkpoint_path=str(checkpoint)
        ).eval()
    else:
        model = timm.create_model("hirivit", spec=JOB.spec, num_classes=JOB.classes).eval()
        load_checkpoint(model, str(checkpoint), use_ema=False)
    with torch.no_grad():
        assert torch.equal(model(images(height=64)), reference(images(height=64)))
    averaged = ema and "model_ema" in torch.load(checkpoint, weights_only=True)
    assert _top1(model, batches) == pytest.approx(last.scores["ema_top1"] if averaged else last.scores["top1"])


def test_a_trained_network_is_fused(trained: Any) -> None:
    model = build_hirivit(SMALL, classes=JOB.classes).eval()
    model.load_state_dict(_weights(trained[0], ema=False))
    with torch.no_grad():
        assert relative_error(fuse_batchnorm(model)(images(height=64)), model(images(height=64))) < 1e-5


@cache
def _model(name: str, fused: bool) -> nn.Module:
    model = randomised_net(BOTH if name == "S and LayerNorms" else NETS[name])
    return fuse_batchnorm(model) if fused else model


BATCH = ({0: torch.export.Dim("batch", min=1, max=64)},)


def _check(model: nn.Module, exported: Callable[[Tensor], Tensor], within: float) -> None:
    """Assert equal outputs for batch sizes other than the exported one."""
    with torch.no_grad():
        for count in (1, 2, 5):
            assert relative_error(exported(images(count, 64)), model(images(count, 64))) < within


@pytest.mark.parametrize("fused", [False, True], ids=["unfused", "fused"])
@pytest.mark.parametrize("name", NETS)
def test_a_network_is_exported_by_torch(name: str, fused: bool) -> None:
    model = _model(name, fused)
    program = torch.export.export(model, (images(2, 64),), dynamic_shapes=BATCH)
    _check(model, program.module(), 1e-5)


def test_features_are_exported_by_torch() -> None:
    model = timm.create_model("hirivit", spec=str(SMALL), features_only=True).eval()
    program = torch.export.export(model, (images(2, 64),), dynamic_shapes=BATCH)
    with torch.no_grad():
        for actual, expected in zip(program.module()(images(3, 64)), model(images(3, 64)), strict=True):
            assert relative_error(actual, expected) < 1e-5


ONNX = [
    *(pytest.param(name, fused, marks=pytest.mark.slow) for name in NETS for fused in (False, True)),
    ("S and LayerNorms", True),
]


@pytest.mark.parametrize(("name", "fused"), ONNX)
def test_a_network_is_exported_as_onnx(name: str, fused: bool, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    model, path = _model(name, fused), tmp_path / "net.onnx"
    torch.onnx.export(model, (images(2, 64),), path, dynamo=True, dynamic_shapes=BATCH, verbose=False)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0].name
    _check(model, lambda x: torch.from_numpy(session.run(None, {entry: x.numpy()})[0]), 1e-4)
