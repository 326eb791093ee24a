"""A limit on function calls: a measure of work without a clock."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from types import FrameType

import pytest


@contextmanager
def at_most_calls(limit: int) -> Iterator[None]:
    """Fail as soon as the block has called more than `limit` Python functions: a measure of work without a clock."""
    numbers, previous = count(1), sys.getprofile()

    def profile(frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and next(numbers) > limit:
            pytest.fail(f"more than {limit:,} function calls")

    sys.setprofile(profile)
    try:
        yield
    finally:
        sys.setprofile(previous)
