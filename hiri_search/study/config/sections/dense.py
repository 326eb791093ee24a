"""Detection and segmentation in a study: the task and the method of its rows, and what these leave open."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hiri_search.language.dense_network import CLASSES_OF_TASKS, METHODS, DenseNetwork, Network, find_method, method_in
from hiri_search.language.errors import SpecError
from hiri_search.training.dense.scores import TASKS
from hiri_search.training.recipe import Recipe, SettingError

if TYPE_CHECKING:
    from hiri_search.study.config.schema import StudyConfig

_CLASSIFICATION, _DETECTION, _SEGMENTATION = "classification", "detection", "segmentation"
PAPER_SIZES = {_DETECTION: "1600x1200", _SEGMENTATION: "1024x1024"}  # of HIRI-ViT's images (section 5.2 and 5.3)
_ANNOTATIONS = {_DETECTION: ("boxes", "masks"), _SEGMENTATION: ("semantic",), _CLASSIFICATION: ("",)}
_DATA = {_DETECTION: ("drawn", "coco"), _SEGMENTATION: ("drawn", "masks"), _CLASSIFICATION: ()}
# Of the recipe: what is for dense tasks alone, and for classifiers alone, with the value that turns it off.
_DENSE_ONLY: Mapping[str, Any] = {"min_scale": 1.0}
_NOT_DENSE: Mapping[str, Any] = {
    **dict.fromkeys(("mixup", "cutmix", "erasing"), 0.0),
    **{"auto_augment": "", "distill_alpha": 1.0, "compile": False},
}


def with_task(content: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a study with what its task fills in, if it is detection or segmentation.

    These are the method, the size and the classes at which the networks are counted, the objectives of a search, and
    the annotations that the images need.
    """
    task = content.get("task", _CLASSIFICATION)
    of_rows = [*map(_method_of, _rows(content))]
    named = [content.get("method"), *of_rows]
    known = [METHODS[name] for name in named if isinstance(name, str) and name in METHODS]
    if known and "task" not in content:
        task = known[0].task
    if task not in CLASSES_OF_TASKS:
        return content
    counted = {"side": PAPER_SIZES[task], "classes": CLASSES_OF_TASKS[task], **(content.get("counted") or {})}
    lacking = not content.get("method") and not all(of_rows or [None])
    method = {"method": "upernet"} if task == _SEGMENTATION and lacking else {}
    masks = _trains_masks(content)
    annotations = "semantic" if task == _SEGMENTATION else "masks" if masks else "boxes"
    data = content.get("data", {})
    data = {"source": data} if isinstance(data, str) else data
    if isinstance(data, dict):
        data = {"annotations": annotations, **data}
    search = {"objectives": (TASKS[annotations].scores[0].name, "gmacs"), **(content.get("search") or {})}
    return {**content, **method, "task": task, "counted": counted, "data": data, "search": search}


def _rows(content: dict[str, Any]) -> list[Any]:
    rows = content.get("nets")
    return list(rows.values()) if isinstance(rows, dict) else []


def _method_of(row: Any) -> Any:
    """Return the method that a row names, by its key or in its spec; None where it names none."""
    spec = row.get("spec") if isinstance(row, dict) else row
    named = row.get("method") if isinstance(row, dict) else None
    return named or (method_in(spec) if isinstance(spec, str) else None)


def _trains_masks(content: dict[str, Any]) -> bool:
    """Return whether a row that is trained, or the networks of a space, have a method with masks."""
    trained = [row for row in _rows(content) if not isinstance(row, dict) or row.get("train", True)]
    names = [_method_of(row) for row in trained]
    names = [name or content.get("method") for name in names or [None]]  # that of a study with a space is on all of it
    return any(METHODS[name].masks for name in names if isinstance(name, str) and name in METHODS)


def with_method(study: StudyConfig, network: Network, method: str = "") -> Network:
    """Return a network with a method, by default that of the study, if it has none.

    Raises SpecError where it is of another task than the study.
    """
    name = method or study.method
    if name and not isinstance(network, DenseNetwork):
        network = DenseNetwork.of(name, network)
    task = network.method.task if isinstance(network, DenseNetwork) else _CLASSIFICATION
    if task != study.task:
        remedy = "write a method: for the study or the row" if task == _CLASSIFICATION else f"write task: {task}"
        raise SpecError(f"the study is for {study.task}, and this network for {task}; {remedy}")
    return network


def check_dense(study: StudyConfig) -> None:
    """Raise SettingError for what detection and segmentation do not have, and for images that a task cannot use."""
    _check_data(study)
    for row, recipe in {"": study.recipe, **{name: row.recipe for name, row in (study.nets or {}).items()}}.items():
        _check_recipe(row, recipe, study.task)
    if study.task == _CLASSIFICATION:
        return
    if study.method:
        _check_method(study.method)
    elif study.space is not None:
        known = ", ".join(name for name, method in METHODS.items() if method.task == study.task)
        raise SettingError(
            "method", f"method: is missing; write the method of all networks of the space: one of {known}"
        )
    refused: dict[str, object] = {
        "metrics:": study.metrics,
        "latency:": study.latency,
        "search.zero_cost:": study.search.zero_cost,
        "search.objectives: ms_per_image": "ms_per_image" in study.search.objectives,
        "within: ms_per_image": "ms_per_image" in study.within,
    }
    for what, given in refused.items():
        if given:
            raise SettingError(what.partition(":")[0], f"{what} is for classification only; remove it")


def _check_method(name: str) -> None:
    try:
        find_method(name)
    except SpecError as error:
        raise SettingError("method", f"method: {error}") from error


def _check_recipe(row: str, recipe: Recipe | None, task: str) -> None:
    others, purpose = (
        (_DENSE_ONLY, "detection and segmentation") if task == _CLASSIFICATION else (_NOT_DENSE, _CLASSIFICATION)
    )
    if recipe is None:
        return
    section = f"nets.{row}.recipe" if row else "recipe"
    for key, off in others.items():
        if getattr(recipe, key) != off:
            where = f"{section}.{key}"
            raise SettingError(where, f"{where}={getattr(recipe, key)} is for {purpose} only; remove it")
    if task == _SEGMENTATION and recipe.deterministic:
        where, problem = f"{section}.deterministic", "on CUDA, the pooling of upernet has no deterministic gradient"
        raise SettingError(where, f"{where}: {problem}; remove it (on the CPU, trainings always repeat their digits)")


def _check_data(study: StudyConfig) -> None:
    source, kind, kinds = study.data.source, study.data.kind, _DATA[study.task]
    problem, remedy = "", ""
    if (given := study.data.annotations) not in _ANNOTATIONS[study.task]:
        message = f"data.annotations={given} does not belong to {study.task}; remove it: the task fills it in"
        raise SettingError("data.annotations", message)
    if kinds and kind not in kinds:
        examples = {"coco": "coco:PATH", "masks": "masks:PATH"}
        problem = f"has no targets of {study.task}"
        remedy = " or ".join(examples.get(each, each) for each in kinds)
    elif not kinds and kind in ("coco", "masks"):
        problem = "has no classes of images"
        task, example = (_DETECTION, "retinanet:SPEC") if kind == "coco" else (_SEGMENTATION, "upernet:SPEC")
        remedy = f"task: {task} in a study, {example} for train, or folder:PATH"
    if problem:
        raise SettingError("data.source", f"data.source={source} {problem}; write {remedy}")
