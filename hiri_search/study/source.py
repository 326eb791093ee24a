"""Which code a run was of."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOM = Path(__file__).parent
SECONDS = 10.0  # a git that takes longer is given up on


def commit() -> str | None:
    """The git commit of this code, with `+` behind it where files differ from it; None where it is not in git."""
    if _git("ls-files", "--error-unmatch", Path(__file__).name) is None:
        return None  # installed somewhere inside another project's repository, or nowhere in one
    found = _git("rev-parse", "--short=12", "HEAD")
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ":/")
    return found and found + ("+" if changed else "")


def _git(*words: str) -> str | None:
    """What git says; None where it fails, or where there is none."""
    try:
        said = subprocess.run(["git", *words], cwd=ROOM, capture_output=True, text=True, timeout=SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return said.stdout.strip()
