"""Commented study files that `hiri-search init` writes."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from hiri_search.study.errors import StudyError
from hiri_search.system.files import atomic_write

TEMPLATE_KINDS = ("ablation", "search")


def write_template(file: Path, kind: str) -> str:
    """Write a template study and return the next step as text. Raises StudyError where that fails."""
    assert kind in TEMPLATE_KINDS
    text = (files(__name__) / f"{kind}.yaml").read_text(encoding="utf-8").replace("THIS_FILE", str(file))
    if file.exists():
        raise StudyError(f"{file} already exists; write another name, or remove the file first")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(file) as output:  # a full disk leaves no empty file, which would be refused the next time
            output.write(text.encode())
    except OSError as error:
        raise StudyError(f"{file} cannot be written: {error.strerror}") from error
    return f"wrote {file}; to estimate its cost: hiri-search run {file} --plan"
