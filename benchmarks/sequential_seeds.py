"""Error rate and power of `seeds: auto`, in simulated studies that go through the real queue and the real report.

python benchmarks/sequential_seeds.py --help
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from hiri_search.report.tables.ablation import comparisons
from hiri_search.report.tables.results import Results
from hiri_search.stats.significance import Scale, compare_pairs
from hiri_search.study.config.networks import StudyNetworks, resolve
from hiri_search.study.config.schema import StudyConfig
from hiri_search.study.ledger.events import StudyStarted, TrialAsked
from hiri_search.study.ledger.ledger import read_ledger, study_event
from hiri_search.study.ledger.ledger import trials as every_trial
from hiri_search.study.ledger.trial import Trial
from hiri_search.study.ledger.values import CodeVersion, ImageSet, NetworkFacts, StandIn
from hiri_search.study.scheduler.queue import NewTrial, TrialQueue
from hiri_search.study.search.added_seeds import AddedSeed, SeedRule
from hiri_search.study.search.comparison_design import comparison_design
from hiri_search.training.job import Epoch

ROWS, BASE, FIRST, MOST = 5, "base", 3, 12
LABELS = {BASE: "11", "a": "10", "b": "9", "c": "6", "d": "1"}  # of the rows, in the paper's Table 7
MEAN, SPREAD = 70.0, 2.0  # top-1 in percent, and the standard deviation over seeds of a row
IMAGES = 1_000  # of the validation: top-1 is a whole number of them
PLATEAU_SHARE, PLATEAU_DEPTH = 0.2, 5.0  # seeds that leave a plateau late, and how far they lie below, in deviations
MAX_FIXED = 40  # seeds of a fixed design that is as powerful
SHARED = 0.5  # deviation of what the trials of a seed share
HEAD = "| simulated studies | a false difference % | power % | trainings | seeds a row | as powerful, fixed | saved % |"

Noise = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]


def _normal(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    return rng.normal(size=shape)


def _student(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    return np.asarray(rng.standard_t(3, size=shape) / np.sqrt(3))


def _exponential(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    return np.asarray(1 - rng.exponential(size=shape))


def _plateau(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Normal noise, of which some seeds lie on a plateau; of mean 0 and the spread of its normal part."""
    stuck = rng.random(shape) < PLATEAU_SHARE
    return rng.normal(size=shape) - PLATEAU_DEPTH * (stuck - PLATEAU_SHARE)


@dataclass(frozen=True)
class Scenario:
    """A population of studies: the mean of each row, in standard deviations of a seed, and how seeds vary."""

    name: str
    means: tuple[float, ...] = (0.0,) * ROWS  # the base first
    spreads: tuple[float, ...] = (1.0,) * ROWS
    noise: Noise = _normal
    noise_of: Mapping[int, Noise] | None = None  # of rows with a noise of their own
    stated: bool = False  # the study names the paper's table, whose scores state the directions
    uncorrected: bool = False  # all rows get a seed, and Student's t-test is made, until a difference is shown
    least_sure: bool = False  # the next seed goes to the pair with the lowest predictive power, for comparison
    trainings: int | None = None  # the time limit: no more than so many
    most: int = MOST  # seeds of a row

    def draw(self, rng: np.random.Generator, seeds: int) -> np.ndarray:
        """Return top-1 by row and seed."""
        noise = self.noise(rng, (ROWS, seeds))
        for row, own in (self.noise_of or {}).items():
            noise[row] = own(rng, (1, seeds))[0]
        deviations = np.array(self.means)[:, None] + np.array(self.spreads)[:, None] * noise
        top1 = MEAN + SPREAD * (deviations + SHARED * rng.normal(size=seeds))
        return np.asarray(np.clip(np.round(top1 * IMAGES / 100) * 100 / IMAGES, 0, 100))


def _one(gain: float) -> tuple[float, ...]:
    return (0.0, gain, 0.0, 0.0, 0.0)


LADDER = (0.0, -0.5, -1.0, -2.0, -3.0)
SCENARIOS = (
    Scenario("no difference"),
    Scenario("no difference, tested after each seed without correction for it", uncorrected=True),
    Scenario("no difference, stated directions", stated=True),
    Scenario("no difference, unequal spreads", spreads=(1.0, 0.3, 3.0, 1.0, 2.0)),
    Scenario("no difference, Student's t with 3 degrees of freedom", noise=_student),
    Scenario("no difference, skewed (exponential)", noise=_exponential),
    Scenario("no difference, a fifth of the seeds on a plateau", noise=_plateau),
    Scenario("equal means, one row on a plateau", noise_of={1: _plateau}),
    Scenario("one difference of 1 sd", _one(-1)),
    Scenario("one difference of 2 sd", _one(-2)),
    Scenario("one difference of 3 sd", _one(-3)),
    Scenario("one difference of 2 sd, as stated", _one(-2), stated=True),
    Scenario("one difference of 2 sd, against what is stated", _one(2), stated=True),
    Scenario("one difference of 2 sd, a fifth on a plateau", _one(-2), noise=_plateau),
    Scenario("one difference of 2 sd, time for 27 trainings", _one(-2), trainings=27),
    Scenario("the same, least sure pair first", _one(-2), trainings=27, least_sure=True),
    Scenario("the same, at most 8 seeds a row", _one(-2), trainings=27, most=8),
    Scenario("one difference of 3 sd, time for 27 trainings", _one(-3), trainings=27),
    Scenario("a ladder of 0.5, 1, 2, 3 sd", LADDER),
    Scenario("a ladder of 0.5, 1, 2, 3 sd, as stated", LADDER, stated=True),
    Scenario("a ladder of 0.5, 1, 2, 3 sd, time for 27 trainings", LADDER, trainings=27),
    Scenario("the same ladder, least sure pair first", LADDER, trainings=27, least_sure=True),
    Scenario("the same ladder, at most 8 seeds a row", LADDER, trainings=27, most=8),
)


class LeastSureFirst(SeedRule):
    """The rule with the opposite order of pairs."""

    def preferred(self, candidates: Mapping[AddedSeed, float]) -> AddedSeed:
        return min(candidates, key=lambda added: candidates[added])


@dataclass(frozen=True)
class Outcome:
    """What a study of a scenario shows."""

    false: bool  # a difference that does not exist, or one in the wrong direction
    found: float  # share of the differences that exist
    trainings: int


@cache
def networks_of(stated: bool, most: int) -> StudyNetworks:
    """Return a study of five rows with a base; its rows are networks of Table 7, each worse than the base there."""
    nets = {name: {"spec": "hr(32 e=4)", "paper": label} for name, label in LABELS.items()}
    keys = {"nets": nets, "compare": BASE, "seeds": {"first": FIRST, "most": most}, "table": "7" if stated else ""}
    return resolve(StudyConfig.model_validate({"counted": {"side": 64}, "proxy": {"side": 64}, **keys}))


FACTS = {
    name: NetworkFacts(name, name, "hr(32 e=4)", 64, 1, 1, 1, {}, StandIn("hr(32 e=4)", 64, 1, 1)) for name in LABELS
}
STARTED = StudyStarted(
    file={},
    profile="none",
    device="CPU",
    images=ImageSet(train=1_000, val=IMAGES, classes=10, fingerprints={}),
    code=CodeVersion(version=None, digest=""),
)


def finished(number: int, row: str, seed: int, top1: float, added_for: tuple[str, str] | None = None) -> Trial:
    """Return a finished trial of one epoch, which took a second."""
    asked = TrialAsked(trial=number, network=FACTS[row], seed=seed, checkpoint="", added_for=added_for)
    scores = {"top1": top1, "top5": 100.0}
    return Trial(asked, "finished", curve=[Epoch(1, 1.0, 0.1, scores, 1.0, 100.0, 0.0, 1, None, None)])


def run(scenario: Scenario, number: int) -> Outcome:
    """Let the queue ask for the trainings of one study, and the report compare its rows."""
    top1 = scenario.draw(np.random.default_rng(number), MOST)
    names, trials = list(FACTS), dict[int, Trial]()
    networks = networks_of(scenario.stated, scenario.most)
    limit = scenario.trainings or ROWS * MOST
    queue = TrialQueue(
        networks,
        trials,
        space=None,
        skipped=(),
        on_skip=lambda *skipped: None,
        seconds_left=lambda: limit - len(trials),
    )
    if scenario.least_sure:
        queue.rule = LeastSureFirst(queue.study, comparison_design(queue.study))
    while isinstance(step := queue.next(set()), NewTrial):
        name = step.candidate.name
        trials[step.number] = finished(step.number, name, step.seed, top1[names.index(name), step.seed], step.added_for)
    results = Results(networks.study, STARTED, [trial.row() for trial in trials.values()])
    return _outcome(scenario, comparisons(results), len(trials))


def run_fixed(scenario: Scenario, number: int, *, seeds: int, drawn: int | None = None) -> Outcome:
    """Compare the rows of one study that has so many seeds from the beginning, the first of those that are drawn."""
    top1 = scenario.draw(np.random.default_rng(number), drawn or seeds)[:, :seeds]
    scores = {name: dict(enumerate(row)) for name, row in zip(FACTS, top1.tolist(), strict=True)}
    design = Results(networks_of(scenario.stated, scenario.most).study, STARTED, ()).design
    return _outcome(scenario, compare_pairs(design.pairs, scores, Scale(), stated=design.signs), ROWS * seeds)


def run_uncorrected(scenario: Scenario, number: int) -> Outcome:
    """Add a seed to all rows of one study until Student's t-test shows a difference."""
    for seeds in range(FIRST, MOST + 1):
        outcome = run_fixed(scenario, number, seeds=seeds, drawn=MOST)
        if outcome.false or outcome.found:
            break
    return outcome


def _outcome(scenario: Scenario, compared: Sequence[Any], trainings: int) -> Outcome:
    true = np.sign(np.array(scenario.means[1:]) - scenario.means[0])
    shown = np.array([comparison.sign * comparison.significant for comparison in compared])
    found = float((shown == true)[true != 0].mean()) if true.any() else 0.0
    return Outcome(bool(((shown != 0) & (shown != true)).any()), found, trainings)


def measure(scenario: Scenario, studies: int, pool: ProcessPoolExecutor) -> str:
    """Return the line of a scenario, with the fixed design that shows as much."""

    def outcomes(simulate: Callable[[int], Outcome]) -> tuple[float, float, float]:
        every = list(pool.map(simulate, range(studies), chunksize=50))
        columns = zip(*((each.false, each.found, each.trainings) for each in every), strict=True)
        false, found, trainings = (float(np.mean(column)) for column in columns)
        return false, found, trainings

    false, found, trainings = outcomes(partial(run_uncorrected if scenario.uncorrected else run, scenario))
    power = f"{100 * found:.0f}" if any(scenario.means) else ""
    cells = [f"{100 * false:.1f}", power, f"{trainings:.1f}", f"{trainings / ROWS:.1f}", "", ""]
    if found:
        low, high = FIRST - 1, MAX_FIXED  # `low` shows less
        while high - low > 1:
            middle = (low + high) // 2
            powerful = outcomes(partial(run_fixed, scenario, seeds=middle))[1] >= found
            low, high = (low, middle) if powerful else (middle, high)
        cells[4] = f"{ROWS * high} ({high} seeds)"
        cells[5] = f"{100 * (1 - trainings / (ROWS * high)):.0f}"
    return f"| {scenario.name} | {' | '.join(cells)} |"


def replay(folder: Path) -> str:
    """Return the line of a real study with a fixed number of seeds, as if the rule had asked for its trainings."""
    ledger = read_ledger(folder)
    fixed = StudyConfig.model_validate(study_event(ledger.events, folder).file)
    trained = {(trial.network.name, trial.asked.seed): trial for trial in every_trial(ledger.events)}
    rule = {"first": list(fixed.first_seeds[:FIRST]), "most": len(fixed.first_seeds)}
    auto = StudyConfig.model_validate(fixed.model_dump(mode="json") | {"seeds": rule})
    networks, trials = resolve(auto), dict[int, Trial]()
    queue = TrialQueue(networks, trials, space=None, skipped=(), on_skip=lambda *skipped: None)
    while isinstance(step := queue.next(set()), NewTrial):
        done = trained[step.candidate.name, step.seed]
        trials[step.number] = replace(done, asked=replace(done.asked, trial=step.number, added_for=step.added_for))
    both = [
        Results(study, STARTED, [trial.row() for trial in done.values()])
        for study, done in ((fixed, trained), (auto, trials))
    ]
    shown = [sum(comparison.significant for comparison in comparisons(results)) for results in both]
    return f"| {folder.name} | {len(trained)} | {shown[0]} | {len(trials)} | {shown[1]} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=2_000, help="simulated studies a line")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--only", default="", help="lines whose name contains this text")
    parser.add_argument(
        "--replay", type=Path, nargs="+", help="results folders of studies with a fixed number of seeds"
    )
    options = parser.parse_args()
    if options.replay:
        print("| study | trainings | shown | trainings by the rule | shown |", "|-|-|-|-|-|", sep="\n")
        print(*map(replay, options.replay), sep="\n")
        return
    print(HEAD, "|-|-|-|-|-|-|-|", sep="\n")
    with ProcessPoolExecutor(options.processes) as pool:
        for scenario in SCENARIOS:
            if options.only in scenario.name:
                print(measure(scenario, options.studies, pool), flush=True)


if __name__ == "__main__":
    main()
