"""Python's garbage collector, and what it need not look at."""

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing() -> Iterator[None]:
    """
    For imports of what stays as long as the process: the collector would look at all of it again and again, which is a
    fifth of a command's start. Afterwards it still leaves alone what is there now.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()


_pausing = threading.Lock()


@contextmanager
def paused() -> Iterator[None]:
    """
    For work that makes many objects and keeps them until it is done: the collector would look at all of them in vain.

    It is a matter of the whole process, so there is one pause at a time. Who comes meanwhile does not prolong it, or
    pauses that overlap could have no end.
    """
    if not gc.isenabled() or not _pausing.acquire(blocking=False):
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        _pausing.release()
