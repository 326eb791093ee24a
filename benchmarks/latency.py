"""Latency of networks next to HIRI-ViT-S, and of its variants: BatchNorm, BatchNorm merged, LayerNorm.

python benchmarks/latency.py --help
"""

from __future__ import annotations

import argparse
import csv
import io
import math
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

from timm.layers import LayerNorm2d
from torch import nn

from hiri_search.cost.latency.benchmark import Latency, measure_modules, ratios
from hiri_search.cost.latency.config import LatencyConfig, LatencyError
from hiri_search.cost.latency.forward import DoesNotFit
from hiri_search.language import Net, SpecError, parse_network
from hiri_search.models import SPECS
from hiri_search.nets.fuse_batchnorm import fuse_batchnorm
from hiri_search.networks import build

BASE = "hirivit_small"
FUSED, LAYER_NORM = f"{BASE}, BN merged", f"{BASE}, LN for BN"
NETWORKS = (BASE, "hirivit_base", "hirivit_large", "timm:swin_tiny_patch4_window7_224@224", "timm:resnet50@224")
NORMS = "norms"  # stands for the two variants of the base
WAYS = ("plain", "compiled", "cuda-graphs")
Modules = dict[str, tuple[nn.Module, int]]
Row = dict[str, Any]
COLUMNS = (
    *("network", "side", "batch", "dtype", "compiled", "cuda_graphs", "ms_per_image", "images_per_second", "spread"),
    *("settled", "ratio", "ratio_error", "repeats", "peak_memory_bytes", "compile_seconds", "waited"),
    *("mhz_before", "mhz_after", "device", "threads", "torch", "cuda", "cudnn", "driver", "note"),
)


def modules_of(names: Sequence[str], side: int, width: int = 1) -> Modules:
    """Return the networks by name; the base is always the first."""
    found: Modules = {BASE: (_module(BASE, side, width), side)}
    for name in dict.fromkeys(names):
        if name == NORMS:
            found[FUSED] = (fuse_batchnorm(found[BASE][0]), side)
            found[LAYER_NORM] = (with_layer_norm(found[BASE][0]), side)
            continue
        text, _, own = name.partition("@")
        own_side = int(own) if own else side
        if name != BASE:
            found[name] = (_module(text, own_side, width), own_side)
    return found


def _module(text: str, side: int, width: int) -> nn.Module:
    network = parse_network(SPECS.get(text, text))
    if isinstance(network, Net):
        network = network.scaled_down(width=width, depth=width)
        network.grids(side)  # SpecError where it does not fit
    return build(network, side)


def with_layer_norm(model: nn.Module) -> nn.Module:
    """Return a copy with LayerNorm over the channels in place of each BatchNorm (section 4.4)."""
    copy = deepcopy(model)
    for parent in list(copy.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                setattr(parent, name, LayerNorm2d(child.num_features))
    return copy


def rows(modules: Modules, setting: LatencyConfig) -> Iterator[Row]:
    """Yield one row for each network; the networks are timed in turns."""
    found = dict(measure_modules(modules, setting, say=lambda text: print(text, file=sys.stderr, flush=True)))
    base = found[BASE]
    for name, one in found.items():
        known = {"network": name, "side": modules[name][1], "batch": setting.batch, "dtype": setting.dtype}
        known |= {"compiled": setting.compiled, "cuda_graphs": setting.cuda_graphs}
        yield known | {"note": one.reason} if isinstance(one, DoesNotFit) else known | _numbers(one, base)


def _numbers(one: Latency, base: Latency | DoesNotFit) -> Row:
    conditions = one.conditions
    moments = {"mhz_before": conditions.before.mhz, "mhz_after": conditions.after.mhz, "waited": conditions.waited}
    row = asdict(one) | asdict(conditions.machine) | moments
    if isinstance(base, Latency) and one.repeats == base.repeats:
        row["ratio"], row["ratio_error"] = middle(ratios(one, base))
    return {name: row[name] for name in COLUMNS if name in row}


def middle(values: Sequence[float]) -> tuple[float, float]:
    """Return the median and its error: 1.57 interquartile distances over the root of n, about 95 % (McGill 1978)."""
    if len(values) < 2:
        return values[0], math.nan
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return median, 1.57 * (high - low) / math.sqrt(len(values))


def line(row: Mapping[str, Any]) -> str:
    """Return one row of the table."""
    way = f"{row['dtype']}{', compiled' * row['compiled']}{', CUDA graph' * row['cuda_graphs']}"
    cells = [row["network"], row["side"], row["batch"], way]
    if "note" in row:
        return f"| {' | '.join(map(str, cells))} | {row['note']} |"
    peak = row["peak_memory_bytes"]
    cells += [f"{row['ms_per_image']:.3f}", f"{row['images_per_second']:.1f}"]
    cells += [f"{100 * row['spread']:.1f}{'' if row['settled'] else ' !'}", row["repeats"]]
    cells += [f"{row['ratio']:.3f} ± {row['ratio_error']:.3f}" if "ratio" in row else ""]
    cells += ["" if peak is None else f"{peak / 1e6:,.0f}"]
    return f"| {' | '.join(map(str, cells))} |"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    networks = f"SPEC, timm:NAME or one of {', '.join(SPECS)}, with @SIDE; {NORMS}: the two variants of {BASE}"
    add("--networks", nargs="+", default=[*NETWORKS, NORMS], metavar="NETWORK", help=networks)
    add("--side", type=int, default=448, help="pixels of the square input of networks without @SIDE")
    add("--width", type=int, default=1, help="divisor of the widths and depths of HIRI networks; timm's are unchanged")
    add("--batches", type=int, nargs="+", default=[1], help="images in one pass")
    add("--dtypes", nargs="+", default=["fp32"], help="fp32, tf32 (CUDA), bf16")
    add("--ways", nargs="+", choices=WAYS, default=["plain"], help="plain, by torch.compile, replayed as CUDA graphs")
    add("--device", choices=["cpu", "cuda"], help="default: CUDA if there is a device")
    add("--threads", type=int, help="threads on the CPU; default: torch's own number")
    add("--seconds", type=float, default=LatencyConfig.seconds, help="limit for each network in each setting")
    add(
        "--spread",
        type=float,
        default=LatencyConfig.spread,
        help="target: half the interquartile distance over the median",
    )
    add("--csv", type=Path, help="file for all columns; overwritten, row by row")
    return parser.parse_args()


def settings(given: argparse.Namespace) -> list[LatencyConfig]:
    """Return every combination of way, type and batch; a wrong value raises before anything is timed."""
    common = {name: getattr(given, name) for name in ("device", "threads", "seconds", "spread")}
    ways = product(given.ways, given.dtypes, given.batches)
    return [
        LatencyConfig(batch, dtype, compiled=way == "compiled", cuda_graphs=way == "cuda-graphs", **common)
        for way, dtype, batch in ways
    ]


def main() -> None:
    given = arguments()
    try:
        wanted = settings(given)
        table(modules_of(given.networks, given.side, given.width), wanted, given.csv)
    except (LatencyError, SpecError) as error:
        sys.exit(str(error))


def table(modules: Modules, wanted: Sequence[LatencyConfig], path: Path | None) -> None:
    """Print and write each row when it is measured, so that an interrupted run keeps its rows."""
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") if path else io.StringIO() as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        print("| network | side | batch | way | ms an image | images/s | spread % | rounds | time to S | peak MB |")
        print("|-|-:|-:|-|-:|-:|-:|-:|-:|-:|")
        for setting in wanted:
            for row in rows(modules, setting):
                print(line(row), flush=True)
                writer.writerow(row)
                file.flush()
    print(f"\nTime to S: the same round's time over that of {BASE}, median, and its 95 % error. The paper says 7.6 %")
    print("faster with BatchNorm than with LayerNorm (section 4.4). ! : not settled, the time was used up or other")
    print("processes held the cores.")


if __name__ == "__main__":
    main()
