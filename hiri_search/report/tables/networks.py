"""Tables of trials and networks, next to the paper's rows; captions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from math import prod
from typing import Any

import numpy as np
import pandas as pd

from hiri_search.cost.pareto import pareto_mask
from hiri_search.language import DenseNetwork, Net, Network, SpecError, parse_network
from hiri_search.language.dense_network import height_and_width
from hiri_search.paper.published import paper_column, paper_training, published
from hiri_search.report.tables.captions import calibration_sentence, own_recipes, recipe_text, settings_sentence
from hiri_search.report.tables.formats import size_text
from hiri_search.report.tables.results import Results
from hiri_search.stats.rank_correlation import Tau, kendall_tau
from hiri_search.stats.significance import LEVEL, mean_interval
from hiri_search.study.config.choices import row_of
from hiri_search.study.config.schema import StudyConfig
from hiri_search.study.ledger.events import InferenceTimed, TimedSetting, timed_setting
from hiri_search.study.ledger.trial import CURVES, STANDARD_ERROR
from hiri_search.study.ledger.values import ImageSet, to_json
from hiri_search.system.units import GIGA, MEGA
from hiri_search.training.data.image_folder import left_out
from hiri_search.training.dense.bootstrap import RESAMPLES
from hiri_search.training.score import Score

MIN_LAST_GRID = 3  # positions along a side: with fewer, attention in the last stage has almost nothing to relate


def trial_table(results: Results) -> pd.DataFrame:
    """Return one row for each trial; a curve is the score after each epoch, separated by spaces."""
    table = pd.DataFrame(list(results.all_trials))
    if table.empty:
        return pd.DataFrame(columns=["trial", "name", "state"])
    table = table.drop(columns="by_part", errors="ignore")
    if results.recipe_options:
        every = results.every_setting or results
        table.insert(2, "setting", table["name"].map(every.setting))
        if not results.is_search:
            table.insert(2, "row", [row_of(every.rows, name) for name in table["name"]])
    if table["side"].map(type).nunique() > 1:  # 800 and 1600x1200: Parquet has one type for a column
        table["side"] = table["side"].map(str)
    form = f"{{:.{results.study.headline.digits}f}}".format
    for name in CURVES:
        table[name] = [" ".join(map(form, curve)) for curve in table[name]]
    return table


_SPREADS = ("spread", "low", "high")
NETWORK_COLUMNS = ("name", "key", "spec", "side", "params", "macs", "trained_spec", "trained_side")


def network_table(results: Results) -> pd.DataFrame:
    """Return one row for each network, in the study's order: costs, and mean and spread of the score over seeds.

    Only finished trials count: `seeds` is their number, `failed` the number of failed trials. `low` and `high` are
    Student's confidence interval of the mean, if there is a spread. `ms` is the measured inference time of one image.
    """
    facts = pd.DataFrame([*results.counted, *results.first_trainings], columns=NETWORK_COLUMNS)
    networks = facts.drop_duplicates("name").set_index("name")
    score, errors = results.score.name, results.error_columns
    others = [*errors, *(score.name for score in results.other_scores)]
    trials = pd.DataFrame(results.first_trainings, columns=["name", "state", score, *others])
    failed = (trials["state"] == "failed").groupby(trials["name"]).sum()
    finished = trials[trials["state"] == "finished"].astype(dict.fromkeys([score, *others], float))
    scores, several = (rows.groupby("name")[score] for rows in (finished, finished[finished.duplicated("name", False)]))
    timed = {(event.key, event.side): event.ms_per_image for event in _comparable_times(results)}
    intervals = {name: interval for name, values in several if (interval := mean_interval(values))}
    rows = results.rows
    table = pd.DataFrame(
        {
            "curve": [rows[name].curve if name in rows else "" for name in networks.index],
            **networks[["key", "spec", "side"]],
            "params_m": networks["params"] / MEGA,
            "gflops": networks["macs"] / GIGA,
            score: scores.mean(),
            "spread": scores.std(),
            "low": pd.Series({name: interval.low for name, interval in intervals.items()}, dtype="float64"),
            "high": pd.Series({name: interval.high for name, interval in intervals.items()}, dtype="float64"),
            **{name: finished.groupby("name")[name].mean() for name in errors},
            "seeds": scores.count(),
            **({"setting": networks.index.map(results.setting)} if results.recipe_options else {}),
            **{score.name: finished.groupby("name")[score.name].mean() for score in results.other_scores},
            "failed": failed,
            "ms": [timed.get(pair, np.nan) for pair in zip(networks["key"], networks["side"], strict=True)],
            **networks[["trained_spec", "trained_side"]],
            "note": [rows[name].note if name in rows else "" for name in networks.index],
        },
        index=networks.index,
    )
    return table.fillna({"seeds": 0, "failed": 0}).astype({"seeds": int, "failed": int}).reset_index()


def _comparable_times(results: Results) -> list[InferenceTimed]:
    """Return the times of one setting: that of the study, on the machine of its last run.

    Where there are no such times, those of another machine or setting; of several, those of most networks, at last.
    """
    by_setting: dict[TimedSetting, list[InferenceTimed]] = {}
    for event in results.timed:
        by_setting.setdefault(event.setting, []).append(event)
    config, device = results.study.latency, results.started.machine.get("device")

    def preference(events: list[InferenceTimed]) -> tuple[bool, bool, int]:
        machine: Any = events[0].conditions.get("machine") or {}
        own = config is not None and events[0].setting == timed_setting(config, machine)
        return own, machine.get("device") == device, len(events)

    return max(reversed(by_setting.values()), key=preference, default=[])


def paper_table(results: Results) -> pd.DataFrame:
    """Return the networks of an ablation next to the paper's rows: costs, accuracies and ranks of both.

    `rank` is by the mean score of the short trainings, `paper_rank` by the published score of the same rows: top-1, box
    AP or mIoU. 1 is best, and equal values share the better rank. Our numbers are not fitted to the paper's.
    """
    rows, score = results.rows, results.score
    ours = network_table(results).set_index("name").reindex(list(rows))
    labels = [row.paper or name for name, row in rows.items()]
    printed = [paper_column(score.name) for score in results.published_scores]
    columns = ["params_m", "gflops", *printed]
    paper = published(results.table_number).reindex(index=labels, columns=columns).set_axis(ours.index)
    return pd.DataFrame(
        {
            "network": ours.index,
            "paper_row": labels,
            "side": ours["side"],
            "params_m": ours["params_m"].round(3),
            "paper_params_m": paper["params_m"],
            "gflops": ours["gflops"].round(3),
            "paper_gflops": paper["gflops"],
            **{name: ours[name].round(score.digits) for name in (score.name, *_SPREADS, *results.error_columns)},
            "seeds": ours["seeds"],
            **({"setting": ours["setting"]} if "setting" in ours else {}),
            **{other.name: ours[other.name].round(other.digits) for other in results.other_scores},
            "rank": ranks(ours[score.name], up=score.up),
            **paper[printed],
            "paper_rank": ranks(paper[printed[0]]),
            "note": [row.note for row in rows.values()],
            "spec": ours["spec"],
            "trained_spec": ours["trained_spec"],
            "trained_side": ours["trained_side"].astype("Int64"),
        }
    ).reset_index(drop=True)


def ranks(scores: pd.Series, *, up: bool = True) -> pd.Series:
    """Return the rank of each score; 1 is the best: the largest, or, unless `up`, the smallest."""
    return scores.rank(ascending=not up, method="min").astype("Int64")


def front(table: pd.DataFrame, cost: str, score: Score) -> pd.DataFrame:
    """Return the Pareto front: the rows that no other row dominates in `cost` and `score`, cheapest first."""
    known = table.dropna(subset=[cost, score.name])
    points = np.column_stack([known[cost], score.loss_sign * known[score.name]]).astype(float)
    return known[pareto_mask(points)].sort_values(cost, kind="stable")


def inference_table(results: Results) -> pd.DataFrame:
    """Return one row for each network and machine: inference time, its spread, and the machine.

    This is a table of its own because times differ between two runs of one study; the other tables do not. Times of
    another batch, dtype or kind of network than those of `network_table` are in the ledger only. Rows of an ablation
    that share a network share its time.
    """
    shown = {event.setting[:-1] for event in _comparable_times(results)}
    names: dict[tuple[str, int], dict[str, None]] = {}
    for row in [*results.counted, *results.trials]:
        names.setdefault((row["key"], row["side"]), {})[row["name"]] = None
    timed = pd.json_normalize([to_json(event) for event in results.timed if event.setting[:-1] in shown])
    if timed.empty:
        return timed
    timed.insert(0, "name", [list(names[pair]) for pair in zip(timed["key"], timed["side"], strict=True)])
    return timed.drop(columns=["event", "time"]).explode("name", ignore_index=True)


def caption(results: Results) -> str:
    """Return the caption: which networks were counted, which were trained, and on which images."""
    study, started, networks = results.study, results.started, network_table(results)
    images = started.images
    score = results.score
    text = (
        f"Params and GFLOPs (multiply-adds): the networks at {_numbers(networks['side'])} pixels with"
        f" {study.counted.classes} classes, counted on the modules. {score.title}:"
        f" {_trained(networks, study)} at {_numbers(networks['trained_side'])} pixels{_grids(networks)},"
        f" trained {recipe_text(results)}"
        f" on {images.train} images ({study.data.source}, {images.classes} classes{_chance(score, images.classes)}) and"
        f" {_measured(results)}; {_seeds(results)}.{_image_error(score, images, networks)}"
        f" Device: {started.device}; profile: {started.profile}. {calibration_sentence(study)}"
    )
    text += settings_sentence(results)
    if own := own_recipes(study, results.recipe_options):
        text += f" Rows with their own recipe: {own}."
    text += "".join(f" {sentence}" for sentence in left_out(images.notes, images.skipped)) + _small_grids(networks)
    if started.overlooked:
        text += f" Merged from studies with unlike settings: {'; '.join(started.overlooked)}."
    if untrained := list(networks["name"][networks["trained_spec"].isna()]):
        text += f" Counted only, not trained: {', '.join(untrained)}."
    if results.table_number:
        training = paper_training(results.table_number)
        text += (
            f" The paper's {results.published_scores[0].title} is on {training.data} after {training.length}:"
            " compare orders, not values."
            " Our params and GFLOPs are not fitted to the paper's."
        )
        text += _tau_sentence(results)
    return text


def _chance(score: Score, classes: int) -> str:
    return f", chance {score.chance(classes):.1f} {score.unit}".rstrip() if score.chance else ""


def _measured(results: Results) -> str:
    """Say which images the scores are of."""
    images = results.started.images
    if not results.has_test:
        return f"validated on {images.val} images"
    choices = f"choices were made on {images.val} validation images"
    return f"measured on {images.test} test images, which no choice saw; {choices}"


def _image_error(score: Score, images: ImageSet, networks: pd.DataFrame) -> str:
    """Return a sentence on the error that a score of so many images has by itself."""
    if STANDARD_ERROR in networks:
        largest = f"{networks[STANDARD_ERROR].max():.{score.digits}f} {score.difference_unit}"
        how = f"standard_error: a bootstrap of {RESAMPLES} sets of these images, mean over seeds"
        return f" One standard error from the {score.images} alone is up to {largest} ({how})."
    if not score.of_images:
        return ""
    error = 100 * np.sqrt(0.25 / getattr(images, score.split))
    return f" One standard error from the number of {score.images} alone is up to {error:.1f} points."


def _seeds(results: Results) -> str:
    if results.seeds_text == "1 seed":
        return "one seed, so there is no interval (write seeds: 3)"
    added = ", as a rule added them" if results.study.auto_seeds else ""
    return f"mean, standard deviation and Student's {LEVEL:.0%} confidence interval over {results.seeds_text}{added}"


def paper_tau(table: pd.DataFrame, score: Score, printed: Score) -> Tau | None:
    """Return Kendall's tau of our order and the paper's, best first, over the rows of `paper_table` that have both."""
    both = table.dropna(subset=[score.name, column := paper_column(printed.name)])
    return kendall_tau(-score.loss_sign * both[score.name], both[column])


def _tau_sentence(results: Results) -> str:
    tau = paper_tau(paper_table(results), results.score, results.published_scores[0])
    return f" Kendall's tau with the paper's order over {tau.items} rows: {tau}." if tau else ""


def _trained(networks: pd.DataFrame, study: StudyConfig) -> str:
    """Say which networks were trained in place of the counted ones."""
    trained = networks.dropna(subset=["trained_spec"])
    if (trained["trained_spec"] == trained["spec"]).all():
        return "the networks themselves"
    divided = {"widths": study.proxy.width, "depths": study.proxy.depth}
    how = [f"{name} divided by {number}" for name, number in divided.items() if number > 1]
    dense = [network for network, _ in _trained_networks(networks) if isinstance(network, DenseNetwork)]
    how += ["with fewer regions"] if any(network.regions < network.method.regions for network in dense) else []
    if any(network.norms for network in dense):
        how.append("with norms in pyramid and heads, which are ours")
    return f"stand-ins ({', '.join([*how, 'see trained_spec'])})"


def _grids(networks: pd.DataFrame) -> str:
    """Return the grids of the trained networks' stages; empty where they differ, or for networks of timm."""
    grids = set(_trained_grids(networks))
    return f" (grids {_numbers(pd.Series(grids.pop()))})" if len(grids) == 1 else ""


def _small_grids(networks: pd.DataFrame) -> str:
    """Return a warning where the last grid of a trained network is so small that attention has nothing to relate."""
    smallest = min((grids[-1] for grids in _trained_grids(networks)), default=MIN_LAST_GRID)
    if smallest >= MIN_LAST_GRID:
        return ""
    return (
        f" The last grid has {smallest} x {smallest} positions, fewer than {MIN_LAST_GRID} x {MIN_LAST_GRID}: attention"
        " has almost nothing to relate there, so this order says little about the networks."
    )


def _trained_grids(networks: pd.DataFrame) -> Iterator[tuple[int, ...]]:
    """Yield the grids of each trained network of our language: positions along a side, stage by stage."""
    for network, side in _trained_networks(networks):
        backbone = network.backbone if isinstance(network, DenseNetwork) else network
        if isinstance(backbone, Net):
            yield tuple(grid for grid, _ in backbone.rounded_grids(side, side))


def _trained_networks(networks: pd.DataFrame) -> Iterator[tuple[Network, int]]:
    """Yield each trained network that this ledger can read, and its side."""
    trained = networks.dropna(subset=["trained_spec"])
    for spec, side in zip(trained["trained_spec"], trained["trained_side"], strict=True):
        with suppress(SpecError):  # kinds of the user that this ledger does not declare
            yield parse_network(spec), int(side)


def _numbers(column: pd.Series) -> str:
    """`64`, or `32, 64 and 128`; sizes of images may be `1600x1200`."""
    sizes: list[Any] = [size if isinstance(size, str) else int(size) for size in column.dropna().unique()]
    *others, last = map(size_text, sorted(sizes, key=lambda size: prod(height_and_width(size))) or ["no"])
    return f"{', '.join(others)} and {last}" if others else last
