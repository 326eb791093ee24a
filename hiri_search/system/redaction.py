"""Secrets removed from URLs, command lines and error texts before they are shown or stored."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

HIDDEN = "***"
_SECRET_VARIABLE = re.compile(r"(AWS|AZURE|FSSPEC|GCS|GOOGLE|MLFLOW|WANDB)_\w*(KEY|PASSWORD|SECRET|TOKEN)\w*")
_MIN_SECRET_LENGTH = 8  # characters of a variable's value: a shorter value may occur in the text as a normal word

# The text before the last @ of a URL may be a name and a password, which may contain slashes; the text after ? or #
# may be a token. The patterns do not match the scheme: searching for its start takes quadratic time in a long text.
_CREDENTIALS = re.compile(r"(?<=[\w+.-])://[^\s'\"]*@")
_QUERY = re.compile(r"((?<=[\w+.-])://[^\s'\"?#]*[?#])[^\s'\"]+")

_SECRET_NAME = r"[\w.-]*(?:token|secret|passw|api[_-]?key|credential)[\w.-]*"
_ASSIGNMENT = re.compile(rf"(?i)({_SECRET_NAME}=)[^&\s]+")
_OPTION = re.compile(rf"(?i)-{{1,2}}{_SECRET_NAME}")


def redacted(text: str, environment: Mapping[str, str] = os.environ, *, secrets: Iterable[str] = ()) -> str:
    """Return the text without the secrets of its URLs and of the environment, and without the given secrets.

    Every URL, and every text that may contain one, passes through this function before it is printed, stored or raised.
    """
    variables = (value for name, value in environment.items() if _SECRET_VARIABLE.fullmatch(name))
    hidden = {*filter(None, secrets), *(value for value in variables if len(value) >= _MIN_SECRET_LENGTH)}
    for secret in sorted(hidden, key=len, reverse=True):  # a secret may contain another one
        text = text.replace(secret, HIDDEN)
    return _QUERY.sub(rf"\1{HIDDEN}", _CREDENTIALS.sub(f"://{HIDDEN}@", text))


def secret_in(url: str) -> str:
    """Return a description of the secret that a URL contains, or an empty string if it contains none."""
    scheme, is_url, rest = url.rpartition("://")
    if not is_url:
        return ""
    if "?" in rest or "#" in rest:
        return "a query, which may be a secret"
    credentials, has_credentials, _ = rest.rpartition("@")
    # `sftp://NAME@HOST` and `abfs://CONTAINER@ACCOUNT` contain only a name; with s3 and gs the name is a key.
    only_name = ":" not in credentials and not scheme.startswith(("s3", "gs", "gcs"))
    return "a name and password" if has_credentials and not only_name else ""


def redacted_command(command: Sequence[str]) -> str:
    """Return a command line without secrets, without the path of its program and without the user's home folder."""
    if not command:
        return ""
    words = [os.path.basename(command[0])]
    for option, word in pairwise(command):
        public = short_path(redacted(_ASSIGNMENT.sub(rf"\1{HIDDEN}", word)))
        words.append(_quoted(HIDDEN if _OPTION.fullmatch(option) else public))
    return " ".join(words)


def short_path(path: str) -> str:
    """Return a path, or a text with paths, with `~` in place of the user's home folder."""
    home = os.path.expanduser("~")  # "~" itself where a container's user has no name, and no HOME
    return path.replace(home, "~") if len(home) > 1 else path


def _quoted(word: str) -> str:
    """Quote a word for the shell; `~` stays unquoted."""
    return word if re.fullmatch(r"[\w@%+=:,./~*-]+", word) else "'" + word.replace("'", "'\"'\"'") + "'"


def shortened(text: str, longest: int) -> str:
    """Return the text, or its beginning and its end if it is longer than `longest` characters."""
    half = longest // 2
    return text if len(text) <= longest else f"{text[:half]} [{len(text) - 2 * half:,} characters] {text[-half:]}"
