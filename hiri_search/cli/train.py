"""The command train: one long training of one full network."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from hiri_search.cli import options
from hiri_search.cli.options import ImportOption
from hiri_search.cli.output import unread_output
from hiri_search.system.units import MAX_CLASSES, MAX_INTEGER
from hiri_search.user_code import import_user_code

EXAMPLES = """Examples:

\b
  hiri-search train HIRI-ViT-S --data timm:/data/imagenet --gpus 8 --plan
  hiri-search train results/search#best --data timm:/data/imagenet --gpus 8
  hiri-search train "hr(32 e=4)*2 -> t(64 e=4)*2" --data folder:photos.tar
  hiri-search train timm:resnet50 --data drawn --recipe short --set log=tensorboard
  hiri-search train retinanet:timm:pvt_v2_b2 --side 800x600 --data coco:/data/coco

The same command continues a training that was interrupted or killed."""

train_app = typer.Typer()


@train_app.command("train", epilog=EXAMPLES)
@unread_output()
def train_command(
    context: typer.Context,
    network: Annotated[
        str, typer.Argument(help="Network: a spec, timm:NAME, METHOD:SPEC, HIRI-ViT-S (Table 2), or RESULTS#TRIAL.")
    ],
    data: Annotated[str, typer.Option(help="Images: timm:PATH, folder:PATH, coco:PATH, drawn, as data: of a study.")],
    recipe: Annotated[str, typer.Option(help="Shipped recipe, or a file. Default: the paper's, imagenet_300.")] = "",
    side: Annotated[
        str | None,
        typer.Option(callback=options.checked_size, help="Side of the input in pixels. Default: the network's."),
    ] = None,
    classes: Annotated[
        int | None, typer.Option(help="Number of classes. Default: all of the data.", min=2, max=MAX_CLASSES)
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the training.", min=0, max=MAX_INTEGER)] = 0,
    gpus: Annotated[int | None, typer.Option(help="GPUs that train it together. Default: 1.", min=1)] = None,
    processes: Annotated[int | None, typer.Option(help="Processes that train it together, on CPUs.", min=1)] = None,
    results: Annotated[
        Path | None, typer.Option("--results", "-o", help="Results folder. Default: results/train_NAME.")
    ] = None,
    sets: options.SetOption = None,
    serial: options.SerialOption = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start again; an existing folder is renamed.")] = False,
    retry_failed: options.RetryOption = False,
    address: options.RayAddress = None,
    imports: ImportOption = None,
    plan: Annotated[bool, typer.Option("--plan", help="Only estimate steps, hours, memory and disk.")] = False,
) -> None:
    """Train one network in full with the paper's recipe, or continue its training; then write the report."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # read by numpy, as for `run`
    if gpus and processes:
        raise typer.BadParameter("write one of --gpus and --processes")
    import_user_code(imports or (), Path())
    from hiri_search.api.full_network import find_network
    from hiri_search.api.full_training import (
        TrainOptions,
        check_devices,
        check_memory,
        result_line,
        training_study,
    )
    from hiri_search.api.running import Runner, after_run, start_fresh
    from hiri_search.cli.console import Console

    full = find_network(network, options.as_size(side))
    resources = {"gpu": gpus} if gpus else {"processes": processes} if processes else {}
    study = training_study(full, TrainOptions(data, recipe, classes, seed, resources, imports or (), sets or ()))
    folder = results or full.default_folder
    runner = Runner(1, serial, None if plan else address, retry_failed, "none", context.obj)
    runner.check(study)
    if not address:
        check_devices(gpus or 0)
        check_memory(study)
    console = Console(study)
    console.say(f"{full.name} at {full.side}, {study.recipe.epochs} epochs; results in {folder}")
    if study.data.kind == "timm" and not study.recipe.workers:
        console.say("images are decoded by the training process; --set recipe.workers=8 gives it 8 helpers")
    if plan:
        console.plan(runner.plan(study, folder, console.say))
        return
    if fresh:
        start_fresh(study, folder, None, console.say)
    runner.run(study, folder, console)
    code = after_run(study, folder, console.say)
    if not code:
        console.say(result_line(folder))
    sys.exit(code)
