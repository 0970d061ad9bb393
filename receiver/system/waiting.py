"""
What may have to wait says so first, so that it never waits where nobody may: in a server's loop.

The loop runs a request ``without_waiting``; one that would have to wait is run again, from its beginning, in a thread.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class WouldWait(BaseException):
    """No error, and not for those who handle errors: the request goes to a thread."""


class _Here(threading.local):
    is_forbidden = False


_here = _Here()


@contextmanager
def without_waiting() -> Iterator[None]:
    """In this block, in this thread, ``may_wait`` raises WouldWait."""
    _here.is_forbidden = True
    try:
        yield
    finally:
        _here.is_forbidden = False


def is_forbidden() -> bool:
    """Whether nobody may wait in this thread now."""
    return _here.is_forbidden


def may_wait() -> None:
    """
    To be called before anything that may take longer than a request may hold others up. Raises WouldWait.

    Whatever has happened before must do no harm when it happens again.
    """
    if _here.is_forbidden:
        raise WouldWait
