"""Waiting for another process or thread in tests."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE = 240.0  # seconds after which a condition counts as never true


def wait_until(
    condition: Callable[[], object], *, alive: Callable[[], bool] = lambda: True, interval: float = 0.02
) -> None:
    """Wait until the condition is true; fail when what it depends on is no longer alive."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert alive(), "the process ended too early"
        assert time.monotonic() < end, "the condition never became true"
        time.sleep(interval)
