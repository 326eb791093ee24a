"""Predicted boxes, masks and semantic maps beside the truth, for a few validation images."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from numpy.typing import NDArray

from hiri_search.language import parse_network
from hiri_search.networks import is_ours_or_timms, restored
from hiri_search.report.figures import drawable, image, literal_text, new_figure
from hiri_search.report.tables.curves import COLOURS
from hiri_search.report.tables.results import Results, finished_rows
from hiri_search.study.ledger.layout import IMAGE_FOLDER
from hiri_search.system.checksums import find_damage
from hiri_search.system.text import first_names
from hiri_search.system.units import GIGA
from hiri_search.training.data.decode_cache import cache_folder
from hiri_search.training.dense.predictions import Annotation, Example, class_names, examples, predictions
from hiri_search.training.state import saved_weights

PREDICTIONS, PICTURE = "predictions", "predictions.png"  # key of the page's content; file
IMAGES = 4
MAX_ROWS = 8
MAX_GMACS = 400  # of all predictions: about ten seconds of one core
_SPLIT, _ALPHA, _PAGE_DPI = "val", 0.55, 90
_COLUMN_WIDTH, _MAX_NAME, _MAX_CLASS, _MAX_LEGEND = 2.6, 24, 12, 12  # inches; characters; classes


class NoPredictions(RuntimeError):
    """A picture that cannot be made; the message is a sentence that says why."""


@dataclass(frozen=True)
class Predictions:
    """Some images with their truth, and what the best trial of each row finds in them."""

    examples: list[Example]
    classes: tuple[str, ...]
    of_rows: dict[str, list[Annotation]]  # what the best trial of each row finds, by row and trial
    left_out: tuple[str, ...]  # rows


def picture(results: Results) -> bytes | None:
    """Return the picture as PNG; None where the study is of another task, or `predictions_of_page` says why not."""
    figure = _attempt(results)
    return image(figure, ".png") if isinstance(figure, Figure) else None


def predictions_of_page(results: Results) -> dict[str, Any]:
    """Return the content of the page's section: a picture, and a sentence. Empty for classification."""
    if not results.is_dense:
        return {}
    figure = _attempt(results)
    if isinstance(figure, str):
        return {PREDICTIONS: {"image": "", "text": f"There is no picture of predictions: {figure}."}}
    data = b64encode(image(figure, ".jpeg", dpi=_PAGE_DPI)).decode()
    text = (
        "Above the truth; below it the best trial of each row, with its last weights, on validation images."
        if results.study.data.annotations == "semantic"
        else "Above the truth; below it the best detections of the best trial of each row, with its last weights, on"
        " validation images: as many as the image has objects, one at each place, with their scores."
    )
    return {PREDICTIONS: {"image": f"data:image/jpeg;base64,{data}", "text": f"{text}{_left_out(results)}"}}


@lru_cache(1)
def _attempt(results: Results) -> Figure | str:
    """Return the figure, or why there is none: never an error, as a report has other contents."""
    try:
        return _draw(_predictions(results))
    except NoPredictions as reason:
        return str(reason)
    except Exception as error:  # of checkpoints and images that anybody may have changed, and of networks of timm
        return f"{type(error).__name__}: {error}"


def _left_out(results: Results) -> str:
    rows = _predictions(results).left_out
    return f" Not shown, to be quick: {first_names(rows)}." if rows else ""


# ---- from the checkpoints


@lru_cache(1)
def _predictions(results: Results) -> Predictions:
    if not results.is_dense or results.folder is None:
        raise NoPredictions("this study has no detectors or networks for segmentation in a folder")
    trials = _best_trials(results)
    shown = _affordable(trials)
    found, shared, classes = dict[str, list[Annotation]](), list[Example](), tuple[str, ...]()
    for name in shown:
        trial = trials[name]
        folder = _images_of(results, trial["trained_side"])
        classes = class_names(folder)
        own = examples(folder, _SPLIT, IMAGES)
        shared = shared or own
        of_trial = _found(results.folder, trial, own, len(classes))
        found[f"{name}\ntrial {trial['trial']}"] = [
            _at_size(each, one.size, first.size) for each, one, first in zip(of_trial, own, shared, strict=True)
        ]
    return Predictions(shared, classes, found, tuple(name for name in trials if name not in shown))


def _best_trials(results: Results) -> dict[str, Mapping[str, Any]]:
    """Return for each row the finished trial with the best score, of those whose checkpoint is here."""
    score, best = results.score, dict[str, Mapping[str, Any]]()
    for row in finished_rows(results.first_trainings):
        if row.get("checkpoint") and row.get(score.name) is not None:
            other = best.get(row["name"])
            if other is None or score.loss_sign * row[score.name] < score.loss_sign * other[score.name]:
                best[row["name"]] = row
    if not best:
        raise NoPredictions(f"{results.folder} has no checkpoint of a finished trial")
    return {name: best[name] for name in results.rows if name in best}


def _affordable(trials: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the first rows whose predictions take a few seconds together."""
    costs = np.cumsum([IMAGES * trial["trained_macs"] / GIGA for trial in trials.values()])
    shown = [name for name, cost in zip(trials, costs, strict=True) if cost <= MAX_GMACS][:MAX_ROWS]
    if not shown:
        raise NoPredictions("these networks are too large to predict while a report is written")
    return shown


def _images_of(results: Results, side: int) -> Path:
    """Return the folder of the decoded images of a side. NoPredictions where they are not here."""
    assert results.folder
    fingerprint = results.started.images.fingerprints.get(str(side), "")
    folder = cache_folder(results.folder / IMAGE_FOLDER) / Path(fingerprint).name
    if not fingerprint or find_damage(folder):
        raise NoPredictions(f"the decoded images at side {side} are not on this machine; a run of the study makes them")
    return folder


def _found(folder: Path, trial: Mapping[str, Any], images: list[Example], classes: int) -> list[Annotation]:
    """Return what the network of a checkpoint finds. No code of the folder is run."""
    network, side = parse_network(trial["trained_spec"]), int(trial["trained_side"])
    if not is_ours_or_timms(network):
        raise NoPredictions(f"{trial['name']} needs code of the user, which a report does not run")
    _, weights = saved_weights(folder / trial["checkpoint"], ema=False)
    return predictions(restored(network, side, classes, weights), images, side)


def _at_size(found: Annotation, size: tuple[int, int], shown: tuple[int, int]) -> Annotation:
    """Return what is found in an image of a size, with boxes in the image that is shown: scenes are drawn at each side.

    Sizes are height and width. Masks and semantic maps are stretched where they are drawn.
    """
    (height, width), (shown_height, shown_width) = size, shown
    return replace(found, boxes=found.boxes * np.tile([shown_width / width, shown_height / height], 2))


# ---- drawing


@literal_text
def _draw(shown: Predictions) -> Figure:
    lines = {"truth": [example.truth for example in shown.examples], **shown.of_rows}
    height = max(each.size[0] / each.size[1] for each in shown.examples) * _COLUMN_WIDTH
    figure = new_figure(_COLUMN_WIDTH * len(shown.examples), height * len(lines) + 0.6)
    panels = figure.subplots(len(lines), len(shown.examples), squeeze=False)
    for axes_of_line, (name, found) in zip(panels, lines.items(), strict=True):
        for axes, example, annotation in zip(axes_of_line, shown.examples, found, strict=True):
            _draw_image(axes, example, annotation, shown.classes)
        first, *rest = name.split("\n")
        label = "\n".join([drawable(first, _MAX_NAME), *rest])
        axes_of_line[0].set_ylabel(label, fontsize=8)
    _add_classes(figure, lines, shown.classes)
    return figure


def _draw_image(axes: Axes, example: Example, annotation: Annotation, classes: tuple[str, ...]) -> None:
    height, width = example.size
    extent = (0, width, height, 0)
    axes.imshow(example.pixels, extent=extent, aspect="equal")
    axes.set(xticks=[], yticks=[], xlim=(0, width), ylim=(height, 0))
    if annotation.semantic is not None:
        labels = _coloured(classes)
        axes.imshow(_overlay([annotation.semantic == label for label in labels], labels), extent=extent)
    elif annotation.masks is not None and len(annotation.masks):
        axes.imshow(_overlay(annotation.masks, annotation.labels), extent=extent)
    scores = annotation.scores if annotation.scores is not None else np.full(len(annotation.labels), np.nan)
    objects = [*zip(annotation.boxes, annotation.labels, scores, strict=True)]
    for (left, top, right, bottom), label, score in reversed(objects):  # the best lies on top
        colour = _colour(int(label))
        axes.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=colour, linewidth=1.2))
        text = drawable(classes[label], _MAX_CLASS) + ("" if np.isnan(score) else f" {score:.2f}")
        box = {"facecolor": colour, "pad": 0.6, "linewidth": 0, "alpha": 0.8}
        axes.text(left, top, text, fontsize=5, color="white", va="top", bbox=box, clip_on=True)


def _coloured(classes: tuple[str, ...]) -> list[int]:
    """Return the classes that semantic maps show in colour."""
    return [label for label, name in enumerate(classes) if name != "background"]


def _overlay(masks: Any, labels: Any) -> NDArray[np.float64]:
    """Return an image (H, W, 4) of masks (H, W) in the colours of their classes; transparent outside them."""
    colours = np.zeros((*masks[0].shape, 4))
    for mask, label in zip(masks, labels, strict=True):
        colours[mask] = (*to_rgb(_colour(int(label))), _ALPHA)
    return colours


def _colour(label: int) -> str:
    return COLOURS[label % len(COLOURS)]


def _add_classes(figure: Figure, lines: Mapping[str, list[Annotation]], classes: tuple[str, ...]) -> None:
    """Add a legend of the classes of semantic maps; boxes have their classes written on them."""
    maps = [each.semantic for found in lines.values() for each in found if each.semantic is not None]
    present = sorted({int(label) for each in maps for label in np.unique(each)} & set(_coloured(classes)))
    if present:
        handles = [Patch(facecolor=_colour(label), alpha=_ALPHA) for label in present[:_MAX_LEGEND]]
        legend = figure.legend(handles, ["name"] * len(handles), loc="outside lower center", ncols=6, fontsize=7)
        for text, label in zip(legend.get_texts(), present, strict=False):
            text.set_text(drawable(classes[label], _MAX_CLASS))
