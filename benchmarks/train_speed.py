"""Training speed: our loop next to timm's loader and step, and the bare step on a resident batch.

python benchmarks/train_speed.py --help
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from timm.data import create_dataset, create_loader
from timm.loss import LabelSmoothingCrossEntropy
from timm.optim import create_optimizer_v2
from torch import Tensor, nn

from hiri_search.cost.flops import count
from hiri_search.language import parse_network
from hiri_search.models import SPECS, paper_net
from hiri_search.networks import build
from hiri_search.training.data.loader import Loader, open_loader
from hiri_search.training.data.prepare import prepare
from hiri_search.training.job import DataSource, Job
from hiri_search.training.recipe import Recipe
from hiri_search.training.rng import epoch_generators
from hiri_search.training.state import initial_state
from hiri_search.training.step import Step


@dataclass(frozen=True)
class Epoch:
    """Speed of one epoch of a loop."""

    images_per_second: float
    waiting: float  # share of the time


def ours(job: Job, batches: Loader, classes: int, device: torch.device, *, resident: bool) -> Iterator[Epoch]:
    """Run our step on the batches in their order, or (resident) on the first batch again and again: the ceiling."""
    state = initial_state(job, classes, len(batches), device)
    step = Step(job.recipe, classes, device, state.model)
    done = 0
    while True:
        drawing = epoch_generators(job.seed, done)
        stream = batches.train(drawing.order, drawing.augmentation)
        if resident:
            stream = iter([next(stream)] * len(batches))
        state.model.train()
        started = time.perf_counter()
        for inputs, labels in stream:
            done += 1
            loss = step(state, inputs, labels, done, drawing.mixing)
        loss.item()
        seconds = time.perf_counter() - started
        yield Epoch(len(batches) * job.recipe.batch / seconds, 0.0 if resident else batches.seconds_waiting / seconds)


def timms(job: Job, root: Path, classes: int, device: torch.device, workers: int) -> Iterator[Epoch]:
    """Run timm's loader and step as in its train script, with the same network, side, batch and augmentation."""
    recipe = job.recipe
    loader = create_loader(
        create_dataset("", root=str(root), split="train", is_training=True),
        input_size=(3, job.side, job.side),
        batch_size=recipe.batch,
        is_training=True,
        scale=(recipe.crop, 1.0),
        re_prob=recipe.erasing,
        re_mode="pixel",
        interpolation="bilinear",
        num_workers=workers,
        device=device,
        use_prefetcher=device.type == "cuda",
    )
    model = build(parse_network(job.spec), job.side, classes=classes).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = create_optimizer_v2(model, "adamw", lr=recipe.lr, weight_decay=recipe.weight_decay)
    loss_of = LabelSmoothingCrossEntropy(recipe.label_smoothing)
    model.train()
    while True:
        started, waiting, seen = time.perf_counter(), 0.0, 0
        asked = started
        for images, labels in loader:
            waiting += time.perf_counter() - asked
            loss = timms_step(
                model, optimizer, loss_of, images.to(device, memory_format=torch.channels_last), labels, recipe
            )
            seen += len(images)
            asked = time.perf_counter()
        loss.item()
        seconds = time.perf_counter() - started
        yield Epoch(seen / seconds, waiting / seconds)


def timms_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss_of: Callable[[Tensor, Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
    recipe: Recipe,
) -> Tensor:
    """Return the loss of a step of timm's train script on images that lie on the device of the model."""
    with torch.autocast("cuda", torch.bfloat16, enabled=images.is_cuda and recipe.bf16):
        loss = loss_of(model(images), labels.to(images.device))
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    if recipe.clip:
        nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
    optimizer.step()
    return loss


def peak_macs_per_second(device: torch.device, *, bf16: bool) -> float:
    """Multiply-adds per second on large square matrices, measured: a device seldom reaches its data sheet's peak."""
    size, dtype = (8192, torch.bfloat16 if bf16 else torch.float32) if device.type == "cuda" else (1024, torch.float32)
    a, b = (torch.rand(size, size, device=device, dtype=dtype) for _ in range(2))
    taken = []
    for _ in range(10):
        started = time.perf_counter()
        (a @ b)[0, 0].item()  # waits for the device
        taken.append(time.perf_counter() - started)
    return size**3 / min(taken)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="folder with the images: train/CLASS/*.jpg and val/CLASS/*.jpg")
    parser.add_argument("--side", type=int, default=64, help="pixels")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=3, help="counted epochs of each loop; one more comes first")
    parser.add_argument("--network", default="hirivit_small", help=f"spec, or one of {', '.join(SPECS)}")
    parser.add_argument("--width", type=int, default=4, help="divisor of the widths and depths of a named network")
    parser.add_argument("--workers", type=int, default=0, help="processes of timm's loader; our loop uses none")
    parser.add_argument("--compile", action="store_true", help="compile our step, in both loops that use it")
    parser.add_argument("--cuda-graphs", action="store_true", help="with --compile")
    return parser.parse_args()


def spec_of(network: str, width: int) -> str:
    """Return a spec as it is, and the spec of a named network with its widths and depths divided."""
    return paper_net(network).scaled_down(width=width, depth=width).canonical_text if network in SPECS else network


def main() -> None:
    given = arguments()
    cuda = torch.cuda.is_available()
    device = torch.device("cuda" if cuda else "cpu")
    torch.set_num_threads(1)
    # An exponential average costs both loops the same, so none is kept; erasing is that of the paper's recipe.
    recipe = Recipe(
        epochs=given.epochs + 1,
        batch=given.batch,
        erasing=0.25,
        ema=0.0,
        compile=given.compile,
        cuda_graphs=given.cuda_graphs,
    )
    spec = spec_of(given.network, given.width)
    data = DataSource(f"folder:{given.folder}")
    job = Job(spec, given.side, None, 0, recipe, data)
    with tempfile.TemporaryDirectory() as home:
        say = lambda text: print(text, file=sys.stderr)
        prepared = prepare(data, given.side, Path(home), batch=given.batch, say=say)
        batches = open_loader(data, prepared, side=given.side, recipe=recipe, device=device)
        classes = len(prepared.classes)
        loops = {
            "ceiling: the step alone": ours(job, batches, classes, device, resident=True),
            "ours": ours(job, batches, classes, device, resident=False),
            "timm's loader and step": timms(job, given.folder, classes, device, given.workers),
        }
        # The loops take turns, epoch by epoch, so that other work on the machine slows all of them alike.
        epochs = [{name: next(loop) for name, loop in loops.items()} for _ in range(given.epochs + 1)]
    # A backward pass is twice a forward one: 3 times the multiply-adds of inference for each image.
    peak = peak_macs_per_second(device, bf16=recipe.bf16 and cuda)
    step_macs = 3 * count(parse_network(spec), given.side, classes=classes).core_macs
    print(f"{device.type}: {2e-12 * peak:.2f} TFLOP/s on square matrices; FLOP utilisation is of that")
    print("| loop | first epoch, images/s | later, images/s | of the ceiling | waiting | FLOP utilisation |")
    print("|-|-:|-:|-:|-:|-:|")
    for name in loops:
        later = [epoch[name] for epoch in epochs[1:]]
        ratio = median(e[name].images_per_second / e["ceiling: the step alone"].images_per_second for e in epochs[1:])
        speed, waiting = median(e.images_per_second for e in later), median(e.waiting for e in later)
        shares = f"{ratio:.3f} | {waiting:.1%} | {speed * step_macs / peak:.1%}"
        print(f"| {name} | {epochs[0][name].images_per_second:.1f} | {speed:.1f} | {shares} |")


if __name__ == "__main__":
    main()
