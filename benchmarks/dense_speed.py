"""Speed and memory of training steps of stand-ins of dense methods: images per second on a resident batch.

On the CPU the seconds are those of one core, so that other work on the machine does not count.

python benchmarks/dense_speed.py --help
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import torch

from hiri_search.language.dense_network import METHODS, DenseNetwork
from hiri_search.models import SPECS, paper_net
from hiri_search.system.hardware import describe_device, training_device
from hiri_search.training.dense.dense_step import make_step
from hiri_search.training.inputs.study_images import open_batches, prepare_inputs
from hiri_search.training.job import DataSource, Job
from hiri_search.training.recipe import Recipe
from hiri_search.training.rng import epoch_generators
from hiri_search.training.state import initial_state

HEAD = "| method | images/s | peak memory, GiB | deterministic, images/s |\n|-|-:|-:|-|"


def job_of(method: str, given: argparse.Namespace) -> Job:
    """Return the job of a method on the network, on scenes with the annotations that it learns."""
    known = METHODS[method]
    annotations = "semantic" if known.task == "segmentation" else "masks" if known.masks else "boxes"
    net = paper_net(given.network)
    small = net.scaled_down(width=given.width, depth=given.width)
    stand_in = DenseNetwork.of(method, net).scaled_down(small, width=given.width)
    recipe = Recipe(epochs=2, batch=given.batch, warmup_epochs=0, ema=0.0, clip=1.0)
    data = DataSource("drawn", train=given.batch, val=given.batch, annotations=annotations)
    return Job(stand_in.canonical_text, given.side, None, 0, recipe, data)


def images_per_second(job: Job, images: Path, device: torch.device, steps: int) -> tuple[float, float]:
    """Return the images per second of steps on one batch, and the peak memory in GiB (0 on the CPU)."""
    prepared = prepare_inputs(job.data, job.side, images, batch=job.recipe.batch)
    batches = open_batches(job, prepared, device)
    state = initial_state(job, len(prepared.classes), len(batches), device)
    step = make_step(job, len(prepared.classes), device, state.model)
    drawing = epoch_generators(job.seed, 1)
    batch = next(iter(batches.train(drawing.order, drawing.augmentation)))
    state.model.train()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    seconds, clock = [], time.perf_counter if device.type == "cuda" else time.process_time
    for number in range(1, steps + 4):
        started = clock()
        step(state, *batch, number, drawing.mixing).item()
        seconds.append(clock() - started)
    peak = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else 0.0
    return job.recipe.batch / median(seconds[3:]), peak


def deterministic(job: Job, images: Path, device: torch.device, steps: int) -> str:
    """Return the images per second with torch's deterministic algorithms, or which operator has none."""
    torch.use_deterministic_algorithms(True)
    try:
        return f"{images_per_second(job, images, device, steps)[0]:.1f}"
    except RuntimeError as error:
        return "not there: " + str(error).split(" does not")[0].split("\n")[0]
    finally:
        torch.use_deterministic_algorithms(False)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--methods", nargs="+", default=list(METHODS), choices=list(METHODS), metavar="METHOD", help=" ".join(METHODS))
    add("--network", default="hirivit_small", choices=list(SPECS), metavar="NAME", help=", ".join(SPECS))
    add("--width", type=int, default=4, help="divisor of widths, depths and regions")
    add("--side", type=int, default=128, help="pixels")
    add("--batch", type=int, default=8)
    add("--steps", type=int, default=10, help="counted steps; three more come first")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    device = training_device()
    if device.type == "cpu":
        torch.set_num_threads(1)
    print(f"{given.network} / {given.width}, side {given.side}, batch {given.batch}, {describe_device()}")
    print(HEAD, flush=True)
    with tempfile.TemporaryDirectory() as place:
        for method in given.methods:
            job = job_of(method, given)
            try:
                speed, peak = images_per_second(job, Path(place), device, given.steps)
                repeatable = deterministic(job, Path(place), device, given.steps)
            except torch.OutOfMemoryError as error:
                print(f"{method}: {error}", file=sys.stderr)
                continue
            print(f"| {method} | {speed:.1f} | {peak:.1f} | {repeatable} |", flush=True)


if __name__ == "__main__":
    main()
