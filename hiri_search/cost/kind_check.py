"""Check of the user's kinds of stages, stems and downsamplings: shape, gradients and operators of what they build."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from hiri_search.cost.flops import piece_cost
from hiri_search.cost.operators import CountError
from hiri_search.language import DenseNetwork, Net, SpecError, TimmNetwork
from hiri_search.language.dense_network import InputSize, height_and_width
from hiri_search.language.stages import names, part_text
from hiri_search.nets.pieces import IMAGE_CHANNELS, HeadPiece, Piece, body_pieces, is_ours, placed_pieces
from hiri_search.networks import build_timm, is_ours_or_timms, map_shapes

# Of a training step, and of counting: BatchNorm in training needs two values per channel, also at a single position.
_PASSES = ((True, 2), (False, 1))


def check_kinds(net: Net, side: int, *, classes: int = 1000) -> None:
    """Build each distinct part of the user's kinds in a network; run it forwards and backwards; count it.

    Raises SpecError, with the part, where its output has another shape or type than it must have, where no gradient
    reaches a parameter, where an operator cannot be counted, or where its code raises an error.
    """
    for placed in placed_pieces(net, side, classes=classes):
        if not is_ours(placed.piece):
            _check_piece(placed.piece, placed.side)


def check_dense_kinds(network: DenseNetwork, size: InputSize) -> None:
    """Check the user's kinds in the backbone of a dense network as `check_kinds` does, for images of a size.

    Raises SpecError also where a block of the backbone takes maps of one size only.
    """
    backbone, (height, width) = network.backbone, height_and_width(size)
    if not isinstance(backbone, Net) or backbone.is_ours:
        return
    try:
        map_shapes(backbone, network.method.maps, (height, width))
    except SpecError as error:
        problem = "under a method a block of your own must take maps of any size"
        raise SpecError(f"{error.message}; {problem}") from error
    for _, piece, grid, _ in body_pieces(backbone, height, width):
        if not is_ours(piece):
            _check_piece(piece, max(grid))


def check_trained(network: TimmNetwork, side: int, *, classes: int, drop_path: float, checkpointing: bool) -> None:
    """Build a network as a trial does; run one that the user has registered forwards and backwards.

    Raises SpecError where it has not what the recipe asks for, where it does not return (B, classes) of float32, or
    where its code raises an error.
    """
    own = not is_ours_or_timms(network)
    if not (own or drop_path or checkpointing):
        return  # counting has built it
    build_it = partial(build_timm, network, side, classes=classes, drop_path=drop_path)
    with _errors_of(f"'{network}'", side):
        module = _run(build_it, (IMAGE_CHANNELS, side, side), (classes,)) if own else build_it()
        if checkpointing and not hasattr(module, "set_grad_checkpointing"):
            raise SpecError("it has no method set_grad_checkpointing; write recipe.checkpointing=false")


@cache
def _check_piece(piece: Piece, side: int) -> None:
    assert not isinstance(piece, HeadPiece)
    grid = -(-side // piece.shrinks)
    with _errors_of(_text(piece), side):
        module = _run(partial(piece.build, side), (piece.channels, side, side), (piece.width, grid, grid))
        trained = [(name, weight) for name, weight in module.named_parameters() if weight.requires_grad]
        if dead := [name for name, weight in trained if weight.grad is None]:
            named = ", ".join(dead[:3]) + (f" and {len(dead) - 3} more" if dead[3:] else "")
            raise SpecError(f"the gradient does not reach {named}; use every parameter in forward, or remove it")
        try:
            piece_cost(piece, side)
        except CountError as error:
            raise SpecError(f"it cannot be counted: {error.message}") from error


@contextmanager
def _errors_of(text: str, side: int) -> Iterator[None]:
    """Name the part or network in every error of the user's code."""
    with torch.random.fork_rng(devices=[]):  # the check draws weights and must not change later random numbers
        try:
            yield
        except SpecError as error:
            raise SpecError(f"{text}: {error.message.removeprefix(f'{text} ')}") from error
        except (Exception, SystemExit) as error:
            lines = str(error).strip().splitlines()
            shown = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
            raise SpecError(f"{text} raises an error on a map of {side} pixels: {shown}") from error


def _run(build: Callable[[], nn.Module], given: tuple[int, ...], wanted: tuple[int, ...]) -> nn.Module:
    """Return the module after a training step and a pass in eval mode; `given` and `wanted` are shapes of one image."""
    module = build()
    if any(isinstance(weight, UninitializedParameter) for weight in module.parameters()):
        raise SpecError("lazy modules are not supported; write the number of their input channels")
    for training, batch in _PASSES:
        # An input with a gradient, as the output of a layer before: in-place operations on it fail here.
        image = torch.randn(batch, *given, requires_grad=True) * 1
        output = module.train(training)(image)
        _check_output(output, (batch, *given), (batch, *wanted))
        if training and output.requires_grad:
            output.sum().backward()
    return module


def _check_output(output: object, given: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    if not isinstance(output, Tensor) or output.shape != wanted:
        found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise SpecError(f"it returns {found} for an input of {given}; it must return {wanted}")
    if output.dtype != torch.float32 or not output.isfinite().all():
        wrong = "values that are not finite" if output.dtype == torch.float32 else str(output.dtype)
        raise SpecError(f"it returns {wrong} for normal random numbers; it must return finite values of torch.float32")


def _text(piece: Piece) -> str:
    """Return the part of a piece as spec text."""
    assert not isinstance(piece, HeadPiece)
    part = piece.part
    values = {letter: getattr(part, name) for letter, name in names(type(part)).items()}
    written = {letter: str(value) for letter, value in values.items() if value is not None and letter != "n"}
    where = f"{type(part).__module__}.{type(part).__qualname__}"
    return f"{part_text(part.kind, written)} of {where}"
