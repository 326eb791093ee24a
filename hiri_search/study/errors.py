"""StudyError."""

from __future__ import annotations


class StudyError(ValueError):
    """A study, space or command line that cannot be run: the place, what was found there, what to write instead."""
