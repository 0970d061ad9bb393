"""
Log lines to stderr without waiting: a reader that has stopped reading, or a full disk, must not stop the service.

A process writes its lines itself until ``never_wait()``. From then on it still does where a pipe or a socket takes them
at once, which saves the switch to a thread and back; a thread writes everything else, and whatever must wait. The
thread writes to the file descriptor: one that is stuck inside ``sys.stderr`` would hold its lock, and abort the
interpreter at its end.
"""

import atexit
import os
import queue
import select
import socket
import stat
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

_FILE_DESCRIPTOR = 2
_LONGEST_QUEUE = 256  # hand-overs, each of a line or of a loop's round: a short stall of the reader loses nothing
_END_SECONDS = 1.0  # for what is still queued when the process ends
_END = b""
_ATOMIC = 4096  # bytes that stay together in a pipe which several processes write, and are taken whole or not at all


class Stderr:
    """
    Whole lines to stderr, in order.

    on_dropped: called for each line that is lost because nobody took those before it, or because it cannot be written.
    """

    def __init__(self) -> None:
        self.on_dropped: Callable[[], object] = lambda: None
        self._is_waited_for = True  # lines are written at once, however long that takes
        self._begin_anew()
        self._held = _Held()

    @contextmanager
    def together(self) -> Iterator[None]:
        """What this thread writes in the block is handed over at its end, all at once: the other thread wakes once."""
        self._held.lines = []
        try:
            yield
        finally:
            lines, self._held.lines = self._held.lines, None
            if lines:
                self.write("\n".join(lines))

    def write(self, line: str) -> None:
        """Write one line, or several, or leave it to the thread. Never raises."""
        if self._held.lines is not None:
            self._held.lines.append(line)
        elif self._is_waited_for:
            with suppress(OSError, ValueError):
                sys.stderr.write(line + "\n")
                sys.stderr.flush()
        else:
            self._hand_over(line.encode("utf-8", "backslashreplace") + b"\n")

    def _hand_over(self, lines: bytes) -> None:
        """To the reader where it takes them at once, else to the thread; drop them where too many wait already."""
        if self._at_once is not None and not self._lines:
            lines = _refused(lines, self._at_once)
        if len(self._lines) >= _LONGEST_QUEUE:
            self._drop(lines)
        elif lines:
            self._queue(lines)
            if self._thread is None:
                self._start()

    def _drop(self, lines: bytes) -> None:
        for _ in range(lines.count(b"\n")):
            self.on_dropped()

    def never_wait(self) -> None:
        """Leave waiting to a thread from now on, also in processes that are forked from this one."""
        if self._is_waited_for:
            self._is_waited_for = False
            self._begin_anew()
            os.register_at_fork(after_in_child=self._begin_anew)
            atexit.register(self._finish)

    def _begin_anew(self) -> None:
        """In a forked process there is no thread, and what was queued is the parent's to write."""
        self._lines: deque[bytes] = deque()  # each stays until it is written, so that no other one overtakes it
        self._count: queue.SimpleQueue[None] = queue.SimpleQueue()  # its put() may interrupt itself: a signal's handler
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._at_once = None if self._is_waited_for else _without_waiting()

    def _queue(self, lines: bytes) -> None:
        self._lines.append(lines)
        self._count.put(None)

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="stderr", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        while True:
            self._count.get()
            lines = self._lines[0]
            if lines == _END:
                return
            for piece in _pieces(lines):
                if not _write(piece):
                    self._drop(piece)
            self._lines.popleft()

    def _finish(self) -> None:
        """Give the thread a moment for what is queued; a stuck one is left behind."""
        if self._thread is not None:
            self._queue(_END)
            self._thread.join(_END_SECONDS)


class _Held(threading.local):
    lines: list[str] | None = None


def _pieces(lines: bytes) -> Iterator[bytes]:
    """As many whole lines at a time as stay together; a longer one alone."""
    at = 0
    while at < len(lines):
        end = lines.rfind(b"\n", at, at + _ATOMIC) + 1 or lines.find(b"\n", at) + 1
        yield lines[at:end]
        at = end


def _without_waiting() -> Callable[[bytes], int] | None:
    """What writes a piece, or raises BlockingIOError at once; None where stderr is nothing that says so."""
    try:
        mode = os.fstat(_FILE_DESCRIPTOR).st_mode
        if stat.S_ISSOCK(mode):  # of systemd
            connection = socket.socket(fileno=os.dup(_FILE_DESCRIPTOR))
            return lambda piece: connection.send(piece, socket.MSG_DONTWAIT)
        if stat.S_ISFIFO(mode):
            # Another one to the same pipe, since those who share ours may wait; it may not be ours to open.
            descriptor = os.open(f"/proc/self/fd/{_FILE_DESCRIPTOR}", os.O_WRONLY | os.O_NONBLOCK)
            return lambda piece: os.write(descriptor, piece)
    except OSError:
        pass
    return None


def _refused(lines: bytes, write: Callable[[bytes], int]) -> bytes:
    """What is left of the lines: from the first piece on that is not taken at once."""
    at = 0
    for piece in _pieces(lines):
        if len(piece) > _ATOMIC:
            break
        try:
            taken = write(piece)
        except OSError:
            break
        at += taken
        if taken < len(piece):
            break
    return lines[at:]


def _write(line: bytes) -> bool:
    """Write all of it; whether that worked."""
    while line:
        try:
            line = line[os.write(_FILE_DESCRIPTOR, line) :]
        except BlockingIOError:  # somebody who shares the pipe has made it non-blocking
            select.select([], [_FILE_DESCRIPTOR], [])
        except OSError:
            return False
    return True
