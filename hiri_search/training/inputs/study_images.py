"""The images of a training, whatever the task: prepared once, found again, and opened as batches."""

from __future__ import annotations

from pathlib import Path

import torch

from hiri_search.system.files import Say
from hiri_search.training.data.decode_cache import fingerprint_folder
from hiri_search.training.data.image_folder import DataError
from hiri_search.training.data.loader import Loader, open_loader
from hiri_search.training.data.prepare import fingerprint, is_prepared, prepare
from hiri_search.training.dense.annotated_loader import AnnotatedLoader
from hiri_search.training.dense.decoded_targets import annotated_folder, prepare_annotated
from hiri_search.training.dense.sources.annotated_source import AnnotatedSource
from hiri_search.training.dense.sources.coco_source import CocoSource
from hiri_search.training.dense.sources.drawn_scenes import SCENE_CLASSES, DrawnScenes
from hiri_search.training.dense.sources.masks_source import MasksSource
from hiri_search.training.dense.transforms import DenseAugmentation
from hiri_search.training.job import SPLITS, DataSource, Job, PreparedData
from hiri_search.training.parallel.ranks import ONE_PROCESS, Ranks

_DRAWN = {"train": 320, "val": 100}  # scenes where a study gives no number


def prepare_inputs(
    data: DataSource,
    side: int,
    home: Path,
    *,
    classes: int | None = None,
    batch: int = 1,
    cache: str = "auto",
    say: Say = lambda text: None,
) -> PreparedData:
    """Decode all images once, as `prepare` does, or `prepare_annotated` where the data has annotations."""
    if data.annotations:
        return prepare_annotated(annotated_source(data, side, classes), side, home, batch=batch, say=say)
    return prepare(data, side, home, classes=classes, batch=batch, cache=cache, say=say)


def has_prepared(data: DataSource, side: int, home: Path, *, classes: int | None = None, cache: str = "auto") -> bool:
    """Return True if `prepare_inputs` has nothing to decode; annotated images are decoded for a plan too."""
    return bool(data.annotations) or is_prepared(data, side, home, classes=classes, cache=cache)


def name_of_images(
    data: DataSource, side: int, *, classes: int | None, cache: str, read: bool = True, say: Say = lambda text: None
) -> str:
    """The name that `prepare_inputs` gives to the folder of these images, as `fingerprint` does."""
    if data.annotations:
        source = annotated_source(data, side, classes)
        with fingerprint_folder(read=read) as cache_dir:
            return annotated_folder(source, side, source.stat_fingerprint(), cache_dir, say)
    return fingerprint(data, side, classes=classes, cache=cache, read=read, say=say)


def open_batches(job: Job, prepared: PreparedData, device: torch.device, ranks: Ranks = ONE_PROCESS) -> Loader:
    """The loader of a job: `open_loader`, or AnnotatedLoader where its data has annotations."""
    recipe = job.recipe
    if not job.data.annotations:
        return open_loader(job.data, prepared, side=job.side, recipe=recipe, device=device, ranks=ranks)
    zoom = recipe.crop**-0.5  # a crop keeps at least this share of the area
    augmentation = DenseAugmentation(recipe.flip, (1.0, zoom), recipe.jitter)
    return AnnotatedLoader(prepared, side=job.side, recipe=recipe, augmentation=augmentation, device=device)


def annotated_source(data: DataSource, side: int, classes: int | None) -> AnnotatedSource:
    """The source of images with annotations. Raises DataError where it cannot be trained on."""
    counts = {split: count for split in SPLITS if (count := getattr(data, split)) is not None}
    if data.kind == "drawn":
        wanted = {**_DRAWN, **counts}
        options = {"side": side, "classes": classes or SCENE_CLASSES, "seed": data.seed, "difficulty": data.difficulty}
        return DrawnScenes(wanted, semantic=data.annotations == "semantic", **options)  # type: ignore[arg-type]
    if classes is not None:
        raise DataError(f"{data.source}: images with annotations are used with all their classes; remove proxy.classes")
    if data.kind == "coco":
        masks = data.annotations == "masks"
        return CocoSource(data.path, masks=masks, counts=counts, seed=data.seed, skip_corrupt=data.skip_corrupt)
    return MasksSource(data.path, counts=counts, seed=data.seed, skip_corrupt=data.skip_corrupt)
