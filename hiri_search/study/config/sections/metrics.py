"""Metrics and callbacks of the user: their names in a study, and their functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from hiri_search.study.ledger.events import TrialAsked
from hiri_search.study.ledger.trial import Trial
from hiri_search.study.ledger.values import NetworkFacts
from hiri_search.training.job import Epoch, Job
from hiri_search.training.recipe import Recipe, SettingError
from hiri_search.training.score import EMA, TEST, Score
from hiri_search.user_code import UserCodeError, named_object

if TYPE_CHECKING:
    from hiri_search.study.config.schema import StudyConfig

_ATTRIBUTES = {"label": str, "unit": str, "up": bool, "digits": int}  # of a function, which a study may set too
_DIGITS = 3  # decimals of a metric that does not name them
_MAX_DIGITS = 9
_RECORDS = (Epoch, Job, Recipe, NetworkFacts, Trial, TrialAsked)
_COLUMNS = (
    *("curve", "epochs", "failed", "front", "gflops", "high", "low", "ms", "network", "note", "params_m", "rank"),
    *("row", "seeds", "setting", "so_far", "spread", "standard_error"),
)
_TAKEN = frozenset((*(field.name for kind in _RECORDS for field in fields(kind)), *_COLUMNS))  # as names of columns
_PREFIXES = (EMA, TEST, "short_", "paper_", "trained_", "merged_", "zero_cost_")  # of columns


@dataclass(frozen=True)
class MetricConfig:
    """A score of the user's own: a function of all logits (N, classes) and labels (N,) of a split.

    What a study does not say is read from attributes of the function when the study is read.
    """

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012  # as in `DataSource`

    function: str  # module:name
    label: str | None = None  # None: the name of the metric
    unit: str | None = None
    up: bool | None = None  # a larger value is better; None: it is
    digits: int | None = None  # decimals that are shown

    def __post_init__(self) -> None:
        if self.digits is not None and not 0 <= self.digits <= _MAX_DIGITS:
            raise SettingError("digits", f"digits={self.digits} is not possible; write 0 to {_MAX_DIGITS}")

    def score(self, name: str) -> Score:
        """Return the metric as a score of this name."""
        label, digits = self.label or name, _DIGITS if self.digits is None else self.digits
        meaning, up = f"{label} ({self.function})", self.up is not False
        return Score(name, label, meaning, self.unit or "", up=up, digits=digits)


@dataclass(frozen=True)
class CallbackConfig:
    """Functions of the user (module:name) that are called while a study runs; results do not depend on them."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012  # as in `DataSource`

    on_epoch: tuple[str, ...] = ()  # called in the worker, after each epoch
    on_trial_end: tuple[str, ...] = ()  # called in the driver


def with_named_functions(content: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a study in which each function among its scores is a metric with a name.

    A list of functions, a `score` and an objective are called by the name of the function: `my_package.metrics:ece` is
    the metric `ece`. Where a study has a `score` and no objectives, these are the score and multiply-adds. A callback
    may be written without a list.
    """
    metrics, score, search = content.get("metrics") or {}, content.get("score"), content.get("search") or {}
    listed = (metrics,) if isinstance(metrics, str) else metrics if isinstance(metrics, list | tuple) else ()
    if not isinstance(search, dict) or not all(isinstance(text, str) for text in listed):
        return content  # whose fault is shown where it is validated
    objectives = search.get("objectives") or ((score, "gmacs") if score else ())
    named = dict(metrics) if isinstance(metrics, dict) else {}
    for text in listed:
        _named(text, named)
    changed: dict[str, Any] = {"score": _named(score, named)} if score else {}
    if objectives and isinstance(objectives, list | tuple):
        changed["search"] = {**search, "objectives": tuple(_named(each, named) for each in objectives)}
    if isinstance(callbacks := content.get("callbacks"), dict):
        changed["callbacks"] = {key: (text,) if isinstance(text, str) else text for key, text in callbacks.items()}
    return content | changed | ({"metrics": named} if named else {})


def _named(score: Any, metrics: dict[str, Any]) -> Any:
    """Return the name of a score; a function, `module:name`, becomes a metric."""
    if not isinstance(score, str) or ":" not in score:
        return score
    name = score.rpartition(":")[2]
    old = metrics.setdefault(name, score)
    if score not in (old, old.get("function") if isinstance(old, dict) else old):
        remedy = f"write a name for each: metrics: {{{name}: {score}, ...}}"
        raise SettingError("metrics", f"metrics: two functions are called {name}; {remedy}")
    return name


def check_scores(
    metrics: Iterable[str],
    scores: Iterable[Score],
    judging: str | None,
    objectives: Iterable[str],
    costs: Sequence[str],
) -> None:
    """Raise SettingError where a metric cannot have its name, or where `score` or an objective is not measured."""
    measured = [score.name for score in scores]
    for name in metrics:
        is_column = name in _TAKEN or name in costs or name.startswith(_PREFIXES)
        if is_column or not name.isidentifier() or measured.count(name) > 1:
            remedy = "write {my_metric: module:name}, with a name of letters, digits and _ that no column has"
            raise SettingError("metrics", f"metrics: {name!r} cannot be the name of a metric; {remedy}")
    if judging is not None and judging not in measured:
        remedy = f"write one of {', '.join(measured)}, or module:name"
        raise SettingError("score", f"score={judging!r} is not measured; {remedy}")
    known = (*measured, *costs)
    for name in objectives:
        if name not in known:
            remedy = f"write any of {', '.join(known)}, or module:name"
            raise SettingError("search.objectives", f"search.objectives: {name!r} is not known; {remedy}")


def with_attributes(study: StudyConfig) -> StudyConfig:
    """Return a study with the attributes of its functions: label, unit, direction (`up`) and digits of each metric.

    Raises UserCodeError where a function of the study is missing, or an attribute is not possible.
    """
    for text in (*study.callbacks.on_epoch, *study.callbacks.on_trial_end):
        function_named(text)
    metrics = {name: _with_attributes(metric) for name, metric in study.metrics.items()}
    return study.model_copy(update={"metrics": metrics}) if metrics else study


def _with_attributes(metric: MetricConfig) -> MetricConfig:
    function, unset = function_named(metric.function), [key for key in _ATTRIBUTES if getattr(metric, key) is None]
    found = {key: getattr(function, key) for key in unset if hasattr(function, key)}
    for key, value in found.items():
        if type(value) is not _ATTRIBUTES[key]:
            problem = f"{metric.function}: its attribute {key} is {value!r}"
            raise UserCodeError(f"{problem}; write a value of type {_ATTRIBUTES[key].__name__}")
    try:
        return replace(metric, **found)
    except SettingError as error:
        raise UserCodeError(f"{metric.function}: its attribute {error}") from error


def function_named(text: str) -> Callable[..., Any]:
    """Return the function `module:name`. UserCodeError where there is none."""
    function: Any = named_object(text)
    if not callable(function):
        raise UserCodeError(f"{text} is a {type(function).__name__}; name a function")
    return function  # type: ignore[no-any-return]
