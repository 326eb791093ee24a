"""Errors at the edge of the command line: which are the user's to mend, and one sentence about each."""

from __future__ import annotations

import sys
import traceback

from hiri_search.cli.output import say
from hiri_search.system.redaction import redacted

MISTAKE = 2  # exit code
DEBUG = "--debug"  # before or after the command: also print the traceback
_OF_THE_MACHINE = (OSError, MemoryError, RecursionError, OverflowError, UnicodeError)
_NO_MEMORY = ("can't allocate memory", "out of memory")  # in torch's errors, on the CPU and on CUDA


def is_mistake(error: Exception) -> bool:
    """True for the errors of this package and of the machine; any other error is a bug and keeps its traceback."""
    known = _is_ours(error) or _is_old_study(error) or isinstance(error, _OF_THE_MACHINE)
    return known or any(text in str(error) for text in _NO_MEMORY)


def end(error: Exception, *, debug: bool) -> None:
    """Print one sentence about a mistake, after the traceback with `debug`; end with exit code 2."""
    if debug:
        traceback.print_exception(error)
    say(f"error: {redacted(sentence(error))}", err=True)
    sys.exit(MISTAKE)


def sentence(error: Exception) -> str:
    """Return what is wrong and what to do about it."""
    if _is_ours(error):
        return str(error)
    if _is_old_study(error):
        from hiri_search.study.config.schema import StudyConfig
        from hiri_search.study.config.schema_keys import known_part

        first = error.errors()[0]  # type: ignore[attr-defined]
        key = ".".join(map(str, known_part(StudyConfig, first["loc"])))
        return f"the ledger holds a study that this version does not take: {key}: {first['msg']}"
    if isinstance(error, OSError) and error.filename is None and error.strerror:
        return f"{error.strerror}; {DEBUG} shows where"
    if isinstance(error, OSError) and error.filename is not None:
        path = error.filename2 or error.filename  # of a rename, the new name
        return f"{path} cannot be used ({error.strerror}); give another path, or {DEBUG} to see where"
    reason = str(error).partition("\n")[0]
    return f"{type(error).__name__}{': ' * bool(reason)}{reason}; {DEBUG} shows where"


def _is_ours(error: Exception) -> bool:
    return any(kind.__module__.startswith("hiri_search.") for kind in type(error).__mro__)


def _is_old_study(error: Exception) -> bool:
    """True for pydantic's error about the study in a ledger; about a file, `read_study` raises a StudyError."""
    return type(error).__module__.startswith("pydantic_core")
