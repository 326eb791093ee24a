"""StudyError."""

from __future__ import annotations


class StudyError(ValueError):
    """A study, space or command line that cannot be run: where, what was found, what to write instead."""
