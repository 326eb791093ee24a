"""Arguments and options of several commands, and what their texts mean."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hiri_search.system.units import MAX_SIDE, PAPER_SIDE

if TYPE_CHECKING:
    from hiri_search.language import Network
    from hiri_search.language.dense_network import InputSize

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


def as_size(text: str | None) -> InputSize | None:
    """Return a checked size as a number where it is a side."""
    return int(text) if text and text.isdecimal() else text


SizeOption = Annotated[
    str | None,
    typer.Option(
        callback=checked_size,
        help="Side of the input in pixels; of detectors also WIDTHxHEIGHT. Default: 448, or as in Table 2.",
    ),
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


def network_at(text: str, size: InputSize | None) -> tuple[Network, InputSize]:
    """Return the network of a spec, a name in Table 2 or a trial, and its input size: the given one, if any.

    Without a size, a name has that of the table, a trial its own, and a spec that of the paper. Our own networks are
    checked at their side, which needs no slow import.
    """
    from hiri_search.api.full_network import find_network, has_own_side
    from hiri_search.language import Net, parse_network
    from hiri_search.language.dense_network import square_side

    if has_own_side(text):
        found = find_network(text, size)
        return found.network, found.side
    network, size = parse_network(text), size or PAPER_SIDE
    if isinstance(network, Net):
        network.grids(square_side(size))
    return network, size


def network_with_side(text: str, default_side: int) -> tuple[str, tuple[Network, int]]:
    """Parse `NETWORK` or `NETWORK@SIDE`; return the text, the network and its side.

    A name of Table 2 or a trial without a side keeps its own, so that a latency can be put beside the paper's.
    """
    from hiri_search.api.full_network import has_own_side
    from hiri_search.language.dense_network import square_side

    spec, at, digits = text.rpartition("@")
    if at and not (re.fullmatch(r"\s*[1-9]\d{0,3}\s*", digits, re.ASCII) and int(digits) <= MAX_SIDE):
        message = f"{digits!r} is not a side; write pixels after @, at most {MAX_SIDE}, such as timm:resnet50@224"
        raise typer.BadParameter(message)
    name = spec if at else text
    network, size = network_at(name, int(digits) if at else None if has_own_side(name) else default_side)
    return text, (network, square_side(size))
