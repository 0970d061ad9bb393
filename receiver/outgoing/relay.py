"""
The relay: the process beside the web workers that takes events to the broker and keeps the store in order.

The projector runs in it as well. One is active for a store; others stand by. Each minute it looks whether an endpoint
is worse than usual, gives back the leases of dead consumers, forgets what [retention] says and returns the space; a
piece at a time, so that neither callbacks nor events wait for it.
"""

import time
from collections.abc import Iterator

from receiver import transports
from receiver.errors import Unavailable
from receiver.logs import log
from receiver.outgoing.carrier import Carrier
from receiver.outgoing.degradation import Degradation
from receiver.outgoing.delivery import Delivery
from receiver.outgoing.projector import Projector
from receiver.outgoing.publisher import Publisher
from receiver.outgoing.sinks import publisher
from receiver.settings import Queue, Settings, secret_keys
from receiver.store import Store, now_ms, outbox, retention, sinks
from receiver.store.clock import RetentionClock, shared_ms
from receiver.store.damage import WholeCheck, is_damage, noted
from receiver.store.leading import Leadership, sign_of_life
from receiver.store.migrating import check_version
from receiver.store.retention import Purged
from receiver.store.watching import Changes
from receiver.system.backoff import Backoff
from receiver.system.stopping import Stop, on_signals

_ROUND_SECONDS = 60.0
_PAUSE_SECONDS = 0.05  # between two pieces of housekeeping, for the callbacks
_BREATH_SECONDS = 0.01  # after a small batch: under load the next one shares its commit with more
_STANDBY_SECONDS = 0.5
_REST_SECONDS = 1.0  # at most, between two looks
_LIFE_SECONDS = 10.0
_LEAVING_SECONDS = 4.0  # for batches that sinks have in hand at the end; platforms kill us at 10
_FIRST_DELAY_SECONDS = 1.0
_LONGEST_DELAY_SECONDS = 30.0


def run(store: Store, settings: Settings) -> None:
    """Work until SIGTERM or SIGINT. A store that is away is waited for; StoreError where it has not been migrated."""
    backoff = Backoff(_FIRST_DELAY_SECONDS, _LONGEST_DELAY_SECONDS)
    with on_signals() as stop:
        log.info("relay_started", **_described(settings.queue))
        relay = _Relay(store, settings, stop)
        while not stop.asked:
            try:
                relay.step()
            except Unavailable as error:
                relay.begin_anew()
                delay = backoff.next()
                log.error("store_unavailable", error=error.error, cause=error.trouble, delay_seconds=delay)
                stop.wait(delay)
            else:
                backoff.reset()
        relay.end()
        log.info("relay_stopped")


def _described(queue: Queue) -> dict[str, str]:
    if queue.is_embedded:
        return {"transport": "embedded"}
    return {"transport": transports.scheme(queue.url), "guarantee": transports.find(queue.url).guarantee}


class _Relay:
    def __init__(self, store: Store, settings: Settings, stop: Stop) -> None:
        self._store = store
        self._stop = stop
        self._limits = retention.Limits(settings.retention.bodies, settings.retention.rejected, settings.retention.ids)
        self._leadership = Leadership(store)
        self._clock = RetentionClock()
        self._changes = Changes(store)
        queue = settings.queue
        self._delivery = (
            None if queue.is_embedded else Delivery(store, Publisher(queue, settings.server.state_dir), stop)
        )
        self._is_checked = False
        self._is_active: bool | None = None  # until we have asked
        self._round: Iterator[None] | None = None
        self._tidy_due = 0.0
        self._whole_check = WholeCheck(store, stop)
        self._degradation = Degradation(store)
        self._projector = Projector(store, secret_keys(settings), lambda: self._leadership.is_held)
        self._carriers = [
            Carrier(store, sink, publisher(sink, settings.server.state_dir), lambda: self._leadership.is_held)
            for sink in settings.sinks.values()
        ]
        self._every_sink = settings.every_sink
        self._life_due = 0.0
        self._shown: str | None = None

    def step(self) -> None:
        """What is due, and then a rest. Raises Unavailable."""
        if not self._is_checked:
            check_version(self._store)
            self._register()
            self._is_checked = True
            self._projector.start()
            for carrier in self._carriers:
                carrier.start()
        if not self._leads():
            self._stop.wait(_STANDBY_SECONDS)
            return
        if self._delivery is not None:
            self._changes.note()
        sent = self._deliver()
        self._tidy()
        self._show_life()
        if 0 < sent < Publisher.most:
            self._stop.wait(_BREATH_SECONDS)
        elif sent == 0 and not self._stop.asked:
            self._rest()

    def _register(self) -> None:
        """Raises ConfigurationError where events wait for a sink that the configuration does not have."""
        with self._store.writing() as connection:
            dropped = sinks.register(connection, self._store.tables, self._every_sink)
        for name in dropped:
            log.warning("sink_dropped", sink=name)

    def begin_anew(self) -> None:
        """The store was away or is damaged: what was open on it is of no more use."""
        self._changes.close()
        self._round = None

    def end(self) -> None:
        for carrier in self._carriers:
            carrier.ask_to_end()
        if self._delivery is not None:
            self._delivery.end()
        self._whole_check.end()
        self._projector.end()
        until = time.monotonic() + _LEAVING_SECONDS
        for carrier in self._carriers:
            carrier.end(max(0.0, until - time.monotonic()))
        self._changes.close()
        try:
            self._leadership.give_up()
        except Unavailable as error:
            log.warning("lease_not_given_up", error=error.error)  # it ends by itself

    def _leads(self) -> bool:
        leads = self._leadership.hold()
        if leads != self._is_active:
            if leads:
                with self._store.reading() as connection:
                    self._clock.take_up(connection, self._store.tables)
            log.info("relay_active" if leads else "relay_stands_by")
        self._is_active = leads
        return leads

    def _deliver(self) -> int:
        if self._delivery is None or time.monotonic() < self._delivery.due:
            return 0
        sent = self._delivery.step()
        if sent == 0:
            self._delivery.idle()
        return sent

    def _rest(self) -> None:
        now = time.monotonic()
        until = min(now + _REST_SECONDS, self._tidy_due)
        if self._delivery is None or self._delivery.due > now:
            # New rows are no reason to hurry: consumers look for themselves, or the broker is in trouble.
            self._stop.wait(min(until, self._delivery.due if self._delivery else until) - now)
        else:
            self._changes.wait(self._stop, until - now)

    def _tidy(self) -> None:
        """The next piece, when it is due. A bad page ends the round, and holds up no event."""
        now = time.monotonic()
        if now < self._tidy_due:
            return
        if self._round is None:
            self._round = self._housekeeping()
        try:
            is_over = next(self._round, _OVER) is _OVER
        except Unavailable as error:
            if not is_damage(error):
                raise
            log.error("housekeeping_failed", error=error.error, cause=error.trouble)
            is_over = True
        self._tidy_due = now + (_ROUND_SECONDS if is_over else _PAUSE_SECONDS)
        if is_over:
            self._round = None

    def _housekeeping(self) -> Iterator[None]:
        self._degradation.look()
        yield
        yield from tidy(self._store, self._limits, self._clock)

    def _show_life(self) -> None:
        trouble = self._delivery.trouble if self._delivery else None
        if time.monotonic() < self._life_due and trouble == self._shown:
            return
        with self._store.writing() as connection:
            sign_of_life(connection, self._store.tables, now_ms(), trouble)
            self._clock.note(connection, self._store.tables)
        self._whole_check.begin_if_noted()
        self._shown = trouble
        self._life_due = time.monotonic() + _LIFE_SECONDS


_OVER = object()


def tidy(store: Store, limits: retention.Limits, clock: RetentionClock) -> Iterator[None]:
    """
    One round of housekeeping, in short transactions with a ``yield`` after each.

    Nothing is forgotten while the clock is not to be believed.
    """
    with store.writing() as connection:
        reclaimed = outbox.reclaim(connection, store.tables, shared_ms(connection))
    if reclaimed:
        log.warning("leases_reclaimed", count=reclaimed)
    yield
    purged = 0
    for step in retention.STEPS:
        while (done := _purge(store, limits, clock, step)) != Purged():
            purged += done.forgotten
            yield
        yield
    if purged:
        store.empty_log()
        log.info("purged", count=purged)
        yield
    while True:
        with store.writing() as connection:
            has_more = retention.give_back_space(connection)
        if not has_more:
            return
        yield


def _purge(store: Store, limits: retention.Limits, clock: RetentionClock, step: retention.Step) -> Purged:
    with store.writing() as connection:
        # An event whose row of ``waiting`` is lost looks as if it had arrived: it stays until the store is mended.
        if noted(connection, store.tables) is not None:
            return Purged()
        at_ms = clock.look(connection)
        return Purged() if at_ms is None else retention.purge(connection, store.tables, limits, at_ms, steps=[step])
