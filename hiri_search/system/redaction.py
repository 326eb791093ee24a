"""Secrets removed from URLs, command lines and error texts before they are shown or stored."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from hiri_search.system import redaction

HIDDEN = "***"
SECRET_NAMES = re.compile(r"(AWS|AZURE|FSSPEC|GCS|GOOGLE)_\w*(KEY|PASSWORD|SECRET|TOKEN)\w*")  # of the environment
MIN_SECRET_LENGTH = 8  # letters of a secret: fewer are found in words that are none

# What stands before the last @ may be a name and a password, which may hold slashes; what follows ? or #, a token.
# The scheme is not read: looking for its first letter takes the square of a long text's length.
_BEFORE = re.compile(r"(?<=[\w+.-])://[^\s'\"]*@")
_BEHIND = re.compile(r"((?<=[\w+.-])://[^\s'\"?#]*[?#])[^\s'\"]+")


def redacted(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """A text that may hold URLs, their secrets left out, and those that the environment holds.

    Whatever is printed, written down or raised of a URL goes through here.
    """
    for name, value in environment.items():
        if SECRET_NAMES.fullmatch(name) and len(value) >= MIN_SECRET_LENGTH:
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


_NAME = r"[\w.-]*(?:token|secret|passw|api[_-]?key|credential)[\w.-]*"


_ASSIGNED = re.compile(rf"(?i)({_NAME}=)[^&\s]+")


_FLAG = re.compile(rf"(?i)-{{1,2}}{_NAME}")


def redacted_command(command: Sequence[str]) -> str:
    """A command line without secrets, the path of its program, and the home of its user."""
    words: list[str] = []
    for word in command:
        hidden = bool(words) and _FLAG.fullmatch(words[-1])
        words.append(HIDDEN if hidden else _without_secrets(word))
    return " ".join([Path(words[0]).name, *map(_quoted, words[1:])]) if words else ""


def short_path(path: str) -> str:
    """A path, or a text with one, without the name of the user's home."""
    home = str(Path.home())
    return path.replace(home, "~") if len(home) > 1 else path


def _without_secrets(word: str) -> str:
    return short_path(redaction.redacted(_ASSIGNED.sub(rf"\1{HIDDEN}", word)))


def _quoted(word: str) -> str:
    """So that it can be typed again; `~` stays what it is."""
    return word if re.fullmatch(r"[\w@%+=:,./~*-]+", word) else "'" + word.replace("'", "'\"'\"'") + "'"


def shortened(text: str, longest: int) -> str:
    """So many characters of it, from its beginning and its end, where the middle is too much for a ledger."""
    half = longest // 2
    return text if len(text) <= longest else f"{text[:half]} [{len(text) - 2 * half:,} characters] {text[-half:]}"
