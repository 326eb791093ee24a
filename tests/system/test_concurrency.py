"""A call that is repeated in a background thread."""

from threading import Event

import pytest

from hiri_search.system.concurrency import repeat_in_background


def test_a_call_that_fails_is_repeated():
    calls, enough = [], Event()

    def fail_once() -> None:
        calls.append(1)
        if len(calls) == 1:
            raise OSError("the disk is gone for a moment")
        enough.set()

    with repeat_in_background(fail_once, every=0.01):
        assert enough.wait(10)


def test_the_error_of_the_last_call_is_raised_at_the_end():
    called = Event()

    def fail() -> None:
        called.set()
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"), repeat_in_background(fail, every=0.01):
        assert called.wait(10)
    with pytest.raises(ValueError, match="of the block"), repeat_in_background(fail, every=0.01):
        raise ValueError("of the block")
