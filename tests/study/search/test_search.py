"""Asking: the same networks after every crash, none twice, and nothing believed that did not come to an end."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from hiri_search.cost.pareto import crowding_distance, fronts, hypervolume, rank_then_crowding
from hiri_search.language import parse
from hiri_search.study.config.networks import InvalidNetwork, resolve
from hiri_search.study.config.schema import Study
from hiri_search.study.export.optuna_export import build_export, to_file
from hiri_search.study.ledger.events import NetworkSkipped
from hiri_search.study.ledger.trial import Trial
from hiri_search.study.search.samplers.bayesian import expected_improvements, van_der_corput
from hiri_search.study.search.samplers.optuna_sampler import OptunaSampler
from hiri_search.study.search.search import ask_tell
from tests.study.search.searches import Light, begun, carry_on, costs, searching, study, top1

SMALL = "hr(32 e=4|6) -> (hr | cffn)(64 e=4)*1..3 -> t(128 e=2..4)"  # 2 x 2 x 3 x 3
SPACE = "(hr | cffn)(32 e=2..4)*1..3 -> (hr | cffn | t(d=32|64))(64 e=2|4)*1..4 -> t(128 e=2..4)*1..3"  # 5184
NETS = {"one": "hr(32 e=4) -> t(64 e=4)", "two": "hr(32 e=4) -> cffn(64 e=4)"}
WITH_SCIPY = pytest.mark.skipif(find_spec("scipy") is None, reason="Optuna's gp needs scipy")
SLOW = (WITH_SCIPY, pytest.mark.slow)  # half a second to ask
LEARNING = ["surrogate", "evolution", "tpe", "nsga2", "nsga3", pytest.param("gp", marks=SLOW)]
SAMPLERS = ["grid", "random", *LEARNING]


def _ablation(**keys: Any) -> Study:
    return Study.model_validate({"nets": NETS, "proxy": {"side": 64}} | keys)


def _keys(trials: list[Trial]) -> list[tuple[str, int]]:
    return [(trial.network.key, trial.asked.seed) for trial in trials]


# ---- every sampler


def _some(trial: int) -> str:
    return "failed" if trial % 7 == 3 else "stopped" if trial % 7 == 5 else "finished"


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_same_seed_asks_for_the_same_and_another_seed_for_others(sampler: str):
    first, again, other = (
        _keys(carry_on(searching(study(SPACE, sampler=sampler, networks=99, seed=seed)), 12)) for seed in (0, 0, 1)
    )
    assert first == again
    assert (first == other) == (sampler == "grid")


KILLS = {"gp": (3, 11), "tpe": (3, 12, 25), "nsga2": (3, 40, 60, 139), "nsga3": (60,)}


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_killed_after_any_trial_it_asks_for_what_it_would_have(sampler: str):
    kills = KILLS.get(sampler, (3, 7, 20, 45))
    given = study(SPACE, sampler=sampler, networks=kills[-1] + 15)
    unbroken = carry_on(searching(given), 999, _some)
    for kill in kills:
        past = unbroken[:kill]
        assert _keys(carry_on(searching(given, past), 999, _some)) == _keys(unbroken[kill:]), f"killed after {kill}"


@WITH_SCIPY
def test_optunas_gp_too():
    given = study(SPACE, sampler="gp", networks=13)
    unbroken = carry_on(searching(given), 999)
    assert len(set(_keys(unbroken))) == 13
    assert _keys(carry_on(searching(given, unbroken[:11]), 999)) == _keys(unbroken[11:])


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_killed_while_a_trial_runs_it_asks_for_what_it_would_have_once_that_ends(sampler: str):
    given = study(SPACE, sampler=sampler, networks=16)
    unbroken = carry_on(searching(given), 999)
    running = Trial(unbroken[9].asked)
    search = searching(given, [*unbroken[:9], running])
    search.tell(unbroken[9])
    assert _keys(carry_on(search, 999)) == _keys(unbroken[10:])


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_small_space_is_used_up_none_twice_and_then_it_ends(sampler: str):
    given = study(SMALL, sampler=sampler, networks=1000)
    done = carry_on(searching(given), 999, _some)
    assert len(done) == 36
    assert {trial.network.key for trial in done} == {net.key for net in resolve(given).space}
    assert searching(given, done).ask() is None


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_nothing_is_asked_for_while_it_runs_already(sampler: str):
    running = carry_on(searching(study(SMALL, sampler=sampler, networks=30)), 30, lambda n: _FATES[n % 2])
    assert len(set(_keys(running))) == 30


_FATES = ("finished", "unfinished")


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_decisions_are_those_of_the_network_and_no_others(sampler: str):
    space = parse(SPACE)
    for trial in carry_on(searching(study(SPACE, sampler=sampler, networks=20)), 20):
        made = trial.asked.decisions
        net, decisions = space.walk(lambda name, options, sizes, made=made: made[name])
        assert (net.key, list(decisions.items())) == (trial.network.key, list(made.items()))


@pytest.mark.parametrize("foresees", [True, False], ids=["by its sizes", "at the end of a walk"])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_nothing_outside_a_budget_is_asked_for(sampler: str, foresees: bool):
    light = Light(parse(SMALL), foresees=foresees)
    done = carry_on(searching(study(SMALL, sampler=sampler, networks=20), space=light), 20)
    assert {trial.network.key for trial in done} <= {net.key for net, _ in light.inside}
    assert len(set(_keys(done))) == 20


@pytest.mark.parametrize("objectives", [("top1",), ("gmacs", "mparams"), ("top1", "gmacs", "mparams")], ids=str)
@pytest.mark.parametrize("sampler", LEARNING)
def test_any_objectives_will_do(sampler: str, objectives: tuple[str, ...]):
    given = study(SPACE, sampler=sampler, networks=14, objectives=objectives)
    assert len(set(_keys(carry_on(searching(given), 14)))) == 14


# ---- what is told


def test_an_objective_is_a_loss_and_a_network_is_worth_the_mean_of_its_seeds():
    given = study(SPACE, sampler="random", objectives=("top1", "mparams")).model_copy(update={"seeds": (0, 1)})
    search = searching(given)
    first, second = (search.ask() or pytest.fail("nothing more") for _ in range(2))
    assert (first[0], first[1], second[0], second[2]) == (0, second[1], 1, 1), "both seeds of one network"
    net = search.past[0].net
    search.tell(begun(first, "finished"))
    assert (search.past[0].state, search.past[0].losses) == ("running", ())
    search.tell(begun(second, "finished"))
    assert search.past[0].losses == (-(top1(net) + 0.5), costs(net)["mparams"])


@pytest.mark.parametrize(
    ("states", "told"),
    [
        (("finished", "failed"), "failed"),
        (("finished", "stopped"), "stopped"),
        (("stopped", "failed"), "failed"),
        (("finished", "unfinished"), "running"),
        (("finished", "paused"), "running"),
    ],
)
def test_a_network_with_a_seed_that_did_not_finish_is_worth_nothing(states: tuple[str, str], told: str):
    search = searching(study(SPACE, sampler="random").model_copy(update={"seeds": (0, 1)}))
    for state in states:
        search.tell(begun(search.ask() or pytest.fail("nothing more"), state))
    assert (search.past[0].state, search.past[0].losses) == (told, ())


def test_what_was_not_measured_is_not_told():
    search = searching(study(SPACE, sampler="random", objectives=("top1", "memory")))
    (_,) = carry_on(search, 1)
    assert search.past[0].state == "failed"


def test_optuna_knows_of_each_network_what_the_search_knows():
    search = searching(study(SPACE, sampler="nsga2", networks=8))
    fates = ("finished", "failed", "stopped", "unfinished")
    carry_on(search, 8, lambda number: fates[number % 4])
    sampler = search._sampler
    assert isinstance(sampler, OptunaSampler)
    entered = [trial for trial in sampler.study.trials if trial.params and trial.number in sampler.numbers]
    states = (TrialState.COMPLETE, TrialState.FAIL, TrialState.PRUNED, TrialState.RUNNING)
    assert [trial.state for trial in entered[:7]] == [states[number % 4] for number in range(7)]
    assert [tuple(t.values) for t in entered if t.state == TrialState.COMPLETE] == [
        proposal.losses for proposal in search.past[:7] if proposal.state == "finished"
    ]
    assert all(("2.t.d" in t.params) == (t.params["2.which"] == "t") for t in entered)
    order = {name: type(d).__name__ for t in entered for name, d in t.distributions.items()}
    assert (order["1.n"], order["1.which"]) == ("IntDistribution", "CategoricalDistribution")


@pytest.mark.parametrize("sampler", ["nsga2", "nsga3"])
def test_generations_go_on_though_networks_are_replaced(sampler: str):
    search = searching(study(SMALL.replace("*1..3", "*1..9"), sampler=sampler, networks=108))
    carry_on(search, 108)
    key = f"{sampler.upper().replace('2', 'II').replace('3', 'III')}Sampler:generation"
    optunas = search._sampler.study.trials
    generations = [optunas[number].system_attrs[key] for number in search._sampler.numbers]
    assert generations == [number // 50 for number in range(len(generations))]


# ---- what does not fit


UNFIT = "(hr(32 e=4) | hr(32 e=4) -> hr(48 e=4)) -> (hr(64 e=2..9) | hr(64 e=2..9) -> hr(96 e=2..9))"


def test_a_network_that_does_not_fit_is_passed_over_and_so_again_after_a_crash():
    given = study(UNFIT, sampler="random", networks=60)
    given = given.model_copy(update={"counted": given.counted.model_copy(update={"side": 32})})
    passed: list[NetworkSkipped] = []

    def note(number: int, decisions: Any, reason: str) -> None:
        passed.append(NetworkSkipped(proposal=number, decisions=decisions, reason=reason))

    unbroken = carry_on(searching(given, pass_over=note), 999)
    assert passed
    assert "32" in passed[0].reason
    assert len({*_keys(unbroken)}) == len(unbroken)
    for kill in (1, 5, 8):
        upto = [event for event in passed if event.proposal < _place(kill, passed)]
        rest = carry_on(searching(given, unbroken[:kill], passed=upto, pass_over=note), 999)
        assert _keys(rest) == _keys(unbroken[kill:])


def test_a_space_that_nothing_fits_in_is_given_up():
    given = study(SPACE, sampler="random", networks=60)
    given = given.model_copy(update={"counted": given.counted.model_copy(update={"side": 33})})
    passed: list[Any] = []
    with pytest.raises(InvalidNetwork, match="33"):
        searching(given, pass_over=lambda *about: passed.append(about)).ask()
    assert 0 < len(passed) <= 1000


def _place(trials: int, passed: list[NetworkSkipped]) -> int:
    """Of the proposal behind so many trials."""
    taken = {event.proposal for event in passed}
    return [number for number in range(999) if number not in taken][trials - 1] + 1


# ---- evolution and the surrogate


def test_the_ranking_is_by_front_then_by_how_alone_a_point_is():
    points = np.array([[0, 4], [4, 0], [1, 3], [1.5, 2.5], [3, 1], [5, 5], [2, 4]], dtype=float)
    assert fronts(points).tolist() == [0, 0, 0, 0, 0, 2, 1]
    assert crowding_distance(points[:3]).tolist() == [np.inf, np.inf, 2.0]
    places = np.argsort(rank_then_crowding(points)).tolist()
    assert sorted(places) == list(range(7))
    assert (places[5], places[6]) == (6, 5)
    assert places[4] < places[3]


def test_an_expected_gain_is_the_mean_of_the_gains_of_draws():
    rng = np.random.default_rng(0)
    front, reference = rng.uniform(size=(5, 2)), np.array([1.0, 1.0])
    mean, deviation = np.array([[0.4, 0.5], [0.9, 0.2]]), np.array([[0.3, 0.0], [0.1, 0.2]])
    draws = mean + deviation * rng.normal(size=(20_000, 2, 2))
    before = hypervolume(front, (1.0, 1.0))
    gains = [[hypervolume(np.vstack([front, point]), (1.0, 1.0)) - before for point in draw] for draw in draws[:4000]]
    assert expected_improvements(front, reference, mean, deviation) == pytest.approx(np.mean(gains, axis=0), rel=0.1)


def test_costs_are_halved_evenly():
    assert [van_der_corput(number) for number in range(8)] == [1, 0, 1 / 2, 1 / 4, 3 / 4, 1 / 8, 3 / 8, 5 / 8]


def _volume(trials: list[Trial]) -> float:
    points = np.array([[-t.curve[-1].top1, t.network.macs / 1e9] for t in trials])
    return hypervolume(points, (-50.0, 200.0))


@pytest.mark.parametrize(("sampler", "trials", "missed"), [("surrogate", 60, 0.5), ("evolution", 150, 0.8)])
def test_what_learns_misses_less_of_the_front_than_chance_does(sampler: str, trials: int, missed: float):
    found, chance = (
        np.mean(
            [_volume(carry_on(searching(study(SPACE, sampler=s, networks=trials, seed=i)), trials)) for i in range(3)]
        )
        for s in (sampler, "random")
    )
    whole = [net for net, _ in parse(SPACE).walks()]
    best = hypervolume(np.array([[-top1(net), costs(net)["gmacs"]] for net in whole]), (-50.0, 200.0))
    assert best - found < missed * (best - chance)


# ---- ablations, and Optuna's dashboard

STUDIES = {"ablation": _ablation(seeds=2), "search": study(SMALL, sampler="random", networks=12)}
FATES = ("finished", "failed", "unfinished")


def test_an_ablation_asks_for_its_rows_in_order_each_with_its_seeds_and_after_a_crash_for_the_rest():
    given = STUDIES["ablation"]
    done = carry_on(ask_tell(resolve(given), []), 9)
    assert [(t.network.name, t.asked.seed) for t in done] == [("one", 0), ("one", 1), ("two", 0), ("two", 1)]
    rest = carry_on(ask_tell(resolve(given), done[:3]), 9)
    assert [(t.number, t.network.name, t.asked.seed) for t in rest] == [(3, "two", 1)]
    assert ask_tell(resolve(given), done).ask() is None


def test_a_grid_keeps_the_order_of_the_listing():
    done = carry_on(searching(study(SMALL, sampler="grid", networks=100)), 100)
    assert [trial.network.key for trial in done] == [net.key for net in parse(SMALL)]


def test_a_larger_search_begins_with_the_smaller_one():
    few, many = (_keys(carry_on(searching(study(SPACE, networks=networks)), 99)) for networks in (10, 20))
    assert many[:10] == few


@pytest.mark.parametrize("given", STUDIES.values(), ids=STUDIES)
def test_the_export_opens_in_optuna_and_is_made_anew_each_time(given: Study, tmp_path: Path):
    search = searching(given) if given.space else ask_tell(resolve(given), [])
    past = carry_on(search, 3, lambda number: FATES[number])
    path = tmp_path / "optuna.journal"
    for _ in range(2):
        to_file(build_export(given, past, {}, name="mine"), path)
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(path)))
    loaded = optuna.load_study(study_name="mine", storage=storage)
    assert loaded.metric_names == ["top1", "gmacs"]
    assert [t.number for t in loaded.best_trials] == [0]
    assert [t.user_attrs["key"] for t in loaded.trials] == [trial.network.key for trial in past]
    assert loaded.trials[0].values == [past[0].curve[-1].top1, past[0].network.macs / 1e9]
    assert [t.state for t in loaded.trials] == [TrialState.COMPLETE, TrialState.FAIL, TrialState.RUNNING]
