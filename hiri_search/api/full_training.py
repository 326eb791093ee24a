"""One long training of one full network, as a study of one row: what `hiri-search train` runs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hiri_search.language import DenseNetwork, Network, TimmNetwork, parse_network
from hiri_search.language.dense_network import InputSize, height_and_width
from hiri_search.study.config.files.shipped import STUDIES, find_file, shipped
from hiri_search.study.config.files.yaml_file import Tree
from hiri_search.study.config.networks import resolve
from hiri_search.study.config.read import study_of
from hiri_search.study.config.schema import CountConfig, StudyConfig
from hiri_search.study.config.sections.dense import PAPER_SIZES
from hiri_search.study.errors import StudyError
from hiri_search.system.text import first_names
from hiri_search.system.units import GIGA

if TYPE_CHECKING:
    import pandas as pd

    from hiri_search.training.score import Score

TRIAL_MARK = "#"  # between a results folder and a trial of it
COMMAND = Path("hiri-search train")  # in place of a study file, in messages
# The recipes of the paper, the first one of a task by default, and the table with the results of each.
PAPER_RECIPES = {
    "classification": {"imagenet_300": "2", "imagenet_768_finetune": "3"},
    "detection": {"detection_1x": "4", "detection_3x": "5"},
    "segmentation": {"segmentation": "6"},
}
MAX_FOLDER_NAME = 48  # characters; in place of a longer name of a network its key is used
_NAME = re.compile(r"[A-Za-z][\w.+ @-]*")


@dataclass(frozen=True)
class FullNetwork:
    """A network to train at full size."""

    name: str  # of the row of the study
    network: Network
    side: InputSize

    @property
    def task(self) -> str:
        """The task that the network is for."""
        return self.network.method.task if isinstance(self.network, DenseNetwork) else "classification"

    @property
    def default_folder(self) -> Path:
        """The results folder where none is given."""
        name = re.sub(r"[^\w.-]+", "_", self.name).strip("_")
        return Path("results") / f"train_{name if len(name) <= MAX_FOLDER_NAME else self.network.key}"


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


def find_network(text: str, side: InputSize | None) -> FullNetwork:
    """Return the network of a spec, of a name in Table 2 such as HIRI-ViT-S, or of a trial: `RESULTS#TRIAL`.

    Without a side it has that of the trial, of the table, of timm's configuration, or of the paper's images. Raises
    SpecError for a spec that cannot be read, StudyError where there is no such trial, or its code is not imported.
    """
    text = text.strip()
    if TRIAL_MARK in text:
        folder, _, which = text.rpartition(TRIAL_MARK)
        return _of_trial(Path(folder), which, side)
    if is_paper_name(text):
        return _of_paper(text, side)
    network = parse_network(text)
    return FullNetwork(text, network, side or _usual_side(network))


def is_paper_name(text: str) -> bool:
    """Return whether a text can only be a name of Table 2: a spec has brackets or a colon."""
    return _NAME.fullmatch(text) is not None


def _of_trial(folder: Path, which: str, side: InputSize | None) -> FullNetwork:
    from hiri_search.study.export.network_export import check_imported
    from hiri_search.study.ledger.ledger import read_ledger
    from hiri_search.study.persistence.trial_choice import find_trial
    from hiri_search.study.provenance.record import read_record

    record = read_record(read_ledger(folder))
    study = record.own.study
    trial = find_trial(record.trials, which, study, study.headline)
    network = parse_network(trial.network.spec)
    check_imported(network, record.source(trial.network).study)
    return FullNetwork(f"{folder.resolve().name} trial {trial.number}", network, side or trial.network.side)


def _of_paper(name: str, side: InputSize | None) -> FullNetwork:
    """Return the network that Table 2 calls so: at this side, else at the first of 448 and its others."""
    rows = _paper_rows("2")
    rows = rows.assign(name=rows["row"].str.partition(" @ ")[0])
    found = rows[(rows["row"] == name) | (rows["name"] == name)]
    if found.empty:
        near = first_names(get_close_matches(name, set(rows["name"]), n=3, cutoff=0.4) or ["HIRI-ViT-S"])
        raise StudyError(f"Table 2 has no network {name!r}; write a spec, timm:NAME, RESULTS#TRIAL, or {near}")
    own = found[found["side"] == (side or CountConfig().side)]
    row = (found if own.empty else own).iloc[0]
    return FullNetwork(name, parse_network(row["spec"]), side or int(row["side"]))


def _usual_side(network: Network) -> InputSize:
    if isinstance(network, DenseNetwork):
        return PAPER_SIZES[network.method.task]
    if isinstance(network, TimmNetwork):
        from hiri_search.networks import usual_side  # slow import

        return usual_side(network)
    return CountConfig().side


def _paper_rows(table: str) -> pd.DataFrame:
    """Return the rows of a table whose networks can be built."""
    from hiri_search.paper.published import networks

    return (rows := networks(table))[rows["spec"] != ""]


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
    for row in _paper_rows(table).to_dict("records"):
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
