"""Standard output and error output, which may be closed, full, or read by nobody any more."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

import typer

from hiri_search.system.text import printable_lines

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

FULL, READER_GONE = 2, 128 + signal.SIGPIPE  # exit codes where the output cannot be written; the second is a shell's
INPUT, OUTPUT, ERRORS = range(3)  # numbers of the standard files


class _OutputFile(io.FileIO):
    """An output that may go away: what cannot be written is dropped; the command ends, unless it `goes_on`."""

    goes_on = False

    def write(self, data: ReadableBuffer) -> int:
        try:
            return super().write(data) or 0
        except OSError as error:
            if not self.goes_on:
                self.goes_on = True  # what is still in a buffer is dropped
                if isinstance(error, BrokenPipeError):  # `head` has read enough: that is no fault
                    sys.exit(READER_GONE)
                say(f"error: the output cannot be written: {error.strerror}", err=True)
                sys.exit(FULL)
            return memoryview(data).nbytes


def lossy(number: int, encoding: str) -> TextIO:
    """Return a text file of an open file's number that never fails: it drops what cannot be written."""
    return _text_file(number, encoding, goes_on=True, close=True)


def _text_file(number: int, encoding: str, *, goes_on: bool, close: bool = False) -> io.TextIOWrapper:
    raw = _OutputFile(number, "w", closefd=close)
    raw.goes_on = goes_on
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, "backslashreplace", line_buffering=True)


def say(text: str, *, err: bool = False) -> None:
    """Print lines for people: characters that a terminal would obey are shown as escapes."""
    typer.echo(printable_lines(text), err=err)


@contextmanager
def standard_output() -> Iterator[None]:
    """Let a command print to any output: closed, full, not UTF-8, or a pipe whose reader ends, such as `head`."""
    _open_closed()
    output, errors = sys.stdout, sys.stderr
    if output is sys.__stdout__:  # and not the output of a test
        sys.stdout = _text_file(OUTPUT, _encoding(output), goes_on=False)
    if errors is sys.__stderr__:
        sys.stderr = _text_file(ERRORS, _encoding(errors), goes_on=True)
    try:
        yield
        sys.stdout.flush()
    finally:
        sys.stdout, sys.stderr = output, errors


@contextmanager
def unread_output() -> Iterator[None]:
    """Let a command that writes results go on to its end where nobody reads what it prints, or its terminal is closed.

    Processes that it starts inherit that they outlive the terminal.
    """
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if isinstance(raw, _OutputFile):
        raw.goes_on = True
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, previous)


def _open_closed() -> None:
    """Open the standard files that are closed, or the next files that are opened would take their numbers."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= ERRORS:
        os.set_inheritable(number, True)
    os.close(number)


def _encoding(output: TextIO | None) -> str:
    return output.encoding if output else "utf-8"  # None: it was closed when Python began
