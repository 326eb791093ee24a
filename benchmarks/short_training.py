"""Accuracy of a short training: ours by studies/recipes/short.yaml next to a plain timm loop, paired by seed.

python benchmarks/short_training.py --help
"""

from __future__ import annotations

import argparse
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from scipy import stats
from timm.data import create_dataset, create_loader
from timm.loss import LabelSmoothingCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from torch import nn
from train_speed import timms_step

from hiri_search.language import parse_network
from hiri_search.models import paper_net
from hiri_search.networks import build
from hiri_search.study.config.files.yaml_file import parse_value, read_yaml
from hiri_search.system.hardware import training_device
from hiri_search.training.data.prepare import prepare
from hiri_search.training.job import DataSource, Job
from hiri_search.training.loop import train
from hiri_search.training.recipe import Recipe
from hiri_search.training.rng import seed_globally

ROOT = Path(__file__).parents[1]
PACK = ROOT.parent / "shared" / "data" / "grocery81.tar"
RECIPE = ROOT / "studies" / "recipes" / "short.yaml"


@dataclass(frozen=True)
class Outcome:
    """Result of one training."""

    top1: float  # percent, with the weights after the last epoch
    ema_top1: float | None
    seconds: float


Training = Callable[[int], Outcome]  # by seed


def ours(job: Job, seed: int) -> Outcome:
    """Run our trial as a study runs it."""
    with tempfile.TemporaryDirectory() as home:
        say = lambda text: print(text, file=sys.stderr)
        prepared = prepare(job.data, job.side, Path(home), batch=job.recipe.batch, say=say)
        started = time.perf_counter()
        last = train(replace(job, seed=seed), prepared, Path(home) / "last.pt")[-1]
    return Outcome(last.scores["top1"], last.scores.get("ema_top1"), time.perf_counter() - started)


def timms(job: Job, seed: int, *, root: Path, looks: dict[str, Any], workers: int) -> Outcome:
    """Train with timm's loaders, optimizer, schedule and loss, from the same initial weights as our trial."""
    recipe, device = job.recipe, training_device()
    load = partial(_loader, root, job, workers, device)
    loader, held_out = load("train", looks), load("validation", {})
    seed_globally(seed, "weights")
    started = time.perf_counter()
    model = build(parse_network(job.spec), job.side, classes=_classes(root), drop_path=recipe.drop_path)
    model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = create_optimizer_v2(model, "adamw", lr=recipe.lr, weight_decay=recipe.weight_decay)
    schedule = CosineLRScheduler(
        optimizer,
        t_initial=recipe.epochs * len(loader),
        lr_min=recipe.min_lr,
        warmup_t=round(recipe.warmup_epochs * len(loader)),
        warmup_lr_init=recipe.min_lr,
        t_in_epochs=False,
    )
    number = 0
    for _ in range(recipe.epochs):
        number = _epoch(model, loader, optimizer, schedule, recipe, number)
    return Outcome(_top1(model, held_out, recipe), None, time.perf_counter() - started)


def _loader(root: Path, job: Job, workers: int, device: torch.device, split: str, looks: dict[str, Any]) -> Any:
    training = split == "train"
    return create_loader(
        create_dataset("", root=str(root), split=split, is_training=training),
        input_size=(3, job.side, job.side),
        batch_size=job.recipe.batch,
        is_training=training,
        num_workers=workers,
        device=device,
        use_prefetcher=device.type == "cuda",
        **looks,
    )


def _classes(root: Path) -> int:
    return sum(1 for _ in (root / "train").iterdir())


def _epoch(model: nn.Module, loader: Any, optimizer: Any, schedule: Any, recipe: Recipe, number: int) -> int:
    loss_of = LabelSmoothingCrossEntropy(recipe.label_smoothing)
    model.train()
    for images, labels in loader:
        number += 1
        schedule.step_update(number)
        timms_step(model, optimizer, loss_of, images.to(memory_format=torch.channels_last), labels, recipe)
    return number


@torch.no_grad()
def _top1(model: nn.Module, loader: Any, recipe: Recipe) -> float:
    model.eval()
    right = seen = 0
    for images, labels in loader:
        with torch.autocast("cuda", torch.bfloat16, enabled=images.is_cuda and recipe.bf16):
            logits = model(images)
        right += int((logits.argmax(1) == labels).sum())
        seen += len(labels)
    return 100 * right / seen


# ---- the table


def lines(found: dict[str, list[Outcome]]) -> Iterator[str]:
    """Yield the table, then the difference of each other training to the first one, paired by seed."""
    first, *others = found
    yield "| training | top-1 % by seed | mean | EMA mean | seconds |\n|-|-|-:|-:|-:|"
    for name, outcomes in found.items():
        tops = [one.top1 for one in outcomes]
        averaged = [one.ema_top1 for one in outcomes if one.ema_top1 is not None]
        shown = f"{mean(averaged):.2f}" if averaged else ""
        seconds = mean(one.seconds for one in outcomes)
        by_seed = " ".join(f"{top:.2f}" for top in tops)
        yield f"| {name} | {by_seed} | {mean(tops):.2f} | {shown} | {seconds:.1f} |"
    for name in others:
        gains = [a.top1 - b.top1 for a, b in zip(found[first], found[name], strict=True)]
        yield f"{first} - {name}: {_interval(gains)}"


def _interval(gains: Sequence[float]) -> str:
    if len(gains) < 2:
        return f"{gains[0]:+.2f} points, one seed"
    half = stats.t.ppf(0.975, len(gains) - 1) * stdev(gains) / len(gains) ** 0.5
    return f"{mean(gains):+.2f} points, 95 % interval {mean(gains) - half:+.2f} to {mean(gains) + half:+.2f} (paired t)"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--images", type=Path, default=PACK, help="folder with train/CLASS and val/CLASS, or a .tar of one")
    add("--side", type=int, default=64, help="pixels")
    add("--width", type=int, default=4, help="divisor of the widths and depths of HIRI-ViT-S; 1: S itself")
    add("--seeds", type=int, default=3)
    add("--first-seed", type=int, default=0)
    add("--workers", type=int, default=0, help="processes of timm's loader")
    add("--recipe", type=Path, default=RECIPE)
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="overrides the recipe, in every training")
    add("--only-ours", action="store_true")
    return parser.parse_args()


def trainings(given: argparse.Namespace, root: Path) -> dict[str, Training]:
    """Return our training, timm's with our augmentation, and timm's with its loader's defaults."""
    sets = dict(text.split("=", 1) for text in given.set)
    overrides = {key: parse_value(text, "--set", (key,), Recipe) for key, text in sets.items()}
    recipe = Recipe(**read_yaml(given.recipe, Recipe).content | overrides)
    spec = paper_net("hirivit_small").scaled_down(width=given.width, depth=given.width).canonical_text
    job = Job(spec, given.side, None, 0, recipe, DataSource(f"folder:{root}"))
    timm_loop = partial(timms, job, root=root, workers=given.workers)
    same = {"scale": (recipe.crop, 1.0), "color_jitter": 0.0, "interpolation": "bilinear", "re_prob": recipe.erasing}
    return {
        "ours": partial(ours, job),
        "timm, our settings": partial(timm_loop, looks=same),
        "timm, its loader's defaults": partial(timm_loop, looks={}),
    }


def main() -> None:
    given = arguments()
    if not given.images.exists():
        sys.exit(f"{given.images} does not exist; name other images with --images")
    if not torch.cuda.is_available():
        torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        root = _folder(given.images, Path(place))
        chosen = trainings(given, root)
        if given.only_ours:
            chosen = {"ours": chosen["ours"]}
        found: dict[str, list[Outcome]] = {name: [] for name in chosen}
        for seed in range(given.first_seed, given.first_seed + given.seeds):
            for name, run in chosen.items():
                found[name].append(run(seed))
                print(f"seed {seed}, {name}: {found[name][-1].top1:.2f} %", file=sys.stderr, flush=True)
    print("\n".join(lines(found)))


def _folder(images: Path, place: Path) -> Path:
    """Return the folder of the images; an archive is unpacked into `place` first."""
    if images.is_dir():
        return images
    with tarfile.open(images) as archive:
        archive.extractall(place, filter="data")
    return next(path.parent for path in sorted(place.rglob("train")))


if __name__ == "__main__":
    main()
