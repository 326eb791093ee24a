"""Something done again and again while something else lasts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread


@contextmanager
def meanwhile(do: Callable[[], None], *, every: float) -> Iterator[None]:
    """In a thread, at once and then every so many seconds; it has ended when this has."""
    over = Event()

    def go_on() -> None:
        do()
        while not over.wait(every):
            do()

    thread = Thread(target=go_on, name="meanwhile", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
