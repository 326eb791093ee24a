"""Prefetching with threads, and a background thread that repeats a call (heartbeats)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event, Thread
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def prefetch(
    work: Callable[[Item], Result], items: Iterable[Item], *, threads: int, results: int | None = None
) -> Iterator[Result]:
    """The results of `work` in the order of `items`, from threads, with so many of them under way or waiting.

    `items` are taken in the caller's thread. Closing the iterator waits for what is under way, and drops the rest.
    """
    under_way: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                under_way.append(pool.submit(work, item))
                if len(under_way) > (results or 4 * threads):
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def repeat_in_background(do: Callable[[], None], *, every: float) -> Iterator[None]:
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
