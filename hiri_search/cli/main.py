"""Command line: run, train, count, latency, paper, report, status, watch, init, list, dashboard."""

from __future__ import annotations

import json
import os
import sys
import warnings
from contextlib import nullcontext, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from hiri_search.api.folders import is_calibration, write_calibration_report, write_report
from hiri_search.cli import calibrate, export, log, mistakes, options, provenance, train
from hiri_search.cli.options import ImportOption, ResultsFolder, SizeOption
from hiri_search.cli.output import say, standard_output, unread_output
from hiri_search.system.units import MAX_CLASSES, MAX_SIDE, PAPER_SIDE
from hiri_search.user_code import import_user_code

MAX_LISTED_NETWORKS = 2**31 - 1
PROGRAM = "hiri-search"

SideOption = Annotated[int, typer.Option(help="Side of the square input in pixels.", min=1, max=MAX_SIDE)]
app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help needs half the time
    help="Architecture search and ablation for hybrid CNN + Transformer backbones.",
)
app.add_typer(calibrate.calibrate_app)
app.add_typer(provenance.provenance_app)
app.add_typer(export.export_app)
app.add_typer(log.log_app)
app.add_typer(train.train_app)


@standard_output()
def main(arguments: list[str] | None = None) -> None:
    """Run a command; a mistake of the user or a fault of the machine prints one sentence and ends with exit code 2."""
    # fvcore and timm use parts of torch that are deprecated; a user can do nothing about that.
    warnings.filterwarnings("ignore", message="`torch.jit", category=FutureWarning)
    given = sys.argv[1:] if arguments is None else arguments
    debug = mistakes.DEBUG in given
    try:
        app([word for word in given if word != mistakes.DEBUG], obj=[PROGRAM, *given])
    except Exception as error:
        if not mistakes.is_mistake(error):
            raise
        mistakes.end(error, debug=debug)


def _print_version(wanted: bool) -> None:
    if wanted:
        import hiri_search

        typer.echo(f"{PROGRAM} {hiri_search.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option(mistakes.DEBUG, help="Also print the traceback of an error.")] = False,
) -> None:
    pass  # --version has a callback of its own, and `main` reads --debug, which may also follow the command


@app.command("run")
@unread_output()
def run_command(
    context: typer.Context,
    study: Annotated[Path, typer.Argument(help="Study file, or a shipped study such as block_mix.")],
    profile: options.ProfileOption = "auto",
    sets: options.SetOption = None,
    results: Annotated[Path | None, typer.Option(help="Results folder. Default: results/NAME of the study.")] = None,
    slots: options.SlotsOption = 0,
    serial: options.SerialOption = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start again; an existing folder is renamed.")] = False,
    retry_failed: options.RetryOption = False,
    address: options.RayAddress = None,
    plan: Annotated[bool, typer.Option("--plan", help="Only estimate time and costs, from short trainings.")] = False,
) -> None:
    """Run or resume a study: train its missing trials, then write the report."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # read by numpy: more threads would wait for the cores of trials
    from hiri_search.api.running import Runner, after_run, results_folder, start_fresh
    from hiri_search.api.study import Study
    from hiri_search.cli.console import Console
    from hiri_search.study.config.files.shipped import find_study

    file = find_study(study)
    folder = results or results_folder(file)
    read = Study.from_yaml(file, profile=profile, override=sets or [])
    runner = Runner(slots, serial, None if plan else address, retry_failed, read.profile, context.obj)
    runner.check(read.config)
    console = Console(read.config)
    console.say(f"profile {read.profile}; results in {folder}")
    if plan:
        console.plan(runner.plan(read.config, folder, console.say))
        return
    if fresh:
        start_fresh(read.config, folder, file, console.say)
    runner.run(read.config, folder, console)  # interrupted or not: the report follows in any case
    sys.exit(after_run(read.config, folder, console.say))


@app.command("count")
def count_command(
    network: Annotated[
        str,
        typer.Argument(help='"hr(32 e=4)*2 -> ...", timm:NAME, METHOD:SPEC, HIRI-ViT-S (Table 2), or RESULTS#TRIAL.'),
    ],
    side: SizeOption = None,
    classes: Annotated[int, typer.Option(help="Number of classes.", min=1, max=MAX_CLASSES)] = 1000,
    imports: ImportOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: params, macs, core_macs, parts.")] = False,
) -> None:
    """Count the parameters and multiply-adds of a network, by part and in total."""
    from hiri_search.cli.console import print_cost

    import_user_code(imports or (), Path())
    net, size = options.network_at(network, options.as_size(side))
    from hiri_search.cost.flops import count_parts

    print_cost(net, size, count_parts(net, size, classes=classes), as_json=as_json)


@app.command()
def latency(
    networks: Annotated[list[str], typer.Argument(help="Networks, as for count; NETWORK@SIDE has a side of its own.")],
    side: SideOption = PAPER_SIDE,
    batch: Annotated[list[int] | None, typer.Option(help="Batch size. Repeatable. Default: 1.")] = None,
    dtype: Annotated[str, typer.Option(help="fp32, bf16, or tf32 (CUDA only).")] = "fp32",
    compiled: Annotated[bool, typer.Option("--compile", help="Use torch.compile.")] = False,
    fused: Annotated[bool, typer.Option("--fuse", help="Merge BatchNorm into convolutions and linear layers.")] = False,
    cuda_graphs: Annotated[bool, typer.Option("--cuda-graphs", help="Replay each pass as a CUDA graph.")] = False,
    threads: Annotated[int | None, typer.Option(help="CPU threads. Default: as torch chooses.")] = None,
    seconds: Annotated[float, typer.Option(help="Time limit for each network.")] = 20.0,
    imports: ImportOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON line for each network.")] = False,
) -> None:
    """Measure the inference latency of networks in interleaved rounds, and its spread."""
    from hiri_search.cli.console import print_latencies
    from hiri_search.cost.latency.config import LatencyConfig

    import_user_code(imports or (), Path())
    entries = dict(options.network_with_side(text, side) for text in networks)
    given = LatencyConfig(1, dtype, compiled, fused, cuda_graphs, threads=threads, seconds=seconds)  # type: ignore[arg-type]
    from hiri_search.cost.latency.benchmark import measure_latencies

    for config in [replace(given, batch=size) for size in batch or [1]]:
        print_latencies(measure_latencies(entries, config, say=partial(say, err=True)), as_json=as_json)


@app.command()
def paper(
    table: Annotated[str | None, typer.Argument(help="Number of a table of the paper; 1 is its Figure 1.")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print a Markdown table.")] = False,
    as_latex: Annotated[bool, typer.Option("--latex", help="Print a LaTeX tabular (booktabs).")] = False,
) -> None:
    """Compare a table of the paper with our counts; without TABLE, list the tables."""
    from hiri_search.cli.console import print_agreement
    from hiri_search.cli.paper import count_paper_networks
    from hiri_search.paper.agreement import TITLES, agreement, agreement_text
    from hiri_search.report.tables.formats import FORMATS

    formats = [name for name, chosen in zip(FORMATS, (as_csv, as_markdown, as_latex), strict=True) if chosen]
    if len(formats) > 1:
        raise typer.BadParameter(f"write one of --{' and --'.join(formats)}")
    if table is None:
        typer.echo("\n".join(f"{number}  {title}" for number, title in TITLES.items()))
        return
    if table not in TITLES:
        raise typer.BadParameter(f"there is no table {table!r}; choose one of {', '.join(TITLES)}", param_hint="TABLE")
    comparison = agreement(table, count_paper_networks(table))
    if formats:
        typer.echo(FORMATS[formats[0]](comparison if as_csv else agreement_text(comparison)), nl=False)
        return
    cells = agreement_text(comparison).fillna("-")
    print_agreement(f"Table {table}: {TITLES[table]}", cells.columns.astype(str).tolist(), cells.to_numpy().tolist())


@app.command()
@unread_output()
def report(results: ResultsFolder) -> None:
    """Write tables, figures and page of a results folder, or of a calibration, again from its ledgers."""
    complete = write_calibration_report(results, say) if is_calibration(results) else write_report(results, say)[1]
    sys.exit(0 if complete else 1)


@app.command("status")
def status_command(
    results: ResultsFolder,
    as_json: Annotated[bool, typer.Option("--json", help="Print all values as JSON.")] = False,
) -> None:
    """Print progress, time left, Pareto front and failures of a study. Read-only."""
    from hiri_search.study import status

    state = status.status(results)
    if as_json:
        typer.echo(json.dumps(state.to_json(), indent=2))
    for line in () if as_json else status.status_lines(state):
        say(line)


@app.command()
def watch(
    results: ResultsFolder,
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1. 0: a free port.", min=0, max=65535)] = 0,
) -> None:
    """Serve the page of a study on this machine, updated while it runs. Read-only."""
    from hiri_search.cli.live_server import open_server

    with open_server(results, port) as server, suppress(KeyboardInterrupt):
        say(f"{server.address} shows {results}; stop with Ctrl-C")
        server.serve_forever(poll_interval=0.2)


@app.command()
def init(
    file: Annotated[Path, typer.Argument(help="Study file to write, such as studies/mine.yaml.")],
    search: Annotated[bool, typer.Option("--search", help="Write a search. Default: an ablation.")] = False,
    shipped: Annotated[
        str | None, typer.Option("--from", help="Write a copy of a study of the package, such as block_mix.")
    ] = None,
) -> None:
    """Write a commented study file to start from."""
    from hiri_search.study.config.templates import shipped_text, template, write_study_file

    if search and shipped:
        raise typer.BadParameter("write one of --search and --from")
    text = shipped_text(shipped) if shipped else template("search" if search else "ablation")
    typer.echo(write_study_file(file, text))


@app.command("list")
def list_space(
    space: Annotated[Path, typer.Argument(help="Space file, such as spaces/five_stage.yaml.")],
    limit: Annotated[int, typer.Option(help="Most networks to list. 0: all.", min=0, max=MAX_LISTED_NETWORKS)] = 20,
    imports: ImportOption = None,
) -> None:
    """List the networks of a space, one per line, and their number."""
    from itertools import islice

    from hiri_search.study.config.files.shipped import find_file
    from hiri_search.study.config.read import read_space

    import_user_code(imports or (), Path())
    read = read_space(find_file(str(space), Path()))
    for net in islice(read, limit or None):
        typer.echo(f"{net.key}  {net}")
    typer.echo(f"{read.size:,} networks", err=True)


@app.command()
@unread_output()
def dashboard(
    results: ResultsFolder,
    storage: Annotated[
        str | None,
        typer.Option(envvar="HIRI_SEARCH_STORAGE", help="URL of an Optuna database. Default: a file in the folder."),
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the Optuna study. Default: that of the folder.")] = "",
    serve: Annotated[bool, typer.Option("--serve", help="Also serve the dashboard, to this machine only.")] = False,
    port: Annotated[int, typer.Option(help="Port of the dashboard.", min=1, max=65535)] = 8080,
) -> None:
    """Export a results folder to Optuna, for the Optuna dashboard."""
    from hiri_search.study.export import dashboard as dashboard_module

    if serve:
        dashboard_module.check_can_serve(port)
    from hiri_search.study.export.optuna_export import JOURNAL, in_database, read_export, to_file

    export, path = read_export(results, name=name), results / JOURNAL
    with in_database(export, storage, say) if storage else nullcontext(to_file(export, path)) as stored:
        place = "the database" if storage else path
        say(f"wrote {len(export.trials):,} trials as {export.name} into {place}")
        if serve:
            dashboard_module.serve(stored, port)
        elif not storage:
            say(f"open it with --serve, or with: optuna-dashboard {path}")
