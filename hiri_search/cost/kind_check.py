"""Check of the user's kinds of stages, stems and downsamplings: shape, gradients and operators of what they build."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn

from hiri_search.cost.flops import piece_cost
from hiri_search.language import Net, SpecError
from hiri_search.language.stages import names, part_text
from hiri_search.nets.pieces import HeadPiece, Piece, is_ours, placed_pieces

_BATCH = 2  # BatchNorm needs two values per channel, also on a grid of one position


def check_kinds(net: Net, side: int, *, classes: int = 1000) -> None:
    """Build each distinct part of the user's kinds in a network; run it forwards and backwards; count it.

    Raises SpecError, with the part, where its output has another shape than it must have, where no gradient reaches a
    parameter, where an operator cannot be counted, or where its code raises an error.
    """
    for placed in placed_pieces(net, side, classes=classes):
        if not is_ours(placed.piece):
            _check(placed.piece, placed.side)


@cache
def _check(piece: Piece, side: int) -> None:
    assert not isinstance(piece, HeadPiece)
    text = _text(piece)
    shape = (_BATCH, piece.width, side // piece.shrinks, side // piece.shrinks)
    with torch.random.fork_rng(devices=[]):  # the check draws weights and must not change later random numbers
        try:
            module = piece.build(side).train()
            output = module(torch.randn(_BATCH, piece.channels, side, side))
        except SpecError as error:
            raise SpecError(f"{text}: {error.message}") from error
        except Exception as error:  # the user's code: any exception is about the kind
            raise SpecError(f"{text} raises an error on a map of {side} pixels: {_shown(error)}") from error
    if not isinstance(output, Tensor) or output.shape != shape:
        found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        given = (_BATCH, piece.channels, side, side)
        raise SpecError(f"{text} returns {found} for an input of {given}; it must return {shape}")
    _check_gradients(text, module, output)
    try:
        piece_cost(piece, side)
    except SpecError as error:
        raise SpecError(f"{text} cannot be counted: {error.message}") from error


def _check_gradients(text: str, module: nn.Module, output: Tensor) -> None:
    if output.requires_grad:
        output.sum().backward()  # type: ignore[no-untyped-call]
    trained = [(name, weight) for name, weight in module.named_parameters() if weight.requires_grad]
    if dead := [name for name, weight in trained if weight.grad is None]:
        problem = f"the gradient does not reach {', '.join(dead[:3])}" + (
            f" and {len(dead) - 3} more" if dead[3:] else ""
        )
        raise SpecError(f"{text}: {problem}; use every parameter in forward, or remove it")


def _text(piece: Piece) -> str:
    """Return the part of a piece as spec text."""
    assert not isinstance(piece, HeadPiece)
    part = piece.part
    values = {letter: getattr(part, name) for letter, name in names(type(part)).items()}
    written = {letter: str(value) for letter, value in values.items() if value is not None and letter != "n"}
    where = f"{type(part).__module__}.{type(part).__qualname__}"
    return f"{part_text(part.kind, written)} of {where}"


def _shown(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
