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
        self.asked = False
        self.say, self._worth_waiting, self._listening = say, False, False
        self._heard = 0.0

    def listen(self) -> None:
        """To the signals; in the main thread, where Python hears them."""
        self._listening = True
        for number in SIGNALS:
            signal.signal(number, self.on_signal)

    @contextmanager
    def epochs_running(self) -> Iterator[None]:
        """In here the first signal is only noted, since there are epochs to be finished; KeyboardInterrupt behind."""
        self._worth_waiting = True
        if self._listening:
            self.listen()  # again: Ray takes SIGTERM for itself when it starts
        try:
            yield
        finally:
            self._worth_waiting = False
        if self.asked:
            raise KeyboardInterrupt

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """A signal came. KeyboardInterrupt where there is nothing to wait for, and at the second one."""
        again = self.asked and time.monotonic() - self._heard > REPEAT_SECONDS
        if again or not self._worth_waiting:
            raise KeyboardInterrupt
        if self.asked:
            return
        self.asked, self._heard = True, time.monotonic()
        self.say("leaving when the epochs at work have ended; once more to leave at once")


@contextmanager
def graceful_shutdown(say: Callable[[str], None]) -> Iterator[Shutdown]:
    """Signals are heard in here; as before, behind."""
    heard = Shutdown(say)
    before = {number: signal.getsignal(number) for number in SIGNALS}
    heard.listen()
    try:
        yield heard
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
