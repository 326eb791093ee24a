"""zero_cost.json: zero-cost scores of a calibration's networks, computed once on the stand-ins of the reference."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

from hiri_search.study.config.networks import resolve
from hiri_search.study.config.schema import StudyConfig
from hiri_search.study.errors import StudyError
from hiri_search.study.ledger.layout import IMAGE_FOLDER
from hiri_search.study.ledger.values import from_json, to_json
from hiri_search.study.run import prepare_images
from hiri_search.system.concurrency import with_progress
from hiri_search.system.files import Say, atomic_write
from hiri_search.system.hardware import free_gpu_memory
from hiri_search.training.zero_cost import ZERO_COST_SCORES, job_scores

ZERO_COST_FILE = "zero_cost.json"


@dataclass(frozen=True)
class ZeroCost:
    """Zero-cost scores of one untrained network."""

    training: str  # digest of the training whose initial weights they are of
    scores: dict[str, float | None]
    seconds: float


@dataclass(frozen=True)
class ZeroCostFile:
    """Zero-cost scores by the name of the network."""

    networks: dict[str, ZeroCost]


def read_zero_cost(folder: Path) -> dict[str, ZeroCost]:
    """Read the scores of a calibration; empty where it has none. StudyError where they cannot be read."""
    path = folder / ZERO_COST_FILE
    if not path.is_file():
        return {}
    try:
        return from_json(ZeroCostFile, json.loads(path.read_text(encoding="utf-8"))).networks
    except (OSError, ValueError) as error:
        raise StudyError(
            f"{path} cannot be read; remove it, and the next calibration computes the scores again"
        ) from error


def compute_zero_cost(reference: StudyConfig, folder: Path, say: Say) -> None:
    """Compute the scores that the folder of a calibration lacks, with the first seed of the reference.

    Detection and segmentation have none: the scores are of the logits of a classifier.
    """
    if reference.task != "classification":
        return
    networks, known = resolve(reference), read_zero_cost(folder)
    jobs = {row.name: networks.first_job(row) for row in networks.trained_rows}
    missing = {name: job for name, job in jobs.items() if name not in known or known[name].training != job.digest}
    if not missing:
        return
    prepared = prepare_images(reference, networks.training_settings, folder / IMAGE_FOLDER, say)
    line = f"zero-cost scores of {{done}} of {len(missing)} networks"
    for name, job in with_progress(missing.items(), say, line, every=10.0):
        began = time.perf_counter()
        scores = job_scores(job, prepared[job.side], ZERO_COST_SCORES)
        known[name] = ZeroCost(job.digest, scores, round(time.perf_counter() - began, 3))
        _write({name: known[name] for name in jobs if name in known}, folder)
    free_gpu_memory()


def _write(networks: dict[str, ZeroCost], folder: Path) -> None:
    with atomic_write(folder / ZERO_COST_FILE) as file:
        file.write(json.dumps(to_json(ZeroCostFile(networks)), indent=2, ensure_ascii=False).encode() + b"\n")
