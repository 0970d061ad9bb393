"""
``faxhook consume``: the embedded queue. Events are leased, written out one a line, and acknowledged when flushed.

At least once: what a consumer had not acknowledged when it died goes to the next one.
"""

import time
from contextlib import closing

from receiver.errors import Unavailable
from receiver.logs import error_class, log
from receiver.outgoing import lines
from receiver.store import Store, outbox
from receiver.store.clock import shared_ms
from receiver.store.damage import around
from receiver.store.migrating import check_version
from receiver.store.outbox import Row
from receiver.store.watching import Changes
from receiver.system.backoff import Backoff
from receiver.system.stopping import Interrupted, Stop, on_signals

_BATCH = 50
_RECLAIM_SECONDS = 1.0
_STUCK_SECONDS = 5.0  # after SIGTERM, for a reader that does not read; platforms kill us at 10
_FIRST_DELAY_SECONDS = 0.25
_LONGEST_DELAY_SECONDS = 5.0


def consume(
    store: Store, out: lines.Output, *, follow: bool, max_events: int | None, idle_seconds: float | None
) -> None:
    """
    Write pending events to ``out``, each as its stored bytes and a newline.

    Ends after max_events, after idle_seconds without an event, at SIGTERM or SIGINT with the batch in hand finished;
    without follow and idle_seconds also when nothing is pending. Raises Unavailable when the store cannot be reached,
    following only after idle_seconds, StoreError, ReaderGone, and OSError when ``out`` takes nothing.
    """
    with on_signals() as stop, closing(Changes(store)) as changes:
        consumer = _Consumer(store, out, stop, max_events)
        backoff = Backoff(_FIRST_DELAY_SECONDS, _LONGEST_DELAY_SECONDS)
        busy_at = time.monotonic()
        while True:
            try:
                consumer.check()
                changes.note()
                if consumer.step():
                    busy_at = time.monotonic()
                    continue
                if consumer.is_done or (not follow and idle_seconds is None):
                    return
                left = _RECLAIM_SECONDS if idle_seconds is None else busy_at + idle_seconds - time.monotonic()
                if left <= 0:
                    return
                changes.wait(stop, min(left, _RECLAIM_SECONDS))
                backoff.reset()
            except BrokenPipeError:
                raise consumer.lines.gone() from None
            except Interrupted:
                return
            except Unavailable as error:
                changes.close()
                is_idle = idle_seconds is not None and time.monotonic() >= busy_at + idle_seconds
                if not stop.asked and (is_idle or not (follow or error.retryable)):
                    raise
                delay = backoff.next()
                log.warning("store_unavailable", error=error.error, cause=error.trouble, delay_seconds=delay)
                if stop.wait(delay):
                    return


def peek(store: Store, out: lines.Output, max_events: int | None) -> None:
    """
    Write what is there for consumers, and leave it there: nothing is leased or acknowledged.

    Raises Unavailable, StoreError, and OSError when ``out`` takes nothing.
    """
    check_version(store)
    after, left = 0, max_events

    def read() -> list[Row]:
        with store.reading() as connection:
            return outbox.waiting(connection, store.tables, min(_BATCH, left or _BATCH), after)

    while left is None or left > 0:
        rows = around(store, read)
        if not rows:
            return
        after = rows[-1].turn
        whole = [row for row in rows if not row.is_damaged]
        for row in rows:
            if row.is_damaged:
                log.error("event_damaged", event_id=row.event_id)
        lines.write(out, [row.body for row in whole])
        left = None if left is None else left - len(whole)


class _Consumer:
    def __init__(self, store: Store, out: lines.Output, stop: Stop, max_events: int | None) -> None:
        self._store = store
        self.lines = lines.Lines(out, _BATCH)
        self._stop = stop
        self._wanted = max_events
        self._holder = outbox.owner()
        self._written: list[Row] = []  # flushed and not yet acknowledged
        self._is_checked = False
        self._is_unsure = False  # a transaction failed, and may have leased rows all the same
        self._reclaim_due = 0.0

    @property
    def is_done(self) -> bool:
        return self._stop.asked or self._wanted == 0

    def check(self) -> None:
        """Once: StoreError unless the store is this version's."""
        if not self._is_checked:
            check_version(self._store)
            self._is_checked = True

    def step(self) -> bool:
        """Acknowledge what is written, then lease and write the next batch; whether there was one."""
        leased, damaged = around(self._store, self._next)
        for row in damaged:
            log.error("event_damaged", event_id=row.event_id, state="dead")
        if leased:
            self._write(leased)
        return bool(leased or damaged)

    def _next(self) -> tuple[list[Row], list[Row]]:
        """One transaction for both, since each costs a sync of the disk."""
        tables = self._store.tables
        most = self.lines.batch
        limit = 0 if self._stop.asked else most if self._wanted is None else min(most, self._wanted)
        was_unsure, self._is_unsure = self._is_unsure, True
        lost = 0
        with self._store.writing() as connection:
            now = shared_ms(connection)
            if self._written:
                taken = outbox.acknowledge(connection, tables, self._holder, self._written, now)
                lost = len(self._written) - taken
            if was_unsure:
                outbox.release(connection, tables, self._holder)
            if time.monotonic() >= self._reclaim_due:
                outbox.reclaim(connection, tables, now)
            leased, damaged = outbox.lease(connection, tables, self._holder, limit, now) if limit else ([], [])
        self._is_unsure = False
        self.lines.note(event.body for event in self._written)
        self._written = []
        self._reclaim_due = max(self._reclaim_due, time.monotonic() + _RECLAIM_SECONDS)
        if lost:
            log.warning("leases_lost", count=lost)  # written too slowly: others get these events as well
        return leased, damaged

    def _write(self, leased: list[Row]) -> None:
        try:
            with self._stop.interrupting(_STUCK_SECONDS):
                self.lines.write([event.body for event in leased])
        except (OSError, Interrupted):
            self._give_back()
            raise
        self._written = leased
        if self._wanted is not None:
            self._wanted -= len(leased)

    def _give_back(self) -> None:
        """The next consumer gets them at once. Where that fails, it notices that this process is gone."""
        try:
            with self._store.writing() as connection:
                outbox.release(connection, self._store.tables, self._holder)
        except Unavailable as error:
            log.warning("leases_not_released", error=error_class(error))
