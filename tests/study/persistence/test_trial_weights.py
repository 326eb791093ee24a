"""Trainings begin from the checkpoints of another study's trials: one of them, or that of each row's own network."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from hiri_search.study.config.read import read_study
from hiri_search.study.config.schema import StudyConfig
from hiri_search.study.errors import StudyError
from hiri_search.study.ledger.ledger import last_start, read_events, trials
from hiri_search.study.persistence.trial_weights import with_trial_weights
from tests.study.provenance.folders import trained

BACKBONE = "hr(32 e=2) -> hr(32 e=2) -> hr(32 e=2)"
WIDER = BACKBONE[:-2] + "3)"
CLASSIFIERS = f"""
nets: {{one: {BACKBONE}, two: {WIDER}}}
counted: {{side: 128, classes: 4}}
proxy: {{width: 4, side: 64}}
data: {{train: 16, val: 8}}
recipe: {{epochs: 1, batch: 8, warmup_epochs: 0}}
seeds: 2
"""
# With a learning rate of next to nothing a training keeps its initial weights.
DETECTORS = f"""
method: retinanet
nets: {{other name: {BACKBONE}, two: {{spec: {WIDER}, train: false}}}}
counted: {{side: 160x128}}
proxy: {{width: 4, side: 64}}
data: {{train: 4, val: 4}}
recipe: {{epochs: 1, batch: 4, warmup_epochs: 0, ema: 0, lr: 1.0e-12, min_lr: 0, weights: WEIGHTS}}
seeds: 1
"""


@pytest.fixture(scope="module")
def classifiers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("weights") / "classes", CLASSIFIERS)


def _checkpoint(folder: Path, *numbers: int) -> Path:
    """Return the checkpoint of the one of these trials with the best score."""
    found = [trials(read_events(folder))[number] for number in numbers]
    best = max(found, key=lambda trial: (trial.curve[-1].scores["top1"], -trial.number))
    return folder / best.asked.checkpoint


def test_a_detector_begins_from_the_classifier_of_its_own_backbone(classifiers: Path, tmp_path: Path) -> None:
    folder = trained(tmp_path / "boxes", DETECTORS.replace("WEIGHTS", str(classifiers)))
    checkpoint = _checkpoint(classifiers, 0, 1)
    events = read_events(folder)
    start, (trial,) = last_start(events), trials(events)
    assert start is not None
    assert list(start.weights) == [str(checkpoint)]
    message = f"other name: recipe.weights={checkpoint}: only the backbone begins from it; left out: head.norm.weight, "
    assert start.adapted[0].startswith(message)
    begun = torch.load(checkpoint)["model_ema"]
    now = torch.load(folder / trial.asked.checkpoint)["model"]
    weights = [name for name in begun if not re.search("head|running|num_batches", name)]
    assert all(now[f"backbone.body.features.model.{name}"].allclose(begun[name], atol=1e-6) for name in weights)
    again = with_trial_weights(_read(tmp_path, DETECTORS.replace("WEIGHTS", f"{folder}#best")))
    assert _of_first_row(again) == str(folder / trial.asked.checkpoint)


def _of_first_row(study: StudyConfig) -> str:
    recipe = (study.nets or {})["other name"].recipe
    assert recipe is not None
    return recipe.weights


def _read(folder: Path, text: str) -> StudyConfig:
    (folder / "study.yaml").write_text(text)
    return read_study(folder / "study.yaml")


@pytest.mark.parametrize(("which", "numbers"), [("", (0, 1)), ("#3", (3,)), ("#two:0", (2,)), ("#best", (0, 1, 2, 3))])
def test_a_recipe_names_a_trial(which: str, numbers: tuple[int, ...], classifiers: Path, tmp_path: Path) -> None:
    said: list[str] = []
    text = DETECTORS.replace("WEIGHTS", f'"{classifiers}{which}"')
    study = with_trial_weights(_read(tmp_path, text), said.append)
    assert _of_first_row(study) == str(_checkpoint(classifiers, *numbers))
    assert re.fullmatch(rf"other name: recipe.weights={classifiers}{which} is trial \d \(.*, seed \d\)", said[0])


MISTAKES = {
    "no folder": ("missing#best", BACKBONE, "missing holds no ledger.jsonl; give the folder"),
    "no trial": ("FOLDER#9", BACKBONE, "there is no trial '9': trials have the numbers 0 to 3"),
    "two seeds": ("FOLDER#two", BACKBONE, "'two' names several trials"),
    "another network": (
        "FOLDER",
        BACKBONE.replace("hr(32 e=2)", "hr(64 e=2)"),
        r"no finished trial there has trained hrstem.*hr\(16 e=2\).*, but hrstem.*; write RESULTS#TRIAL, or the same",
    ),
}


@pytest.mark.parametrize(("weights", "spec", "message"), MISTAKES.values(), ids=MISTAKES)
def test_what_names_no_checkpoint_is_refused(
    weights: str, spec: str, message: str, classifiers: Path, tmp_path: Path
) -> None:
    text = DETECTORS.replace("WEIGHTS", f'"{weights}"'.replace("FOLDER", str(classifiers)))
    study = _read(tmp_path, text.replace(f"other name: {BACKBONE}", f"other name: {spec}"))
    with pytest.raises(StudyError, match=f"other name: recipe.weights=.*: {message}"):
        with_trial_weights(study)


def test_a_search_names_one_trial(classifiers: Path, tmp_path: Path) -> None:
    text = CLASSIFIERS.replace("nets: {one: ", "space: ").replace(f", two: {WIDER}}}", "").replace("seeds: 2", "")
    text = text.replace("epochs: 1", "weights: WEIGHTS, epochs: 1")
    study = _read(tmp_path, text.replace("WEIGHTS", f'"{classifiers}#1"'))
    assert with_trial_weights(study).recipe.weights == str(_checkpoint(classifiers, 1))
    with pytest.raises(StudyError, match=r"recipe.weights=.*: the networks of a search have no rows; write .*#TRIAL"):
        with_trial_weights(_read(tmp_path, text.replace("WEIGHTS", str(classifiers))))
