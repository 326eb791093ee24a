"""Whatever is changed behind a results folder's back is named, and nothing else."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from hiri_search.cli.main import main
from hiri_search.cli.results import read_results
from hiri_search.report import check as check_module
from hiri_search.report.tables.data_dictionary import NOT_DESCRIBED
from hiri_search.study.config.read import read_study
from hiri_search.study.dispatch.serial_executor import run_serially
from hiri_search.study.errors import StudyError
from hiri_search.study.ledger.events import Event
from hiri_search.study.ledger.layout import LEDGER
from hiri_search.study.ledger.ledger import as_line, open_ledger, read_events, read_lines, trials
from hiri_search.study.ledger.trial import training_digest
from hiri_search.study.provenance.manifest import MANIFEST, manifest
from hiri_search.study.provenance.verify import verify
from hiri_search.study.run import run
from tests.study.provenance.folders import DRAWN, STUDY, first, photos, rewrite, summed, trained
from tests.study.search.searches import Quiet


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study on images of the user's, with its report."""
    place = tmp_path_factory.mktemp("good")
    data = f"folder:{photos(place / 'photos')}"
    return trained(place / "results", STUDY.replace(DRAWN, data), report=True)


@pytest.fixture
def folder(good: Path, tmp_path: Path) -> Path:
    """A copy to be changed, beside its images."""
    return Path(shutil.copytree(good, tmp_path / "results"))


def _faults(folder: Path, *, quick: bool = False) -> dict[str, tuple[str, ...]]:
    """What is said, by check."""
    found = {finding.check: finding.faults for finding in verify(folder, quick=quick)}
    try:
        found["tables"] = tuple(check_module.report_faults(read_results(folder), folder / "report"))
    except (ValueError, LookupError) as error:
        found["tables"] = (str(error),)
    return {check: faults for check, faults in found.items() if faults}


def test_a_good_folder_holds(folder: Path):
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert _faults(folder) == {}
    assert _faults(folder, quick=True) == {}
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


# ---- manipulations: what is done, whether its sums are made anew, the check that names it, and the words


def _digit(events: list[Event]) -> list[Event]:
    first(events, "epoch", 1)["loss"] += 0.001
    return events


def _top1(events: list[Event]) -> list[Event]:
    for event in events:
        if event.get("trial") == 1 and event["event"] == "epoch" and event["epoch"] == 2:
            event["top1"] += 1.0
        if event.get("trial") == 1 and event["event"] == "finished":
            event["curve"][1]["top1"] += 1.0
    return events


def _cost(events: list[Event]) -> list[Event]:
    first(events, "asked", 2)["params"] += 1
    return events


def _stand_in_cost(events: list[Event]) -> list[Event]:
    first(events, "counted")["trained_macs"] += 1
    return events


def _spec(events: list[Event]) -> list[Event]:
    one, other = first(events, "asked", 0), first(events, "asked", 2)
    one["spec"], other["spec"] = other["spec"], one["spec"]
    return events


def _key(events: list[Event]) -> list[Event]:
    first(events, "asked", 3)["key"] = first(events, "asked", 0)["key"]
    return events


def _seed(events: list[Event]) -> list[Event]:
    first(events, "asked", 1)["seed"] = 7
    return events


def _no_trial(number: int) -> Callable[[list[Event]], list[Event]]:
    return lambda events: [event for event in events if event.get("trial") != number]


def _no_epoch(events: list[Event]) -> list[Event]:
    events.remove(first(events, "epoch", 2))
    return events


def _shorter(events: list[Event]) -> list[Event]:
    first(events, "finished", 0)["curve"].pop()
    return events


def _file(events: list[Event]) -> list[Event]:
    first(events, "study")["file"]["recipe"]["lr"] = 0.5
    return events


def _file_and_meaning(events: list[Event]) -> list[Event]:
    first(events, "study")["meaning"]["recipe"]["lr"] = 0.5
    return _file(events)


def _images(events: list[Event]) -> list[Event]:
    first(events, "study")["images"]["keys"]["32"] = "0" * 12
    return events


def _twice(events: list[Event]) -> list[Event]:
    copies = [{**event, "trial": 4} for event in events if event.get("trial") == 3]
    return [*events[:-1], *copies, events[-1]]


def _swapped(events: list[Event]) -> list[Event]:
    events[4], events[5] = events[5], events[4]
    return events


def _appended(events: list[Event]) -> list[Event]:
    return [*events, {"event": "retried", "trial": 0}]


IN_THE_LEDGER = {
    "a digit of a curve": (_digit, False, "sums", r"line \d+: it was changed"),
    "a digit of a curve, forged": (_digit, True, "curves", r"trial 1: epoch 1: loss is .* and was told as"),
    "a top-1, everywhere, forged": (_top1, True, "curves", r"trial 1: epoch 2: top1 is .* no whole number of the 8"),
    "a cost": (_cost, False, "costs", r"trial 2: params is [\d,]+ in the ledger, and [\d,]+ counted now"),
    "a cost, forged": (_cost, True, "costs", r"trial 2: params is [\d,]+ in the ledger, and [\d,]+ counted now"),
    "a stand-in's cost, forged": (
        _stand_in_cost,
        True,
        "costs",
        "the stand-in of the network counted as 'small': macs",
    ),
    "swapped specs, forged": (_spec, True, "networks", "trial 0: spec is 'hr.*cffn.* and by the study 'hr"),
    "a swapped key, forged": (_key, True, "networks", r"trial 3: its key is \w+, and that of its spec is \w+"),
    "a seed, forged": (_seed, True, "trainings", r"trial 1 is named \w+, and by its study, network and seed it is"),
    "a line taken away": (_no_epoch, False, "sums", r"line \d+: it was changed, or lines before it were .*taken away"),
    "a line taken away, forged": (_no_epoch, True, "curves", "trial 2: no line tells of its epoch 1"),
    "two lines swapped": (_swapped, False, "sums", r"line \d+: it is whole, but stood behind line \d+"),
    "a trial taken away, forged": (_no_trial(1), True, "trials", "there is no trial 1, though there are later ones"),
    "the last trial, forged": (_no_trial(3), True, "trials", "there is no trial of 'other' with seed 1"),
    "a trial twice, forged": (_twice, True, "trials", "trial 4 is that of trial 3 again"),
    "a shorter curve, forged": (_shorter, True, "curves", "trial 0: it has finished with 1 epochs of 2"),
    "the study's file, forged": (_file, True, "study", r"line 1: .* study file in it: meaning\.recipe\.lr: 0\.5 -> "),
    "the study, everywhere, forged": (_file_and_meaning, True, "trainings", "trial 0 is named .* by its study"),
    "other images, forged": (_images, True, "images", r"at side 32 were 0+ and are \w+ now"),
    "a line added": (_appended, False, "sums", r"line \d+: it has no sum, though lines before it have"),
}


@pytest.mark.parametrize(("change", "forged", "check", "words"), IN_THE_LEDGER.values(), ids=IN_THE_LEDGER)
def test_what_is_changed_in_the_ledger_is_named(folder: Path, change, forged: bool, check: str, words: str):
    rewrite(folder, change, forged=forged)
    found = _faults(folder)
    assert [fault for fault in found[check] if re.search(words, fault)], found
    assert ("sums" in found) == (not forged)
    assert not forged or MANIFEST in found, "it has another last sum"


def _edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def _of_another(folder: Path) -> None:
    """One training's checkpoint in the place of another's."""
    one, other = (training_digest(trial) for trial in trials(read_events(folder))[:2])
    shutil.copy(folder / "checkpoints" / one / "last.pt", folder / "checkpoints" / other / "last.pt")


def _a_image(folder: Path) -> None:
    """Of the same size, at the same time."""
    data = Path(read_results(folder).about["file"]["data"]["source"].partition(":")[2])
    moved = folder.parent / "photos"
    shutil.copytree(data, moved)
    rewrite(folder, lambda events: _moved(events, data, moved), forged=True)
    image = Image.open(moved / "train" / "a" / "0.png")
    image.putpixel((0, 0), 255 - image.getpixel((0, 0)))
    image.save(moved / "train" / "a" / "0.png")


def _moved(events: list[Event], data: Path, moved: Path) -> list[Event]:
    first(events, "study")["file"]["data"]["source"] = f"folder:{moved}"
    return events


def _a_value(folder: Path) -> None:
    path = folder / "report" / "trials.parquet"
    table = pd.read_parquet(path)
    table.loc[0, "top1"] += 0.01
    table.to_parquet(path, index=False)


BESIDE_IT = {
    "a table": (
        lambda folder: _edit(folder / "report" / "networks.csv", "small", "smaII"),
        "tables",
        "networks.csv, line 2, is .*smaII.* and by the ledger .*small",
    ),
    "a table's text": (
        lambda folder: _edit(folder / "report" / "networks.md", "2 epochs", "300 epochs"),
        "tables",
        "networks.md, line 3, is .*300 epochs.* by the ledger .*2 epochs",
    ),
    "a table less": (lambda folder: (folder / "report" / "trials.csv").unlink(), "tables", "trials.csv is missing"),
    "a digit of the page": (
        lambda folder: _edit(folder / "report" / "index.html", '"title":"A title"', '"title":"Another"'),
        "tables",
        "index.html shows other title than the ledger gives",
    ),
    "a value for programs": (_a_value, "tables", "trials.parquet holds another top1 than the ledger gives"),
    "no page": (lambda folder: (folder / "report" / "index.html").unlink(), "tables", "index.html cannot be read"),
    "the manifest": (
        lambda folder: _edit(folder / MANIFEST, '"batch": 8', '"batch": 512'),
        MANIFEST,
        "study.recipe.batch is 512 there, and 8 by the ledger",
    ),
    "no manifest": (lambda folder: (folder / MANIFEST).unlink(), MANIFEST, "there is none; `hiri-search report"),
    "another's checkpoint": (_of_another, "checkpoints", r"checkpoints/\w+: last.pt holds another curve than trial 1"),
    "a checkpoint of no trial": (
        lambda folder: shutil.copytree(
            next((folder / "checkpoints").iterdir()), folder / "checkpoints" / "0123456789abcdef"
        ),
        "checkpoints",
        "checkpoints/0123456789abcdef belongs to no trial",
    ),
    "no checkpoint at all": (
        lambda folder: next((folder / "checkpoints").glob("*/last.pt")).write_bytes(b"PK\3\4"),
        "checkpoints",
        "last.pt cannot be read as a checkpoint of ours",
    ),
    "a curve beside a checkpoint": (
        lambda folder: _edit(next((folder / "checkpoints").glob("*/curve.csv")), "\n2,", "\n2,9"),
        "checkpoints",
        "curve.csv, line 3, is not what last.pt holds",
    ),
    "a image": (_a_image, "images", r"those of folder:.* at side 32 were \w+ and are \w+ now: they have changed"),
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
    found = trained(tmp_path / "search", SEARCH, report=True)
    for one in (folder, found):
        assert NOT_DESCRIBED not in (one / "report" / "dictionary.csv").read_text()
    with pytest.raises(SystemExit) as end:
        main(["verify", str(found)])
    assert end.value.code == 0


@pytest.mark.parametrize(("change", "check", "words"), BESIDE_IT.values(), ids=BESIDE_IT)
def test_what_is_changed_beside_the_ledger_is_named(folder: Path, change, check: str, words: str):
    change(folder)
    found = _faults(folder)
    assert list(found) == [check] or check == "images", found
    assert [fault for fault in found[check] if re.search(words, fault)], found


# ---- sums


def test_nothing_is_built_upon_a_ledger_that_was_changed(folder: Path):
    rewrite(folder, _digit)
    said = r"ledger\.jsonl:\d+: this line does not fit its sum.*verify"
    with pytest.raises(StudyError, match=said), open_ledger(folder):
        pass


def test_a_ledger_of_an_earlier_version_is_gone_on_with_and_its_lines_are_held_by_the_sums_behind_them(folder: Path):
    path = folder / LEDGER
    path.write_bytes(b"".join(as_line(event) + b"\n" for event in read_events(folder, timed=True)))
    (finding,) = (finding for finding in verify(folder) if finding.check == "sums")
    assert finding.holds
    count = len(read_lines(folder))
    assert finding.remarks == (f"the first {count} lines have no sums and cannot be checked by themselves",)
    with open_ledger(folder) as ledger:
        ledger.append("ended", seconds={})
    assert not _faults(folder).get("sums")
    rewrite(folder, _digit)
    said = f"line {count + 1}: it was changed, or lines before it were changed or taken away"
    assert _faults(folder)["sums"] == (said,)


def test_a_run_that_goes_on_goes_on_with_the_sums(folder: Path, good: Path):
    study = read_study(good.with_suffix(".yaml"))
    run(study, folder, run_serially, Quiet(), profile="none")
    assert set(_faults(folder)) == {MANIFEST, "tables"}, "they are of the run before: its page says when it was"
    assert not _faults(folder).get("sums")


def test_an_unfinished_study_holds_and_says_that_it_is_unfinished(folder: Path):
    whole = read_events(folder, timed=True)
    cut = next(n for n, event in enumerate(whole) if event.get("trial") == 2 and event["event"] == "epoch")
    (folder / LEDGER).write_bytes(summed(whole[: cut + 1]))
    shutil.rmtree(folder / "checkpoints")
    found = {finding.check: finding for finding in verify(folder)}
    assert [check for check, finding in found.items() if not finding.holds] == [MANIFEST]
    assert "the last run has not ended: 1 are not there yet" in found["trials"].remarks


# ---- the manifest


def test_the_manifest_says_what_made_the_results(folder: Path):
    told = json.loads((folder / MANIFEST).read_text())
    (only,) = told["runs"]
    assert told == json.loads(json.dumps(manifest(folder)))
    assert told["ledger"]["lines"] == len(read_lines(folder))
    assert told["ledger"]["sum"] in read_lines(folder)[-1].decode()
    assert told["study"]["recipe"]["epochs"] == 2
    assert told["seeds"] == [0, 1]
    assert told["trials"] == {"finished": 4}
    assert set(only["versions"]) >= {"python", "torch", "timm", "numpy"}
    assert only["ended"]
    assert only["wall_seconds"] > 0
    assert only["command"].startswith("hiri-search run ")
    assert len(only["code"]["digest"]) == 16
    assert told["spent"]["gpu_trial_seconds"] == 0 or only["machine"]["cuda"]
    assert sum(told["spent"]["trial_seconds"].values()) > 0
    assert {network["name"] for network in told["networks"]} == {"small", "other"}


# ---- as it is typed


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
