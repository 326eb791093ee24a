"""Checks of a study whose trials are trained by several processes each."""

from __future__ import annotations

from hiri_search.study.config.networks import resolve
from hiri_search.study.config.schema import StudyConfig
from hiri_search.study.errors import StudyError
from hiri_search.training.data.sources.timm_datasets import can_share


def check_processes(study: StudyConfig, processes: int, *, serial: bool) -> None:
    """Raise StudyError where so many processes cannot share the trainings of a study."""
    if processes == 1:
        return
    one = "write resources with one GPU and one process"
    if serial:
        raise StudyError(f"--serial trains in one process, and each trial takes {processes}; leave it out, or {one}")
    if study.data.annotations:
        raise StudyError(f"data: detection and segmentation are trained by one process, not by {processes}; {one}")
    if not can_share(study.data):
        problem = f"data.source: {study.data.source} is a stream, which {processes} processes cannot share"
        raise StudyError(f"{problem}; write timm:wds/NAME@FOLDER, a source of files, or {one}")
    for recipe in {recipe for _, recipe in resolve(study).training_settings}:
        if recipe.batch % (2 * processes):
            problem = f"recipe.batch={recipe.batch} is not possible with {processes} processes, which share it in pairs"
            raise StudyError(f"{problem}; write a multiple of {2 * processes}")
        if recipe.cuda_graphs:
            raise StudyError(f"recipe.cuda_graphs is not possible with {processes} processes; remove it, or {one}")
