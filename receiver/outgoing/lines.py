"""
Events on standard output: one line each, every byte of it written before anybody is told so.

And what can be known of a reader that has gone: of a pipe, how much nobody has taken out of it.
"""

import array
import fcntl
import json
import os
import select
import stat
import termios
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

_PIECE = 4096  # PIPE_BUF: so much goes into a pipe without waiting, once it takes anything
_UNREAD = 128 * 1024  # what a pipe (64 KiB) and a reader's own buffer may hold that nobody has looked at
_TAKING_SECONDS = 0.25  # for a reader to take the first lines, or to be gone
_LOOK_SECONDS = 0.005


class Output(Protocol):
    """An unbuffered binary file: what it has taken is out of this process."""

    def write(self, data: memoryview, /) -> int | None: ...

    def fileno(self) -> int: ...


class ReaderGone(Exception):  # noqa: N818 - the reader's doing
    """Nobody reads the output any more. count: events that were acknowledged, and that may have been lost with it."""

    def __init__(self, count: int, since: str | None) -> None:
        """since: when the oldest of them was observed."""
        super().__init__("nobody reads standard output any more")
        self.count = count
        self.since = since


class Lines:
    """
    The events of one run, and those among them whose reading is in doubt.

    ``batch``: how many to write next. Few at first: ``| head -1`` then costs one event, and not fifty.
    """

    def __init__(self, out: Output, most: int) -> None:
        self.batch = 1
        self._out = out
        self._most = most
        self._is_pipe = _is_pipe(out)
        self._acknowledged: deque[tuple[int, bytes]] = deque()  # size and body
        self._size = 0  # of these

    def write(self, bodies: Sequence[bytes], meanwhile: Callable[[], object] | None = None) -> None:
        """
        Each of them and a newline. meanwhile: called once a second as long as nobody reads.

        Raises OSError when the output takes nothing any more, and BrokenPipeError also when its reader has gone
        without taking all of them.
        """
        write(self._out, bodies, meanwhile)
        if self.batch < self._most:
            self._let_take()
            self.batch = min(2 * self.batch, self._most)
        if self._is_pipe and has_no_reader(self._out) and self._left():
            raise BrokenPipeError

    def note(self, bodies: Iterable[bytes]) -> None:
        """They are acknowledged: if the reader goes before it has read them, they do not come again by themselves."""
        for body in bodies:
            self._acknowledged.append((len(body), body))
            self._size += len(body)
        while self._size > _UNREAD:
            self._size -= self._acknowledged.popleft()[0]

    def gone(self) -> ReaderGone:
        """What to raise when the reader has gone."""
        times = [json.loads(body)["data"]["observed_at"] for _, body in self._acknowledged]
        return ReaderGone(len(times), min(times, default=None))

    def _let_take(self) -> None:
        deadline = time.monotonic() + _TAKING_SECONDS
        while self._is_pipe and self._left() and not has_no_reader(self._out) and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)

    def _left(self) -> int:
        """Bytes in the pipe that nobody has taken."""
        count = array.array("i", [0])
        fcntl.ioctl(self._out.fileno(), termios.FIONREAD, count)
        return count[0]


def has_no_reader(out: Output) -> bool:
    """Whether it is a pipe or socket whose other end is closed."""
    poll = select.poll()
    poll.register(out.fileno(), 0)  # errors are told always
    return bool(poll.poll(0))


def _is_pipe(out: Output) -> bool:
    try:
        return stat.S_ISFIFO(os.fstat(out.fileno()).st_mode)
    except OSError:  # no file of the system's
        return False


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
