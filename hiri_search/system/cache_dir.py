"""The user's cache directory."""

from __future__ import annotations

import os
from pathlib import Path

from hiri_search.system.files import absolute

CACHE_VARIABLE = "HIRI_SEARCH_CACHE"


def user_cache(name: str) -> Path:
    """Return the absolute path of $HIRI_SEARCH_CACHE, or of `name` in the user's cache if that is unset or empty.

    The folder is made. OSError, with the reason in `strerror`, where it cannot be made or used. A folder that the user
    chose may be read-only: it may hold all that is needed.
    """
    chosen = os.environ.get(CACHE_VARIABLE)
    folder = absolute(chosen) if chosen else _default() / "hiri_search" / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise NotADirectoryError(None, "it is not a folder", str(folder)) from error
    if not os.access(folder, os.R_OK | os.X_OK | (0 if chosen else os.W_OK)):
        raise PermissionError(None, "its permissions do not allow that", str(folder))
    return folder


def _default() -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return base if base.is_absolute() else absolute("~/.cache")  # a relative path is invalid by the XDG specification
