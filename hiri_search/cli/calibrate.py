"""Command line: calibrate."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hiri_search.api.folders import results_of, write_calibration_report
from hiri_search.api.running import INTERRUPTED, Runner, code_for, profile_for, results_folder
from hiri_search.cli import options
from hiri_search.cli.output import say, unread_output
from hiri_search.study.errors import StudyError

if TYPE_CHECKING:
    from hiri_search.study.calibration.stages import CalibrationStage
    from hiri_search.study.config.schema import StudyConfig

calibrate_app = typer.Typer()


@calibrate_app.command("calibrate")
@unread_output()
def calibrate_command(
    context: typer.Context,
    study: Annotated[Path, typer.Argument(help="Study file with a section calibrate:.")],
    profile: options.ProfileOption = "auto",
    sets: options.SetOption = None,
    results: Annotated[
        Path | None, typer.Option("-o", "--results", help="Results folder. Default: results/NAME of the study.")
    ] = None,
    only: Annotated[str, typer.Option(help="Settings to train, separated by commas. Default: all.")] = "",
    slots: options.SlotsOption = 0,
    serial: options.SerialOption = False,
    retry_failed: options.RetryOption = False,
    address: options.RayAddress = None,
    plan: Annotated[bool, typer.Option("--plan", help="Only draw the networks and estimate the hours.")] = False,
) -> None:
    """Measure how well short settings of a study order its networks, by a long reference setting."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as in `run`
    from hiri_search.study.config.files.shipped import find_study
    from hiri_search.study.config.read import calibration_of, profiles_of, read_study_file

    study = find_study(study)
    file = read_study_file(study)
    folder = results or results_folder(study)
    name = profile_for(profiles_of(file), profile)
    calibration = calibration_of(file, profile=name, sets=sets or [])
    chosen = _chosen(only, calibration.settings)
    from hiri_search.study.calibration.record import record_lines, record_of, write_record
    from hiri_search.study.calibration.stages import stages
    from hiri_search.study.calibration.zero_cost import compute_zero_cost

    say(f"profile {name}; results in {folder}")
    record = record_of(calibration, folder, say)
    write_record(record, folder)
    for line in record_lines(record):
        say(line)
    studies = {setting: _stored(calibration.setting(setting, record.drawn), folder) for setting in calibration.settings}
    if plan:
        _plan({setting: studies[setting] for setting in chosen}, folder, Runner(slots, serial))
        return
    compute_zero_cost(studies[calibration.settings[-1]], folder, say)
    runner, codes = Runner(slots, serial, address, retry_failed, name, context.obj), []
    for stage in stages({setting: studies[setting] for setting in chosen}, folder):
        codes.append(_run_stage(runner, stage, folder / stage.setting))
        write_calibration_report(folder, _silent, figures=False)
        if codes[-1] == INTERRUPTED:
            break
    complete = write_calibration_report(folder, say)
    sys.exit(max(codes, default=0) or int(not complete))


def _run_stage(runner: Runner, stage: CalibrationStage, folder: Path) -> int:
    """Train what a stage lacks, and write tables and page of its folder; return the exit code, as `run` does."""
    from hiri_search.cli.console import Console
    from hiri_search.report.write import write_all
    from hiri_search.study.ledger.ledger import read_ledger
    from hiri_search.study.provenance.manifest import write_manifest

    runner.check(stage.study)
    console = Console(stage.study)
    seeds = ", ".join(map(str, stage.study.first_seeds))
    console.say(f"setting {stage.setting}, seeds {seeds}: results in {folder}")
    if not runner.run(stage.study, folder, console):
        return INTERRUPTED
    results = results_of(ledger := read_ledger(folder))
    write_all(results, folder / "report", figures=False)
    write_manifest(ledger)
    return code_for((str(row["state"]) for row in results.trials), console.say)


def _stored(study: StudyConfig, folder: Path) -> StudyConfig:
    """Return the study of a setting with a storage of its own, since settings of all calibrations have like names."""
    return study.model_copy(
        update={"storage": study.storage and f"{study.storage.rstrip('/')}/{folder.absolute().name}"}
    )


def _silent(line: str) -> None:
    """Say nothing: the report is written after each run, and its files are named at the end."""


def _chosen(only: str, settings: Sequence[str]) -> list[str]:
    """Return the settings that `--only` names; all where it names none."""
    names = [name.strip() for name in only.split(",") if name.strip()]
    for name in names:
        if name not in settings:
            raise StudyError(f"--only {name}: there is no such setting; write some of {', '.join(settings)}")
    return [name for name in settings if not names or name in names]


def _plan(studies: Mapping[str, StudyConfig], folder: Path, runner: Runner) -> None:
    from hiri_search.cli.console import Console
    from hiri_search.study.calibration.plan import SETTING_PLAN_COLUMNS, plan_settings, setting_rows, total_lines

    console = Console()
    plans = plan_settings(studies, runner.resources(next(iter(studies.values()))), folder, say)
    console.table(SETTING_PLAN_COLUMNS, setting_rows(plans))
    for line in total_lines(plans):
        console.say(line)
