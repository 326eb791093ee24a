"""One long training of one full network, as a study of one row: what `hiri-search train` runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hiri_search.api.full_network import FullNetwork, table_rows
from hiri_search.language import TimmNetwork, parse_network
from hiri_search.language.dense_network import height_and_width
from hiri_search.study.config.files.shipped import STUDIES, find_file, shipped
from hiri_search.study.config.files.yaml_file import Tree
from hiri_search.study.config.networks import resolve
from hiri_search.study.config.read import study_of
from hiri_search.study.config.schema import StudyConfig
from hiri_search.study.errors import StudyError
from hiri_search.system.units import GIGA
from hiri_search.training.score import Score

COMMAND = Path("hiri-search train")  # in place of a study file, in messages
# The recipes of the paper, the first one of a task by default, and the table with the results of each.
PAPER_RECIPES = {
    "classification": {"imagenet_300": "2", "imagenet_768_finetune": "3"},
    "detection": {"detection_1x": "4", "detection_3x": "5"},
    "segmentation": {"segmentation": "6"},
}


@dataclass(frozen=True)
class TrainOptions:
    """Settings of a full training: the options of the command."""

    data: str  # source of the images, as `data:` of a study file
    recipe: str = ""  # name of a shipped recipe, or a file; empty: the paper's for the task of the network
    classes: int | None = None  # of the head, the first ones of the data; None: all, and costs as in the paper
    seed: int = 0
    resources: Mapping[str, int] = field(default_factory=dict)
    imports: Sequence[str] = ()
    sets: Sequence[str] = ()  # key=value, laid over everything else


def training_study(full: FullNetwork, options: TrainOptions) -> StudyConfig:
    """Return the study that trains a network at full size, once. Raises StudyError as for a study file."""
    recipes = PAPER_RECIPES[full.task]
    recipe = options.recipe or next(iter(recipes))
    file = recipe if Path(recipe).suffix in (".yaml", ".yml") else f"recipes/{recipe}.yaml"
    if not find_file(file, Path()).is_file():
        known = sorted(path.stem for path in (shipped(STUDIES) / "recipes").glob("*.yaml"))
        raise StudyError(f"there is no recipe {recipe}; write a file, or one of {', '.join(known)}")
    table = recipes.get(recipe, next(iter(recipes.values())))
    paper_row = next(_in_table(full, table), "")
    keys: dict[str, Any] = {
        "title": f"Full training of {full.name}",
        "nets": {full.name: {"spec": str(full.network), **({"paper": paper_row} if paper_row else {})}},
        "table": table if paper_row else "",
        "counted": {"side": full.side, **({"classes": options.classes} if options.classes else {})},
        "proxy": {"width": 1, "depth": 1, "side": min(height_and_width(full.side))},
        "data": options.data,
        "recipe": {"file": file},
        "seeds": [options.seed],
        "resources": dict(options.resources),
        "checkpoints": "all",
        "imports": list(options.imports),
    }
    if options.classes and full.task == "classification":
        keys["proxy"]["classes"] = options.classes
    if isinstance(full.network, TimmNetwork):
        keys["recipe"]["distill_alpha"] = 1.0  # the head of these has no prediction for each position
    return study_of(Tree(COMMAND, keys, {}), sets=options.sets)


def check_devices(wanted: int) -> None:
    """Raise StudyError where a training needs more GPUs than this machine has."""
    from hiri_search.system.hardware import describe_device, gpus

    if wanted > gpus():
        remedy = "write fewer, --processes on CPUs, or --address of a cluster"
        raise StudyError(f"--gpus {wanted}: this machine has {gpus()} CUDA devices ({describe_device()}); {remedy}")


def check_memory(study: StudyConfig) -> None:
    """Raise StudyError where one batch of a training on the CPU cannot fit into memory: it would be killed.

    On a GPU a batch that does not fit is computed in parts.
    """
    from hiri_search.cost.activations import activation_count
    from hiri_search.system.hardware import free_main_memory, gpus

    (row,) = resolve(study).trained_rows
    if gpus() or row.trained is None or (free := free_main_memory()) is None:
        return
    classes = study.proxy.classes or study.counted.classes
    needed = 4 * row.recipe.batch * activation_count(row.trained, row.trained_side, classes=classes)
    if needed > free:
        problem = f"recipe.batch={row.recipe.batch} at side {row.trained_side} writes {needed / GIGA:,.0f} GB"
        remedy = "run this on the machine with the GPUs, or write a smaller --set recipe.batch"
        raise StudyError(f"{problem} in a step, and this machine has no GPU and {free / GIGA:,.0f} GB free; {remedy}")


def _in_table(full: FullNetwork, table: str) -> Iterator[str]:
    """Yield the rows of a table of the paper with this network at this side."""
    for row in table_rows(table).to_dict("records"):
        network = parse_network(f"{row['method']}:{row['spec']}" if row["method"] else row["spec"])
        if network.key == full.network.key and height_and_width(row["side"]) == height_and_width(full.side):
            yield row["row"]


def result_line(folder: Path) -> str:
    """Return the costs and final scores of a finished training, beside the paper's if the paper has this network."""
    from hiri_search.api.folders import read_results
    from hiri_search.paper.published import paper_column, paper_training, published
    from hiri_search.report.tables.networks import network_table

    results = read_results(folder)
    (ours,) = network_table(results).to_dict("records")
    scores = {score.name: score for score in (results.score, *results.other_scores)}
    values = [f"{ours['params_m']:.2f} M params", f"{ours['gflops']:.2f} GFLOPs"]
    values += [_value(score, ours[name]) for name, score in scores.items()]
    line = f"{ours['name']} at {ours['side']}: {', '.join(values)}"
    if not (table := results.table_number):
        return line
    row = published(table).to_dict("index")[next(iter(results.rows.values())).paper]
    printed = [f"{row['params_m']:g} M params", f"{row['gflops']:g} GFLOPs"]
    columns = {score: row[paper_column(score.name)] for score in results.published_scores}
    printed += [_value(score, value) for score, value in columns.items() if value == value]  # not NaN
    return f"{line}; Table {table} of the paper, {' for '.join(paper_training(table))}: {', '.join(printed)}"


def _value(score: Score, value: float) -> str:
    return f"{score.label} {value:.{score.digits}f} {score.unit}".rstrip()
