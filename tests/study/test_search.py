"""Asking: the same networks at every start, none twice, and an Optuna study that agrees with the ledger."""

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages.journal import JournalFileBackend

from hiri_search.study.candidates import candidates, space_of
from hiri_search.study.config import Study
from hiri_search.study.ledger import Trial
from hiri_search.study.search import Search, export

SPACE = "hr(32 e=4|6) -> (hr | cffn)(64 e=4)*1..3 -> t(128 e=2..4)"  # 2 x 2 x 3 x 3
NETS = {"one": "hr(32 e=4) -> t(64 e=4)", "two": "hr(32 e=4) -> cffn(64 e=4)"}
FATES = ("finished", "failed", "unfinished")


def _study(**keys: Any) -> Study:
    return Study.model_validate({"proxy": {"side": 64}} | keys)


def _space(sampler: str, networks: int, **keys: Any) -> Study:
    return _study(space=SPACE, search={"sampler": sampler, "networks": networks, **keys})


STUDIES = {
    "ablation": _study(nets=NETS, seeds=2),
    "random": _space("random", 12),
    "grid": _space("grid", 12),
}


@pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)
def test_candidates_are_the_same_at_every_start_and_none_comes_twice(study: Study):
    first, second = ([(c.name, c.network.key, c.decisions) for c in candidates(study)] for _ in range(2))
    assert first == second
    assert len({key for _, key, _ in first}) == len(first) == (2 if study.nets else 12)


def test_an_ablation_keeps_the_order_of_its_file():
    assert [candidate.name for candidate in candidates(STUDIES["ablation"])] == list(NETS)


def test_a_grid_keeps_the_order_of_the_listing():
    study = _space("grid", 100)
    assert [c.network for c in candidates(study)] == list(space_of(study))


def test_random_takes_the_whole_of_a_small_space_and_then_ends():
    study = _space("random", 1000)
    assert {c.network.key for c in candidates(study)} == {net.key for net in space_of(study)}


def test_a_larger_search_begins_with_the_smaller_one_and_another_seed_with_others():
    few, many, other = (
        [c.network.key for c in candidates(study)]
        for study in (_space("random", 5), _space("random", 12), _space("random", 12, seed=1))
    )
    assert many[:5] == few
    assert many != other


@pytest.mark.parametrize("study", [s for n, s in STUDIES.items() if n != "ablation"], ids=["random", "grid"])
def test_decisions_lead_back_to_the_network(study: Study):
    assert all(space_of(study).replay(c.decisions) == c.network for c in candidates(study))


# ---- Optuna beside the ledger


def _asked(search: Search, fates: tuple[str, ...]) -> list[Trial]:
    """Ask as often as there are fates, and tell each."""
    past = []
    for fate in fates:
        number, candidate, seed = search.ask() or pytest.fail("nothing more to ask")
        facts = {"name": candidate.name, "key": candidate.network.key, "spec": str(candidate.network), "seed": seed}
        cost = {"params": 10 + number, "macs": 10**9 * (number + 1), "decisions": candidate.decisions}
        curve = [{"epoch": 1, "top1": 10.0 + number}] if fate == "finished" else []
        past.append(Trial(number, facts | cost, fate, curve=curve))
        if fate != "unfinished":
            search.tell(past[-1])
    return past


def _seen(study: optuna.Study) -> list[tuple[object, ...]]:
    return [(t.number, t.params, t.distributions, t.values, t.state) for t in study.trials]


@pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)
def test_rebuilt_from_the_trials_it_is_as_it_was(study: Study):
    search = Search(study, [])
    past = _asked(search, FATES)
    rebuilt = Search(study, past)
    assert [trial.number for trial in past] == [0, 1, 2]
    assert _seen(rebuilt.optuna) == _seen(search.optuna)
    assert [t.user_attrs["key"] for t in rebuilt.optuna.trials] == [trial.asked["key"] for trial in past]


@pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)
def test_rebuilt_it_asks_for_the_rest_and_no_more(study: Study):
    past = _asked(Search(study, []), FATES)
    total = sum(1 for _ in candidates(study)) * len(study.seeds)
    rest = _asked(Search(study, past), ("finished",) * (total - 3))
    assert [trial.number for trial in rest] == list(range(3, total))
    asked = [(trial.asked["key"], trial.asked["seed"]) for trial in past + rest]
    assert len(set(asked)) == total
    assert Search(study, past + rest).ask() is None


def test_the_seeds_of_a_network_follow_each_other():
    past = _asked(Search(STUDIES["ablation"], []), ("finished",) * 4)
    assert [(t.asked["name"], t.asked["seed"]) for t in past] == [("one", 0), ("one", 1), ("two", 0), ("two", 1)]


@pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)
def test_the_export_opens_in_optuna_and_is_made_anew_each_time(study: Study, tmp_path: Path):
    past = _asked(Search(study, []), FATES)
    path = tmp_path / "optuna.journal"
    for _ in range(2):
        export(study, past, path, name="mine")
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(path)))
    loaded = optuna.load_study(study_name="mine", storage=storage)
    assert _seen(loaded) == _seen(Search(study, past).optuna)
    assert loaded.metric_names == ["top1", "gmacs"]
    assert [t.number for t in loaded.best_trials] == [0]
