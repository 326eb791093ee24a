"""A trial of detection or segmentation is exported: the code of its card gives the outputs of the trained network."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from hiri_search.cli.main import main
from hiri_search.language import parse_network
from hiri_search.networks import build
from hiri_search.study.ledger.ledger import read_ledger, trials
from tests.own_code import MIX, forget_code, own_kinds, write_blocks
from tests.study.provenance.folders import trained

BACKBONE = "hr(32 e=2) -> hr(32 e=2) -> cffn(64 e=2) -> t(64 e=2)"
STUDY = """
imports: [my_blocks.py]
nets: {%s}
counted: {side: 128x64}
proxy: {width: 4, side: 64}
data: {train: 8, val: 4}
recipe: {epochs: 1, batch: 4, warmup_epochs: 0, ema: 0}
seeds: 1
"""
ROWS = {
    "detection": f"mix: mask_rcnn:{BACKBONE.replace('cffn(64 e=2)', 'mix(64)')}",
    "segmentation": f"ours: upernet:{BACKBONE}, timm's: 'upernet:timm:test_resnet'",
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    folder = tmp_path_factory.mktemp("dense")
    write_blocks(folder, MIX)
    with own_kinds():
        yield {task: trained(folder / task, STUDY % rows + f"task: {task}") for task, rows in ROWS.items()}


def _code(results: dict[str, Path]) -> tuple[str, str]:
    return "--import", str(results["detection"].parent / "my_blocks.py")


def _export(results: Path, trial: str, target: Path, *options: str, code: int = 0) -> str:
    """Export a trial; return its model card."""
    with pytest.raises(SystemExit) as ended:
        main(["export", str(results), trial, "-o", str(target), *options])
    assert ended.value.code == code
    return "" if code else (target / "README.md").read_text()


def _trained(results: Path, number: int) -> torch.nn.Module:
    trial = trials(read_ledger(results).events)[number]
    saved = torch.load(results / trial.asked.checkpoint)["model"]
    spec, side = trial.network.trained.spec, trial.network.trained.side
    classes = read_ledger(results).events[0].images.classes  # type: ignore[union-attr]
    model = build(parse_network(spec), side, classes=classes)
    model.load_state_dict(saved)
    return model.eval()


@pytest.mark.parametrize(("task", "row"), [("detection", 0), ("segmentation", 0), ("segmentation", 1)])
@torch.no_grad()
def test_the_code_of_the_card_gives_the_outputs_of_the_trained_network(
    task: str, row: int, results: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = _export(results[task], str(row), tmp_path / "net", *_code(results))
    Image.effect_noise((90, 60), 60).save(tmp_path / "image.jpg")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for code in re.findall(r"```python\n(.*?)```", card, re.DOTALL):
        exec(code, names)
    model, images = _trained(results[task], row), names["image"][None]
    assert images.shape == (1, 3, 64, 64)
    (output,), (expected,) = names["outputs"], model(images)
    for actual, wanted in zip(_tensors(output), _tensors(expected), strict=True):
        assert torch.equal(actual, wanted)
    body = next(module for module in model.modules() if type(module).__name__ == "BackboneBody")
    for actual, wanted in zip(names["backbone"].eval()(images)[-3:], body(images)[-3:], strict=True):
        assert torch.equal(actual, wanted)


def _tensors(output: Any) -> list[torch.Tensor]:
    return [output] if isinstance(output, torch.Tensor) else [output[name] for name in sorted(output)]


def test_the_folder_says_what_the_network_is(results: dict[str, Path], tmp_path: Path) -> None:
    card = _export(results["detection"], "mix", tmp_path / "net", "--hf", *_code(results))
    about = json.loads((tmp_path / "net" / "dense.json").read_text())
    assert about["spec"].startswith("mask_rcnn(w=64 regions=250 norm=bn):hrstem(")
    assert (about["task"], about["side"], about["classes"]) == ("detection", 64, len(about["class_names"]))
    config = json.loads((tmp_path / "net" / "config.json").read_text())
    assert (config["architecture"], config["num_classes"]) == ("hirivit", 0)
    assert 'pipeline_tag: "object-detection"' in card
    assert "`masks` (N, 1, height, width)" in card
    assert "`model.safetensors` also has initial values, which were not trained" in card
    assert re.search(r"\nbox AP: [\d.]+ % on 4 validation images \(standard error over images [\d.]+ %\)\n", card)
    assert re.search(r"\nstand-in for: mask_rcnn:.* multiply-adds at 128 x 64 pixels\), which was not trained\n", card)


def test_what_cannot_be_exported_is_refused(
    results: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    _export(results["detection"], "mix", tmp_path / "net", "--onnx", *_code(results), code=2)
    message = "--onnx writes classifiers and networks for segmentation, not Mask R-CNN; leave it out"
    assert message in capfd.readouterr().err
    with own_kinds():  # as in a process that has not imported the code
        forget_code()
        _export(results["detection"], "mix", tmp_path / "net", code=2)
    assert "own code is not imported: my_blocks.py; give it with --import" in capfd.readouterr().err
    assert not (tmp_path / "net").exists()


@pytest.mark.slow
def test_onnx_of_segmentation_gives_the_logits_of_each_pixel(results: dict[str, Path], tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    card = _export(results["segmentation"], "ours", tmp_path / "net", "--onnx")
    session = runtime.InferenceSession(tmp_path / "net" / "model.onnx", providers=["CPUExecutionProvider"])
    images = torch.randn(3, 3, 64, 64)
    (logits,) = session.run(None, {"images": images.numpy()})
    with torch.no_grad():
        expected = _trained(results["segmentation"], 0)(images)
    assert torch.allclose(torch.from_numpy(logits), expected, atol=1e-4)
    assert f"returns `logits` (B, {expected.shape[1]}, 64, 64)" in card
