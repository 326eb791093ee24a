"""Detection and segmentation as studies: counted, trained, reported, and refused where something does not fit."""

from __future__ import annotations

from pathlib import Path

import pytest

from hiri_search.api.folders import read_results
from hiri_search.report.predictions import predictions_of_page
from hiri_search.report.tables.networks import caption, network_table, trial_table
from hiri_search.study.config.networks import resolve
from hiri_search.study.config.read import read_study
from hiri_search.study.config.schema import StudyConfig
from hiri_search.study.dispatch.serial_dispatcher import run_serially
from hiri_search.study.errors import StudyError
from hiri_search.study.provenance.manifest import MANIFEST
from hiri_search.study.provenance.verify import verify
from hiri_search.study.run import run
from tests.study.search.searches import Quiet

BACKBONE = "hrstem(hs=8) -> hr(32 e=2) -> hr(32 e=2) -> cffn(64 e=2) -> t(64 e=2) -> t(64 e=2)"
SMALL = """
nets: {one: "%s", two: {spec: "%s", train: false}}
counted: {side: %s}
proxy: {width: 4, side: 64}
data: {train: 16, val: 8}
recipe: {epochs: 1, batch: 8, warmup_epochs: 0}
seeds: 1
"""
MODEL = SMALL % (BACKBONE, BACKBONE.replace("cffn", "hr"), "%s")
TASKS = {
    "segmentation": ("task: segmentation" + MODEL % "128x128", "miou"),
    "boxes": ("method: retinanet" + MODEL % "160x128", "ap"),
    "method in the spec": (
        "task: detection" + (SMALL % (f"mask_rcnn:{BACKBONE}", f"atss:{BACKBONE}", 128)),
        "ap",
    ),
    "masks": ("method: mask_rcnn" + MODEL % "128", "ap"),
}


def _study(folder: Path, text: str) -> StudyConfig:
    (folder / "study.yaml").write_text(text)
    return read_study(folder / "study.yaml")


@pytest.mark.parametrize("kind", TASKS)
def test_a_dense_study_is_counted_trained_reported_and_verified(kind: str, tmp_path: Path):
    text, score = TASKS[kind]
    study, folder = _study(tmp_path, text), tmp_path / "results"
    run(study, folder, run_serially, Quiet(), profile="none")
    run(study, folder, run_serially, Quiet(), profile="none")  # has nothing left to do
    results = read_results(folder)
    trials, networks = trial_table(results), network_table(results).set_index("name")
    assert list(trials["state"]) == ["finished"]
    assert trials[score].notna().all()
    assert networks.loc["one", "standard_error"] == trials["standard_error"][0] >= 0
    assert "a bootstrap of 100 sets of these images" in caption(results)
    assert ("mask_ap50" in trials) == (kind in ("masks", "method in the spec"))
    assert networks.loc["one", "trained_spec"].startswith(study.method or ("upernet", "mask_rcnn"))
    assert networks.loc["two", "gflops"] > 0
    assert "drawn" in caption(results)
    assert predictions_of_page(results)["predictions"]["image"]
    found = verify(folder)  # of the manifest only a report makes one
    assert [fault for finding in found for fault in finding.faults if finding.check != MANIFEST] == []


SEARCH = """
space: hr(16|32 e=2) -> hr(16 e=2) -> cffn(16|32 e=2) -> (hr(32 e=2) | t(32 e=2 d=16))
counted: {side: %s}
proxy: {width: 2, side: 32}
data: {train: 8, val: 4}
recipe: {epochs: 1, batch: 4, warmup_epochs: 0}
search: {networks: 3, start: [hr(32 e=2) -> hr(16 e=2) -> cffn(16 e=2) -> hr(32 e=2)]}
confirm: {top: 1, partners: 0, seeds: 1, epochs: x2}
within: {gmacs: ..%s}
"""


@pytest.mark.parametrize(
    ("task", "side", "gmacs", "score"),
    [
        pytest.param("task: segmentation", "64x64", 3.29, "miou", marks=pytest.mark.slow),
        ("method: retinanet", "96x64", 9.0, "ap"),
    ],
)
def test_backbones_are_searched_under_a_method(task: str, side: str, gmacs: float, score: str, tmp_path: Path):
    study, folder, says = _study(tmp_path, task + SEARCH % (side, gmacs)), tmp_path / "results", Quiet()
    run(study, folder, run_serially, says, profile="none")
    run(study, folder, run_serially, says, profile="none")  # has nothing left to do
    trials = trial_table(read_results(folder))
    assert list(trials["state"]) == ["finished"] * 4
    assert trials[score].notna().all()
    assert trials.loc[0, "spec"] == f"{study.method}:{study.search.start[0].net}"
    assert trials.loc[0, "name"] == study.search.start[0].net
    assert all(trials["macs"] <= gmacs * 1e9)
    found = verify(folder)
    assert [fault for finding in found for fault in finding.faults if finding.check != MANIFEST] == []


def test_masks_are_there_for_the_networks_of_a_space(tmp_path: Path):
    assert _study(tmp_path, "method: mask_rcnn" + SEARCH % (64, 9)).data.annotations == "masks"
    assert _study(tmp_path, "method: retinanet" + SEARCH % (64, 9)).data.annotations == "boxes"


def test_stand_ins_have_a_narrower_pyramid_with_norms_and_fewer_regions(tmp_path: Path):
    (one, _) = resolve(_study(tmp_path, TASKS["masks"][0])).rows
    assert str(one.trained).startswith("mask_rcnn(w=64 regions=250 norm=bn):hrstem(hs=2) -> hr(8 e=2)")
    assert (one.side, one.trained_side) == (128, 64)


def test_a_baseline_at_half_the_size_is_trained_at_half_the_side(tmp_path: Path):
    text = (
        "method: retinanet\nnets: {a: {spec: 'timm:pvt_v2_b0', side: 800x600}, b: 'timm:pvt_v2_b0'}\nproxy: {side: 128}"
    )
    first, second = resolve(_study(tmp_path, text)).rows
    assert (first.trained_side, second.trained_side) == (64, 128)
    assert (second.side, resolve(_study(tmp_path, text)).study.counted.classes) == ("1600x1200", 80)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("task: detection\nnets: {a: hr(32 e=2)}", "the study is for detection, and this network for classification"),
        ("method: retinanett\nnets: {a: hr(32 e=2)}", "there is no method 'retinanett'; did you mean retinanet"),
        ("method: upernet\nnets: {a: {spec: hr(32 e=2), method: atss}}", "write task: detection"),
        ("task: detection\nspace: hr(32|64 e=2)", "method: is missing; write the method of all networks of the space"),
        ("method: atss\nspace: hr(32|64 e=2)\nsearch: {zero_cost: [zen]}", "search.zero_cost: is for classification"),
        ("method: atss\nspace: hr(32|64 e=2)\nwithin: {ms_per_image: ..3}", "within: ms_per_image is for classif"),
        ("method: atss\nspace: hr(32|64 e=2)\nsearch: {objectives: [ap, ms_per_image]}", "search.objectives: ms_per_"),
        ("method: atss\nnets: {a: hr(32 e=2)}\nrecipe: {mixup: 0.2}", "recipe.mixup=0.2 is for classification only"),
        ("nets: {a: hr(32 e=2)}\nrecipe: {min_scale: 0.6}", "recipe.min_scale=0.6 is for detection and segmentation"),
        (
            "method: atss\nnets: {a: {spec: hr(32 e=2), recipe: {schedule: step 8 11, epochs: 9}}}",
            "schedule='step 8 11' is not possible; its epochs must rise, and be less than epochs=9",
        ),
        (
            "task: segmentation\nnets: {a: hr(32 e=2)}\nrecipe: {deterministic: true}",
            "recipe.deterministic: on CUDA, the pooling of upernet has no deterministic gradient; remove it",
        ),
        ("method: atss\nnets: {a: hr(32 e=2)}\nlatency: {batch: 1}", "latency: is for classification only"),
        ("method: atss\nnets: {a: hr(32 e=2)}\ndata: masks:x", "has no targets of detection; write drawn or coco:PATH"),
        ("task: segmentation\nnets: {a: hr(32 e=2)}\ndata: coco:x", "write drawn or masks:PATH"),
        ("nets: {a: hr(32 e=2)}\ndata: coco:x", "data.source=coco:x has no classes of images; write task: detection"),
        ("nets: {a: hr(32 e=2)}\ndata: {annotations: boxes}", "does not belong to classification; remove it"),
        ("nets: {a: hr(32 e=2)}\ncounted: {side: 800x600}", "800x600 is a rectangle"),
        (
            "method: atss\nnets: {a: hr(32 e=2)}\ncounted: {side: 800}\nproxy: {side: 100, width: 3}",
            "cannot be divided by 3",
        ),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_trained(text: str, message: str, tmp_path: Path):
    with pytest.raises(StudyError, match=r"study\.yaml") as refused:
        _study(tmp_path, text)
    assert message in str(refused.value)
