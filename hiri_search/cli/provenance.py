"""Command line: verify, compare, merge."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hiri_search.cli.results import read_results, results_of, write_report

if TYPE_CHECKING:
    from hiri_search.study.ledger.ledger import LedgerContent
    from hiri_search.study.provenance.verify.finding import Finding


provenance_app = typer.Typer()


@provenance_app.command("verify")
def verify_command(
    results: Annotated[Path, typer.Argument(help="A results folder, such as results/block_mix.")],
    quick: Annotated[
        bool, typer.Option("--quick", help="Count a sample of networks; read no checkpoints and images.")
    ] = False,
) -> None:
    """Recount costs, recheck sums, trials, fingerprints and tables; say what does not hold. Changes nothing."""
    from hiri_search.study.provenance.verify import verify as checks
    from hiri_search.study.provenance.verify.finding import finding_lines

    wrong = done = 0
    for finding in checks(results, quick=quick, say=lambda text: typer.echo(text, err=True), more=_tables):
        done, wrong = done + 1, wrong + (not finding.holds)
        for line in finding_lines(finding):
            typer.echo(line)
    typer.echo(f"{results}: {wrong} of {done} checks found something" if wrong else f"{results} holds: {done} checks")
    sys.exit(1 if wrong else 0)


def _tables(ledger: LedgerContent) -> Iterator[Finding]:
    """Check that the tables are those that follow from the ledger."""
    from hiri_search.report import check
    from hiri_search.study.provenance.environment import code
    from hiri_search.study.provenance.verify.finding import Finding

    hint, folder = "", ledger.folder
    try:
        results = results_of(ledger)
        faults = tuple(check.report_faults(results, folder / "report"))
        if results.started.code.digest != code().digest:
            hint = f"another version of hiri_search ran; `hiri-search report {folder}` makes the tables of this one"
    except (ValueError, LookupError) as error:
        faults = (f"none can be made from the ledger: {error}",)
    yield Finding("tables", faults, (f"{len(check.texts(folder / 'report'))} are what the ledger gives",), hint)


@provenance_app.command("compare")
def compare_command(
    a: Annotated[Path, typer.Argument(help="A results folder.")],
    b: Annotated[Path, typer.Argument(help="Another one.")],
    as_csv: Annotated[bool, typer.Option("--csv", help="The table alone, for other programs.")] = False,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="A file for it: .md, or .csv.")] = None,
) -> None:
    """Networks of two results folders side by side: differences with intervals, and what changed between the two."""
    from hiri_search.report.compare_runs import as_text, side_by_side
    from hiri_search.report.tables.formats import csv
    from hiri_search.study.provenance.run_diff import run_differences

    one, other = read_results(a), read_results(b)
    found = side_by_side(one, other)
    table_alone = as_csv or (out is not None and out.suffix == ".csv")
    shown = (
        csv(found.table)
        if table_alone
        else as_text(found, (str(a), str(b)), list(run_differences(one.started, other.started)))
    )
    if out is None:
        typer.echo(shown, nl=False)
    else:
        out.write_text(shown, encoding="utf-8")
        typer.echo(f"wrote {out}")


@provenance_app.command("merge")
def merge_command(
    context: typer.Context,
    folders: Annotated[list[Path], typer.Argument(help="Results folders, two or more.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="The folder to make.")],
    unlike: Annotated[
        bool, typer.Option("--unlike", help="Also those whose recipe or data differ; each row says whose it is.")
    ] = False,
) -> None:
    """Join results folders into a new one, each trial with where it came from; the folders are only read."""
    from hiri_search.study.provenance.environment import run_environment
    from hiri_search.study.provenance.merge import merge as join

    if len(folders) < 2:
        raise typer.BadParameter("give two results folders or more", param_hint="FOLDERS")
    for line in join(folders, out, run_environment(context.obj), unlike=unlike):
        typer.echo(f"unlike, and merged all the same: {line}")
    written = write_report(out, typer.echo)
    typer.echo(f"{out}: {len(written.trials)} trials of {len(folders)} folders")
