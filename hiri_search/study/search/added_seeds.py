"""Added seeds (`seeds: auto`): the next training of an ablation, for the pair of rows that it may decide."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from statistics import fmean

from hiri_search.stats.significance import LEVEL, Comparison, Pair, Scale
from hiri_search.study.config.schema import StudyConfig
from hiri_search.study.ledger.events import Event, RunEnded, StudyStarted, TrialAsked, TrialEvent
from hiri_search.study.ledger.trial import Trial
from hiri_search.study.search.comparison_design import ComparisonDesign, comparison_design
from hiri_search.system.units import MINUTE

FUTILITY = 0.1  # predictive power below which a pair gets no more seeds

ByRow = Mapping[str, Mapping[int, Trial]]  # trials by row and seed


@dataclass(frozen=True)
class AddedSeed:
    """A training that the rule adds to a study."""

    row: str
    seed: int
    pair: Pair  # the comparison that it may decide


@dataclass(frozen=True)
class SeedRule:
    """The rule of a study with `seeds: auto`: it depends on the study and its trials alone.

    When all first seeds have ended, the pair that is likeliest to be shown (highest predictive power) gets a seed: both
    of its rows are trained with the next seed that they do not share. A pair gets no other one while this one is
    trained, and none once it is shown, or is less likely to be shown than FUTILITY. Scores are those on the validation
    images.
    """

    study: StudyConfig
    design: ComparisonDesign

    def next(self, trials: Iterable[Trial]) -> AddedSeed | None:
        """Return the next training to ask for; None where there is none, or none yet."""
        if not self._is_complete(by_row := self._by_row(trials)):
            return None
        if begun := next(self._begun(by_row), None):
            return begun
        candidates = {
            added: power for pair, power in self._powers(by_row).items() if (added := self._missing(pair, by_row))
        }
        return self.preferred(candidates) if candidates else None

    def preferred(self, candidates: Mapping[AddedSeed, float]) -> AddedSeed:
        """Return the training with the highest predictive power: within a time limit, it shows the most."""
        return max(candidates, key=lambda added: candidates[added])

    def possible(self, trials: Iterable[Trial]) -> set[tuple[str, int]]:
        """Return row and seed of the trainings that the rule may still add, as far as it is known now."""
        by_row = self._by_row(trials)
        pairs = self._powers(by_row) if self._is_complete(by_row) else self.design.pairs
        rows = {row for pair in pairs for row in pair}
        added = [seed for seed in self._seeds if seed not in self.study.first_seeds]
        return {(row, seed) for row in rows for seed in added if seed not in by_row[row]}

    def _by_row(self, trials: Iterable[Trial]) -> ByRow:
        by_row: dict[str, dict[int, Trial]] = {name: {} for name, row in (self.study.nets or {}).items() if row.train}
        for trial in trials:
            if trial.network.name in by_row:
                by_row[trial.network.name][trial.asked.seed] = trial
        return by_row

    def _is_complete(self, by_row: ByRow) -> bool:
        """Return whether all first seeds have ended."""
        firsts = [trials.get(seed) for trials in by_row.values() for seed in self.study.first_seeds]
        return all(trial is not None and trial.ended for trial in firsts)

    def _begun(self, by_row: ByRow) -> Iterator[AddedSeed]:
        """Yield the trainings that pairs lack whose other row has got its seed."""
        added = [trial for trials in by_row.values() for trial in trials.values() if trial.asked.added_for]
        for trial in added:
            pair, seed = trial.asked.added_for, trial.asked.seed
            if pair in self.design.pairs and trial.state != "failed":
                yield from (AddedSeed(row, seed, pair) for row in pair if seed not in by_row[row])

    def _powers(self, by_row: ByRow) -> dict[Pair, float]:
        """Return the predictive power of each pair that is not shown yet, and not given up."""
        compared = self.design.compare(self._scores(by_row), Scale())
        shown = sum(comparison.significant for comparison in compared)
        powers = {
            (comparison.row, comparison.against): self._power(comparison, (1 - LEVEL) / (comparison.family - shown))
            for comparison in compared
            if not comparison.significant and comparison.seeds < len(self._seeds)
        }
        return {pair: power for pair, power in powers.items() if power >= FUTILITY}

    def _scores(self, by_row: ByRow) -> dict[str, dict[int, float]]:
        name, scores = self.study.headline.name, dict[str, dict[int, float]]()
        for row, trials in by_row.items():
            finished = (trial for seed in self._seeds if (trial := trials.get(seed)) and trial.state == "finished")
            measured = {trial.asked.seed: trial.curve[-1].score(name) for trial in finished}
            scores[row] = {seed: score for seed, score in measured.items() if score is not None}
        return scores

    @property
    def _seeds(self) -> Sequence[int]:
        return self.study.auto_seeds.all_seeds if self.study.auto_seeds else self.study.first_seeds

    def _missing(self, pair: Pair, by_row: ByRow) -> AddedSeed | None:
        """Return a training with the next seed of a pair; None at the most seeds, and while a seed is trained."""
        first, second = (by_row[row] for row in pair)
        for seed in self._seeds:
            if seed not in first or seed not in second:
                return AddedSeed(pair[seed in first], seed, pair)
            if not (first[seed].ended and second[seed].ended):
                return None
        return None

    def _power(self, comparison: Comparison, level: float) -> float:
        """Return the predictive power of a comparison, at the level of the next step of Holm's correction."""
        assert self.design.test
        if not comparison.statistics:  # first seeds have failed
            return 0.0
        if (t := comparison.statistics[-1]) is None:  # of differences that do not vary
            return float(comparison.gain != 0)
        signed = comparison.stated * t if comparison.stated else abs(t)
        one_sided = level if comparison.stated else level / 2
        return self.design.test.predictive_power(signed, comparison.seeds, one_sided)


def next_seed(study: StudyConfig, trials: Sequence[Trial], events: Sequence[Event]) -> AddedSeed | None:
    """Return the training that the rule of a study adds next; None where there is none, or no time for it."""
    added = SeedRule(study, comparison_design(study, events)).next(trials)
    return added if added and fits_time(added, trials, seconds_to_limit(study, events)) else None


def possible_seeds(study: StudyConfig, trials: Sequence[Trial], events: Sequence[Event]) -> set[tuple[str, int]]:
    """Return row and seed of the trainings that a study may still add; none without a rule, or at its time limit."""
    if study.auto_seeds is None:
        return set()
    rule = SeedRule(study, comparison_design(study, events))
    out_of_time = rule.next(trials) and not next_seed(study, trials, events)
    return set() if out_of_time else rule.possible(trials)


def replayed(events: Sequence[Event]) -> Iterator[tuple[TrialAsked, AddedSeed | None]]:
    """Yield each added seed of a ledger, and the one that the rule adds to the events before it."""
    rule: SeedRule | None = None
    trials: dict[int, Trial] = {}
    for place, event in enumerate(events):
        match event:
            case StudyStarted():
                study = StudyConfig.model_validate(event.file)
                rule = SeedRule(study, comparison_design(study, events[:place])) if study.auto_seeds else None
            case TrialAsked():
                if event.added_for:
                    yield event, rule.next(trials.values()) if rule else None
                trials[event.trial] = Trial(event)
            case TrialEvent():
                trials[event.trial].apply(event)


def seconds_used(events: Iterable[Event]) -> float:
    """Return the wall time of the runs of a ledger, each from its start to its last event."""
    seconds = began = last = 0.0
    for event in events:
        if event.time is None or not isinstance(event, StudyStarted | TrialEvent | RunEnded):
            continue  # a plan may be made between two runs
        if isinstance(event, StudyStarted):
            seconds, began, last = seconds + last - began, event.time, event.time
        last = max(last, event.time)
    return seconds + last - began


def seconds_to_limit(study: StudyConfig, events: Iterable[Event]) -> float:
    """Return how much of the time limit of a study is left; infinite without one."""
    minutes = study.auto_seeds.minutes if study.auto_seeds else None
    return inf if minutes is None else max(0.0, MINUTE * minutes - seconds_used(events))


def fits_time(added: AddedSeed, trials: Sequence[Trial], left: float, *, free_workers: int = 1) -> bool:
    """Return whether the trainings that a pair lacks of a seed would end within the seconds that are left.

    Each takes as long as the finished ones of its row on average; both run one after the other, or on two free workers.
    """
    seconds: dict[str, list[float]] = {}
    for trial in trials:
        if trial.state == "finished" and not trial.source:
            seconds.setdefault(trial.network.name, []).append(sum(epoch.seconds for epoch in trial.curve))
    asked = {(trial.network.name, trial.asked.seed) for trial in trials}
    lacking = [row for row in added.pair if (row, added.seed) not in asked]
    every = [each for of_row in seconds.values() for each in of_row] or [0.0]
    needed = [fmean(seconds.get(row, every)) for row in lacking]
    return (sum(needed) if free_workers < len(needed) else max(needed)) <= left
