"""Initial weights of a study's trainings (`recipe.weights`), checked before anything is trained."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from hiri_search.nets.weights_file import WeightsError, WeightsFile, read_weights
from hiri_search.networks import build_on_meta
from hiri_search.study.config.networks import Candidate
from hiri_search.study.errors import StudyError
from hiri_search.study.search.network_facts import PreparedBySide
from hiri_search.system.files import expanded


@dataclass(frozen=True)
class InitialWeights:
    """A file of initial weights: its fingerprint, and the classes of its last layer, 0 where it has none."""

    fingerprint: str
    classes: int


def check_weights(candidates: Iterable[Candidate]) -> dict[str, InitialWeights]:
    """Return the files of initial weights by path.

    StudyError where a file cannot be read, or does not fit a network that is trained from it.
    """
    read, checked = cache(_read), {}
    for candidate in candidates:
        if candidate.trained and (path := candidate.recipe.weights):
            file, model = read(path), build_on_meta(candidate.trained, candidate.trained_side)
            try:
                file.fitting(model)
            except WeightsError as error:
                raise StudyError(f"{candidate.name}: recipe.{error}") from error
            checked[path] = InitialWeights(file.fingerprint, file.classes(model))
    return checked


def file_fingerprints(weights: Mapping[str, InitialWeights]) -> dict[str, str]:
    """Return the fingerprint of each file by path, as a ledger records it."""
    return {path: file.fingerprint for path, file in weights.items()}


def new_last_layers(weights: Mapping[str, InitialWeights], prepared: PreparedBySide) -> Iterator[str]:
    """Yield a sentence for each file whose last layer is not trained further, because it is for other classes."""
    classes = len(next(iter(prepared.values())).classes)  # the same at every side
    for path, file in weights.items():
        if (found := file.classes) != classes:
            known = f"has a last layer for {found} classes" if found else "has no last layer"
            yield f"recipe.weights={path} {known}; a new one begins for {classes}"


def _read(path: str) -> WeightsFile:
    try:
        return read_weights(path)
    except WeightsError as error:
        raise StudyError(f"recipe.{error}") from error
    except (OSError, ValueError) as error:  # ValueError: a path that no system has
        where = "" if expanded(path).is_absolute() else f" (in {Path.cwd()})"
        problem = f"recipe.weights={path!r}: {getattr(error, 'strerror', error)}{where}"
        raise StudyError(f"{problem}; write the path of a checkpoint, such as last.pt") from error
