"""Command line: log."""

from __future__ import annotations

from typing import Annotated, get_args

import typer

from hiri_search.cli.options import ResultsFolder
from hiri_search.cli.output import say, unread_output
from hiri_search.study.config.sections.loggers import LogConfig, LoggerName

log_app = typer.Typer()


@log_app.command("log")
@unread_output()
def log_command(
    results: ResultsFolder,
    to: Annotated[
        list[str] | None,
        typer.Option(help="tensorboard, mlflow or wandb, as the environment says. Default: `log` of the study."),
    ] = None,
) -> None:
    """Write the runs of a results folder to TensorBoard, MLflow or W&B, from its ledger. What is there stays."""
    from hiri_search.study.config.schema import StudyConfig
    from hiri_search.study.errors import StudyError
    from hiri_search.study.ledger.ledger import read_events, study_event
    from hiri_search.study.ledger.lock import locked
    from hiri_search.study.loggers.write import open_loggers, write_runs

    if unknown := [name for name in to or () if name not in get_args(LoggerName)]:
        raise typer.BadParameter(f"write one of {', '.join(get_args(LoggerName))}, not {unknown[0]}", param_hint="--to")
    study = StudyConfig.model_validate(study_event(read_events(results), results).file)
    config = LogConfig.defaults(to) if to else study.log
    if not config.names:
        raise StudyError(f"the study of {results} has no log:; name a logger, such as --to tensorboard")
    with locked(results):  # a study that runs writes its runs itself
        write_runs(open_loggers(config, results), results, say)
