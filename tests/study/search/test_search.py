"""Ask-and-tell: the same networks after every crash, no duplicates, and no losses of unfinished trials."""

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
from hiri_search.study.config.schema import StudyConfig
from hiri_search.study.export.optuna_export import build_export, to_file
from hiri_search.study.ledger.events import NetworkSkipped
from hiri_search.study.ledger.trial import Trial
from hiri_search.study.search.samplers.bayesian import expected_improvements, van_der_corput
from hiri_search.study.search.samplers.optuna_sampler import OptunaSampler
from hiri_search.study.search.search import ask_tell
from tests.study.search.searches import LightSpace, carry_on, costs, search_of, study, top1, trial_of

SMALL = "hr(32 e=4|6) -> (hr | cffn)(64 e=4)*1..3 -> t(128 e=2..4)"  # 2 x 2 x 3 x 3
SPACE = "(hr | cffn)(32 e=2..4)*1..3 -> (hr | cffn | t(d=32|64))(64 e=2|4)*1..4 -> t(128 e=2..4)*1..3"  # 5184
NETS = {"one": "hr(32 e=4) -> t(64 e=4)", "two": "hr(32 e=4) -> cffn(64 e=4)"}
WITH_SCIPY = pytest.mark.skipif(find_spec("scipy") is None, reason="Optuna's gp needs scipy")
SLOW = (WITH_SCIPY, pytest.mark.slow)  # half a second to ask
LEARNING = ["surrogate", "evolution", "tpe", "nsga2", "nsga3", pytest.param("gp", marks=SLOW)]
SAMPLERS = ["grid", "random", *LEARNING]


def _ablation(**keys: Any) -> StudyConfig:
    return StudyConfig.model_validate({"nets": NETS, "proxy": {"side": 64}, "seeds": 1} | keys)


def _keys(trials: list[Trial]) -> list[tuple[str, int]]:
    return [(trial.network.key, trial.asked.seed) for trial in trials]


# ---- every sampler


def _mixed_state(trial: int) -> str:
    return "failed" if trial % 7 == 3 else "stopped" if trial % 7 == 5 else "finished"


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_proposals_depend_on_the_seed_alone(sampler: str):
    first, second, other_seed = (
        _keys(carry_on(search_of(study(SPACE, sampler=sampler, networks=99, seed=seed)), 12)) for seed in (0, 0, 1)
    )
    assert first == second
    assert (first == other_seed) == (sampler == "grid")


KILLS = {"gp": (3, 11), "tpe": (3, 12, 25), "nsga2": (3, 40, 60, 139), "nsga3": (60,)}


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_search_killed_after_any_trial_proposes_the_same_networks(sampler: str):
    kills = KILLS.get(sampler, (3, 7, 20, 45))
    config = study(SPACE, sampler=sampler, networks=kills[-1] + 15)
    unbroken = carry_on(search_of(config), 999, _mixed_state)
    for kill in kills:
        past = unbroken[:kill]
        assert _keys(carry_on(search_of(config, past), 999, _mixed_state)) == _keys(unbroken[kill:]), (
            f"killed after {kill}"
        )


@WITH_SCIPY
def test_a_killed_search_with_optunas_gp_proposes_the_same_networks():
    config = study(SPACE, sampler="gp", networks=13)
    unbroken = carry_on(search_of(config), 999)
    assert len(set(_keys(unbroken))) == 13
    assert _keys(carry_on(search_of(config, unbroken[:11]), 999)) == _keys(unbroken[11:])


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_search_killed_while_a_trial_runs_proposes_the_same_networks_once_it_ends(sampler: str):
    config = study(SPACE, sampler=sampler, networks=16)
    unbroken = carry_on(search_of(config), 999)
    running = Trial(unbroken[9].asked)
    search = search_of(config, [*unbroken[:9], running])
    search.tell(unbroken[9])
    assert _keys(carry_on(search, 999)) == _keys(unbroken[10:])


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_small_space_is_exhausted_without_duplicates(sampler: str):
    config = study(SMALL, sampler=sampler, networks=1000)
    done = carry_on(search_of(config), 999, _mixed_state)
    assert len(done) == 36
    assert {trial.network.key for trial in done} == {net.key for net in resolve(config).space}
    assert search_of(config, done).ask() is None


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_running_network_is_not_proposed_again(sampler: str):
    running = carry_on(search_of(study(SMALL, sampler=sampler, networks=30)), 30, lambda n: _STATES[n % 2])
    assert len(set(_keys(running))) == 30


_STATES = ("finished", "unfinished")


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_decisions_are_exactly_those_of_the_network(sampler: str):
    space = parse(SPACE)
    for trial in carry_on(search_of(study(SPACE, sampler=sampler, networks=20)), 20):
        asked = trial.asked.decisions
        net, decisions = space.walk(lambda name, options, sizes, asked=asked: options.index(asked[name]))
        assert (net.key, list(decisions.items())) == (trial.network.key, list(asked.items()))


@pytest.mark.parametrize("exact_sizes", [True, False], ids=["exact sizes", "rejection"])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_proposal_meets_the_budget(sampler: str, exact_sizes: bool):
    light = LightSpace(parse(SMALL), exact_sizes=exact_sizes)
    done = carry_on(search_of(study(SMALL, sampler=sampler, networks=20), space=light), 20)
    assert {trial.network.key for trial in done} <= {net.key for net, _ in light.allowed}
    assert len(set(_keys(done))) == 20


@pytest.mark.parametrize("objectives", [("top1",), ("gmacs", "mparams"), ("top1", "gmacs", "mparams")], ids=str)
@pytest.mark.parametrize("sampler", LEARNING)
def test_any_objectives_can_be_combined(sampler: str, objectives: tuple[str, ...]):
    config = study(SPACE, sampler=sampler, networks=14, objectives=objectives)
    assert len(set(_keys(carry_on(search_of(config), 14)))) == 14


# ---- tell


def test_losses_of_a_network_are_means_over_its_seeds():
    config = study(SPACE, sampler="random", objectives=("top1", "mparams")).model_copy(update={"seeds": (0, 1)})
    search = search_of(config)
    first, second = (search.ask() or pytest.fail("exhausted") for _ in range(2))
    assert (first[0], first[1], second[0], second[2]) == (0, second[1], 1, 1), "both seeds of one network"
    net = search.history[0].net
    search.tell(trial_of(first, "finished"))
    assert (search.history[0].state, search.history[0].losses) == ("running", ())
    search.tell(trial_of(second, "finished"))
    assert search.history[0].losses == (-(top1(net) + 0.5), costs(net)["mparams"])


@pytest.mark.parametrize(
    ("states", "state"),
    [
        (("finished", "failed"), "failed"),
        (("finished", "stopped"), "stopped"),
        (("stopped", "failed"), "failed"),
        (("finished", "unfinished"), "running"),
        (("finished", "paused"), "running"),
    ],
)
def test_a_network_with_an_unfinished_seed_has_no_losses(states: tuple[str, str], state: str):
    search = search_of(study(SPACE, sampler="random").model_copy(update={"seeds": (0, 1)}))
    for trial_state in states:
        search.tell(trial_of(search.ask() or pytest.fail("exhausted"), trial_state))
    assert (search.history[0].state, search.history[0].losses) == (state, ())


def test_a_network_without_a_measured_objective_counts_as_failed():
    search = search_of(study(SPACE, sampler="random", objectives=("top1", "memory")))
    (_,) = carry_on(search, 1)
    assert search.history[0].state == "failed"


def test_the_optuna_study_holds_the_history_of_the_search():
    search = search_of(study(SPACE, sampler="nsga2", networks=8))
    outcomes = ("finished", "failed", "stopped", "unfinished")
    carry_on(search, 8, lambda number: outcomes[number % 4])
    sampler = search._sampler
    assert isinstance(sampler, OptunaSampler)
    added = [trial for trial in sampler.study.trials if trial.params and trial.number in sampler.numbers]
    states = (TrialState.COMPLETE, TrialState.FAIL, TrialState.PRUNED, TrialState.RUNNING)
    assert [trial.state for trial in added[:7]] == [states[number % 4] for number in range(7)]
    assert [tuple(t.values) for t in added if t.state == TrialState.COMPLETE] == [
        proposal.losses for proposal in search.history[:7] if proposal.state == "finished"
    ]
    assert all(("2.t.d" in t.params) == (t.params["2.which"] == "t") for t in added)
    kinds = {name: type(d).__name__ for t in added for name, d in t.distributions.items()}
    assert (kinds["1.n"], kinds["1.which"]) == ("IntDistribution", "CategoricalDistribution")


@pytest.mark.parametrize("sampler", ["nsga2", "nsga3"])
def test_generations_advance_though_suggestions_are_replaced(sampler: str):
    search = search_of(study(SMALL.replace("*1..3", "*1..9"), sampler=sampler, networks=108))
    carry_on(search, 108)
    key = f"{sampler.upper().replace('2', 'II').replace('3', 'III')}Sampler:generation"
    optuna_trials = search._sampler.study.trials
    generations = [optuna_trials[number].system_attrs[key] for number in search._sampler.numbers]
    assert generations == [number // 50 for number in range(len(generations))]


# ---- networks that do not fit


UNFIT = "(hr(32 e=4) | hr(32 e=4) -> hr(48 e=4)) -> (hr(64 e=2..9) | hr(64 e=2..9) -> hr(96 e=2..9))"


def test_a_network_that_does_not_fit_is_skipped_and_again_after_a_crash():
    config = study(UNFIT, sampler="random", networks=60)
    config = config.model_copy(update={"counted": config.counted.model_copy(update={"side": 32})})
    skipped: list[NetworkSkipped] = []

    def note(number: int, decisions: Any, reason: str) -> None:
        skipped.append(NetworkSkipped(proposal=number, decisions=decisions, reason=reason))

    unbroken = carry_on(search_of(config, on_skip=note), 999)
    assert skipped
    assert "32" in skipped[0].reason
    assert len({*_keys(unbroken)}) == len(unbroken)
    for kill in (1, 5, 8):
        earlier = [event for event in skipped if event.proposal < _proposals(kill, skipped)]
        rest = carry_on(search_of(config, unbroken[:kill], skipped=earlier, on_skip=note), 999)
        assert _keys(rest) == _keys(unbroken[kill:])


def test_a_space_without_a_network_that_fits_is_an_error():
    config = study(SPACE, sampler="random", networks=60)
    config = config.model_copy(update={"counted": config.counted.model_copy(update={"side": 33})})
    skipped: list[Any] = []
    with pytest.raises(InvalidNetwork, match="33"):
        search_of(config, on_skip=lambda *skip: skipped.append(skip)).ask()
    assert 0 < len(skipped) <= 1000


def _proposals(trials: int, skipped: list[NetworkSkipped]) -> int:
    """Return the number of proposals up to and including this many trials."""
    positions = {event.proposal for event in skipped}
    return [number for number in range(999) if number not in positions][trials - 1] + 1


# ---- evolution and Bayesian optimisation


def test_the_ranking_is_by_front_then_by_crowding_distance():
    points = np.array([[0, 4], [4, 0], [1, 3], [1.5, 2.5], [3, 1], [5, 5], [2, 4]], dtype=float)
    assert fronts(points).tolist() == [0, 0, 0, 0, 0, 2, 1]
    assert crowding_distance(points[:3]).tolist() == [np.inf, np.inf, 2.0]
    ranks = np.argsort(rank_then_crowding(points)).tolist()
    assert sorted(ranks) == list(range(7))
    assert (ranks[5], ranks[6]) == (6, 5)
    assert ranks[4] < ranks[3]


def test_the_expected_improvement_is_the_mean_improvement_of_samples():
    rng = np.random.default_rng(0)
    front, reference = rng.uniform(size=(5, 2)), np.array([1.0, 1.0])
    mean, deviation = np.array([[0.4, 0.5], [0.9, 0.2]]), np.array([[0.3, 0.0], [0.1, 0.2]])
    samples = mean + deviation * rng.normal(size=(20_000, 2, 2))
    volume = hypervolume(front, (1.0, 1.0))
    improvements = [
        [hypervolume(np.vstack([front, point]), (1.0, 1.0)) - volume for point in sample] for sample in samples[:4000]
    ]
    assert expected_improvements(front, reference, mean, deviation) == pytest.approx(
        np.mean(improvements, axis=0), rel=0.1
    )


def test_the_van_der_corput_sequence_bisects_evenly():
    assert [van_der_corput(number) for number in range(8)] == [1, 0, 1 / 2, 1 / 4, 3 / 4, 1 / 8, 3 / 8, 5 / 8]


def _volume(trials: list[Trial]) -> float:
    points = np.array([[-t.curve[-1].scores["top1"], t.network.macs / 1e9] for t in trials])
    return hypervolume(points, (-50.0, 200.0))


@pytest.mark.parametrize(("sampler", "trials", "most_missed"), [("surrogate", 60, 0.5), ("evolution", 150, 0.8)])
def test_a_learning_sampler_misses_less_hypervolume_than_random_search(sampler: str, trials: int, most_missed: float):
    learned, random = (
        np.mean(
            [_volume(carry_on(search_of(study(SPACE, sampler=s, networks=trials, seed=i)), trials)) for i in range(3)]
        )
        for s in (sampler, "random")
    )
    nets = [net for net, _ in parse(SPACE).walks()]
    best = hypervolume(np.array([[-top1(net), costs(net)["gmacs"]] for net in nets]), (-50.0, 200.0))
    assert best - learned < most_missed * (best - random)


# ---- ablations, and the export to Optuna

STUDIES = {"ablation": _ablation(seeds=2), "search": study(SMALL, sampler="random", networks=12)}
OUTCOMES = ("finished", "failed", "unfinished")


def test_an_ablation_asks_for_its_rows_in_order_and_after_a_crash_for_the_remaining():
    config = STUDIES["ablation"]
    done = carry_on(ask_tell(resolve(config), []), 9)
    assert [(t.network.name, t.asked.seed) for t in done] == [("one", 0), ("one", 1), ("two", 0), ("two", 1)]
    remaining = carry_on(ask_tell(resolve(config), done[:3]), 9)
    assert [(t.number, t.network.name, t.asked.seed) for t in remaining] == [(3, "two", 1)]
    assert ask_tell(resolve(config), done).ask() is None


def test_grid_search_follows_the_order_of_the_listing():
    done = carry_on(search_of(study(SMALL, sampler="grid", networks=100)), 100)
    assert [trial.network.key for trial in done] == [net.key for net in parse(SMALL)]


def test_a_larger_search_starts_with_the_networks_of_a_smaller_one():
    few, many = (_keys(carry_on(search_of(study(SPACE, networks=networks)), 99)) for networks in (10, 20))
    assert many[:10] == few


@pytest.mark.parametrize("config", STUDIES.values(), ids=STUDIES)
def test_the_export_opens_in_optuna_and_is_written_anew_each_time(config: StudyConfig, tmp_path: Path):
    search = search_of(config) if config.space else ask_tell(resolve(config), [])
    past = carry_on(search, 3, lambda number: OUTCOMES[number])
    path = tmp_path / "optuna.journal"
    for _ in range(2):
        to_file(build_export(config, past, {}, name="mine"), path)
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(path)))
    loaded = optuna.load_study(study_name="mine", storage=storage)
    assert loaded.metric_names == ["top1", "gmacs"]
    assert [t.number for t in loaded.best_trials] == [0]
    assert [t.user_attrs["key"] for t in loaded.trials] == [trial.network.key for trial in past]
    assert loaded.trials[0].values == [past[0].curve[-1].scores["top1"], past[0].network.macs / 1e9]
    assert [t.state for t in loaded.trials] == [TrialState.COMPLETE, TrialState.FAIL, TrialState.RUNNING]
