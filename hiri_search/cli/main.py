"""Command line: run, count, latency, paper, report, status, watch, init, list, dashboard."""

from __future__ import annotations

import json
import os
import sys
import warnings
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hiri_search.cli import provenance, run
from hiri_search.cli.results import trial_states, write_report
from hiri_search.system.redaction import redacted

if TYPE_CHECKING:
    from hiri_search.language import Network

MISTAKE = 2
PROGRAM = "hiri-search"

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help is there in half the time
    help="Architecture search and ablation for hybrid CNN + Transformer backbones.",
)
app.add_typer(provenance.provenance_app)


def main(arguments: list[str] | None = None) -> None:
    """Run a command; a mistake of the user's gives its message and exit code 2."""
    # Of torch's making, by way of fvcore and timm, and nothing that a user can do about.
    warnings.filterwarnings("ignore", message="`torch.jit", category=FutureWarning)
    try:
        app(arguments, obj=[PROGRAM, *(sys.argv[1:] if arguments is None else arguments)])
    except ValueError as error:
        if not _is_mistake(error):
            raise
        typer.echo(f"error: {redacted(str(error))}", err=True)
        sys.exit(MISTAKE)


def _is_mistake(error: ValueError) -> bool:
    """One of ours, made for the user; whatever else is a fault of the program and keeps its traceback."""
    return any(kind.__module__.startswith("hiri_search.") for kind in type(error).__mro__)


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
) -> None:
    pass  # the callback of the option does the work


@app.command("run")
def run_command(
    context: typer.Context,
    study: Annotated[Path, typer.Argument(help="A study file, such as studies/block_mix.yaml.")],
    profile: Annotated[str, typer.Option(help="A profile of the study, or none; auto: by the hardware.")] = "auto",
    sets: Annotated[list[str] | None, typer.Option("--set", help="key=value laid over the study.")] = None,
    results: Annotated[Path | None, typer.Option(help="Results folder; results/NAME of the study.")] = None,
    slots: Annotated[int, typer.Option(help="Trials side by side; 0: as many as the hardware carries.", min=0)] = 0,
    serial: Annotated[bool, typer.Option("--serial", help="In this process, without Ray.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin anew; an old folder is moved aside.")] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Train failed trials again.")] = False,
    address: Annotated[
        str | None,
        typer.Option(envvar="RAY_ADDRESS", help="A Ray cluster: auto, HOST:PORT or ray://HOST:PORT; else one's own."),
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Only say what it will take, by a timed probe.")] = False,
) -> None:
    """Run a study, or go on with it: train what its ledger lacks, then write tables and figures."""
    _leave_cores_to_trials()
    from hiri_search.cli.console import Console
    from hiri_search.study.config.read import read_study
    from hiri_search.system.shutdown import graceful_shutdown

    name = run.profile_for(study, profile)
    read = read_study(study, profile=name, sets=sets or [])
    from hiri_search.study.run import run as run_study  # slow, and only when the study is in order
    from hiri_search.system.hardware import gpus
    from hiri_search.training.data.pixel_stores import check_gpus

    if address is None:  # a cluster's machines are seen by its trials
        check_gpus(read.cache, gpus())
    console = Console()
    folder = results or Path("results") / study.stem
    console.say(f"profile {name}; results in {folder}")
    if plan:
        run.plan(read, folder, None if serial else run.resources_for(slots, read.resources, address=None), console)
        return
    if fresh:
        run.start_fresh(read, folder, console.say)
    side_by_side = run.resources_for(slots, read.resources, address=address)
    # What is done by a KeyboardInterrupt is in the ledger, and is reported.
    with console, suppress(KeyboardInterrupt), graceful_shutdown(console.say) as asked:
        execute = run.executor(folder.absolute(), asked, serial=serial, slots=side_by_side, address=address)
        run_study(
            read,
            folder.absolute(),
            execute,
            console,
            profile=name,
            retry_failed=retry_failed,
            command=context.obj,
        )
    written = write_report(folder, console.say)
    run.store_report(read, folder, console.say)
    run.say_plan_error(written, console.say)
    sys.exit(run.summary(trial_states(written), console.say))


def _leave_cores_to_trials() -> None:
    """Read when numpy is imported: threads of a search's algebra would wait for cores that its trials hold."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


@app.command("count")
def count_command(
    network: Annotated[str, typer.Argument(help='A network, such as "hr(32 e=4)*2 -> t(64 e=4)" or timm:pvt_v2_b2.')],
    side: Annotated[int, typer.Option(help="Side of the square input in pixels.", min=1)] = 448,
    classes: Annotated[int, typer.Option(help="Classes of the head.", min=1)] = 1000,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON: params, macs, core_macs, parts.")] = False,
) -> None:
    """Params and multiply-adds of a network, in all and by part."""
    from hiri_search.cli.console import print_cost

    net = _network(network, side)
    from hiri_search.cost.flops import count_parts

    print_cost(net, side, count_parts(net, side, classes=classes), as_json=as_json)


@app.command()
def latency(
    networks: Annotated[list[str], typer.Argument(help="Networks, each with @SIDE where its side is another.")],
    side: Annotated[int, typer.Option(help="Side of the square input in pixels.", min=1)] = 448,
    batch: Annotated[list[int] | None, typer.Option(help="Images of a pass; may be given several times.")] = None,
    dtype: Annotated[str, typer.Option(help="fp32, bf16 or, on CUDA, tf32.")] = "fp32",
    compiled: Annotated[bool, typer.Option("--compile", help="With torch.compile.")] = False,
    fused: Annotated[bool, typer.Option("--fuse", help="With BatchNorm merged into convolutions and FCs.")] = False,
    threads: Annotated[int | None, typer.Option(help="On the CPU; as torch has it.")] = None,
    seconds: Annotated[float, typer.Option(help="Limit for each network.")] = 20.0,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, one line each, with the machine's state.")] = False,
) -> None:
    """Measured inference of networks that take turns: milliseconds and images per second, and how far to trust them."""
    from hiri_search.cli.console import print_latencies
    from hiri_search.cost.latency.config import LatencyConfig

    given = dict(_at_side(text, side) for text in networks)
    settings = [LatencyConfig(size, dtype, compiled, fused, threads=threads, seconds=seconds) for size in batch or [1]]  # type: ignore[arg-type]
    from hiri_search.cost.latency.benchmark import measure_latencies

    for setting in settings:
        print_latencies(measure_latencies(given, setting, say=lambda text: typer.echo(text, err=True)), as_json=as_json)


@app.command()
def paper(
    table: Annotated[str | None, typer.Argument(help="A table of the paper, or 1 for its Figure 1.")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="As CSV.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="As a table in Markdown.")] = False,
    as_latex: Annotated[bool, typer.Option("--latex", help="As a tabular in LaTeX (booktabs).")] = False,
) -> None:
    """A table of the paper beside our counts, with the differences; without a number, which tables there are."""
    from hiri_search.cli.console import print_agreement, print_tables
    from hiri_search.report.paper.agreement import TITLES, agreement, agreement_text
    from hiri_search.report.tables.formats import FORMATS

    formats = [name for name, asked in zip(FORMATS, (as_csv, as_markdown, as_latex), strict=True) if asked]
    if len(formats) > 1:
        raise typer.BadParameter(f"write one of --{' and --'.join(formats)}")
    if table is None:
        print_tables(TITLES)
        return
    if table not in TITLES:
        raise typer.BadParameter(f"there is no table {table!r}; choose one of {', '.join(TITLES)}", param_hint="TABLE")
    dashboard_module = agreement(table, run.costs_of_table(table))
    if formats:
        typer.echo(FORMATS[formats[0]](dashboard_module if as_csv else agreement_text(dashboard_module)), nl=False)
    else:
        cells = agreement_text(dashboard_module).fillna("-")
        print_agreement(
            f"Table {table}: {TITLES[table]}", cells.columns.astype(str).tolist(), cells.to_numpy().tolist()
        )


@app.command()
def report(
    results: Annotated[Path, typer.Argument(help="A results folder, such as results/block_mix.")],
) -> None:
    """Write the tables and figures of a results folder again, from its ledger."""
    write_report(results, typer.echo)


@app.command("status")
def status_command(
    results: Annotated[Path, typer.Argument(help="A results folder, such as results/block_mix.")],
    as_json: Annotated[bool, typer.Option("--json", help="As JSON: all of it, in plain values.")] = False,
) -> None:
    """How a study stands, running or not, from its ledger alone; changes nothing."""
    from hiri_search.study import status

    found = status.status(results)
    if as_json:
        typer.echo(json.dumps(found.to_json(), indent=2))
    for line in () if as_json else status.status_lines(found):
        typer.echo(line)


@app.command()
def watch(
    results: Annotated[Path, typer.Argument(help="A results folder, such as results/block_mix.")],
    port: Annotated[int, typer.Option(help="On this machine; 0: a free one.", min=0, max=65535)] = 0,
) -> None:
    """Serve the page of a study to this machine's browser, brought up to date while it runs; changes nothing."""
    from hiri_search.cli.live_server import open_server

    with open_server(results, port) as server, suppress(KeyboardInterrupt):
        typer.echo(f"{server.address} shows {results} as it goes on; Ctrl-C ends it")
        server.serve_forever(poll_interval=0.2)


@app.command()
def init(
    file: Annotated[Path, typer.Argument(help="The study file to write, such as studies/mine.yaml.")],
    search: Annotated[bool, typer.Option("--search", help="A search in a space; without it, an ablation.")] = False,
) -> None:
    """Write a commented study to begin with."""
    from hiri_search.study.config.templates import write_template

    typer.echo(write_template(file, "search" if search else "ablation"))


@app.command("list")
def list_space(
    space: Annotated[Path, typer.Argument(help="A file of spaces/.")],
    limit: Annotated[int, typer.Option(help="Networks to show; 0: all of them.", min=0)] = 20,
) -> None:
    """The networks of a space, one on a line, and how many there are."""
    from itertools import islice

    from hiri_search.study.config.read import read_space

    read = read_space(space)
    for net in islice(read, limit or None):
        typer.echo(f"{net.key}  {net}")
    typer.echo(f"{read.size:,} networks", err=True)


@app.command()
def dashboard(
    results: Annotated[Path, typer.Argument(help="A results folder, such as results/block_mix.")],
    storage: Annotated[
        str | None,
        typer.Option(envvar="HIRI_SEARCH_STORAGE", help="URL of a database of Optuna's; else a file in the folder."),
    ] = None,
    name: Annotated[str, typer.Option(help="Of the study there; that of the folder.")] = "",
    serve: Annotated[bool, typer.Option("--serve", help="Run the dashboard on it, for this machine alone.")] = False,
    port: Annotated[int, typer.Option(help="Port of the dashboard.", min=1, max=65535)] = 8080,
) -> None:
    """Export a results folder for the Optuna dashboard, and look at it there."""
    from hiri_search.study.export import dashboard as dashboard_module

    if serve:
        dashboard_module.check_can_serve(port)
    from hiri_search.study.export.optuna_export import JOURNAL, in_database, read_export, to_file

    found, path = read_export(results, name=name), results / JOURNAL
    with in_database(found, storage, typer.echo) if storage else nullcontext(to_file(found, path)) as made:
        where = "the database" if storage else path
        typer.echo(f"wrote {len(found.trials):,} trials as {found.name} into {where}")
        if serve:
            dashboard_module.serve(made, port)
        elif not storage:
            typer.echo(f"look at it with --serve, or with: optuna-dashboard {path}")


def _network(text: str, side: int) -> Network:
    """A network, its side checked as far as that goes without slow imports."""
    from hiri_search.language import Net, parse_network

    network = parse_network(text)
    if isinstance(network, Net):
        network.grids(side)
    return network


def _at_side(text: str, side: int) -> tuple[str, tuple[Network, int]]:
    """`NETWORK@SIDE`, or a network at the side of the others, under its own text."""
    spec, at, own = text.rpartition("@")
    if at and not own.strip().isdigit():
        raise typer.BadParameter(f"{own!r} is no side; write pixels behind @, such as timm:resnet50@224")
    found = int(own) if at else side
    return text, (_network(spec if at else text, found), found)
