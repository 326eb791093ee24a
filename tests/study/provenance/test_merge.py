"""Folders joined: nothing is lost or doubled, each trial knows where it is from, and what is unlike is refused."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from hiri_search.cli.main import main
from hiri_search.study.config.read import read_study
from hiri_search.study.dispatch.serial_executor import run_serially
from hiri_search.study.errors import StudyError
from hiri_search.study.ledger.ledger import read_events, study_event, trials
from hiri_search.study.ledger.trial import Trial, reproduced
from hiri_search.study.provenance.manifest import manifest, write_manifest
from hiri_search.study.provenance.merge import merge
from hiri_search.study.provenance.verify import verify
from hiri_search.study.run import run
from hiri_search.study.status import status
from tests.study.provenance.folders import STUDY, first, rewrite, trained
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


def _merged(folders: Sequence[Path], into: Path, *, told: bool = False) -> list[Trial]:
    merge(folders, into, {"command": "hiri-search merge"}, told=told)
    write_manifest(into)
    assert {finding.check: finding.faults for finding in verify(into) if finding.faults} == {}
    return trials(read_events(into))


def _of(folder: Path, **facts: object) -> Trial:
    known = trials(read_events(folder))
    return next(t for t in known if all(t.asked[name] == value for name, value in facts.items()))


def _content(*folders: Path) -> dict[Path, tuple[bytes, int]]:
    files = (path for folder in folders for path in folder.rglob("*") if path.is_file())
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def test_rows_and_seeds_are_joined_and_a_trial_of_both_is_kept_once(made: dict[str, Path], tmp_path: Path):
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
    told = manifest(tmp_path / "c")
    assert list(told["merged_from"]) == [str(a), str(b), str(rows)]
    assert told["merged_from"][str(a)]["runs"][0]["code"] == study_event(read_events(a), a)["code"]
    assert told["seeds"] == [0, 1]


def test_a_study_with_all_its_rows_and_seeds_goes_on_in_a_merged_folder(made: dict[str, Path], tmp_path: Path):
    """And trains what none of the folders had."""
    _merged([made["a"], made["rows"]], tmp_path / "c")
    (tmp_path / "all.yaml").write_text(STUDY.replace("counted:", "  third: hr(32 e=4) -> t(64 e=4)\ncounted:", 1))
    run(read_study(tmp_path / "all.yaml"), tmp_path / "c", run_serially, Quiet(), profile="none")
    done = trials(read_events(tmp_path / "c"))
    assert [t.state for t in done] == ["finished"] * 6
    assert [t.asked.get("merged_from") for t in done[3:]] == [None] * 3
    write_manifest(tmp_path / "c")
    assert all(finding.holds for finding in verify(tmp_path / "c"))
    again = _merged([tmp_path / "c", made["b"]], tmp_path / "d")
    assert len(again) == 6, "what is merged can be merged again"
    assert {t.network.merged_from for t in again} == {str(tmp_path / "c"), str(made["a"]), str(made["rows"])}


def test_another_recipe_is_refused_by_name_unless_told(made: dict[str, Path], tmp_path: Path):
    a, slow = made["a"], made["slow"]
    with pytest.raises(StudyError, match=r"unlike:\n  recipe\.lr: 0\.002 -> 0\.0001\n--unlike"):
        merge([a, slow], tmp_path / "c", {})
    assert not (tmp_path / "c").exists()
    done = _merged([a, slow], tmp_path / "c", told=True)
    assert [t.network.name for t in done] == ["small", "other", f"small ({slow})", f"other ({slow})"]
    assert reproduced(done[2].curve) == reproduced(_of(slow, name="small").curve)
    study = read_study(a.with_suffix(".yaml"), sets=("seeds=[0]",))
    with pytest.raises(StudyError, match="begun with another study"):
        run(study, tmp_path / "c", run_serially, Quiet(), profile="none")


def test_one_training_with_two_outcomes_is_refused_with_both(made: dict[str, Path], tmp_path: Path):
    changed = Path(shutil.copytree(made["b"], tmp_path / "changed"))

    def another(events):
        first(events, "finished", 0)["curve"][-1]["top1"] = 12.5
        return events

    rewrite(changed, another, forged=True)
    with pytest.raises(StudyError, match=r"trial 0 of .*a and trial 0 of .*changed are one training .* other digits"):
        merge([made["a"], changed], tmp_path / "c", {})


def test_one_that_finished_stands_for_one_that_failed(made: dict[str, Path], tmp_path: Path):
    failed = Path(shutil.copytree(made["a"], tmp_path / "failed"))

    def fails(events):
        ends = first(events, "finished", 0)
        return [{"event": "failed", "trial": 0, "reason": "x"} if event is ends else event for event in events]

    rewrite(failed, fails, forged=True)
    done = _merged([failed, made["a"]], tmp_path / "c")
    assert [(t.state, t.network.merged_from) for t in done] == [
        ("finished", str(made["a"])),
        ("finished", str(failed)),
    ]


def test_what_does_not_fit_its_sums_is_not_merged(made: dict[str, Path], tmp_path: Path):
    changed = Path(shutil.copytree(made["a"], tmp_path / "changed"))

    def another(events):
        first(events, "finished", 0)["curve"][-1]["top1"] = 12.5
        return events

    rewrite(changed, another)
    with pytest.raises(StudyError, match="does not fit its sum"):
        merge([changed, made["b"]], tmp_path / "c", {})


def test_searches_of_one_space_are_joined(tmp_path: Path):
    one = trained(tmp_path / "one", SEARCH, sets=("search.sampler=random", "seeds=[0]"))
    other = trained(tmp_path / "other", SEARCH, sets=("search.sampler=grid", "seeds=[0]"))
    ours, theirs = ({t.network.key for t in trials(read_events(folder))} for folder in (one, other))
    assert {t.network.key for t in _merged([one, other], tmp_path / "c")} == ours | theirs
    assert status(tmp_path / "c").wanted == len(ours | theirs)


def test_as_it_is_typed(made: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as end:
        main(["merge", str(made["a"]), str(made["rows"]), "-o", str(tmp_path / "c")])
    assert end.value.code == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"{tmp_path / 'c'}: 3 trials of 2 folders"
    assert manifest(tmp_path / "c")["runs"][0]["command"].startswith("hiri-search merge ")
    with pytest.raises(SystemExit) as end:
        main(["merge", str(made["a"]), str(made["rows"]), "-o", str(tmp_path / "c")])
    assert end.value.code == 2
    assert "is not empty" in capsys.readouterr().err
