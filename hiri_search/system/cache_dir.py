"""The user's cache directory."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "HIRI_SEARCH_CACHE"


def user_cache(name: str) -> Path | None:
    """The folder $HIRI_SEARCH_CACHE, or that of this name in the user's cache; None where that cannot be written."""
    if VARIABLE in os.environ:
        return Path(os.environ[VARIABLE]).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    place = Path(base) / "hiri_search" / name
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return place if os.access(place, os.W_OK) else None
