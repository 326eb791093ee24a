"""Command line: export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hiri_search.cli.options import ImportOption, ResultsFolder
from hiri_search.cli.output import say
from hiri_search.user_code import import_user_code

export_app = typer.Typer()


@export_app.command("export")
def export_command(
    results: ResultsFolder,
    trial: Annotated[str, typer.Argument(help="Number of a trial, name of a row, ROW:SEED, or best.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write; it must not exist.")],
    onnx: Annotated[bool, typer.Option("--onnx", help="Also write model.onnx, and compare its logits.")] = False,
    hub: Annotated[bool, typer.Option("--hf", help="Head of the model card for the Hugging Face Hub.")] = False,
    ema: Annotated[bool, typer.Option("--ema", help="The averaged weights. Default: those that are reported.")] = False,
    imports: ImportOption = None,
) -> None:
    """Write the trained network of a trial for timm: weights, configuration and model card."""
    import_user_code(imports or (), Path())
    from hiri_search.study.export.network_export import ExportOptions, export_network
    from hiri_search.study.ledger.ledger import read_ledger

    export_network(read_ledger(results), trial, output, ExportOptions(ema=ema, onnx=onnx, hub=hub), say)
