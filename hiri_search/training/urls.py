"""URLs as they may be shown and kept: without secrets."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

HIDDEN = "***"
SECRET_NAMES = re.compile(r"(AWS|AZURE|FSSPEC|GCS|GOOGLE)_\w*(KEY|PASSWORD|SECRET|TOKEN)\w*")  # of the environment
LEAST = 8  # letters of a secret: fewer are found in words that are none

# What stands before the last @ may be a name and a password, which may hold slashes; what follows ? or #, a token.
# The scheme is not read: looking for its first letter takes the square of a long text's length.
_BEFORE = re.compile(r"(?<=[\w+.-])://[^\s'\"]*@")
_BEHIND = re.compile(r"((?<=[\w+.-])://[^\s'\"?#]*[?#])[^\s'\"]+")


def shown(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """A text that may hold URLs, their secrets left out, and those that the environment holds.

    Whatever is printed, written down or raised of a URL goes through here.
    """
    for name, value in environment.items():
        if SECRET_NAMES.fullmatch(name) and len(value) >= LEAST:
            text = text.replace(value, HIDDEN)
    return _BEHIND.sub(rf"\1{HIDDEN}", _BEFORE.sub(f"://{HIDDEN}@", text))


def secret_in(url: str) -> str:
    """What a URL holds that should not stand in it, in words; `` where there is nothing."""
    scheme, is_url, rest = url.rpartition("://")
    if not is_url:
        return ""
    if "?" in rest or "#" in rest:
        return "a query, which may be a secret"
    before, is_there, _ = rest.rpartition("@")
    # `sftp://NAME@HOST` and `abfs://CONTAINER@ACCOUNT` are names alone; in the others it is a key.
    named_alone = ":" not in before and not scheme.startswith(("s3", "gs", "gcs"))
    return "a name and password" if is_there and not named_alone else ""
