"""SIGTERM and SIGINT as something to ask for and to wait for, so that work in hand is finished first."""

import queue
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

_AGAIN_SECONDS = 0.5  # libraries swallow exceptions: one Interrupted may not be enough


class Interrupted(Exception):  # noqa: N818 - like KeyboardInterrupt
    """Work that could have blocked for ever was ended."""


class Stop:
    """Whether this process was asked to end."""

    def __init__(self) -> None:
        self.asked = False
        self._signals: queue.SimpleQueue[int] = queue.SimpleQueue()  # its put() may interrupt its get()
        self._grace_seconds: float | None = None

    def wait(self, seconds: float) -> bool:
        """Sleep, but no longer than until somebody asks; whether somebody has."""
        if not self.asked:
            with suppress(queue.Empty):
                self._signals.get(timeout=max(0.0, seconds))
        return self.asked

    @contextmanager
    def interrupting(self, grace_seconds: float) -> Iterator[None]:
        """For a block that may wait for ever: Interrupted grace_seconds after the signal, or at a second signal."""
        self._grace_seconds = grace_seconds
        if self.asked:
            signal.setitimer(signal.ITIMER_REAL, grace_seconds, _AGAIN_SECONDS)
        try:
            yield
        finally:
            self._grace_seconds = None
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        again, self.asked = self.asked, True
        self._signals.put(number)
        if self._grace_seconds is not None:
            if again:
                raise Interrupted
            signal.setitimer(signal.ITIMER_REAL, self._grace_seconds, _AGAIN_SECONDS)


class ThreadStop(Stop):
    """For a thread, which no signal reaches: its owner asks, and what it waits for must end by itself."""

    def ask(self) -> None:
        self.asked = True
        self._signals.put(signal.SIGTERM)

    @contextmanager
    def interrupting(self, grace_seconds: float) -> Iterator[None]:
        yield


@contextmanager
def on_signals() -> Iterator[Stop]:
    """SIGTERM and SIGINT ask the Stop, until the block ends. Only in the main thread."""
    stop = Stop()
    noted = (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)
    before = {number: signal.signal(number, stop._note) for number in noted}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def exiting_on_sigterm() -> Iterator[None]:
    """SIGTERM ends the block as an exception does, so that what was begun is cleaned up. Only in the main thread."""

    def end(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
