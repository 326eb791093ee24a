"""`verify`: it finds each manipulation of a results folder, and nothing in an unchanged one."""

import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from hiri_search.api.folders import read_results
from hiri_search.cli.main import main
from hiri_search.report import check as check_module
from hiri_search.report.tables.data_dictionary import NOT_DESCRIBED
from hiri_search.study.config.read import read_study
from hiri_search.study.dispatch.serial_dispatcher import run_serially
from hiri_search.study.errors import StudyError
from hiri_search.study.ledger.events import (
    EpochEnded,
    Event,
    NetworkCounted,
    StudyStarted,
    TrialAsked,
    TrialEvent,
    TrialFinished,
    TrialRetried,
)
from hiri_search.study.ledger.layout import LEDGER
from hiri_search.study.ledger.ledger import of_kind, read_events, read_ledger, read_lines, trials
from hiri_search.study.ledger.trial import training_digest
from hiri_search.study.provenance.manifest import MANIFEST, manifest
from hiri_search.study.provenance.record import read_record
from hiri_search.study.provenance.verify import verify
from hiri_search.study.provenance.verify.files import check_images
from hiri_search.study.run import run
from hiri_search.system.checksums import CHECKSUMS
from hiri_search.training.data.sources import user_datasets
from tests.study.provenance.folders import (
    DRAWN,
    STUDY,
    Change,
    Events,
    changed,
    first,
    photos,
    replaced,
    rewrite,
    trained,
    trial_of,
)
from tests.study.search.searches import Quiet
from tests.system.damages import DAMAGES


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of a study on a folder of images, with a report."""
    place = tmp_path_factory.mktemp("good")
    data = f"folder:{photos(place / 'photos')}"
    return trained(place / "results", STUDY.replace(DRAWN, data), report=True)


@pytest.fixture
def folder(good: Path, tmp_path: Path) -> Path:
    """A copy to change; its images are those of the original."""
    return Path(shutil.copytree(good, tmp_path / "results"))


def _faults(folder: Path, *, quick: bool = False) -> dict[str, tuple[str, ...]]:
    """Return the faults by check."""
    found = {finding.check: finding.faults for finding in verify(folder, quick=quick)}
    try:
        found["tables"] = tuple(check_module.report_faults(read_results(folder), folder / "report"))
    except (ValueError, LookupError) as error:
        found["tables"] = (str(error),)
    return {check: faults for check, faults in found.items() if faults}


def test_an_unchanged_folder_holds_and_stays_as_it_is(folder: Path):
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert _faults(folder) == {}
    assert _faults(folder, quick=True) == {}
    rewrite(folder, lambda events: events)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


# ---- manipulations of the ledger: what is changed, with a forged manifest or not, the check that finds it, its words


def _loss(events: Events) -> list[Event]:
    epoch = first(events, EpochEnded, 1)
    return changed(events, EpochEnded, 1, result=replace(epoch.result, loss=epoch.result.loss + 0.001))


def _top1(events: Events) -> list[Event]:
    """Change the second epoch of trial 1 wherever it is recorded."""
    finished = first(events, TrialFinished, 1)
    before = finished.curve[1]
    after = replace(before, scores=before.scores | {"top1": before.scores["top1"] + 1.0})
    epoch = next(event for event in of_kind(events, EpochEnded) if event.trial == 1 and event.result == before)
    everywhere = replaced(events, epoch, replace(epoch, result=after))
    return replaced(everywhere, finished, replace(finished, curve=(finished.curve[0], after)))


def _network(trial: int, **changes: Any) -> Change:
    return lambda events: changed(
        events, TrialAsked, trial, network=replace(first(events, TrialAsked, trial).network, **changes)
    )


def _cost(events: Events) -> Iterable[Event]:
    return _network(2, params=first(events, TrialAsked, 2).network.params + 1)(events)


def _stand_in_cost(events: Events) -> list[Event]:
    network = first(events, NetworkCounted).network
    stand_in = replace(network.trained, macs=network.trained.macs + 1)
    return changed(events, NetworkCounted, network=replace(network, stand_in=stand_in))


def _specs(events: Events) -> Iterable[Event]:
    """Exchange the specs of trials 0 and 2."""
    specs = [first(events, TrialAsked, trial).network.spec for trial in (0, 2)]
    return _network(2, spec=specs[0])(list(_network(0, spec=specs[1])(events)))  # type: ignore[arg-type]


def _key(events: Events) -> Iterable[Event]:
    return _network(3, key=first(events, TrialAsked, 0).network.key)(events)


def _seed(events: Events) -> list[Event]:
    return changed(events, TrialAsked, 1, seed=7)


def _without_trial(number: int) -> Change:
    return lambda events: [event for event in events if trial_of(event) != number]


def _without_epoch(events: Events) -> list[Event]:
    epoch = first(events, EpochEnded, 2)
    return [event for event in events if event is not epoch]


def _shorter(events: Events) -> list[Event]:
    return changed(events, TrialFinished, 0, curve=first(events, TrialFinished, 0).curve[:-1])


def _study_file(events: Events) -> list[Event]:
    file: dict[str, Any] = dict(first(events, StudyStarted).file)
    return changed(events, StudyStarted, file=file | {"recipe": file["recipe"] | {"lr": 0.5}})


def _images(events: Events) -> list[Event]:
    images = replace(first(events, StudyStarted).images, fingerprints={"32": "0" * 12})
    return changed(events, StudyStarted, images=images)


def _twice(events: Events) -> list[Event]:
    """Repeat the events of trial 3 as trial 4."""
    copies = [replace(event, trial=4) for event in of_kind(events, TrialEvent) if event.trial == 3]
    return [*events[:-1], *copies, events[-1]]


def _swapped(events: Events) -> list[Event]:
    return [*events[:4], events[5], events[4], *events[6:]]


def _appended(events: Events) -> list[Event]:
    return [*events, TrialRetried(trial=0)]


SUM = r"ledger\.jsonl was changed after manifest\.json was written"
IN_THE_LEDGER: dict[str, tuple[Change, bool, str, str]] = {
    "a loss": (_loss, False, "ledger", SUM),
    "a loss, forged": (_loss, True, "curves", r"trial 1: epoch 1: loss is .* and was reported as"),
    "a top-1, everywhere, forged": (_top1, True, "curves", r"trial 1: epoch 2: top1 is .* no whole number of the 8"),
    "a cost": (_cost, False, "costs", r"trial 2: params is [\d,]+ in the ledger, and [\d,]+ counted now"),
    "a cost, forged": (_cost, True, "costs", r"trial 2: params is [\d,]+ in the ledger, and [\d,]+ counted now"),
    "a cost of a stand-in, forged": (
        _stand_in_cost,
        True,
        "costs",
        "the stand-in of the network counted as 'small': macs",
    ),
    "exchanged specs, forged": (_specs, True, "networks", "trial 0: spec is 'hr.*cffn.* and by the study 'hr"),
    "another key, forged": (_key, True, "networks", r"trial 3: its key is \w+, and that of its spec is \w+"),
    "a seed, forged": (_seed, True, "trainings", r"trial 1 is named \w+, and by its study, network and seed it is"),
    "a removed line": (_without_epoch, False, "ledger", SUM),
    "a removed line, forged": (_without_epoch, True, "curves", "trial 2: no event reports its epoch 1"),
    "two exchanged lines": (_swapped, False, "ledger", SUM),
    "a removed trial, forged": (_without_trial(1), True, "trials", "there is no trial 1, though there are later ones"),
    "the last trial, forged": (_without_trial(3), True, "trials", "there is no trial of 'other' with seed 1"),
    "a trial twice, forged": (_twice, True, "trials", "trial 4 is that of trial 3 again"),
    "a shorter curve, forged": (_shorter, True, "curves", "trial 0: it has finished with 1 epochs of 2"),
    "the study file": (_study_file, False, MANIFEST, r"study\.recipe\.lr is .* there, and 0\.5 by the ledger"),
    "the study file, forged": (_study_file, True, "trainings", "trial 0 is named .* by its study"),
    "other images, forged": (_images, True, "images", r"at side 32 were 0+ and are \w+ now"),
    "an added line": (_appended, False, MANIFEST, r"ledger\.lines is \d+ there, and \d+ by the ledger"),
    "an added line, forged": (_appended, True, "trials", "trial 0 is unfinished, although its run has ended"),
}


@pytest.mark.parametrize(("change", "forged", "check", "words"), IN_THE_LEDGER.values(), ids=IN_THE_LEDGER)
def test_a_change_of_the_ledger_is_found(folder: Path, change: Change, forged: bool, check: str, words: str):
    rewrite(folder, change, forged=forged)
    faults = _faults(folder)
    assert [fault for fault in faults[check] if re.search(words, fault)], faults
    assert (MANIFEST in faults) == (not forged), "a forged manifest follows from the ledger"
    assert ("ledger" in faults) == (not forged and change is not _appended), "a run may add lines after the manifest"


# ---- manipulations of other files


def _edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def _other_checkpoint(folder: Path) -> None:
    """Put the checkpoint of trial 0 in the place of that of trial 1."""
    digests = [training_digest(trial) for trial in trials(read_events(folder))]
    shutil.copy(folder / "checkpoints" / digests[0] / "last.pt", folder / "checkpoints" / digests[1] / "last.pt")


def _other_image(folder: Path) -> None:
    """Change a pixel in a copy of the images, which becomes that of the study."""
    data = Path(read_results(folder).study.data.path)
    moved = folder.parent / "photos"
    shutil.copytree(data, moved)
    rewrite(folder, lambda events: _moved(events, moved), forged=True)
    image = Image.open(moved / "train" / "a" / "0.png")
    image.putpixel((0, 0), 255 - image.getpixel((0, 0)))
    image.save(moved / "train" / "a" / "0.png")


def _moved(events: Events, moved: Path) -> list[Event]:
    file: dict[str, Any] = dict(first(events, StudyStarted).file)
    return changed(events, StudyStarted, file=file | {"data": file["data"] | {"source": f"folder:{moved}"}})


def _other_value(folder: Path) -> None:
    path = folder / "report" / "trials.parquet"
    table = pd.read_parquet(path)
    table.loc[0, "top1"] += 0.01
    table.to_parquet(path, index=False)


OTHER_FILES: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "a table": (
        lambda folder: _edit(folder / "report" / "networks.csv", "small", "smaII"),
        "tables",
        "networks.csv, line 2, is .*smaII.* and by the ledger .*small",
    ),
    "the text of a table": (
        lambda folder: _edit(folder / "report" / "networks.md", "2 epochs", "300 epochs"),
        "tables",
        "networks.md, line 3, is .*300 epochs.* by the ledger .*2 epochs",
    ),
    "a missing table": (lambda folder: (folder / "report" / "trials.csv").unlink(), "tables", "trials.csv is missing"),
    "the title of the page": (
        lambda folder: _edit(folder / "report" / "index.html", '"title":"A title"', '"title":"Another"'),
        "tables",
        "index.html shows other title than the ledger gives",
    ),
    "a value in Parquet": (_other_value, "tables", "trials.parquet holds another top1 than the ledger gives"),
    "no page": (lambda folder: (folder / "report" / "index.html").unlink(), "tables", "index.html cannot be read"),
    "the manifest": (
        lambda folder: _edit(folder / MANIFEST, '"batch": 8', '"batch": 512'),
        MANIFEST,
        "study.recipe.batch is 512 there, and 8 by the ledger",
    ),
    "no manifest": (lambda folder: (folder / MANIFEST).unlink(), MANIFEST, "there is none; `hiri-search report"),
    "the checkpoint of another trial": (
        _other_checkpoint,
        "checkpoints",
        r"checkpoints/\w+: last.pt holds another curve than trial 1",
    ),
    "a checkpoint of no trial": (
        lambda folder: shutil.copytree(
            next((folder / "checkpoints").iterdir()), folder / "checkpoints" / "0123456789abcdef"
        ),
        "checkpoints",
        "checkpoints/0123456789abcdef belongs to no trial",
    ),
    "a broken checkpoint": (
        lambda folder: next((folder / "checkpoints").glob("*/last.pt")).write_bytes(b"PK\3\4"),
        "checkpoints",
        "last.pt cannot be read as a checkpoint of ours",
    ),
    "the curve of a checkpoint": (
        lambda folder: _edit(next((folder / "checkpoints").glob("*/curve.csv")), "\n2,", "\n2,9"),
        "checkpoints",
        "curve.csv, line 3, is not what last.pt holds",
    ),
    "an image": (_other_image, "images", r"those of folder:.* at side 32 were \w+ and are \w+ now: they have changed"),
}


SEARCH = f"""
space: hr(32 e=4|6) -> (hr | cffn)(64 e=4|5)
search: {{networks: 4, halving: {{epochs: [1], keep: 0.5}}, zero_cost: [zen, synflow]}}
confirm: {{top: 1, seeds: 2, epochs: x2}}
counted: {{side: 64, classes: 10}}
proxy: {{width: 4, side: 32}}
data: {DRAWN}
recipe: {{epochs: 2, batch: 8, ema: 0.0}}
"""


def test_every_column_of_a_real_study_is_described(folder: Path, tmp_path: Path):
    search = trained(tmp_path / "search", SEARCH, report=True)
    for results in (folder, search):
        assert NOT_DESCRIBED not in (results / "report" / "dictionary.csv").read_text()
    with pytest.raises(SystemExit) as end:
        main(["verify", str(search)])
    assert end.value.code == 0


@pytest.mark.parametrize(("change", "check", "words"), OTHER_FILES.values(), ids=OTHER_FILES)
def test_a_change_of_another_file_is_found(folder: Path, change: Callable[[Path], object], check: str, words: str):
    change(folder)
    found = _faults(folder)
    assert list(found) == [check] or check == "images", found
    assert [fault for fault in found[check] if re.search(words, fault)], found


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_copies_of_the_images_are_found(
    good: Path, damage: Callable[[Path], None], quick: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (name,) = first(read_events(good), StudyStarted).images.fingerprints.values()
    copy = Path(shutil.copytree(Path(os.environ["HIRI_SEARCH_CACHE"]) / name, tmp_path / name))
    monkeypatch.setenv("HIRI_SEARCH_CACHE", str(tmp_path))
    record = read_record(read_ledger(good))
    assert check_images(record, quick=quick, say=print).holds
    damage(copy / "train_images.npy")
    (fault,) = check_images(record, quick=quick, say=print).faults
    assert re.match(rf"the decoded images in {copy} are damaged \(train_images\.npy .*\); the next run makes", fault)
    (copy / CHECKSUMS).unlink()
    finding = check_images(record, quick=quick, say=print)
    assert finding.holds, "made by an earlier version"
    assert f"the decoded images in {copy} have no checksums" in "; ".join(finding.remarks)


# ---- the SHA-256 of the ledger in the manifest


def test_a_broken_ledger_is_one_finding(folder: Path):
    lines = (folder / LEDGER).read_bytes().split(b"\n")
    (folder / LEDGER).write_bytes(b"\n".join([*lines[:3], lines[3][:-1], *lines[4:]]))
    (finding,) = verify(folder)
    (fault,) = finding.faults
    assert finding.check == "ledger"
    assert re.search(r"ledger\.jsonl:4: this line cannot be read: .*repair this first; the other checks need it", fault)


def test_a_ledger_of_another_format_is_one_finding(folder: Path):
    (folder / LEDGER).write_bytes((folder / LEDGER).read_bytes().replace(b'"format": 4', b'"format": 1', 1))
    (finding,) = verify(folder)
    assert "has another format" in finding.faults[0]


def test_a_changed_ledger_is_not_continued(folder: Path, good: Path):
    rewrite(folder, _loss)
    before = (folder / LEDGER).read_bytes()
    with pytest.raises(StudyError, match=r"was changed after manifest\.json was written"):
        run(read_study(good.with_suffix(".yaml")), folder, run_serially, Quiet(), profile="none")
    assert (folder / LEDGER).read_bytes() == before


def test_without_a_manifest_there_is_no_sum(folder: Path):
    (folder / MANIFEST).unlink()
    rewrite(folder, _loss)
    (finding,) = (finding for finding in verify(folder) if finding.check == "ledger")
    assert finding.holds
    assert finding.remarks == (f"{len(read_lines(folder))} lines, not checked, because there is no manifest.json",)


def test_a_run_that_continues_adds_lines_that_the_sum_does_not_cover(folder: Path, good: Path):
    study = read_study(good.with_suffix(".yaml"))
    run(study, folder, run_serially, Quiet(), profile="none")
    assert set(_faults(folder)) == {MANIFEST, "tables"}, "they are of the run before: the page shows its end"
    rewrite(folder, _loss)
    assert re.search(SUM, _faults(folder)["ledger"][0]), "lines of the run before are still covered"


def test_an_unfinished_study_holds_and_is_reported_as_unfinished(folder: Path):
    events = read_events(folder)
    cut = events.index(first(events, EpochEnded, 2))
    rewrite(folder, lambda events: events[: cut + 1], forged=True)
    shutil.rmtree(folder / "checkpoints")
    findings = {finding.check: finding for finding in verify(folder)}
    assert [check for check, finding in findings.items() if not finding.holds] == []
    assert "the last run has not ended: 1 are not there yet" in findings["trials"].remarks


# ---- the manifest


def test_the_manifest_shows_how_the_results_were_made(folder: Path):
    written = json.loads((folder / MANIFEST).read_text())
    (only,) = written["runs"]
    assert written == json.loads(json.dumps(manifest(read_ledger(folder))))
    sha256 = hashlib.sha256((folder / LEDGER).read_bytes()).hexdigest()
    assert written["ledger"] == {"lines": len(read_lines(folder)), "sha256": sha256}
    assert written["title"] == "A title"
    assert written["study"]["recipe"]["epochs"] == 2
    assert written["seeds"] == [0, 1]
    assert written["trials"] == {"finished": 4}
    assert set(only["versions"]) >= {"python", "torch", "timm", "numpy"}
    assert only["ended"]
    assert only["trainings_per_hour"] == pytest.approx(4 * 3600 / only["wall_seconds"], rel=1e-3)
    assert only["command"].startswith("hiri-search run ")
    assert len(only["code"]["digest"]) == 16
    assert written["spent"]["gpu_trial_seconds"] == 0 or only["machine"]["cuda"]
    assert sum(written["spent"]["trial_seconds"].values()) > 0
    assert {network["name"] for network in written["networks"]} == {"small", "other"}


# ---- the command


def test_verify_ends_with_0_or_1(folder: Path, capsys: pytest.CaptureFixture[str]):
    for change, code, last in (
        (lambda: None, 0, f"{folder} holds: 11 checks"),
        (lambda: (folder / MANIFEST).unlink(), 1, f"{folder}: 1 of 11 checks found something"),
    ):
        change()
        with pytest.raises(SystemExit) as end:
            main(["verify", str(folder), "--quick"])
        assert end.value.code == code
        said = capsys.readouterr().out.splitlines()
        assert said[-1] == last
        assert len(said) == 12


def test_reading_a_study_on_own_datasets_runs_none_of_their_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    module = tmp_path / "own_set.py"
    module.write_text("from tests.training.data.own_data import make")
    monkeypatch.syspath_prepend(tmp_path)
    data = "{source: 'python:own_set:make', arguments: {test: 9}}"
    folder = trained(tmp_path / "results", STUDY.replace(DRAWN, data))
    module.write_text("raise AssertionError('run')")
    monkeypatch.delitem(sys.modules, "own_set")
    user_datasets.forget_datasets()
    for command in ("report", "verify"):
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([command, str(folder)])
        assert ended.value.code == 0, command
    assert "python:own_set:make: not read again, as that would run its code; the fingerprint" in capsys.readouterr().out
    assert json.loads((folder / MANIFEST).read_text())["data"]["test"] == 9
