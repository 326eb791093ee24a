"""Commented study files that `hiri-search init` writes."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from hiri_search.study.config.files.shipped import STUDIES, shipped, shipped_studies
from hiri_search.study.errors import StudyError
from hiri_search.system.files import atomic_write

TEMPLATE_KINDS = ("ablation", "search")


def template(kind: str) -> str:
    """Return the text of a template."""
    assert kind in TEMPLATE_KINDS
    return (files(__name__) / f"{kind}.yaml").read_text(encoding="utf-8")


def shipped_text(name: str) -> str:
    """Return the text of a shipped study. StudyError where there is no such study."""
    if name not in (names := shipped_studies()):
        raise StudyError(f"there is no shipped study {name!r}; write one of {', '.join(names)}")
    return (shipped(STUDIES) / f"{name}.yaml").read_text(encoding="utf-8")


def write_study_file(file: Path, text: str) -> str:
    """Write a study file to start from, and return the next step as text. StudyError where that fails."""
    text = text.replace("THIS_FILE", str(file))
    if file.exists():
        raise StudyError(f"{file} already exists; write another name, or remove the file first")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(file) as output:  # a full disk leaves no empty file, which would be refused the next time
            output.write(text.encode())
    except OSError as error:
        raise StudyError(f"{file} cannot be written: {error.strerror}") from error
    return f"wrote {file}; to estimate its cost: hiri-search run {file} --plan"
