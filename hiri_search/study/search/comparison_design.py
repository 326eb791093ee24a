"""Design of an ablation's comparisons: which rows are compared, in which direction, and how seeds are added."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise

from hiri_search.stats.sequential import SequentialTest
from hiri_search.stats.significance import Comparison, Pair, Scale, Scores, against_best, compare_pairs
from hiri_search.study.config.choices import file_rows, row_of
from hiri_search.study.config.schema import StudyConfig
from hiri_search.study.ledger.events import Event, StudyStarted, TrialAsked

BEST, STEPS = "best", "steps"  # values of `compare` that are no rows


@dataclass(frozen=True)
class ComparisonDesign:
    """The comparisons of an ablation, as its study has stated them before the trainings of the rows."""

    pairs: tuple[Pair, ...] = ()  # empty: every row is compared with the best one
    signs: Mapping[Pair, int] = field(default_factory=dict)  # of gains, where the paper's table states one
    post_hoc: bool = False  # the pairs were named when their rows had been trained
    test: SequentialTest | None = None  # seeds are added by a rule; None: all rows have the same seeds

    def compare(self, scores: Scores, scale: Scale) -> list[Comparison]:
        """Return the comparisons of rows with these scores, by the seeds in their order."""
        test = self.test_of(scores)
        if not self.pairs:
            return against_best(scores, scale, test=test)
        stated = {} if self.post_hoc else self.signs
        return compare_pairs(self.pairs, scores, scale, stated=stated, test=test, all_pairs=self.post_hoc)

    def test_of(self, scores: Scores) -> SequentialTest | None:
        """Return the test of these scores; rows may have more seeds than the rule adds, from an earlier run."""
        seeds = max(map(len, scores.values()), default=0)
        return self.test and replace(self.test, most=max(self.test.most, seeds))


def comparison_design(study: StudyConfig, events: Iterable[Event] = ()) -> ComparisonDesign:
    """Return the design of the last study of a ledger; the events tell what it stated before a pair was trained."""
    pairs = compared_pairs(study)
    stated = {pair: _stated_by(pair, study, events) for pair in pairs}
    signs = {pair: sign for pair, before in stated.items() if (sign := _published_sign(before, pair))}
    post_hoc = any(pair not in compared_pairs(before) for pair, before in stated.items())
    rule = study.auto_seeds
    test = SequentialTest(len(rule.first), rule.most) if rule else None
    return ComparisonDesign(tuple(pairs), signs, post_hoc, test)


def compared_pairs(study: StudyConfig) -> list[Pair]:
    """Return the pairs of trained rows that a study names: each row, and the row that it is compared with."""
    nets = study.nets or {}
    first = {row: nets[settings[0]] for row, settings in file_rows(nets).items()}
    trained = [name for name, row in first.items() if row.train]
    if study.compare not in (BEST, STEPS):
        return [(row, study.compare) for row in trained if row != study.compare]
    curves: dict[str, list[str]] = {}
    for name in trained if study.compare == STEPS else ():
        curves.setdefault(first[name].curve, []).append(name)
    return [(row, previous) for curve in curves.values() for previous, row in pairwise(curve)]


def _stated_by(pair: Pair, study: StudyConfig, events: Iterable[Event]) -> StudyConfig:
    """Return the study of the run in which the second of two rows was first asked for; `study` where neither was."""
    missing, started = set(pair), study
    for event in events:
        started = StudyConfig.model_validate(event.file) if isinstance(event, StudyStarted) else started
        missing -= {row_of(started.nets or {}, event.network.name)} if isinstance(event, TrialAsked) else set()
        if not missing:
            return started
    return study


def _published_sign(study: StudyConfig, pair: Pair) -> int:
    """Return the sign of the difference of two rows in the study's table of the paper; 0 where it has none."""
    if not study.table or study.headline != study.learning_task.scores[0]:
        return 0
    from hiri_search.paper.published import paper_column, published  # slow

    scores = published(study.table).get(paper_column(study.headline.name))
    nets = study.nets or {}
    labels = [nets[file_rows(nets)[name][0]].paper or name for name in pair]
    if scores is None or not set(labels) <= set(scores.index):
        return 0
    gain = float(scores[labels[0]] - scores[labels[1]])
    return (gain > 0) - (gain < 0)
