"""Make sure a trial's data is on this machine, identical to where the study began."""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from hiri_search.system.checksums import find_damage
from hiri_search.system.concurrency import repeat_in_background
from hiri_search.system.file_tree.archives import forget_archive
from hiri_search.system.files import expanded
from hiri_search.training.data.decode_cache import damage_of
from hiri_search.training.data.image_folder import DataError
from hiri_search.training.data.sources.user_datasets import forget_datasets
from hiri_search.training.inputs.study_images import name_of_images, prepare_inputs
from hiri_search.training.job import Job, PreparedData

_FILES = ("folder", "coco", "masks")  # kinds of sources that are a path
HEARTBEAT_SECONDS = 5.0  # between heartbeats, while images are prepared here or by another process


class NodeMismatch(OSError):
    """This machine lacks the data of a training, or holds other data; never the fault of the trained network."""


def ensure_local(
    prepared: PreparedData, job: Job, heartbeat: Callable[[], None], on_damage: Callable[[str], None]
) -> PreparedData:
    """The prepared data of a job on this machine: found in `prepared.folder`, or prepared here once for all trials.

    `on_damage` is called with a sentence where `prepared.folder` was damaged, when it is whole again. Raises
    NodeMismatch if the data does not exist here, or is other data.
    """
    if job.data.kind == "timm" or prepared.cache == "none" or prepared.transformed:
        with repeat_in_background(heartbeat, every=HEARTBEAT_SECONDS):
            _require_data(job)
            _require_same_datasets(prepared, job)
        return prepared
    with repeat_in_background(heartbeat, every=HEARTBEAT_SECONDS):
        damage = find_damage(prepared.folder)
        if not damage:
            return prepared
        damaged = damage_of(prepared.folder, damage) if prepared.folder.is_dir() else ""
        local = _prepare_here(prepared, job)
    if damaged and local.folder == prepared.folder:
        on_damage(f"on {platform.node()} {damaged}; they were made again")
    return replace(prepared, folder=local.folder)


def _prepare_here(prepared: PreparedData, job: Job) -> PreparedData:
    _require_data(job)
    try:
        local = prepare_inputs(job.data, job.side, _fallback_home(prepared), classes=job.classes, cache=prepared.cache)
    except DataError as error:
        raise NodeMismatch(f"on {platform.node()}: {error}") from error
    forget_archive()
    forget_datasets()
    if local.folder.name != prepared.folder.name:
        problem = f"on {platform.node()} {job.data.source} holds other images than on the machine that began the study"
        here, there = (" and ".join(map(str, images.counts.values())) for images in (local, prepared))
        raise NodeMismatch(f"{problem} ({here}, there {there})")
    return local


def _require_data(job: Job) -> None:
    kind, path = job.data.kind, expanded(job.data.path.partition("#")[0] if job.data.kind == "coco" else job.data.path)
    is_path = kind in _FILES or (kind == "timm" and path.is_absolute())  # or the name of a data set
    if is_path and not path.exists():
        remedy = "" if path.is_absolute() else f" in {Path.cwd()}; write the whole path"
        raise NodeMismatch(f"on {platform.node()} there is no {path}{remedy}")


def _require_same_datasets(prepared: PreparedData, job: Job) -> None:
    """Raise NodeMismatch where the user's Datasets, which are read during the training, are not those of the study."""
    if job.data.kind != "python":
        return
    try:
        here = name_of_images(job.data, job.side, classes=job.classes, cache=prepared.cache)
    except DataError as error:
        raise NodeMismatch(f"on {platform.node()}: {error}") from error
    if here != prepared.folder.name:
        problem = f"on {platform.node()} {job.data.source} has other code, arguments or sizes"
        raise NodeMismatch(f"{problem} than on the machine that began the study")


def _fallback_home(prepared: PreparedData) -> Path:
    """Folder for decoded images if the user's cache directory on this machine is not writable."""
    if prepared.folder.parent.is_dir():
        return prepared.folder.parent
    own = Path(tempfile.gettempdir()) / f"hiri_search_{os.getuid()}"
    own.mkdir(mode=0o700, exist_ok=True)
    if own.is_symlink() or own.stat().st_uid != os.getuid():
        raise NodeMismatch(f"on {platform.node()} {own} belongs to another user; set HIRI_SEARCH_CACHE there")
    return own
