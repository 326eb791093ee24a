"""Watchdog: a process beside a worker that kills it where its trial makes no progress.

It is a process of its own because a worker that hangs may hold Python's lock, and a frozen one runs nothing at all.
As a script, this module is that process; it needs no other module of the package.
"""

from __future__ import annotations

import faulthandler
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread

STACK_FILE = "stack.txt"  # beside the checkpoint: why a trial was killed, and where it stood
_HEARTBEAT, _END = b"b", b"e"
_INTERVAL = 0.5  # seconds between two heartbeats that are passed on
_STACK_SECONDS = 2.0  # longest wait for the stack of a worker that hangs
_MAX_STACK = 1 << 20  # bytes
_FROZEN = b"its process did not answer: it was frozen, or waited for a disk\n"


class Watchdog:
    """The worker's end of the pipe to its watchdog."""

    def __init__(self, pipe: int) -> None:
        self._pipe, self._sent = pipe, 0.0

    def heartbeat(self) -> None:
        """Note a step of the training: the time limit begins anew."""
        if time.monotonic() - self._sent > _INTERVAL:
            self._sent = time.monotonic()
            self.send(_HEARTBEAT)

    def send(self, message: bytes) -> None:
        """Write to the watchdog; without one, for it can be killed too, the trial goes on unwatched."""
        with suppress(BrokenPipeError):
            os.write(self._pipe, message)


@contextmanager
def watched(timeout: float, stack: Path) -> Iterator[Watchdog]:
    """Kill this process if the block passes `timeout` seconds without a heartbeat, and write its stack to a file.

    No file is written where its folder does not exist.
    """
    with tempfile.TemporaryFile() as traces:
        theirs, ours = os.pipe()
        faulthandler.register(signal.SIGUSR1, traces, all_threads=True)
        watchdog = Watchdog(ours)
        try:
            process = _start(timeout, stack, theirs, traces.fileno())
            try:
                yield watchdog
            finally:
                watchdog.send(_END)
                process.wait()
        finally:
            os.close(ours)
            faulthandler.unregister(signal.SIGUSR1)


def _start(timeout: float, stack: Path, pipe: int, traces: int) -> subprocess.Popen[bytes]:
    """Start the process of a watchdog; its end of the pipe is closed here."""
    command = [sys.executable, "-I", "-S", __file__, str(os.getpid()), str(timeout), str(stack), str(traces)]
    try:
        return subprocess.Popen(command, stdin=pipe, pass_fds=[traces])
    finally:
        os.close(pipe)


def take_stack(checkpoint: Path) -> str:
    """Return and remove the report of the watchdog that killed the worker of a trial; empty without one."""
    file = checkpoint.with_name(STACK_FILE)
    with suppress(OSError):
        text = file.read_text()
        file.unlink()
        return text
    return ""


def _watch(worker: int, timeout: float, stack: Path, traces: int) -> None:
    """Read the pipe on stdin until the trial or its worker ends; kill the worker if it is silent for too long."""
    slice_ = min(1.0, timeout / 4)
    silent = 0.0  # counted in slices: where all processes are suspended for a while, that is one slice
    while silent < timeout:
        if os.getppid() != worker:
            return  # it has died, and only a child of it keeps the pipe open
        if select.select([0], [], [], slice_)[0]:
            silent, messages = 0.0, os.read(0, 1024)
            if not messages or _END in messages:
                return
        else:
            silent += slice_
    os.kill(worker, signal.SIGUSR1)  # faulthandler writes the stack, also without Python's lock
    end = time.monotonic() + _STACK_SECONDS
    while not os.fstat(traces).st_size and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(0.1)  # for the rest of the stack
    content = os.pread(traces, _MAX_STACK, 0) or _FROZEN
    writer = Thread(target=_write, args=[stack, f"no step for {timeout:.0f} s\n".encode() + content], daemon=True)
    writer.start()
    writer.join(_STACK_SECONDS)  # no longer: its disk may be what the worker waits for
    os.kill(worker, signal.SIGKILL)


def _write(stack: Path, content: bytes) -> None:
    with suppress(OSError):
        stack.write_bytes(content)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends Ctrl-C to all processes of the run
    _watch(int(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
