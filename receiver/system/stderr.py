"""
Log lines to stderr without waiting: a reader that has stopped reading, or a full disk, must not stop the service.

A process writes its lines itself until ``never_wait()``; from then on a thread does. The thread writes to the file
descriptor: one that is stuck inside ``sys.stderr`` would hold its lock, and abort the interpreter at its end.
"""

import atexit
import os
import queue
import select
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

_FILE_DESCRIPTOR = 2
_LONGEST_QUEUE = 256  # hand-overs, each of a line or of a loop's round: a short stall of the reader loses nothing
_END_SECONDS = 1.0  # for what is still queued when the process ends
_END = ""
_ATOMIC = 4096  # bytes that stay together in a pipe which several processes write


class Stderr:
    """
    Whole lines to stderr, in order.

    on_dropped: called for each line that is lost because nobody took those before it, or because it cannot be written.
    """

    def __init__(self) -> None:
        self.on_dropped: Callable[[], object] = lambda: None
        self._lines: queue.SimpleQueue[str] | None = None  # None: written at once
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
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
                self.write("\n".join(lines), len(lines))

    def write(self, line: str, count: int = 1) -> None:
        """Write one line, or several, or leave it to the thread. Never raises."""
        if self._held.lines is not None:
            self._held.lines.append(line)
            return
        if self._lines is None:
            with suppress(OSError, ValueError):
                sys.stderr.write(line + "\n")
                sys.stderr.flush()
        elif self._lines.qsize() < _LONGEST_QUEUE:
            self._lines.put(line)
            if self._thread is None:
                self._start(self._lines)
        else:
            for _ in range(count):
                self.on_dropped()

    def never_wait(self) -> None:
        """Leave the writing to a thread from now on, also in processes that are forked from this one."""
        if self._lines is None:
            self._begin_anew()
            os.register_at_fork(after_in_child=self._begin_anew)
            atexit.register(self._finish)

    def _begin_anew(self) -> None:
        """In a forked process there is no thread, and what was queued is the parent's to write."""
        self._lines = queue.SimpleQueue()  # its put() may interrupt itself, as in a signal handler
        self._thread = None
        self._starting = threading.Lock()

    def _start(self, lines: "queue.SimpleQueue[str]") -> None:
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, args=(lines,), name="stderr", daemon=True)
                self._thread.start()

    def _work(self, lines: "queue.SimpleQueue[str]") -> None:
        while (some := lines.get()) != _END:
            for piece in _pieces(some.encode("utf-8", "backslashreplace") + b"\n"):
                if not _write(piece):
                    for _ in range(piece.count(b"\n")):
                        self.on_dropped()

    def _finish(self) -> None:
        """Give the thread a moment for what is queued; a stuck one is left behind."""
        if self._lines is not None and self._thread is not None:
            self._lines.put(_END)
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
