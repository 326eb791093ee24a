"""Make sure a trial's data is on this machine, identical to where the study began."""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from hiri_search.system.concurrency import repeat_in_background
from hiri_search.training.data.image_folder import DataError
from hiri_search.training.data.prepare import prepare
from hiri_search.training.job import Job, PreparedData

HEARTBEAT_SECONDS = 5.0  # seconds between signs of life while images are prepared, or another process is waited for


class NodeMismatch(OSError):
    """What this machine lacks, or has otherwise, of what a training needs; never a property of what is trained."""


def ensure_local(prepared: PreparedData, job: Job, beat: Callable[[], None]) -> PreparedData:
    """The images of a training on this machine: where they were prepared, or decoded or drawn here once for all.

    OtherMachine where the data are not here, or are others.
    """
    if job.data.kind == "timm" or prepared.cache == "none":
        _demand_data(job)
        return prepared
    if prepared.folder.is_dir():
        return prepared
    _demand_data(job)
    try:
        with repeat_in_background(beat, every=HEARTBEAT_SECONDS):
            own = prepare(job.data, job.side, _home(prepared), classes=job.classes, cache=prepared.cache)
    except DataError as error:
        raise NodeMismatch(f"on {platform.node()}: {error}") from error
    if own.folder.name != prepared.folder.name:
        found = f"on {platform.node()} {job.data.source} holds other images than where the study was begun"
        raise NodeMismatch(f"{found} ({own.train} and {own.val}, there {prepared.train} and {prepared.val})")
    return replace(prepared, folder=own.folder)


def _demand_data(job: Job) -> None:
    path = Path(job.data.path).expanduser()
    a_path = job.data.kind == "folder" or path.is_absolute()  # else a name that timm knows, or its word for a place
    if job.data.kind != "drawn" and a_path and not path.exists():
        remedy = "" if path.is_absolute() else f" in {Path.cwd()}; write the whole path"
        raise NodeMismatch(f"on {platform.node()} there is no {path}{remedy}")


def _home(prepared: PreparedData) -> Path:
    """Where they go if the user of this machine has no cache that can be written."""
    if prepared.folder.parent.is_dir():
        return prepared.folder.parent
    own = Path(tempfile.gettempdir()) / f"hiri_search_{os.getuid()}"
    own.mkdir(mode=0o700, exist_ok=True)
    if own.is_symlink() or own.stat().st_uid != os.getuid():
        raise NodeMismatch(f"on {platform.node()} {own} is another user's; set HIRI_SEARCH_CACHE there")
    return own
