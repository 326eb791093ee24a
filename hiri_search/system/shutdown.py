"""Graceful shutdown: the first signal finishes the running epochs, the second stops at once."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)  # Ctrl-C; what Slurm, Kubernetes and a shutdown send
REPEAT_SECONDS = 0.5  # seconds within which a signal is the same one, sent to a process and passed on by its parent


class Shutdown:
    """Whether this process was asked to go."""

    def __init__(self, say: Callable[[str], None] = lambda text: None) -> None:
        self.requested = False
        self.say, self._epochs_running, self._installed = say, False, False
        self._requested_at = 0.0

    def install(self) -> None:
        """To the signals; in the main thread, where Python hears them."""
        self._installed = True
        for number in SIGNALS:
            signal.signal(number, self.on_signal)

    @contextmanager
    def epochs_running(self) -> Iterator[None]:
        """In here the first signal is only noted, since there are epochs to be finished; KeyboardInterrupt behind."""
        self._epochs_running = True
        if self._installed:
            self.install()  # again: Ray takes SIGTERM for itself when it starts
        try:
            yield
        finally:
            self._epochs_running = False
        if self.requested:
            raise KeyboardInterrupt

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """A signal came. KeyboardInterrupt where there is nothing to wait for, and at the second one."""
        again = self.requested and time.monotonic() - self._requested_at > REPEAT_SECONDS
        if again or not self._epochs_running:
            raise KeyboardInterrupt
        if self.requested:
            return
        self.requested, self._requested_at = True, time.monotonic()
        self.say("leaving when the epochs at work have ended; once more to leave at once")


@contextmanager
def graceful_shutdown(say: Callable[[str], None]) -> Iterator[Shutdown]:
    """Signals are heard in here; as before, behind."""
    heard = Shutdown(say)
    before = {number: signal.getsignal(number) for number in SIGNALS}
    heard.install()
    try:
        yield heard
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
