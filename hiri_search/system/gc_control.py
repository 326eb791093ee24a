"""Garbage collection paused or frozen: around timings, and behind large ledgers."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def gc_disabled() -> Iterator[None]:
    """What is made in here is kept: nothing is looked for."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


@contextmanager
def gc_frozen() -> Iterator[None]:
    """What was there before is not looked at in here."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
