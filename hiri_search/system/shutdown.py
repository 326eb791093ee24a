"""Graceful shutdown: after the first signal the running epochs finish, after the second the process stops at once."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)  # Ctrl-C; the signal of Slurm, Kubernetes and a system shutdown
REPEAT_SECONDS = 0.5  # a second signal within this time is a copy of the first one, forwarded by the parent process


class Shutdown:
    """The state of a graceful shutdown: `requested` is True after the first signal."""

    def __init__(self, say: Callable[[str], None] = lambda text: None) -> None:
        self.requested = False
        self.say, self._epochs_running, self._installed = say, False, False
        self._requested_at = 0.0

    def install(self) -> None:
        """Install the signal handlers; call in the main thread, as Python requires."""
        self._installed = True
        for number in _SIGNALS:
            signal.signal(number, self.on_signal)

    @contextmanager
    def epochs_running(self) -> Iterator[None]:
        """In the block the first signal only sets `requested`; KeyboardInterrupt is raised after the block."""
        self._epochs_running = True
        if self._installed:
            self.install()  # again, because Ray replaces the SIGTERM handler when it starts
        try:
            yield
        finally:
            self._epochs_running = False
        if self.requested:
            raise KeyboardInterrupt

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal: raise KeyboardInterrupt if no epochs are running or if this is the second signal."""
        second = self.requested and time.monotonic() - self._requested_at > REPEAT_SECONDS
        if second or not self._epochs_running:
            raise KeyboardInterrupt
        if self.requested:
            return
        self.requested, self._requested_at = True, time.monotonic()
        self.say("stopping after the running epochs; send the signal again to stop at once")


@contextmanager
def graceful_shutdown(say: Callable[[str], None]) -> Iterator[Shutdown]:
    """Install the signal handlers of a Shutdown for the block, and restore the previous handlers after it.

    Outside the main thread, where Python allows no handler, signals are left to others.
    """
    shutdown = Shutdown(say)
    if threading.current_thread() is not threading.main_thread():
        yield shutdown
        return
    previous = {number: signal.getsignal(number) for number in _SIGNALS}
    shutdown.install()
    try:
        yield shutdown
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
