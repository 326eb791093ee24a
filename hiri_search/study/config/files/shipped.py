"""Studies, spaces and recipes that come with the package."""

from __future__ import annotations

from pathlib import Path

from hiri_search.study.errors import StudyError

_PACKAGE = Path(__file__).parents[3]
STUDIES, SPACES = "studies", "spaces"


def shipped(kind: str) -> Path:
    """Return the folder of the shipped studies or spaces: in an installed package, or in a clone."""
    installed = _PACKAGE / "shipped"
    return (installed if installed.is_dir() else _PACKAGE.parent) / kind


def shipped_studies() -> list[str]:
    """Return the names of the shipped studies."""
    return sorted(path.stem for path in shipped(STUDIES).glob("*.yaml"))


def find_study(study: Path) -> Path:
    """Return the file of a study: a path, or of a name such as `block_mix` that no file has, the shipped study.

    Raises StudyError for a name that is neither.
    """
    name = str(study)
    if study.exists() or not name.isidentifier():  # as - for the standard input
        return study
    if name not in (known := shipped_studies()):
        raise StudyError(f"there is no study {name}; write the path of a file, or one of {', '.join(known)}")
    return shipped(STUDIES) / f"{name}.yaml"


def find_file(name: str, folder: Path) -> Path:
    """Return the file that a study names, relative to the study's folder; where there is none, the shipped file.

    `recipes/short.yaml` is a shipped recipe in any folder; `five_stage.yaml`, `spaces/five_stage.yaml` and
    `../spaces/five_stage.yaml` are a shipped space.
    """
    own = folder / name
    if own.exists() or Path(name).is_absolute():
        return own
    choices = [shipped(folder) / name for folder in (STUDIES, SPACES, "")]
    return next((path for path in choices if path.is_file()), own)
