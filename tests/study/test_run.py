"""The life of a study, in one process: what is asked, what is kept, what is refused."""

import re
import shutil
import time
from itertools import product
from pathlib import Path

import pytest
from PIL import Image

from hiri_search.api.folders import read_results
from hiri_search.language import SpecError
from hiri_search.report.tables.networks import caption
from hiri_search.study.config.read import read_study
from hiri_search.study.dispatch.serial_dispatcher import run_serially
from hiri_search.study.errors import StudyError
from hiri_search.study.ledger.events import InferenceTimed, NetworkCounted, TrialRetried
from hiri_search.study.ledger.layout import CHECKPOINTS
from hiri_search.study.ledger.ledger import of_kind, read_events, read_ledger, trials
from hiri_search.study.ledger.trial import Trial
from hiri_search.study.ledger.values import CodeVersion
from hiri_search.study.provenance.manifest import manifest
from hiri_search.study.run import move_aside, run
from hiri_search.training.state import _require_folder
from tests.system.damages import cut

ROOT = Path(__file__).parents[2]
STUDY = """
title: A title
nets:
  small: hr(32 e=4) -> hr(64 e=4)
  other: hr(32 e=4) -> cffn(64 e=4)
counted: {side: 64, classes: 10}
proxy: {width: 4, side: 32, classes: 4}
data: {source: drawn, train: 32, val: 16}
recipe: {epochs: 2, batch: 16, ema: 0.0}
seeds: 2
latency: {batch: 1, min_rounds: 1, max_rounds: 1}
"""
SPACE = STUDY.replace("nets:\n", "search: {networks: 3}\nspace: hr(32 e=4|6) -> (hr | cffn)(64 e=4)\n#").replace(
    "\n  other", "\n# other"
)


class Remembers:
    """A watcher that remembers."""

    def __init__(self) -> None:
        self.moves: list[tuple[int, str]] = []
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def on_trial(self, trial: Trial) -> None:
        self.moves.append((trial.number, trial.state))


def _run(tmp_path: Path, text: str = STUDY, *, sets: tuple[str, ...] = (), retry_failed: bool = False) -> list[Trial]:
    (tmp_path / "study.yaml").write_text(text)
    study = read_study(tmp_path / "study.yaml", sets=sets)
    run(study, tmp_path / "results", run_serially, Remembers(), profile="none", retry_failed=retry_failed)
    return trials(read_events(tmp_path / "results"))


def test_a_trial_for_each_network_and_seed_with_all_that_is_known_of_it(tmp_path: Path):
    done = _run(tmp_path)
    assert [(t.network.name, t.asked.seed, t.state) for t in done] == [
        ("small", 0, "finished"),
        ("small", 1, "finished"),
        ("other", 0, "finished"),
        ("other", 1, "finished"),
    ]
    row = done[0].row()
    assert row["params"] > row["trained_params"] > 0
    assert row["macs"] > row["core_macs"] > 0
    assert len(row["curve"]) == 2
    assert row["top1"] == row["curve"][-1]
    timed = of_kind(read_events(tmp_path / "results"), InferenceTimed)
    assert {event.key for event in timed} == {t.network.key for t in done}


def test_rows_and_seeds_may_be_added_to_what_is_there(tmp_path: Path):
    first = _run(tmp_path, sets=("seeds=1",))
    grown = STUDY.replace("counted:", "  third: hr(32 e=4) -> t(64 e=4)\ncounted:", 1)
    done = _run(tmp_path, grown)
    assert done[: len(first)] == first
    assert {(t.network.name, t.asked.seed) for t in done} == set(product(("small", "other", "third"), (0, 1)))
    (tmp_path / "anew").mkdir()
    curves = {(t.network.name, t.asked.seed): t.row()["curve"] for t in _run(tmp_path / "anew", grown)}
    assert {(t.network.name, t.asked.seed): t.row()["curve"] for t in done} == curves


@pytest.mark.parametrize(
    "text",
    [
        STUDY.replace("seeds: 2", "seeds: [1]"),
        STUDY.replace("cffn(64", "t(64"),
    ],
    ids=["a seed less", "another network"],
)
def test_what_changes_a_training_is_another_study(tmp_path: Path, text: str):
    _run(tmp_path)
    with pytest.raises(StudyError, match="belongs to another study"):
        _run(tmp_path, text)


def test_files_that_are_left_out_are_named_in_the_console_the_caption_and_the_manifest(tmp_path: Path):
    for split, name, number in product(("train", "val"), "ab", range(4)):
        file = tmp_path / "images" / split / name / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40), (60 * number, 0, 0)).save(file)
    (tmp_path / "images/val/a/0.png").write_bytes(b"x")
    (tmp_path / "images/val/a/notes.txt").touch()
    study = STUDY.replace("classes: 4", "classes: 2").replace("{source: drawn, train: 32, val: 16}", "#")
    study = study.replace("data: #", f"data: {{source: 'folder:{tmp_path}/images', skip_corrupt: true}}")
    (tmp_path / "study.yaml").write_text(study.replace("batch: 16", "batch: 4"))
    watcher = Remembers()
    run(read_study(tmp_path / "study.yaml"), tmp_path / "results", run_serially, watcher, profile="none")
    sentence = "1 file was left out: 1 .txt (val/a/notes.txt)."
    assert {sentence, "Unreadable images left out: 1 (val/a/0.png)."} <= set(watcher.said)
    assert f" {sentence} Unreadable images left out: 1 (val/a/0.png)." in caption(read_results(tmp_path / "results"))
    data = manifest(read_ledger(tmp_path / "results"))["data"]
    assert (data["notes"], data["skipped"]) == ([sentence], 1)


MIXED = """\
nets:
  ours at 64: {spec: hr(32 e=4) -> t(64 e=4), side: 64, note: the larger}
  ours at 32: {spec: hr(32 e=4) -> t(64 e=4), side: 32, stand_in_side: 32}
  theirs: {spec: timm:test_resnet, side: 64}
  theirs, smaller: {spec: timm:resnet18, side: 64, stand_in: timm:test_vit, stand_in_side: 160}
  counted: {spec: timm:resnet18, side: 32, train: false}
counted: {side: 64, classes: 10}
proxy: {width: 4, side: 32, classes: 4}
data: {source: drawn, train: 32, val: 16}
recipe: {epochs: 1, batch: 16, warmup_epochs: 0}
seeds: 1
latency: {min_rounds: 1, max_rounds: 1}
"""


def test_rows_have_sides_and_stand_ins_of_their_own_and_networks_of_timm_are_rows_like_others(tmp_path: Path):
    done = _run(tmp_path, MIXED)
    assert {t.state for t in done} == {"finished"}
    assert [(t.network.side, t.network.trained.spec, t.network.trained.side) for t in done] == [
        (64, "hrstem(hs=8) -> hr(8 e=4) -> t(16 e=4 d=16)", 32),
        (32, "hrstem(hs=8) -> hr(8 e=4) -> t(16 e=4 d=16)", 32),
        (64, "timm:test_resnet", 32),
        (64, "timm:test_vit", 160),
    ]
    events = read_events(tmp_path / "results")
    counted = {event.network.name: event.network for event in of_kind(events, NetworkCounted)}
    assert list(counted) == [*(t.network.name for t in done), "counted"]
    assert counted["ours at 64"].macs > 2 * counted["ours at 32"].macs
    assert counted["counted"].params == counted["theirs, smaller"].params == 11_181_642
    assert len(of_kind(events, InferenceTimed)) == 5


def test_the_order_of_its_rows_is_no_part_of_what_a_trial_gives(tmp_path: Path):
    """Each trial of its own seed alone: rows at one side share nothing with those at another."""
    apart = MIXED.replace("  ours at 32: {spec: hr(32 e=4) -> t(64 e=4), side: 32, stand_in_side: 32}\n", "")
    (tmp_path / "other").mkdir()
    first, second = _run(tmp_path, MIXED), _run(tmp_path / "other", apart)
    tops = {t.network.name: t.curve[-1].loss for t in first}
    assert {t.network.name: t.curve[-1].loss for t in second}.items() <= tops.items()


def test_a_row_may_have_a_recipe_of_its_own_laid_over_the_studys(tmp_path: Path):
    text = STUDY.replace(
        "other: hr(32 e=4) -> cffn(64 e=4)", "other: {spec: hr(32 e=4) -> hr(64 e=4), recipe: {lr: 1e-4}}"
    )
    small, _, other, _ = _run(tmp_path, text)
    assert small.curve[0].lr != other.curve[0].lr
    assert small.curve[-1].loss != other.curve[-1].loss


def test_a_recipe_may_stand_in_a_file_of_its_own_and_be_laid_over(tmp_path: Path):
    (tmp_path / "short.yaml").write_text("epochs: 3\nbatch: 16\nema: 0.0\n")
    (tmp_path / "study.yaml").write_text(STUDY.replace("recipe: {", "recipe: {file: short.yaml, "))
    recipe = read_study(tmp_path / "study.yaml", sets=("recipe.lr=1e-4",)).recipe
    assert (recipe.epochs, recipe.batch, recipe.ema, recipe.lr) == (2, 16, 0.0, 1e-4)


@pytest.mark.parametrize("path", sorted((ROOT / "studies" / "recipes").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_recipes_beside_the_studies_are_recipes(path: Path, tmp_path: Path):
    task = {"detection": "task: detection\nmethod: retinanet\n", "segmentation": "task: segmentation\n"}
    text = (
        task.get(path.stem.partition("_")[0], "") + "nets: {one: hr(32 e=4) -> hr(64 e=4) -> t(64 e=2) -> t(64 e=2)}\n"
    )
    (tmp_path / "study.yaml").write_text(f"{text}data: {{train: 2048}}\nrecipe: {path}\n")
    assert read_study(tmp_path / "study.yaml").recipe.epochs > 1


def test_distillation_teaches_and_only_the_row_that_asks_for_it(tmp_path: Path):
    text = STUDY.replace("hr(32 e=4) -> cffn(64 e=4)", "{spec: hr(32 e=4) -> hr(64 e=4), recipe: {distill_alpha: 0.5}}")
    text = text.replace("ema: 0.0", "ema: 0.9, cutmix: 1.0")
    small, _, other, _ = _run(tmp_path, text)
    assert small.state == other.state == "finished"
    assert small.curve[0].loss != other.curve[0].loss, "same seed, same images, other targets"


def test_a_network_of_timm_that_cannot_take_its_side_is_refused_before_anything_is_trained(tmp_path: Path):
    wrong = MIXED.replace("timm:test_resnet, side: 64", "timm:maxvit_tiny_tf_224, side: 230")
    with pytest.raises(SpecError, match="230 pixels"):
        _run(tmp_path, wrong)
    assert not trials(read_events(tmp_path / "results"))


def test_a_finished_study_is_not_trained_again(tmp_path: Path):
    first = _run(tmp_path)
    assert [t.row() for t in _run(tmp_path)] == [t.row() for t in first]


def test_a_failed_trial_has_a_reason_and_is_left_alone_until_asked_for(tmp_path: Path):
    exploding = ("recipe.lr=1e30", "recipe.clip=0", "recipe.warmup_epochs=0")
    failed = _run(tmp_path, sets=exploding)
    assert {t.state for t in failed} == {"failed"}
    assert "not finite" in failed[0].reason
    events = len(read_events(tmp_path / "results"))
    assert [t.state for t in _run(tmp_path, sets=exploding)] == ["failed"] * 4
    assert len(read_events(tmp_path / "results")) == events + 2, "only the new start and its end are written down"
    _run(tmp_path, sets=exploding, retry_failed=True)
    retried = of_kind(read_events(tmp_path / "results"), TrialRetried)
    assert [event.trial for event in retried] == [0, 1, 2, 3]


def test_another_meaning_is_refused_with_the_difference(tmp_path: Path):
    _run(tmp_path)
    before = (tmp_path / "results" / "ledger.jsonl").read_bytes()
    with pytest.raises(StudyError, match=r"recipe\.epochs: 2 -> 3") as refused:
        _run(tmp_path, sets=("recipe.epochs=3",))
    assert "--fresh" in str(refused.value)
    assert (tmp_path / "results" / "ledger.jsonl").read_bytes() == before


def test_another_wording_is_not_another_meaning(tmp_path: Path):
    _run(tmp_path)
    reworded = STUDY.replace("A title", "Better").replace("hr(64 e=4)", "hr( 64  e=4 r=2 )")
    assert len(_run(tmp_path, reworded)) == 4


def test_fresh_moves_the_old_results_aside(tmp_path: Path):
    _run(tmp_path)
    aside = move_aside(tmp_path / "results")
    assert aside is not None
    assert len(trials(read_events(aside))) == 4
    assert move_aside(tmp_path / "results") is None
    assert len(_run(tmp_path, sets=("recipe.epochs=3",))) == 4


def test_a_search_trains_so_many_networks_none_twice(tmp_path: Path):
    done = _run(tmp_path, SPACE)
    assert len(done) == 6
    assert len({t.network.key for t in done}) == 3
    assert len({(t.network.key, t.asked.seed) for t in done}) == 6
    assert [t.row() for t in _run(tmp_path, SPACE)] == [t.row() for t in done]


def test_too_few_images_for_a_batch_is_said_before_training(tmp_path: Path):
    with pytest.raises(StudyError, match="batch=64 is more than"):
        _run(tmp_path, sets=("recipe.batch=64",))


def test_changed_images_are_another_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for split, count in (("train", 8), ("val", 2)):
        for name in "ab":
            (tmp_path / "photos" / split / name).mkdir(parents=True)
            for number in range(count):
                Image.effect_noise((40, 40), 50).save(tmp_path / "photos" / split / name / f"{number}.png")
    photos = (f"data=folder:{tmp_path}/photos", "recipe.batch=8", "recipe.epochs=1", "recipe.warmup_epochs=0")
    photos += ("proxy.classes=2", "seeds=1")
    assert len(_run(tmp_path, sets=photos)) == 2
    (tmp_path / "photos" / "train" / "a" / "0.png").unlink()
    with pytest.raises(StudyError, match=r"have changed since .* was started\nundo"):
        _run(tmp_path, sets=photos)
    monkeypatch.setattr("hiri_search.study.continuing.code", lambda: CodeVersion("9.0", "of other files"))
    with pytest.raises(StudyError, match=r"started, or hiri_search .*, which started it, read other files or"):
        _run(tmp_path, sets=photos)


def test_a_network_of_a_search_that_does_not_fit_is_said_before_training(tmp_path: Path):
    unfit = SPACE.replace("(64 e=4)\n", "(62..64/2 e=4)\n")
    with pytest.raises(ValueError, match="divided by 4"):
        _run(tmp_path, unfit)
    assert not (tmp_path / "results").exists()


def test_images_damaged_between_two_trials_lose_no_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    class Damages(Remembers):
        """A watcher that damages the decoded images when the first trial has finished."""

        said: tuple[str, ...] = ()

        def say(self, text: str) -> None:
            self.said = (*self.said, text)

        def on_trial(self, trial: Trial) -> None:
            if trial.number == 0 and trial.state == "finished":
                (file,) = (tmp_path / "cache").glob("*/train_images.npy")
                cut(file)

    monkeypatch.setenv("HIRI_SEARCH_CACHE", str(tmp_path / "cache"))
    whole, watcher = _run(tmp_path), Damages()
    run(read_study(tmp_path / "study.yaml"), tmp_path / "again", run_serially, watcher, profile="none")
    done = trials(read_events(tmp_path / "again"))
    assert [trial.row()["curve"] for trial in done] == [trial.row()["curve"] for trial in whole]
    (sentence,) = (text for text in watcher.said if "lost" in text)
    damage = r"are damaged \(train_images.npy .*\); they were made again"
    assert re.fullmatch(f"trial 1 was lost and goes on: .* {damage}", sentence)


@pytest.mark.parametrize("when", [0, 1])  # epochs of trial 0 when the folder is removed
def test_a_folder_of_checkpoints_that_is_removed_is_made_again(when: int, tmp_path: Path):
    class Removes(Remembers):
        """A watcher that removes all checkpoints."""

        def on_trial(self, trial: Trial) -> None:
            if trial.number == 0 and len(trial.curve) == when:
                shutil.rmtree(tmp_path / "again" / CHECKPOINTS)

    whole, started = _run(tmp_path), time.monotonic()
    run(read_study(tmp_path / "study.yaml"), tmp_path / "again", run_serially, Removes(), profile="none")
    assert time.monotonic() - started < 60, "no attempt is repeated until it gives up"
    done = trials(read_events(tmp_path / "again"))
    assert [trial.row()["curve"] for trial in done] == [trial.row()["curve"] for trial in whole]


def test_nothing_is_written_below_a_results_folder_that_is_away(tmp_path: Path):
    (tmp_path / "away").mkdir()
    with pytest.raises(FileNotFoundError):
        _require_folder(tmp_path / "away" / CHECKPOINTS)
    with pytest.raises(FileNotFoundError):
        _require_folder(tmp_path / "gone" / CHECKPOINTS)
    assert {path.name for path in tmp_path.rglob("*")} == {"away"}
