"""The user's cache directory."""

from __future__ import annotations

import os
from pathlib import Path

CACHE_VARIABLE = "HIRI_SEARCH_CACHE"


def user_cache(name: str) -> Path | None:
    """Return $HIRI_SEARCH_CACHE, or the folder `name` in the user's cache; None if that folder is not writable."""
    if CACHE_VARIABLE in os.environ:
        return Path(os.environ[CACHE_VARIABLE]).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    folder = Path(base) / "hiri_search" / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None
