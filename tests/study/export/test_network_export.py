"""A trial is exported: timm and ONNX Runtime give the logits of its network, and the card says where it comes from."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml

from hiri_search.cli.main import main
from hiri_search.language import parse_network
from hiri_search.networks import build
from hiri_search.study.ledger.events import Event, TrialPaused
from hiri_search.study.ledger.ledger import read_ledger, trials
from tests.own_code import MIX, NETWORK, own_kinds, write_blocks
from tests.study.provenance.folders import Events, rewrite, trained

STUDY = """
title: "# Not a heading"
nets:
  ours: {spec: hr(32 e=4) -> t(64 e=4), recipe: {ema: 0.5}}
  timm's: "timm:test_vit"
counted: {side: 64, classes: 10}
proxy: {width: 4, side: 32, classes: 4}
data: {source: drawn, train: 32, val: 16, test: 24}
recipe: {epochs: 1, batch: 16, warmup_epochs: 0, ema: 0.0}
seeds: 2
"""
OWN = "imports: [my_blocks.py]" + STUDY.replace("hr(32 e=4) -> t(64 e=4)", "mix(32 k=5)").replace(
    "test_vit", "my_network"
)
LOAD = """
import json, sys, timm, torch
import hiri_search.models
images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
models = [timm.create_model("local-dir:" + folder, pretrained=True).eval() for folder in sys.argv[1:]]
with torch.no_grad():
    print(json.dumps([model(images).tolist() for model in models]))
print(json.dumps([timm.data.resolve_model_data_config(model)["input_size"] for model in models]))
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("export") / "results", STUDY)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Path]:
    write_blocks(tmp_path, MIX + NETWORK)
    with own_kinds():
        trained(tmp_path / "results", OWN)
    with own_kinds():
        yield tmp_path


def _export(results: Path, trial: str, target: Path, *options: str, code: int = 0) -> Path:
    with pytest.raises(SystemExit) as ended:
        main(["export", str(results), trial, "-o", str(target), *options])
    assert ended.value.code == code
    return target


def _images(count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def _logits(results: Path, number: int, *, ema: bool = False) -> torch.Tensor:
    """Return the logits of a trial's network, built and loaded as in its training."""
    trial = trials(read_ledger(results).events)[number]
    model = build(parse_network(trial.network.trained.spec), 32, classes=4).eval()
    model.load_state_dict(torch.load(results / trial.asked.checkpoint)["model_ema" if ema else "model"])
    with torch.no_grad():
        return model(_images())  # type: ignore[no-any-return]


def test_timm_builds_the_network_in_a_fresh_process(results: Path, tmp_path: Path) -> None:
    folders = [
        _export(results, "ours:1", tmp_path / "plain"),
        _export(results, "ours:1", tmp_path / "averaged", "--ema"),
        _export(results, "timm's:0", tmp_path / "vit", "--hf"),
    ]
    command = [sys.executable, "-c", LOAD, *map(str, folders)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3])
    logits, sizes = map(json.loads, done.stdout.splitlines())
    expected = [_logits(results, 1), _logits(results, 1, ema=True), _logits(results, 2)]
    assert all(torch.equal(torch.tensor(got), wanted) for got, wanted in zip(logits, expected, strict=True))
    assert not torch.equal(expected[0], expected[1])
    assert sizes == [[3, 32, 32]] * 3


def test_onnx_runtime_gives_the_logits_of_any_batch(results: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    folder = _export(results, "0", tmp_path / "onnx", "--onnx")
    assert sorted(path.name for path in folder.iterdir()) == [
        *("README.md", "config.json", "model.onnx", "model.safetensors")
    ]
    session = runtime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"images": _images().numpy()})
    assert torch.allclose(torch.from_numpy(logits), _logits(results, 0), atol=1e-4)
    assert session.run(None, {"images": _images(5).numpy()})[0].shape == (5, 4)


def test_the_card_says_what_the_network_is_and_where_it_comes_from(results: Path, tmp_path: Path) -> None:
    ledger = read_ledger(results)
    best = max(trials(ledger.events), key=lambda trial: trial.curve[-1].scores["top1"])
    card = (_export(results, "best", tmp_path / "net", "--hf") / "README.md").read_text()
    _, head, text = card.split("---\n", 2)
    metadata = yaml.safe_load(head)
    value = best.curve[-1].test_scores["top1"]
    assert metadata["model-index"][0]["results"][0]["metrics"][0]["value"] == value
    assert [line for line in text.splitlines() if line.startswith("#") and not line.startswith("##")] == ["# net"]
    for line in (
        f"parameters: {best.network.trained.params}",
        f"top-1: {best.curve[-1].scores['top1']:.2f} % on 16 validation images (95% interval over images ",
        f"test top-1: {value:.2f} % on 24 test images (95% interval over images ",
        "note: the network was chosen by this score as the best of 4 trials",
        "images: 32 train, 16 val, 24 test",
        "study: # Not a heading",
        f"trial: {best.number}: {best.network.name}, seed {best.asked.seed}",
        f"ledger: SHA-256 {ledger.sum.sha256} of {len(ledger.lines)} lines",
    ):
        assert f"\n{line}" in text


REFUSED = {
    "unknown number": ("9", (), "there is no trial '9': trials have the numbers 0 to 3; write the number of a trial"),
    "unknown row": ("our", (), "there is no trial 'our': .*, and networks are named ours; write"),
    "unknown seed": ("ours:7", (), "there is no trial 'ours:7'"),
    "several": ("ours", (), r"'ours' names several trials: 0 \(ours, seed 0\), 1 \(ours, seed 1\); write the number"),
    "no average": ("2", ("--ema",), "has no averaged weights, because recipe.ema is 0"),
    "nothing kept": ("3", (), r"checkpoints: auto keeps others; .*; there are those of 0 \(ours, seed 0\), 1"),
    "paused": ("1", (), "trial 1 is paused: 1 of its epochs are trained; choose a trial that has finished"),
    "no folder": ("0", (), "exists; give a new folder with --output"),
}


@pytest.mark.parametrize(("trial", "options", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_exported_is_refused(
    trial: str, options: tuple[str, ...], message: str, results: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    checkpoint = results / trials(read_ledger(results).events)[3].asked.checkpoint
    changed, target = tmp_path / "changed", tmp_path / "there"
    subprocess.run(["cp", "-r", results, changed], check=True)
    (changed / checkpoint.relative_to(results)).unlink()
    if "paused" in message:
        rewrite(changed, _paused, forged=True)
    if "new folder" in message:
        target.mkdir()
        (target / "file").touch()
    before = sorted(tmp_path.rglob("*"))
    _export(changed, trial, target, *options, code=2)
    assert sorted(tmp_path.rglob("*")) == before
    assert re.search(message, capfd.readouterr().err)


def _paused(events: Events) -> Iterator[Event]:
    """Take the end of trial 1 away, as if it waited on a rung."""
    for event in events:
        if event.event == "finished" and event.trial == 1:  # type: ignore[union-attr]
            yield TrialPaused(trial=1, curve=event.curve)  # type: ignore[union-attr]
        else:
            yield event


@pytest.mark.filterwarnings("ignore:Overwriting my_network")  # the run has registered it too
def test_code_of_the_user_is_imported_only_where_it_is_given(own: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for row in ("ours:0", "timm's:0"):
        _export(own / "results", row, own / "net", code=2)
        message = "own code is not imported: my_blocks.py; give it with --import, if you trust it"
        assert message in capfd.readouterr().err
    code = ("--import", str(own / "my_blocks.py"))
    _export(own / "results", "timm's:0", own / "net", *code, code=2)
    assert "timm cannot save a MyNetwork without timm's configuration; let its function" in capfd.readouterr().err
    folder = _export(own / "results", "ours:0", own / "net", *code)
    assert "import my_blocks  # the study's own code" in (folder / "README.md").read_text()
    assert "mix(8 k=5" in json.loads((folder / "config.json").read_text())["model_args"]["spec"]
