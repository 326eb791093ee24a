"""Python looks for garbage among all that there is, again and again: it disturbs what is timed, and takes long where
there is much, as behind a large ledger."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def all_kept() -> Iterator[None]:
    """What is made in here is kept: nothing is looked for."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


@contextmanager
def set_aside() -> Iterator[None]:
    """What was there before is not looked at in here."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
