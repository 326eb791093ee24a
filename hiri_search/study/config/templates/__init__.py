"""Commented study files that `hiri-search init` writes."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from hiri_search.study.errors import StudyError

TEMPLATE_KINDS = ("ablation", "search")


def write_template(file: Path, kind: str) -> str:
    """Write a study of a kind; what to do with it. StudyError where the file is there already, or cannot be written."""
    assert kind in TEMPLATE_KINDS
    text = (files(__name__) / f"{kind}.yaml").read_text(encoding="utf-8").replace("THIS_FILE", str(file))
    if file.exists():
        raise StudyError(f"{file} is there already; give another name, or remove it first")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StudyError(f"{file} cannot be written: {error.strerror}") from error
    return f"wrote {file}; what it will take: hiri-search run {file} --plan"
