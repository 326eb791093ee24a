"""Command line: verify, compare, merge."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hiri_search.api.folders import read_results, results_of, write_report
from hiri_search.cli.options import ImportOption, ResultsFolder
from hiri_search.cli.output import say, unread_output
from hiri_search.system.files import atomic_write
from hiri_search.user_code import import_user_code

if TYPE_CHECKING:
    from hiri_search.study.ledger.ledger import LedgerContent
    from hiri_search.study.provenance.verify.finding import Finding


provenance_app = typer.Typer()


@provenance_app.command("verify")
def verify_command(
    results: ResultsFolder,
    quick: Annotated[
        bool, typer.Option("--quick", help="Recount a sample of networks only; read no checkpoint or image.")
    ] = False,
    imports: ImportOption = None,
) -> None:
    """Check ledger, costs, trials, curves, checkpoints, images and tables of a results folder. Read-only."""
    from hiri_search.study.provenance.verify import verify
    from hiri_search.study.provenance.verify.finding import finding_lines

    import_user_code(imports or (), Path())
    wrong = done = 0
    for finding in verify(results, quick=quick, say=partial(say, err=True), more=_tables):
        done, wrong = done + 1, wrong + (not finding.holds)
        for line in finding_lines(finding):
            say(line)
    say(f"{results}: {wrong} of {done} checks found something" if wrong else f"{results} holds: {done} checks")
    sys.exit(1 if wrong else 0)


def _tables(ledger: LedgerContent) -> Iterator[Finding]:
    """Check that the tables follow from the ledger."""
    from hiri_search.report import check
    from hiri_search.study.provenance.environment import code
    from hiri_search.study.provenance.verify.finding import Finding

    hint, folder = "", ledger.folder
    try:
        results = results_of(ledger)
        faults = tuple(check.report_faults(results, folder / "report"))
        if results.started.code.digest != code().digest:
            hint = f"another version of hiri_search ran; `hiri-search report {folder}` writes the tables of this one"
    except (ValueError, LookupError) as error:
        faults = (f"the ledger gives no tables: {error}",)
    yield Finding("tables", faults, (f"{len(check.texts(folder / 'report'))} follow from the ledger",), hint)


@provenance_app.command("compare")
def compare_command(
    a: Annotated[Path, typer.Argument(help="First results folder.")],
    b: Annotated[Path, typer.Argument(help="Second results folder.")],
    as_csv: Annotated[bool, typer.Option("--csv", help="Print only the table, as CSV.")] = False,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Write to this file: .md, or .csv.")] = None,
) -> None:
    """Compare the networks of two results folders, with confidence intervals; list changes of study, code and data."""
    from hiri_search.report.compare_runs import as_text, side_by_side
    from hiri_search.report.tables.formats import csv
    from hiri_search.study.provenance.run_diff import run_differences

    first, second = read_results(a), read_results(b)
    comparison = side_by_side(first, second)
    if as_csv or (out is not None and out.suffix == ".csv"):
        text = csv(comparison.table)
    else:
        text = as_text(comparison, (str(a), str(b)), list(run_differences(first.started, second.started)))
    if out is None:
        typer.echo(text, nl=False)
    else:
        with atomic_write(out) as file:
            file.write(text.encode(errors="backslashreplace"))
        say(f"wrote {out}")


@provenance_app.command("merge")
@unread_output()
def merge_command(
    context: typer.Context,
    folders: Annotated[list[Path], typer.Argument(help="Two or more results folders.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="New results folder.")],
    unlike: Annotated[
        bool, typer.Option("--unlike", help="Also merge folders with different recipes or data.")
    ] = False,
) -> None:
    """Merge results folders into a new one; trials.csv names the folder of each trial."""
    from hiri_search.study.provenance.environment import run_environment
    from hiri_search.study.provenance.merge import merge

    if len(folders) < 2:
        raise typer.BadParameter("give two results folders or more", param_hint="FOLDERS")
    for line in merge(folders, out, run_environment(context.obj), unlike=unlike):
        say(f"merged in spite of a difference: {line}")
    merged, complete = write_report(out, say)
    say(f"{out}: {len(merged.trials)} trials of {len(folders)} folders")
    sys.exit(0 if complete else 1)
