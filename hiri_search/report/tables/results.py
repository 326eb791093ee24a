"""Results: what the report needs of a ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from hiri_search.paper.published import PAPER_SCORES, TABLE_FILES
from hiri_search.study.config.choices import RecipeOptions, best_settings, decided, recipe_options, setting_text
from hiri_search.study.config.schema import NetworkRow, StudyConfig
from hiri_search.study.ledger.events import InferenceTimed, StudyStarted
from hiri_search.study.ledger.trial import STANDARD_ERROR
from hiri_search.study.plan.plan import Compared
from hiri_search.study.search.comparison_design import ComparisonDesign, comparison_design
from hiri_search.training.score import Score


@dataclass(frozen=True, eq=False)  # hashed by identity, so that tables made from it can be cached
class Results:
    """The content of a ledger, as tables and figures need it."""

    study: StudyConfig
    started: StudyStarted  # the last run
    trials: Sequence[Mapping[str, Any]]  # one flat row for each trial: `Trial.row`
    counted: Sequence[Mapping[str, Any]] = ()  # rows of an ablation, also those that are not trained: `network_row`
    timed: Sequence[InferenceTimed] = ()
    losses: Sequence[tuple[float, ...]] = ()  # of each finished trial of a search, by objective; smaller is better
    decisions: Mapping[int, Mapping[str, int | str]] = field(default_factory=dict)  # of a search, by trial
    importances: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # of decisions, by objective
    planned: Sequence[Compared] = ()  # each part of the run: planned seconds against real ones
    times: tuple[float, float] | None = None  # of the first and the last event, seconds since 1970
    stated: ComparisonDesign | None = None  # the design of the comparisons by the ledger; None: by the study alone
    folder: Path | None = None  # of the ledger; None: without a folder
    every_setting: Results | None = None  # with all settings of the rows; None: this has them

    @property
    def all_trials(self) -> Sequence[Mapping[str, Any]]:
        """The trials with those of settings that were not the best of their rows."""
        return (self.every_setting or self).trials

    @property
    def has_test(self) -> bool:
        """True if finished trials are measured on test images, which choose nothing."""
        return self.started.images.test > 0

    @property
    def score(self) -> Score:
        """The score by which trials are judged, on the test images where there are some."""
        return self.study.headline.test if self.has_test else self.study.headline

    @property
    def curve_score(self) -> Score:
        """The same score on the validation images: of curves, and of trials that have not finished."""
        score = self.study.headline
        return replace(score, label=f"validation {score.label}") if self.has_test else score

    @property
    def ema_score(self) -> Score:
        """The same score as `score`, of the averaged weights."""
        return self.study.headline.ema.test if self.has_test else self.study.headline.ema

    @property
    def other_scores(self) -> tuple[Score, ...]:
        """The scores that tables of networks show beside it: those of the user, and those of the task.

        Of a classifier that is top-1; of detection and segmentation all that were measured.
        """
        others, first = self.study.scores[1:], self.study.learning_task.scores[0]
        shown = [score for score in others if score.name in self.study.metrics or score == first or self.is_dense]
        on_split = [score.test if self.has_test else score for score in shown]
        return tuple(score for score in on_split if not self.is_dense or score.name in self._measured)

    @property
    def is_dense(self) -> bool:
        """True for detection and segmentation."""
        return bool(self.study.data.annotations)

    @cached_property
    def _measured(self) -> frozenset[str]:
        """The columns of trials that have a value."""
        return frozenset(name for row in self.all_trials for name, value in row.items() if value is not None)

    @property
    def error_columns(self) -> tuple[str, ...]:
        """The column of the standard error over images, where it was measured."""
        return tuple(name for name in (STANDARD_ERROR,) if self.is_dense and name in self._measured)

    @property
    def published_scores(self) -> tuple[Score, ...]:
        """The scores of the task that the paper prints; its networks are ranked by the first one."""
        return tuple(score for score in self.study.learning_task.scores if score.name in PAPER_SCORES)

    @property
    def design(self) -> ComparisonDesign:
        """The design of an ablation's comparisons."""
        return self.stated or comparison_design(self.study)

    @property
    def seeds_text(self) -> str:
        """The number of seeds of a network: `3 seeds`, or `3 to 12 seeds` where a rule adds more."""
        count, rule = len(self.study.first_seeds), self.study.auto_seeds
        return f"{count} to {rule.most} seeds" if rule else f"{count} seed{'s' * (count > 1)}"

    @property
    def is_search(self) -> bool:
        return self.study.space is not None

    @property
    def table_number(self) -> str:
        """The number of the paper's table that the study names; empty if the paper's numbers have no such table."""
        return self.study.table if self.study.table in TABLE_FILES else ""

    @property
    def rows(self) -> Mapping[str, NetworkRow]:
        """The rows of an ablation by name; empty for a search."""
        return self.study.nets or {}

    @property
    def recipe_options(self) -> RecipeOptions:
        """The values that each row was trained with, by key of the recipe; empty where a recipe has no choices."""
        return self.study.choices or recipe_options((self.every_setting or self).rows)

    def setting(self, name: str) -> str:
        """Return the setting of a network, such as `lr=0.001`; empty where its recipe has no choices."""
        if self.is_search:
            return self._searched_settings.get(name, "")
        row = self.rows.get(name)
        return str(row.setting) if row and row.setting else ""

    @cached_property
    def _searched_settings(self) -> dict[str, str]:
        choices, decisions = self.study.choices, self.decisions
        return {row["name"]: setting_text(decided(choices, decisions[row["trial"]])) for row in self.first_trainings}

    @property
    def first_trainings(self) -> list[Mapping[str, Any]]:
        """The trials without the confirmations."""
        return [row for row in self.trials if row.get("confirms") is None]

    @property
    def confirmations(self) -> list[Mapping[str, Any]]:
        """The longer trainings of the best networks of a search."""
        return [row for row in self.trials if row.get("confirms") is not None]


def at_best_settings(results: Results) -> Results:
    """Return the results of an ablation with each row at the setting that validation chooses, under its own name."""
    if results.is_search or not results.recipe_options:
        return results
    study, score, scores = results.study, results.study.headline.name, dict[str, list[float]]()
    for row in finished_rows(results.first_trainings):
        if row.get(score) is not None:
            scores.setdefault(row["name"], []).append(row[score])
    best = best_settings(study, scores)
    names = {name: row for row, name in best.items()}
    return replace(
        results,
        study=study.model_copy(update={"nets": {row: results.rows[name] for row, name in best.items()}}),
        trials=[{**row, "name": names[row["name"]]} for row in results.trials if row["name"] in names],
        counted=[{**row, "name": names[row["name"]]} for row in results.counted if row["name"] in names],
        every_setting=results,
    )


def rung_curve(row: Mapping[str, Any]) -> Sequence[float]:
    """Return the scores after each epoch that a rung compares: of the averaged weights where they were measured."""
    curve: Sequence[float] = row["ema_curve"] or row["curve"]
    return curve


def finished_rows(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the rows of finished trials."""
    return [row for row in rows if row["state"] == "finished"]
