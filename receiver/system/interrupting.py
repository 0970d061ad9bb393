"""Ctrl-C while a command starts, works and ends: never a traceback, and always exit code 130."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

EXIT_CODE = 128 + signal.SIGINT


def while_starting() -> None:
    """Ctrl-C ends this process at once, without a traceback of what was being imported; unless it is ignored."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def as_exception() -> Iterator[None]:
    """Within the block Ctrl-C is a KeyboardInterrupt again, so that what has begun is cleaned up."""
    is_ours = (
        threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    )
    if is_ours:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        if is_ours:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
