"""Command line: calibrate."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hiri_search.cli import run
from hiri_search.cli.output import say, unread_output
from hiri_search.cli.results import results_of, write_calibration_report
from hiri_search.study.errors import StudyError
from hiri_search.system.shutdown import graceful_shutdown

if TYPE_CHECKING:
    from hiri_search.study.calibration.stages import CalibrationStage
    from hiri_search.study.config.schema import StudyConfig

calibrate_app = typer.Typer()


@calibrate_app.command("calibrate")
@unread_output()
def calibrate_command(
    context: typer.Context,
    study: Annotated[Path, typer.Argument(help="Study file with a section calibrate:.")],
    profile: run.ProfileOption = "auto",
    sets: run.SetOption = None,
    results: Annotated[
        Path | None, typer.Option("-o", "--results", help="Results folder. Default: results/NAME of the study.")
    ] = None,
    only: Annotated[str, typer.Option(help="Settings to train, separated by commas. Default: all.")] = "",
    slots: run.SlotsOption = 0,
    serial: run.SerialOption = False,
    retry_failed: run.RetryOption = False,
    address: run.RayAddress = None,
    plan: Annotated[bool, typer.Option("--plan", help="Only draw the networks and estimate the hours.")] = False,
) -> None:
    """Measure how well short settings of a study order its networks, by a long reference setting."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as in `run`
    from hiri_search.study.config.read import calibration_of, profiles_of, read_study_file

    file = read_study_file(study)
    folder = results or run.results_folder(study)
    name = run.profile_for(profiles_of(file), profile)
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
        _plan({setting: studies[setting] for setting in chosen}, folder, slots, serial=serial)
        return
    compute_zero_cost(studies[calibration.settings[-1]], folder, say)
    runner, codes = _Runner(name, context.obj, slots, serial, retry_failed, address), []
    for stage in stages({setting: studies[setting] for setting in chosen}, folder):
        codes.append(runner.run(stage, folder / stage.setting))
        write_calibration_report(folder, _silent, figures=False)
        if codes[-1] == run.INTERRUPTED:
            break
    complete = write_calibration_report(folder, say)
    sys.exit(max(codes, default=0) or int(not complete))


@dataclass(frozen=True)
class _Runner:
    """Runs stages of a calibration with the options of the command."""

    profile: str
    command: Sequence[str]
    slots: int
    serial: bool
    retry_failed: bool
    address: str | None

    def run(self, stage: CalibrationStage, folder: Path) -> int:
        """Train what a stage lacks, and write tables and page of its folder; return the exit code, as `run` does."""
        from hiri_search.cli.console import Console
        from hiri_search.report.write import write_all
        from hiri_search.study.ledger.ledger import read_ledger
        from hiri_search.study.provenance.manifest import write_manifest
        from hiri_search.study.run import run as run_study
        from hiri_search.system.hardware import gpus
        from hiri_search.training.data.pixel_stores import check_gpus

        study, home, interrupted = stage.study, folder.absolute(), True
        if self.address is None:
            check_gpus(study.cache, gpus())
        console = Console(study.headline)
        console.say(f"setting {stage.setting}, seeds {', '.join(map(str, study.first_seeds))}: results in {folder}")
        slots = None if self.serial else run.resources_for(self.slots, study.resources, address=self.address)
        with console, suppress(KeyboardInterrupt), graceful_shutdown(console.say) as shutdown:
            dispatch = run.dispatcher(home, shutdown, slots, self.address)
            run_study(
                *(study, home, dispatch, console),
                profile=self.profile,
                retry_failed=self.retry_failed,
                command=self.command,
            )
            interrupted = False
        if interrupted:
            return run.INTERRUPTED
        results = results_of(ledger := read_ledger(folder))
        write_all(results, folder / "report", figures=False)
        write_manifest(ledger)
        return run.code_for((str(row["state"]) for row in results.trials), console.say)


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


def _plan(studies: Mapping[str, StudyConfig], folder: Path, slots: int, *, serial: bool) -> None:
    from hiri_search.cli.console import Console
    from hiri_search.study.calibration.plan import SETTING_PLAN_COLUMNS, plan_settings, setting_rows, total_lines

    console, first = Console(), next(iter(studies.values()))
    side_by_side = None if serial else run.resources_for(slots, first.resources, address=None)
    plans = plan_settings(studies, side_by_side, folder, say)
    console.table(SETTING_PLAN_COLUMNS, setting_rows(plans))
    for line in total_lines(plans):
        console.say(line)
