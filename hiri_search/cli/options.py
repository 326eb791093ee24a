"""Options of several commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hiri_search.system.units import MAX_SIDE

MAX_SLOTS = 2**31 - 1


def checked_size(text: str | None) -> str | None:
    """Return a text; raise BadParameter unless it is a side or WIDTHxHEIGHT, in pixels. None: nothing is written."""
    if text is None:
        return None
    numbers = text.split("x")
    if len(numbers) > 2 or not all(
        each.isascii() and each.isdecimal() and 0 < int(each) <= MAX_SIDE for each in numbers
    ):
        raise typer.BadParameter(f"{text!r} is not a size; write pixels, such as 448, or 1600x1200, at most {MAX_SIDE}")
    return text


SizeOption = Annotated[
    str, typer.Option(callback=checked_size, help="Side of the input in pixels; of detectors also WIDTHxHEIGHT.")
]

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
