"""
The carrier of a sink: beside the relay, in a thread of its own, it takes what waits for the sink there.

So a sink that is away, slow or stopped holds no other back. It works while this process is the store's active relay.
"""

import threading
import time
from collections.abc import Callable

from receiver.errors import Unavailable
from receiver.logs import error_class, log, place
from receiver.outgoing.contract import GONE, Publisher
from receiver.outgoing.delivery import Delivery
from receiver.settings import Sink
from receiver.store import Store, sinks
from receiver.store.sinks import Standing
from receiver.store.watching import Changes
from receiver.system.backoff import Backoff
from receiver.system.stopping import ThreadStop

_STANDBY_SECONDS = 0.5
_LOOK_SECONDS = 1.0  # how long what the store says of the sink is good for
_PAUSE_SECONDS = 0.02  # between two pieces that are filled in: callbacks write as well
_BREATH_SECONDS = 0.01  # after a small batch: under load the next one shares its commit with more
_FIRST_DELAY_SECONDS = 1.0
_LONGEST_DELAY_SECONDS = 30.0


class Carrier:
    """leads: whether this process is the store's active relay; only then is anything done."""

    def __init__(self, store: Store, sink: Sink, publisher: Publisher, leads: Callable[[], bool]) -> None:
        self._store = store
        self._sink = sink
        self._most = publisher.most
        self._leads = leads
        self._stop = ThreadStop()
        self._changes = Changes(store)
        self._delivery = Delivery(store, publisher, self._stop, sink.name)
        self._standing: Standing | None = None
        self._look_due = 0.0
        self._thread = threading.Thread(target=self._run, name=f"faxhook-{sink.name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def ask_to_end(self) -> None:
        """The batch in hand is finished first."""
        self._stop.ask()

    def end(self, seconds: float) -> None:
        """Wait for it so long: what the sink has and we do not know of by then goes there once more."""
        if self._thread.is_alive():
            self._thread.join(seconds)

    def step(self) -> None:
        """What is due, and then a rest. Raises Unavailable."""
        if not self._leads():
            self._standing = None
            self._stop.wait(_STANDBY_SECONDS)
            return
        standing = self._look()
        if standing is None or standing.stopped_at_ms is not None:
            self._stop.wait(_LOOK_SECONDS)
            return
        if standing.filled_to is not None:
            self._fill(standing)
            return
        self._changes.note()
        sent = self._deliver()
        self._show(standing)
        if 0 < sent < self._most:
            self._stop.wait(_BREATH_SECONDS)
        elif sent == 0 and not self._stop.asked:
            self._rest()

    def _look(self) -> Standing | None:
        """How it stands, and what operators have done to it."""
        now = time.monotonic()
        if self._standing is None or now >= self._look_due:
            with self._store.reading() as connection:
                self._standing = sinks.standing(connection, self._store.tables, self._sink.name)
            self._look_due = now + _LOOK_SECONDS
        return self._standing

    def _fill(self, standing: Standing) -> None:
        if not standing.may_be_filled:
            self._stop.wait(_LOOK_SECONDS)
            return
        with self._store.writing() as connection:
            sinks.fill(connection, self._store.tables, self._sink.name, self._sink.filter)
        self._standing = None
        self._stop.wait(_PAUSE_SECONDS)

    def _deliver(self) -> int:
        if time.monotonic() < self._delivery.due:
            return 0
        sent = self._delivery.step()
        if sent == 0:
            self._delivery.idle()
        return sent

    def _show(self, standing: Standing) -> None:
        """Its trouble, for operators; and where it does not want anything any more, that."""
        trouble = self._delivery.trouble
        if trouble == standing.trouble:
            return
        with self._store.writing() as connection:
            sinks.note_trouble(connection, self._store.tables, standing.name, trouble)
            if trouble == GONE:
                sinks.stop(connection, self._store.tables, standing.name, GONE)
        if trouble == GONE:
            log.error("sink_stopped", sink=standing.name, reason=GONE)
            self._delivery.begin_anew()
        self._standing = None

    def _rest(self) -> None:
        now = time.monotonic()
        if self._delivery.due > now:
            self._stop.wait(min(_LOOK_SECONDS, self._delivery.due - now))
        else:
            self._changes.wait(self._stop, _LOOK_SECONDS)

    def _run(self) -> None:
        backoff = Backoff(_FIRST_DELAY_SECONDS, _LONGEST_DELAY_SECONDS)
        while not self._stop.asked:
            try:
                self.step()
            except Unavailable as error:
                self._again(backoff.next(), error=error.error, cause=error.trouble)
            except Exception as error:  # noqa: BLE001 - the other sinks must not suffer for it
                self._again(backoff.next(), error=error_class(error), where=place(error.__traceback__))
            else:
                backoff.reset()
        self._delivery.end()
        self._changes.close()

    def _again(self, delay: float, **known: object) -> None:
        self._changes.close()
        self._standing = None
        log.error("sink_failed", sink=self._sink.name, delay_seconds=delay, **known)
        self._stop.wait(delay)
