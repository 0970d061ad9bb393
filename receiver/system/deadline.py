"""
Deadlines for blocking reads: one thread per process that ends the receiving side of sockets that took too long.

A blocked ``recv`` cannot be interrupted from outside except by shutting the socket down; a timeout on the socket would
not do, since a client that sends one byte a second never lets a single ``recv`` time out. Only the receiving side is
shut, so the answer can still be written.
"""

import os
import socket
import threading
import time
from contextlib import suppress

_TICK_SECONDS = 0.1  # how late a deadline may be noticed; nobody wakes up while nothing is being read


class Watchdog:
    """One deadline per thread, for the socket that thread is reading from."""

    def __init__(self) -> None:
        self._reads: dict[int, tuple[float, socket.socket]] = {}
        self._awake = threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def guard(self, sock: socket.socket, deadline: float) -> None:
        """
        End reading from sock when ``time.monotonic()`` passes deadline, unless ``release`` comes first.

        Replaces the deadline this thread had before. Well below a microsecond while the watchdog is awake.
        """
        self._reads[threading.get_ident()] = (deadline, sock)
        if not self._awake.is_set():
            self._wake()

    def release(self) -> None:
        """This thread has read what it wanted."""
        self._reads.pop(threading.get_ident(), None)

    def _wake(self) -> None:
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="deadline", daemon=True)
                self._thread.start()
        self._awake.set()

    def _watch(self) -> None:
        while True:
            self._awake.wait()
            while self._reads:
                time.sleep(_TICK_SECONDS)
                now = time.monotonic()
                # copy() is one step under the GIL; a loop over the live dict could meet a change of its size.
                for thread, (deadline, sock) in self._reads.copy().items():
                    if now >= deadline:
                        self._reads.pop(thread, None)
                        with suppress(OSError):  # the peer has gone, which ends the read as well
                            sock.shutdown(socket.SHUT_RD)
            self._awake.clear()
            if self._reads:  # one came between the last look and clear(), and saw the flag still set
                self._awake.set()


watchdog = Watchdog()

# Threads do not survive a fork, and a lock may be held by one of them: a child begins with a new one.
os.register_at_fork(after_in_child=watchdog.__init__)  # type: ignore[misc]
