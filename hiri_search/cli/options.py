"""Options of several commands, and the counts of `paper`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

MAX_SLOTS = 2**31 - 1

ImportOption = Annotated[
    list[str] | None,
    typer.Option("--import", help="Own code with blocks or networks: a file, or a module. Repeatable."),
]
ResultsFolder = Annotated[Path, typer.Argument(help="Results folder, such as results/block_mix.")]
ProfileOption = Annotated[str, typer.Option(help="Profile of the study, or none. auto: gpu or laptop.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="Override a setting: key=value. Repeatable.")]
SlotsOption = Annotated[
    int, typer.Option(help="Trials side by side. 0: as many as the hardware allows.", min=0, max=MAX_SLOTS)
]
SerialOption = Annotated[bool, typer.Option("--serial", help="Run trials one by one, without Ray.")]
RetryOption = Annotated[bool, typer.Option("--retry-failed", help="Train failed trials again.")]
RayAddress = Annotated[
    str | None,
    typer.Option(envvar="RAY_ADDRESS", help="Ray cluster: auto or HOST:PORT. Default: local Ray."),
]


def count_paper_networks(table: str) -> dict[tuple[str, int], tuple[int, int]]:
    """Count the networks of a table of the paper; return params and multiply-adds by spec and side."""
    from rich.console import Console
    from rich.progress import track

    from hiri_search.cost.flops import count
    from hiri_search.language import parse_network
    from hiri_search.paper.published import networks

    rows = networks(table)
    distinct = dict.fromkeys((spec, side) for spec, side in zip(rows["spec"], rows["side"], strict=True) if spec)
    costs = {}
    title = f"counting {len(distinct)} networks"
    for spec, side in track(list(distinct), title, console=Console(stderr=True), transient=True):
        cost = count(parse_network(spec), side)
        costs[spec, side] = (cost.params, cost.macs)
    return costs


def results_folder(study: Path) -> Path:
    """Return the default results folder of a study file. StudyError for standard input or a pipe: no name."""
    from hiri_search.study.errors import StudyError

    is_pipe = study == Path("-") or (study.exists() and not study.is_file() and not study.is_dir())
    if is_pipe:  # a path that cannot be read is said when it is read
        raise StudyError(f"{study} gives no name to the results; name their folder with --results")
    return Path("results") / study.stem
