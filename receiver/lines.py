"""Events on standard output: one line each, every byte of it written before anybody is told so."""

import select
from collections.abc import Callable, Iterable
from typing import Protocol

_PIECE = 4096  # PIPE_BUF: so much goes into a pipe without waiting, once it takes anything


class Output(Protocol):
    """An unbuffered binary file: what it has taken is out of this process."""

    def write(self, data: memoryview, /) -> int | None: ...

    def fileno(self) -> int: ...


def write(out: Output, bodies: Iterable[bytes], meanwhile: Callable[[], object] | None = None) -> None:
    """
    Each of them and a newline. A pipe may take a part of it, and none at all when somebody made it non-blocking.

    meanwhile: called once a second as long as nobody reads. Raises OSError when ``out`` takes nothing any more.
    """
    left = memoryview(b"".join(body + b"\n" for body in bodies))
    while left:
        if meanwhile is not None and not select.select([], [out.fileno()], [], 1.0)[1]:
            meanwhile()
            continue
        taken = out.write(left if meanwhile is None else left[:_PIECE])
        if taken is None:
            select.select([], [out.fileno()], [])
        else:
            left = left[taken:]
