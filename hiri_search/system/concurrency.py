"""Prefetching with threads, and a background thread that repeats a call, such as a heartbeat."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event, Thread
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def with_progress(items: Iterable[_Item], say: Callable[[str], None], line: str, *, every: float) -> Iterator[_Item]:
    """Yield the items; every so many seconds say `line`, in which {done} is the number of items before."""
    last_message = time.monotonic()
    for done, item in enumerate(items):
        if time.monotonic() - last_message > every:
            last_message = time.monotonic()
            say(line.format(done=f"{done:,}"))
        yield item


def prefetch(
    work: Callable[[_Item], _Result], items: Iterable[_Item], *, threads: int, results: int | None = None
) -> Iterator[_Result]:
    """Yield `work(item)` for each item in order, computed in threads, with up to `results` results prefetched.

    `items` is iterated in the caller's thread. Closing the iterator waits for running calls and cancels the others.
    """
    pending: deque[Future[_Result]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                pending.append(pool.submit(work, item))
                if len(pending) > (results or 4 * threads):
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def repeat_in_background(do: Callable[[], None], *, every: float) -> Iterator[None]:
    """Call `do` in a thread at once and then every `every` seconds, until the `with` block ends.

    A call that fails does not end the repetition. Raise the error of the last call at the end of a block that succeeds.
    """
    stop, error = Event(), None

    def repeat() -> None:
        nonlocal error
        while True:
            try:
                do()
                error = None
            except Exception as failure:  # kept for the other thread
                error = failure
            if stop.wait(every):
                return

    thread = Thread(target=repeat, name="repeat_in_background", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    if error is not None:
        raise error
