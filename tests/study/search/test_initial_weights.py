"""Initial weights of a study: loaded in its trainings, and what begins anew is said."""

from pathlib import Path

import pytest
import torch

from hiri_search.language import parse_net
from hiri_search.nets.hirivit import build_hirivit
from hiri_search.study.config.read import read_study
from hiri_search.study.dispatch.serial_dispatcher import run_serially
from hiri_search.study.errors import StudyError
from hiri_search.study.ledger.layout import CHECKPOINTS, LAST_CHECKPOINT
from hiri_search.study.ledger.ledger import last_start, read_events, trials
from hiri_search.study.ledger.trial_cache import from_other_folders
from hiri_search.study.provenance.environment import run_environment
from hiri_search.study.provenance.merge import merge
from hiri_search.study.provenance.run_diff import run_differences
from hiri_search.study.run import run
from tests.study.search.searches import Listener
from tests.timm_cache import put, use_cache

SPEC = "hr(32 e=4) -> hr(64 e=4)"
# With a learning rate of next to nothing a training keeps its initial weights.
STUDY = f"""
title: A title
nets:
  first: {{spec: {SPEC}, recipe: {{weights: FILE}}}}
  other: {{spec: hr(32 e=4) -> cffn(64 e=4), train: false}}
counted: {{side: 64, classes: 10}}
proxy: {{width: 4, side: 32, classes: 4}}
data: {{source: drawn, train: 16, val: 8}}
seeds: 1
recipe: {{epochs: 1, batch: 16, ema: 0.0, warmup_epochs: 0, lr: 1.0e-12, min_lr: 0}}
"""
SPACE = STUDY.replace("nets:\n  first:", "search: {networks: 1}\nspace:\n#").replace("  other:", f"  {SPEC}\n#")
SPACE = SPACE.replace("ema: 0.0", "ema: 0.0, weights: FILE")


@pytest.mark.parametrize("study", [STUDY, SPACE], ids=["rows", "space"])
@pytest.mark.parametrize(("classes", "said"), [(4, ""), (7, "has a last layer for 7 classes; a new one begins for 4")])
def test_a_training_begins_from_a_state_dict(study: str, classes: int, said: str, tmp_path: Path) -> None:
    saved = build_hirivit(parse_net(SPEC).scaled_down(width=4, depth=1), classes=classes).state_dict()
    torch.save({"state_dict": saved}, tmp_path / "w.pth")
    (tmp_path / "study.yaml").write_text(study.replace("FILE", str(tmp_path / "w.pth")))
    callback = Listener()
    run(read_study(tmp_path / "study.yaml"), tmp_path / "results", run_serially, callback, profile="none")
    about = [line for line in callback.said if "weights=" in line]
    assert about == ([f"recipe.weights={tmp_path}/w.pth {said}"] if said else [])
    assert [trial.state for trial in trials(read_events(tmp_path / "results"))] == ["finished"]
    (checkpoint,) = (tmp_path / "results" / CHECKPOINTS).glob(f"*/{LAST_CHECKPOINT}")
    trained = torch.load(checkpoint, weights_only=True)["model"]
    begun = {
        name
        for name, value in saved.items()
        if "running" not in name and value.is_floating_point()
        if trained[name].shape != value.shape or not trained[name].allclose(value, atol=1e-6)
    }
    assert begun == (set() if classes == 4 else {"head.fc.weight", "head.fc.bias"})


def test_a_training_begins_from_the_weights_of_timm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_cache(tmp_path, monkeypatch)
    state = put("test_vit", tmp_path)
    study = STUDY.replace(f"{{spec: {SPEC}, recipe: {{weights: FILE}}}}", "timm:test_vit")
    study = study.replace("recipe: {", "recipe: {pretrained: true, ").replace("side: 32", "side: 64")
    (tmp_path / "study.yaml").write_text(study)
    callback = Listener()
    run(read_study(tmp_path / "study.yaml"), tmp_path / "results", run_serially, callback, profile="none")
    (checkpoint,) = (tmp_path / "results" / CHECKPOINTS).glob(f"*/{LAST_CHECKPOINT}")
    trained = torch.load(checkpoint, weights_only=True)["model"]
    assert {n for n, v in trained.items() if v.shape != state[n].shape or not v.allclose(state[n], atol=1e-6)} == {
        *("head.weight", "head.bias", "pos_embed")
    }
    started = last_start(read_events(tmp_path / "results"))
    assert started is not None
    assert list(started.weights) == ["timm:test_vit.r160_in1k"]
    assert list(started.adapted) == [line for line in callback.said if "r160_in1k" in line]
    assert "first: recipe.pretrained=timm:test_vit.r160_in1k: timm adapts pos_embed" in started.adapted[-1]


def _run(tmp_path: Path, folder: str, changes: str = "") -> None:
    study = STUDY.replace("FILE", str(tmp_path / "w.pth")).replace("seeds: 1\n", changes or "seeds: 1\n")
    (tmp_path / "study.yaml").write_text(study)
    run(read_study(tmp_path / "study.yaml"), tmp_path / folder, run_serially, Listener(), profile="none")


def test_trainings_from_two_contents_of_one_file_are_kept_apart(tmp_path: Path) -> None:
    for folder, classes in (("old", 4), ("new", 7)):
        network = build_hirivit(parse_net(SPEC).scaled_down(width=4, depth=1), classes=classes)
        torch.save(network.state_dict(), tmp_path / "w.pth")
        _run(tmp_path, folder)
    old, new = tmp_path / "old", tmp_path / "new"
    with pytest.raises(StudyError, match=r"the weights in .*w\.pth have changed since .*old was started\n.*--results"):
        _run(tmp_path, "old", "seeds: 2\n")
    with pytest.raises(StudyError, match=r"are unlike:\n  weights .*w\.pth: \w{16} -> \w{16}\n--unlike"):
        merge([old, new], tmp_path / "merged", run_environment(["test"]))
    starts = [last_start(read_events(folder)) for folder in (old, new)]
    assert [subject for subject, _ in run_differences(*starts)] == ["weights"]  # type: ignore[arg-type]
    weights = starts[1].weights  # type: ignore[union-attr]
    images = starts[1].images.fingerprints  # type: ignore[union-attr]
    assert [len(from_other_folders([str(folder)], images, weights)) for folder in (old, new)] == [0, 1]
    _run(tmp_path, "new", "seeds: 2\n")
    assert len(trials(read_events(new))) == 2
