"""What requests have handed over to the store until it is answered: one commit for all of a round."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from receiver.system.waiting import WouldWait, without_waiting

if TYPE_CHECKING:
    from receiver.store.writer import Writer
    from receiver.web.connections import Connection
    from receiver.web.exchange import Exchange


class Committing:
    """
    call_soon: has the loop call a function; for other threads.

    A commit that may take long is a thread's, one at a time; whoever has waited for 4 s is answered nevertheless.
    """

    def __init__(self, call_soon: Callable[..., Any]) -> None:
        self._call_soon = call_soon
        self._thread = ThreadPoolExecutor(1, "commit")
        self._is_out = False  # with the thread
        self._pending: dict[Connection, Exchange] = {}

    def add(self, connection: "Connection", exchange: "Exchange") -> None:
        self._pending[connection] = exchange

    def commit(self) -> None:
        """Have everything committed that was added."""
        deferrals = (exchange.deferral for exchange in self._pending.values())
        deferral = next((one for one in deferrals if one is not None and not one.ticket.is_done), None)
        if self._is_out or deferral is None:
            return
        try:
            with without_waiting():
                is_done = deferral.writer.commit_at_once()
        except WouldWait:
            is_done = False
        if not is_done:
            self._is_out = True
            self._thread.submit(self._commit, deferral.writer)

    def _commit(self, writer: "Writer") -> None:
        try:
            writer.commit()
        finally:
            self._call_soon(self._came_back)

    def _came_back(self) -> None:
        self._is_out = False

    def finished(self) -> Iterator[tuple["Connection", "Exchange"]]:
        """Those that can be answered; they are not pending any more."""
        now = time.monotonic()
        for connection, exchange in list(self._pending.items()):
            assert exchange.deferral is not None
            ticket = exchange.deferral.ticket
            if not ticket.is_done and ticket.deadline <= now:
                exchange.deferral.writer.give_up(ticket)
            if ticket.is_done:
                del self._pending[connection]
                yield connection, exchange

    def next_deadline(self) -> float:
        deferrals = (exchange.deferral for exchange in self._pending.values())
        return min((one.ticket.deadline for one in deferrals if one is not None), default=float("inf"))

    def close(self) -> None:
        self._thread.shutdown(wait=False)
