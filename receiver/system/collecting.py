"""Python's garbage collector, and what it need not look at."""

import gc
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
