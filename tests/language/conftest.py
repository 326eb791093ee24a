"""Hypothesis runs without a deadline, so that a busy machine does not fail a property test."""

from hypothesis import settings

settings.register_profile("no_deadline", deadline=None)
settings.load_profile("no_deadline")
