"""StudyConfig: the schema of a study file (pydantic)."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from hiri_search.cost.budget.constraints import CostConstraints, parse_constraints
from hiri_search.cost.latency.config import LatencyConfig
from hiri_search.language.dense_network import square_side
from hiri_search.study.config.choices import RecipeOptions, RowSetting, check_choices, file_rows, with_settings
from hiri_search.study.config.declared_kinds import KindRecord, declare
from hiri_search.study.config.sections.calibration import CalibrateConfig, CalibrationNote
from hiri_search.study.config.sections.dense import check_dense, with_task
from hiri_search.study.config.sections.loggers import LogConfig, expand_log
from hiri_search.study.config.sections.metrics import CallbackConfig, MetricConfig, check_scores, with_named_functions
from hiri_search.study.config.sections.resources import Resources
from hiri_search.study.config.sections.search import ConfirmConfig, CostName, SearchConfig
from hiri_search.study.config.sections.seeds import STRICT, AutoSeeds, StudySeeds, check_rule
from hiri_search.system.redaction import redacted, secret_in
from hiri_search.system.text import not_storable, printable
from hiri_search.system.units import MAX_CLASSES, MAX_SIDE, PAPER_SIDE
from hiri_search.training.dense.scores import TASKS
from hiri_search.training.job import DataSource
from hiri_search.training.recipe import Recipe, SettingError
from hiri_search.training.score import LearningTask, Score

CREDENTIALS = "the environment, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"


class _Strict(BaseModel):
    model_config = STRICT


def _as_mapping(key: str) -> Any:
    """Return a validator that expands a short form: `data: drawn` means `data: {source: drawn}`."""
    return lambda value: {key: value} if isinstance(value, str) else value


def _as_relations(value: Any) -> Any:
    """Expand the short form `where: w3 >= w2` to `where: [w3 >= w2]`."""
    return (value,) if isinstance(value, str) else value


Side = Annotated[int, Field(ge=1, le=MAX_SIDE)]  # of a square input, in pixels
ImageSize = Side | Annotated[str, Field(pattern=r"^[1-9]\d{0,4}x[1-9]\d{0,4}$")]  # or WIDTHxHEIGHT: of dense tasks
Relations = Annotated[tuple[str, ...], BeforeValidator(_as_relations)]


class NetworkRow(_Strict):
    """A named network of an ablation."""

    spec: str  # in the language of specs, or `timm:NAME argument=value ...`
    method: str = ""  # of detection or segmentation; empty: that of the study
    side: ImageSize | None = None  # for counting and timing; None: counted.side
    stand_in: str | None = None  # spec of the network trained in its place; None: scaled down as `proxy` says
    stand_in_width: int = Field(
        default=1, ge=1
    )  # `recipe` is for widths this many times as large as those of `stand_in`
    stand_in_side: Side | None = None  # None: scaled by the ratio of proxy.side to counted.side
    train: bool = True  # false: counted and reported, not trained
    recipe: Recipe | None = None  # None: the study's; in a file, keys merged over the study's
    curve: str = ""  # figures join the rows of one curve by a line
    paper: str | None = None  # row name in the paper's table, where it differs
    note: str = ""  # remark in the report
    setting: RowSetting | None = None  # filled in where a recipe has choices; None: the row has one recipe


class CountConfig(_Strict):
    """Image side and number of classes at which the reported costs are counted: by default those of the paper."""

    side: ImageSize = PAPER_SIDE
    classes: int = Field(default=1000, ge=1, le=MAX_CLASSES)

    @property
    def square(self) -> int:
        """The side, of the square inputs of classifiers. Raises SpecError for other inputs."""
        return square_side(self.side)


class ProxyConfig(_Strict):
    """Scale of the stand-in: the small relative that is trained in place of a counted network.

    timm networks cannot be scaled down: they are trained unchanged, unless their row names a stand-in.
    """

    width: int = Field(default=1, ge=1)  # divisor of widths, head sizes and stem widths; the number of heads stays
    depth: int = Field(default=1, ge=1)  # divisor of depths, rounded up
    min_depth: int = Field(default=1, ge=1)  # blocks that a stage keeps, if it has as many; 2 where depths are compared
    side: Side = 448  # image side in training
    classes: int | None = Field(
        default=None, ge=2, le=MAX_CLASSES
    )  # train on the first N classes of the data; None: all


class CodeRecord(_Strict):
    """The user's own code, as a ledger records it: enough to read the study, not to build its networks."""

    files: dict[str, str] = {}  # digest of each file or package
    kinds: dict[str, KindRecord] = {}  # stages, stems and downsamplings that it registers

    @model_validator(mode="after")
    def _declare(self) -> CodeRecord:
        """Make specs with these kinds readable, where the code itself is not imported."""
        declare(self.kinds)
        return self


class StudyConfig(_Strict):
    """Content of a study file, with a profile merged over it."""

    title: str = ""
    task: Literal["classification", "detection", "segmentation"] = "classification"
    method: str = ""  # detector, or network for segmentation, on the backbones of all rows
    imports: tuple[str, ...] = ()  # the user's own code: files, relative to the study file, or modules
    code: CodeRecord = CodeRecord()  # filled in when the study is read
    table: str = ""  # table of the paper with the same rows: "8"
    compare: str = "best"  # rows are compared with: best, the best row; steps, the previous row of a curve; or a row
    let: dict[str, str] = {}
    nets: dict[str, Annotated[NetworkRow, BeforeValidator(_as_mapping("spec"))]] | None = None
    space: str | None = None
    metrics: dict[str, Annotated[MetricConfig, BeforeValidator(_as_mapping("function"))]] = {}  # scores of the user
    score: str | None = None  # judges a trial; None: the first objective that is a score, else that of the task
    callbacks: CallbackConfig = CallbackConfig()
    log: Annotated[LogConfig, BeforeValidator(expand_log)] = LogConfig()  # results do not depend on it
    where: Relations = ()  # relations of a space: [w3 >= w2, w4 % d4 == 0]; only networks that satisfy all are in it
    within: dict[str, str] = {}  # cost constraints of a search: {gmacs: 4.5..5.5, mparams: ..36}
    search: SearchConfig = SearchConfig()
    confirm: ConfirmConfig | None = None  # None: no confirmation
    calibrate: CalibrateConfig | None = None  # read by the command of that name; a run has no use for it
    calibration: CalibrationNote | None = None  # filled in from the file that `proxy` names
    counted: CountConfig = CountConfig()
    proxy: ProxyConfig = ProxyConfig()
    data: Annotated[DataSource, BeforeValidator(_as_mapping("source"))] = DataSource()
    cache: Literal["auto", "gpu", "disk", "none"] = "auto"  # place of decoded images; results do not depend on it
    recipe: Recipe = Recipe()
    choices: RecipeOptions = {}  # of a search: values to choose from, by key of the recipe; filled in from the recipe
    seeds: StudySeeds = (0,)  # of an ablation: 3, which `_fill_in_seeds` writes
    resources: Resources = Resources()  # results do not depend on it
    checkpoints: Literal["auto", "all", "none"] = "auto"  # retention; results do not depend on it
    storage: str | None = Field(default=None, min_length=1)  # shared path or URL; results do not depend on it
    latency: LatencyConfig | None = None  # latency benchmark of an ablation's rows; None: no benchmark

    @model_validator(mode="before")
    @classmethod
    def _check_texts(cls, content: Any) -> Any:
        """Refuse a text that the ledger could hold only changed: an argument or an escape that is not UTF-8."""
        for key, text in not_storable(content):
            message = f"{printable('.'.join(key))}: {printable(text)} is not UTF-8 text"
            raise SettingError(".".join(key), f"{message}; write it in UTF-8, or give a link to a path that is not")
        return content

    @model_validator(mode="before")
    @classmethod
    def _fill_in_seeds(cls, content: Any) -> Any:
        return {"seeds": 3, **content} if isinstance(content, dict) and content.get("nets") is not None else content

    @model_validator(mode="before")
    @classmethod
    def _fill_in_task(cls, content: Any) -> Any:
        """Fill in what detection and segmentation have otherwise than classification."""
        return with_task(content) if isinstance(content, dict) else content

    @model_validator(mode="before")
    @classmethod
    def _name_functions(cls, content: Any) -> Any:
        """Put the functions of `metrics`, `score` and `search.objectives` under `metrics`, by name."""
        return with_named_functions(content) if isinstance(content, dict) else content

    @model_validator(mode="before")
    @classmethod
    def _make_settings(cls, content: Any) -> Any:
        """Replace each row with choices in its recipe by its settings."""
        return with_settings(content) if isinstance(content, dict) else content

    @model_validator(mode="after")
    def _check(self) -> StudyConfig:
        if (self.nets is None) == (self.space is None):
            raise SettingError("space", "a study has either nets: (an ablation) or space: (a search), and not both")
        if self.nets is not None and not self.nets:
            raise SettingError("nets", "nets: is empty; write `name: spec` lines under it")
        if self.nets is not None and not any(row.train for row in self.nets.values()):
            raise SettingError("nets", "nets: no row is trained; remove `train: false` from at least one")
        check_dense(self)
        check_scores(self.metrics, self.scores, self.score, self.search.objectives, get_args(CostName))
        check_choices(self)
        self._check_search()
        self._check_storage()
        self._check_compare()
        if (self.data.train or self.recipe.batch) < self.recipe.batch:
            message = f"recipe.batch={self.recipe.batch} is more than data.train={self.data.train}"
            raise SettingError("recipe.batch", f"{message}; write a smaller batch or more images")
        return self

    def _check_compare(self) -> None:
        rows = file_rows(nets := self.nets or {})
        choices = ("best", "steps", *rows)
        if self.compare not in choices:
            raise SettingError("compare", f"compare={self.compare!r} is not known; write one of {', '.join(choices)}")
        if not all(nets[name].train for name in rows.get(self.compare, ())):
            raise SettingError("compare", f"compare={self.compare!r} is a row that is not trained; write one that is")
        check_rule(self.seeds, compare=self.compare, is_search=self.nets is None)

    def _check_search(self) -> None:
        if self.within:
            parse_constraints(self.within)
        for name in ("where", "within", "confirm"):
            if self.space is None and getattr(self, name):
                raise SettingError(name, f"{name}: is for a search only; remove it, or write space: in place of nets:")
        halving = self.search.halving
        if halving and halving.epochs[-1] >= self.recipe.epochs:
            message = f"the last rung must be less than recipe.epochs={self.recipe.epochs}"
            raise SettingError("search.halving.epochs", f"search.halving.epochs={list(halving.epochs)}: {message}")
        if halving and len(self.first_seeds) > 1:
            raise SettingError("seeds", "seeds: search.halving needs exactly one; write several under confirm:")
        if self.confirm and self.confirm.epochs_for(self.recipe.epochs) < self.recipe.epochs:
            message = f"confirm.epochs={self.confirm.epochs} is less than recipe.epochs"
            raise SettingError("confirm.epochs", f"{message}; write at least {self.recipe.epochs}")

    def _check_storage(self) -> None:
        if secret := secret_in(self.storage or ""):
            message = f"storage: {redacted(self.storage or '')} holds {secret}"
            raise SettingError("storage", f"{message}; remove it: credentials are read from {CREDENTIALS}")

    @property
    def learning_task(self) -> LearningTask:
        """The task, with the scores that are measured."""
        return TASKS[self.data.annotations]

    @property
    def scores(self) -> tuple[Score, ...]:
        """The scores that a trial measures on each split; by the first one it is judged.

        That is `score`, else the first objective of a search that is a score, else the first score of the task.
        """
        scores = (*self.learning_task.scores, *(metric.score(name) for name, metric in self.metrics.items()))
        names = (self.score, *(self.search.objectives if self.space is not None else ()))
        judging = [score for name in names for score in scores if score.name == name][:1]
        return (*judging, *(score for score in scores if score not in judging))

    @property
    def auto_seeds(self) -> AutoSeeds | None:
        """The rule that adds seeds; None where all rows have the same seeds."""
        return self.seeds if isinstance(self.seeds, AutoSeeds) else None

    @property
    def first_seeds(self) -> tuple[int, ...]:
        """The seeds that every network is trained with."""
        return self.seeds.first if isinstance(self.seeds, AutoSeeds) else self.seeds

    @property
    def measured(self) -> tuple[tuple[str, str], ...]:
        """Name and function of each metric."""
        return tuple((name, metric.function) for name, metric in self.metrics.items())

    @property
    def headline(self) -> Score:
        """The score by which a trial is judged."""
        return self.scores[0]

    @property
    def searches_by_latency(self) -> bool:
        """True if measured inference time decides which networks a search proposes."""
        return self.space is not None and "ms_per_image" in (*self.search.objectives, *self.within)

    @property
    def constraints(self) -> CostConstraints | None:
        """Cost constraints of a search; None: no limit."""
        return parse_constraints(self.within) if self.within else None
