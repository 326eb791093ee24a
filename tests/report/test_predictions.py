"""Pictures of predictions beside the truth, from checkpoints whose weights are random."""

import os
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from hiri_search.language import parse_network
from hiri_search.networks import build
from hiri_search.report.check import report_faults
from hiri_search.report.predictions import _predictions as found_by_rows
from hiri_search.report.predictions import picture, predictions_of_page
from hiri_search.report.tables.results import Results
from hiri_search.report.write import PAGE, study_page, write_tables
from hiri_search.study.ledger.layout import CHECKPOINTS, IMAGE_FOLDER, LAST_CHECKPOINT
from hiri_search.training.dense.predictions import examples, predictions
from hiri_search.training.inputs.study_images import prepare_inputs
from hiri_search.training.job import DataSource
from tests.report.dense_results import detection, segmentation

SIDE, CLASSES = 64, {"boxes": 6, "masks": 6, "semantic": 7}
BACKBONE = "hrstem(hs=4) -> hr(8 e=2) -> hr(8 e=2) -> hr(8 e=2) -> hr(8 e=2)"
NETWORKS = {
    "boxes": f"retinanet(w=16 norm=bn):{BACKBONE}",
    "masks": f"mask_rcnn(w=16 norm=bn):{BACKBONE}",
    "semantic": f"upernet(w=16 norm=bn):{BACKBONE}",
}


def trained(folder: Path, annotations: str) -> Results:
    """Return results of a folder in which the first row has the checkpoint of a trial."""
    data = DataSource("drawn", train=4, val=6, annotations=annotations)
    prepared = prepare_inputs(data, SIDE, folder / IMAGE_FOLDER, batch=2)
    spec = NETWORKS[annotations]
    torch.manual_seed(0)
    weights = build(parse_network(spec), SIDE, classes=CLASSES[annotations]).state_dict()
    checkpoint = f"{CHECKPOINTS}/0a/{LAST_CHECKPOINT}"
    (folder / checkpoint).parent.mkdir(parents=True)
    torch.save({"curve": [], "model": weights, "model_ema": None}, folder / checkpoint)
    results = segmentation() if annotations == "semantic" else detection()
    changes = {"checkpoint": checkpoint, "trained_spec": spec, "trained_side": SIDE}
    images = replace(results.started.images, fingerprints={str(SIDE): prepared.folder.name})
    trials = [{**row, **changes} if row["trial"] == 0 else row for row in results.trials]
    return replace(results, started=replace(results.started, images=images), trials=trials, folder=folder)


@pytest.mark.parametrize("annotations", NETWORKS)
def test_a_picture_shows_the_truth_and_each_network_with_a_checkpoint(annotations: str, tmp_path: Path):
    results = trained(tmp_path, annotations)
    section = predictions_of_page(results)["predictions"]
    assert section["image"].startswith("data:image/jpeg;base64,"), section["text"]
    assert "best trial of each row" in section["text"]
    content = picture(results)
    assert content is not None
    with Image.open(BytesIO(content)) as image:
        assert image.width > image.height  # four images; two lines


def test_a_row_at_half_the_side_is_shown_on_the_images_of_the_first(tmp_path: Path):
    """The scenes of a side are drawn at this side, so that boxes of a smaller one are those of a smaller image."""
    results, spec = trained(tmp_path, "boxes"), f"sparse_rcnn(w=16 regions=8 norm=bn):{BACKBONE}"
    data, half = DataSource("drawn", train=4, val=6, annotations="boxes"), SIDE // 2
    images = prepare_inputs(data, half, tmp_path / IMAGE_FOLDER, batch=2).folder
    model, checkpoint = build(parse_network(spec), half, classes=6).eval(), f"{CHECKPOINTS}/0b/{LAST_CHECKPOINT}"
    (tmp_path / checkpoint).parent.mkdir(parents=True)
    torch.save({"curve": [], "model": model.state_dict(), "model_ema": None}, tmp_path / checkpoint)
    sides = results.started.images.fingerprints | {str(half): images.name}
    started = replace(results.started, images=replace(results.started.images, fingerprints=sides))
    changes = {"checkpoint": checkpoint, "trained_spec": spec, "trained_side": half}
    trials = [{**row, **changes} if row["trial"] == 2 else row for row in results.trials]
    shown = found_by_rows(replace(results, started=started, trials=trials))
    own = predictions(model, examples(images, "val", 4), half)
    _, of_half = shown.of_rows.values()
    assert {example.size for example in shown.examples} == {(SIDE, SIDE)}
    assert all(len(one.boxes) > 0 for one in own)
    for one, there in zip(own, of_half, strict=True):
        np.testing.assert_allclose(there.boxes, 2 * one.boxes, rtol=1e-4)


def why_not(results: Results) -> str:
    """Return why there is no picture."""
    assert picture(results) is None
    section = predictions_of_page(results)["predictions"]
    assert section["image"] == ""
    return str(section["text"])


def test_without_checkpoints_or_images_a_sentence_says_why(tmp_path: Path):
    results = trained(tmp_path, "boxes")
    gone = replace(results.started, images=replace(results.started.images, fingerprints={str(SIDE): "gone"}))
    assert "decoded images at side 64 are not on this machine" in why_not(replace(results, started=gone))
    without = [{**row, "checkpoint": None} for row in results.trials]
    assert "has no checkpoint of a finished trial" in why_not(replace(results, trials=without))
    large = [{**row, "trained_macs": 10**12} for row in results.trials]
    assert "too large" in why_not(replace(results, trials=large))


class _Code:
    def __reduce__(self) -> Any:
        return os.system, ("touch executed",)


def test_no_code_of_a_checkpoint_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    results = trained(tmp_path, "boxes")
    torch.save({"curve": [], "model": _Code(), "model_ema": None}, tmp_path / CHECKPOINTS / "0a" / LAST_CHECKPOINT)
    assert "is damaged, or no checkpoint" in why_not(results)
    assert not (tmp_path / "executed").exists()


def test_a_report_without_its_checkpoints_is_still_what_its_ledger_gives(tmp_path: Path):
    results, report = trained(tmp_path, "semantic"), tmp_path / "report"
    write_tables(results, report)
    (report / PAGE).write_text(study_page(results), encoding="utf-8")
    assert "image/jpeg" in (report / PAGE).read_text(encoding="utf-8")
    assert not list(report_faults(replace(results, folder=None), report))
