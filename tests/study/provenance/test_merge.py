"""`merge`: each trial once, with the folder it comes from; unlike studies are refused."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from hiri_search.cli.main import main
from hiri_search.study.config.read import read_study
from hiri_search.study.dispatch.serial_dispatcher import run_serially
from hiri_search.study.errors import StudyError
from hiri_search.study.ledger.events import Event, TrialFailed, TrialFinished
from hiri_search.study.ledger.ledger import read_events, read_ledger, study_event, trials
from hiri_search.study.ledger.trial import Trial, reproduced
from hiri_search.study.ledger.values import to_json
from hiri_search.study.provenance.environment import run_environment
from hiri_search.study.provenance.manifest import manifest, write_manifest
from hiri_search.study.provenance.merge import merge
from hiri_search.study.provenance.verify import verify
from hiri_search.study.run import run
from hiri_search.study.status import status
from tests.study.provenance.folders import STUDY, Events, changed, first, replaced, rewrite, trained
from tests.study.search.searches import Quiet

OTHER_ROWS = STUDY.replace("  other: hr(32 e=4) -> cffn(64 e=4)\n", "  third: hr(32 e=4) -> t(64 e=4)\n")
SEARCH = STUDY.replace("nets:\n", "search: {networks: 2}\nspace: hr(32 e=4|6) -> (hr | cffn)(64 e=4)\n#").replace(
    "\n  other", "\n# other"
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Real runs: one seed, another seed, other rows, the first again, and one with another recipe."""
    place = tmp_path_factory.mktemp("made")
    return {
        "a": trained(place / "a", STUDY, sets=("seeds=[0]",)),
        "b": trained(place / "b", STUDY, sets=("seeds=[0, 1]",)),
        "rows": trained(place / "rows", OTHER_ROWS, sets=("seeds=[0]",)),
        "slow": trained(place / "slow", STUDY, sets=("seeds=[0]", "recipe.lr=1e-4")),
    }


ENVIRONMENT = run_environment(["hiri-search", "merge"])


def _merged(folders: Sequence[Path], into: Path, *, unlike: bool = False) -> list[Trial]:
    merge(folders, into, ENVIRONMENT, unlike=unlike)
    write_manifest(read_ledger(into))
    assert {finding.check: finding.faults for finding in verify(into) if finding.faults} == {}
    return trials(read_events(into))


def _content(*folders: Path) -> dict[Path, tuple[bytes, int]]:
    files = (path for folder in folders for path in folder.rglob("*") if path.is_file())
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def test_rows_and_seeds_are_joined_and_a_trial_of_both_folders_is_taken_once(made: dict[str, Path], tmp_path: Path):
    a, b, rows = made["a"], made["b"], made["rows"]
    before = _content(a, b, rows)
    done = _merged([a, b, rows], tmp_path / "c")
    assert _content(a, b, rows) == before
    assert [(t.number, t.network.name, t.asked.seed) for t in done] == [
        (0, "small", 0),
        (1, "other", 0),
        (2, "small", 1),
        (3, "other", 1),
        (4, "third", 0),
    ]
    for trial in done:
        source = Path(trial.network.merged_from)
        own = trials(read_events(source))[trial.asked.merged_trial]
        assert (own.network.key, own.asked.seed) == (trial.network.key, trial.asked.seed)
        assert own.curve == trial.curve
        assert (tmp_path / "c" / trial.asked.checkpoint).is_file()
    written = manifest(read_ledger(tmp_path / "c"))
    assert list(written["merged_from"]) == [str(a), str(b), str(rows)]
    assert written["merged_from"][str(a)]["runs"][0]["code"] == to_json(study_event(read_events(a), a).code)
    assert written["merged_from"][str(a)]["ledger"] == to_json(read_ledger(a).sum)
    assert written["seeds"] == [0, 1]


def test_a_study_with_all_rows_and_seeds_continues_in_a_merged_folder(made: dict[str, Path], tmp_path: Path):
    """It trains the trials that are in none of the folders."""
    _merged([made["a"], made["rows"]], tmp_path / "c")
    (tmp_path / "all.yaml").write_text(STUDY.replace("counted:", "  third: hr(32 e=4) -> t(64 e=4)\ncounted:", 1))
    run(read_study(tmp_path / "all.yaml"), tmp_path / "c", run_serially, Quiet(), profile="none")
    done = trials(read_events(tmp_path / "c"))
    assert [t.state for t in done] == ["finished"] * 6
    assert [t.network.merged_from for t in done[3:]] == [""] * 3
    write_manifest(read_ledger(tmp_path / "c"))
    assert all(finding.holds for finding in verify(tmp_path / "c"))
    again = _merged([tmp_path / "c", made["b"]], tmp_path / "d")
    assert len(again) == 6, "a merged folder can be merged again"
    assert {t.network.merged_from for t in again} == {str(tmp_path / "c"), str(made["a"]), str(made["rows"])}


def test_another_recipe_is_refused_by_name_without_unlike(made: dict[str, Path], tmp_path: Path):
    a, slow = made["a"], made["slow"]
    with pytest.raises(StudyError, match=r"unlike:\n  recipe\.lr: 0\.002 -> 0\.0001\n--unlike"):
        merge([a, slow], tmp_path / "c", ENVIRONMENT)
    assert not (tmp_path / "c").exists()
    done = _merged([a, slow], tmp_path / "c", unlike=True)
    assert [t.network.name for t in done] == ["small", "other", f"small ({slow})", f"other ({slow})"]
    assert reproduced(done[2].curve) == reproduced(trials(read_events(slow))[0].curve)
    study = read_study(a.with_suffix(".yaml"), sets=("seeds=[0]",))
    with pytest.raises(StudyError, match="belongs to another study"):
        run(study, tmp_path / "c", run_serially, Quiet(), profile="none")


def _another_top1(events: Events) -> list[Event]:
    *curve, last = first(events, TrialFinished, 0).curve
    return changed(events, TrialFinished, 0, curve=(*curve, replace(last, scores=last.scores | {"top1": 12.3})))


def test_one_training_with_two_results_is_refused_with_both(made: dict[str, Path], tmp_path: Path):
    copy = Path(shutil.copytree(made["b"], tmp_path / "changed"))
    rewrite(copy, _another_top1, forged=True)
    with pytest.raises(
        StudyError,
        match=r"trial 0 of .*a and trial 0 of .*changed are one training with two results, last top1 .* and 12\.3: ",
    ):
        merge([made["a"], copy], tmp_path / "c", ENVIRONMENT)


def test_a_finished_trial_is_taken_instead_of_a_failed_one(made: dict[str, Path], tmp_path: Path):
    failed = Path(shutil.copytree(made["a"], tmp_path / "failed"))

    def fails(events: Events) -> list[Event]:
        return replaced(events, first(events, TrialFinished, 0), TrialFailed(trial=0, reason="x"))

    rewrite(failed, fails, forged=True)
    done = _merged([failed, made["a"]], tmp_path / "c")
    assert [(t.state, t.network.merged_from) for t in done] == [
        ("finished", str(made["a"])),
        ("finished", str(failed)),
    ]


def test_a_folder_that_was_changed_after_its_manifest_is_not_merged(made: dict[str, Path], tmp_path: Path):
    copy = Path(shutil.copytree(made["a"], tmp_path / "changed"))
    write_manifest(read_ledger(copy))
    rewrite(copy, _another_top1)
    with pytest.raises(
        StudyError, match=r"ledger\.jsonl was changed after manifest\.json was written; `hiri-search verify"
    ):
        merge([copy, made["b"]], tmp_path / "c", ENVIRONMENT)


def test_searches_of_one_space_are_joined(tmp_path: Path):
    one = trained(tmp_path / "one", SEARCH, sets=("search.sampler=random", "seeds=[0]"))
    other = trained(tmp_path / "other", SEARCH, sets=("search.sampler=grid", "seeds=[0]"))
    ours, theirs = ({t.network.key for t in trials(read_events(folder))} for folder in (one, other))
    assert {t.network.key for t in _merged([one, other], tmp_path / "c")} == ours | theirs
    assert status(tmp_path / "c").wanted == len(ours | theirs)


def test_the_command_merge(made: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as end:
        main(["merge", str(made["a"]), str(made["rows"]), "-o", str(tmp_path / "c")])
    assert end.value.code == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"{tmp_path / 'c'}: 3 trials of 2 folders"
    assert manifest(read_ledger(tmp_path / "c"))["runs"][0]["command"].startswith("hiri-search merge ")
    with pytest.raises(SystemExit) as end:
        main(["merge", str(made["a"]), str(made["rows"]), "-o", str(tmp_path / "c")])
    assert end.value.code == 2
    assert "is not empty" in capsys.readouterr().err
