"""
Delivery: pending rows of the outbox go to a sink, and are marked published once it has confirmed them.

An outage parks nothing: while the sink is away, slow, full or without the queue, rows stay pending and are tried
again. Only what is wrong with a row itself makes it a dead letter: a checksum that does not hold, a size the sink
cannot take, or that it has refused the row, three times, when it was sent alone or by name.
"""

import time
from collections import Counter
from collections.abc import Sequence, Set

from receiver import metrics
from receiver.errors import BrokerTrouble
from receiver.logs import error_class, log
from receiver.outgoing.contract import Message, Publisher, Result
from receiver.outgoing.place import Place
from receiver.store import Store, now_ms, outbox
from receiver.store.damage import around
from receiver.store.outbox import Row
from receiver.store.tables import QUEUE
from receiver.system.backoff import Backoff
from receiver.system.stopping import Stop
from schemas.envelope import routing_key

_TRIES = 3  # of a row that the sink refuses when it comes alone
_FIRST_DELAY_SECONDS = 0.25
_AGAIN_SECONDS = 10.0  # for what has come back while others were taken; longer and longer where the sink is a slow one
_GRACE_SECONDS = 2.0  # after SIGTERM, for confirms that are under way; platforms kill us at 10


class Delivery:
    """
    The active relay's way to one sink. Not for several threads.

    due: when there is something to do again, on the monotonic clock. trouble: its kind; None while all is well.
    """

    def __init__(self, store: Store, publisher: Publisher, stop: Stop, sink: str = QUEUE) -> None:
        self.due = 0.0
        self.trouble: str | None = None
        self._store = store
        self._stop = stop
        self._sink = sink
        self._named = {} if sink == QUEUE else {"sink": sink}  # in log lines
        self._publisher = publisher
        self._backoff = Backoff(_FIRST_DELAY_SECONDS, publisher.longest_delay)
        self._again = Backoff(min(_AGAIN_SECONDS, publisher.longest_delay), publisher.longest_delay)
        self._after = 0  # turns up to this one are stepped over: the sink did not take some of them
        self._held: set[str] = set()  # faxes of those
        self._again_due = 0.0  # when they are tried again
        self._is_well = False  # the sink is: only some events came back, so they wait, and the others go on
        self._wait_seconds = 0.0  # that the sink has asked for
        self._waiting = _Waiting(store, sink, publisher.most)
        self._confirmed: list[Row] = []  # and not yet marked, since the store would not take it
        self._tries: Counter[int] = Counter()

    def step(self) -> int:
        """Send one batch; how many rows have arrived. Raises Unavailable; nothing is forgotten by it."""
        self._mark()
        if self._held and time.monotonic() >= self._again_due:  # under steady traffic there is always another row
            self._begin_again()
        rows = self._next()
        if not rows:
            if not self._is_well:
                self._begin_again()
            return 0
        started = time.perf_counter()
        trouble = self._send(rows)
        arrived = len(self._confirmed)
        if arrived:
            if self._sink == QUEUE:
                metrics.publish_seconds.observe(time.perf_counter() - started)
            self._backoff.reset()
        self._mark()
        self._judge(trouble)
        return arrived

    def begin_anew(self) -> None:
        """As if nothing had gone wrong."""
        self.due, self.trouble = 0.0, None
        self._backoff.reset()
        self._begin_again()

    def _begin_again(self) -> None:
        """With what came back."""
        self._after, self._is_well = 0, False
        self._held.clear()

    def idle(self) -> None:
        """Keep the connection alive while there is nothing to send."""
        try:
            self._publisher.idle()
        except BrokerTrouble as trouble:
            said = {**self._named, "reason": trouble.kind, "cause": trouble.detail}
            log.info("broker_connection_lost", **said)  # the next batch opens another

    def end(self) -> None:
        """Leave the broker in good order, unless it takes too long."""
        self._publisher.close(self._stop)

    # --- one batch ---------------------------------------------------------------------------------------------------

    def _next(self) -> list[Row]:
        """A batch of rows that can be sent; those before them that cannot are dead letters now."""
        while rows := around(self._store, lambda: self._waiting.read(self._after, self._held)):
            largest = self._publisher.largest
            damaged = [row for row in rows if row.is_damaged]
            too_large = [row for row in rows if largest is not None and len(row.body) > largest]
            self._park(damaged, "damaged")
            self._park(too_large, "too_large")
            parked = {row.turn for row in (*damaged, *too_large)}
            if left := [row for row in rows if row.turn not in parked]:
                return left
        return []

    def _send(self, rows: Sequence[Row]) -> BrokerTrouble | None:
        """Publish; where one of the rows is to blame for a failure, find it by halves, each on a fresh connection."""
        messages = [Message(row.event_id, row.fax_id, routing_key(row.type, row.outcome), row.body) for row in rows]
        with self._stop.interrupting(_GRACE_SECONDS):
            result = self._publisher.publish(messages)
        self._confirmed += (row for row in rows if row.event_id in result.confirmed)
        self._wait_seconds = result.wait_seconds or 0.0
        self._step_over(rows, result)
        for row in rows:
            if row.event_id in result.refused:
                self._blame(row)
        if not result.is_about_message or self._stop.asked:
            return result.trouble
        rest = [row for row in rows if row.event_id not in result.confirmed]
        if len(rest) == 1:
            self._blame(rest[0])
            return result.trouble
        middle = len(rest) // 2
        first = self._send(rest[:middle])
        if first is not None and first.kind != "refused":
            return first
        return self._send(rest[middle:]) or first

    def _step_over(self, rows: Sequence[Row], result: Result) -> None:
        """What has come back holds the later events of its faxes, and nothing else."""
        if not result.returned:
            if not self._held:
                self._again.reset()
            return
        if not self._held:
            self._again_due = time.monotonic() + self._again.next()
        if result.trouble is None:
            metrics.sink_failures.labels(self._sink, "returned").inc()
            log.warning("events_returned", count=len(result.returned), **self._named)
            self._is_well = True
            self._held.update(row.fax_id for row in rows if row.event_id in result.returned)
        else:
            self._is_well, self._after = False, rows[-1].turn
            self._held.update(row.fax_id for row in rows if row.event_id not in result.confirmed)

    def _blame(self, row: Row) -> None:
        self._tries[row.seq] += 1
        if self._tries[row.seq] >= _TRIES:
            self._park([row], "refused")
            del self._tries[row.seq]

    def _park(self, rows: Sequence[Row], reason: str) -> None:
        if not rows:
            return
        around(self._store, lambda: self._write_dead_letters(rows, reason))
        for row in rows:
            log.error("dead_letter", event_id=row.event_id, reason=reason, **self._named)

    def _write_dead_letters(self, rows: Sequence[Row], reason: str) -> None:
        with self._store.writing() as connection:
            outbox.park(connection, self._store.tables, rows, reason, now_ms(), self._sink)

    def _mark(self) -> None:
        """Until the store takes it, nothing more is sent: else a full disk would have the same events sent for ever."""
        if not self._confirmed:
            return
        now = now_ms()
        around(self._store, lambda: self._write_arrived(now))
        for row in self._confirmed if self._sink == QUEUE else ():
            metrics.published.labels(row.type, row.outcome).inc()
            metrics.delivery_seconds.observe(max(0, now - row.created_at_ms) / 1000)
        metrics.sink_published.labels(self._sink).inc(len(self._confirmed))
        log.info("published", count=len(self._confirmed), **self._named)
        self._confirmed = []

    def _write_arrived(self, now: int) -> None:
        with self._store.writing() as connection:
            outbox.publish(connection, self._store.tables, self._confirmed, now, self._sink)

    def _judge(self, trouble: BrokerTrouble | None) -> None:
        if trouble is None:
            if self.trouble is not None:
                log.info("broker_recovered", **self._named)
            self.trouble = None
            self._backoff.reset()
            return
        if trouble.kind == self.trouble == "blocked":
            return  # the same batch still waits, and its connection needs its heartbeats
        self.trouble = trouble.kind
        delay = max(self._backoff.next(), self._wait_seconds)
        self.due = time.monotonic() + delay
        if self._sink == QUEUE:
            metrics.publish_failures.labels(trouble.kind).inc()
        metrics.sink_failures.labels(self._sink, trouble.kind).inc()
        said = {**self._named, "reason": trouble.kind, "error": error_class(trouble.error), "cause": trouble.detail}
        log.error("publish_failed", **said, delay_seconds=delay)


class _Waiting:
    """What waits for the sink, a batch at a time."""

    def __init__(self, store: Store, sink: str, most: int) -> None:
        self._store = store
        self._sink = sink
        self._most = most
        self._place = Place(store)

    def read(self, after: int, held: Set[str]) -> list[Row]:
        """A batch of rows behind the turn ``after``, none of them of a fax that is held."""
        if after:
            rows = self._read(after, held)
            with self._store.reading() as connection:
                return outbox.without_followers(connection, self._store.tables, rows, after, self._sink)
        begin = self._place.turn()
        rows = self._read(begin, held)
        if begin and any(row.revision > 1 for row in rows):  # an earlier one of its fax may be before that
            rows = self._read(0, held)
        if rows:
            self._place.note(rows[0].turn)
        return rows

    def _read(self, after: int, held: Set[str]) -> list[Row]:
        with self._store.reading() as connection:
            return outbox.pending(connection, self._store.tables, self._most, after, held, self._sink)
