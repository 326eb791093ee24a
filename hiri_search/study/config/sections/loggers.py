"""Loggers of a study: TensorBoard, MLflow and Weights & Biases, which show its trials as runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from hiri_search.system.redaction import redacted, secret_in
from hiri_search.training.recipe import SettingError

LoggerName: TypeAlias = Literal["tensorboard", "mlflow", "wandb"]


@dataclass(frozen=True)
class TensorboardConfig:
    """TensorBoard: files in the results folder."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012  # as in `DataSource`


@dataclass(frozen=True)
class MlflowConfig:
    """MLflow: a tracking server, a database or a folder."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    uri: str | None = None  # None: MLFLOW_TRACKING_URI, else MLflow's own default
    experiment: str | None = None  # None: MLFLOW_EXPERIMENT_NAME, else the name of the results folder

    def __post_init__(self) -> None:
        if secret := secret_in(self.uri or ""):
            remedy = "remove it: MLflow reads MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
            raise SettingError("uri", f"uri: {redacted(self.uri or '')} holds {secret}; {remedy}")


@dataclass(frozen=True)
class WandbConfig:
    """Weights & Biases: a project on its server, or local files that `wandb sync` uploads."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    project: str | None = None  # None: WANDB_PROJECT, else the name of the results folder
    entity: str | None = None  # a user or a team; None: WANDB_ENTITY, else that of the API key
    mode: Literal["online", "offline"] | None = None  # None: WANDB_MODE, else online


@dataclass(frozen=True)
class LogConfig:
    """The loggers of a study; results do not depend on them. False: not used."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    tensorboard: TensorboardConfig | Literal[False] = False
    mlflow: MlflowConfig | Literal[False] = False
    wandb: WandbConfig | Literal[False] = False

    @property
    def names(self) -> list[str]:
        """The names of the loggers that are used."""
        return [name for name, config in vars(self).items() if config is not False]

    @staticmethod
    def defaults(names: Iterable[str]) -> LogConfig:
        """Return these loggers with the settings of the environment alone."""
        return LogConfig(**{name: _CONFIGS[name]() for name in names})


_CONFIGS = {"tensorboard": TensorboardConfig, "mlflow": MlflowConfig, "wandb": WandbConfig}


def expand_log(value: Any) -> Any:
    """Expand the short forms: `log: mlflow`, `log: [tensorboard, mlflow]`, and a logger without or with `true`."""
    match value:
        case None:
            return {}
        case str():
            return {value: {}}
        case list() | tuple() if all(isinstance(each, str | dict) for each in value):
            return {name: config for each in value for name, config in expand_log(each).items()}
        case dict():
            return {name: {} if config is None or config is True else config for name, config in value.items()}
    return value
