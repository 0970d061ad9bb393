"""
``faxhook listen``: the store's events go to a consumer at hand, beside all others, and none is taken from anybody.

It is a sink without configuration: ``receiver.store.listening`` lets events wait for it, ``Delivery`` takes them to the
consumer as a webhook's. What the consumer does not take comes again, until it does; nothing becomes a dead letter.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass

import httpx

from receiver.errors import BrokerTrouble, Unavailable
from receiver.outgoing.contract import GONE, Message, Result
from receiver.outgoing.delivery import Delivery
from receiver.outgoing.sinks.webhook import Webhook
from receiver.settings import Sink
from receiver.store import Store, listening
from receiver.store.following import Following
from receiver.store.listening import Listener
from receiver.store.watching import Changes
from receiver.system.backoff import Backoff
from receiver.system.stopping import Stop, ThreadStop

_LIFE_SECONDS = 10.0
_REST_SECONDS = 1.0
_FIRST_DELAY_SECONDS = 0.25
_LONGEST_DELAY_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Posted:
    """One event, and what the consumer has answered to it."""

    body: bytes
    status: int
    seconds: float


Tell = Callable[[Posted | str], object]  # an answer, or a sentence about what is the matter


class GoneError(Exception):
    """The consumer has answered 410: it wants nothing more."""


def listen(store: Store, sink: Sink, listener: Listener, stop: Stop, tell: Tell) -> None:
    """
    Until it is asked to end. sink: the consumer, with the listener's name. tell: called after what it tells is noted.

    Raises StoreError when another process has taken over, and GoneError. A store that is away is waited for.
    """
    backoff = Backoff(_FIRST_DELAY_SECONDS, _LONGEST_DELAY_SECONDS)
    with closing(Changes(store)) as changes:
        listens = _Listens(store, sink, listener, stop, tell)
        try:
            while not stop.asked:
                try:
                    changes.note()
                    if not listens.step():
                        changes.wait(stop, min(_REST_SECONDS, listens.due_in()))
                    backoff.reset()
                except Unavailable as error:
                    changes.close()
                    listens.begin_anew()
                    tell(f"the store is away: {error.trouble}")
                    stop.wait(backoff.next())
        finally:
            listens.end()


class _Listens:
    def __init__(self, store: Store, sink: Sink, listener: Listener, stop: Stop, tell: Tell) -> None:
        self._store = store
        self._listener = listener
        self._tell = tell
        self._consumer = _Consumer(sink, stop)
        # What was posted is noted, whatever a signal interrupts: so none is given to delivery, and posts end by time.
        self._delivery = Delivery(store, self._consumer, ThreadStop(), sink.name)
        self._following: Following | None = None
        self._life_due = 0.0
        self._told: str | None = None  # the trouble

    def step(self) -> bool:
        """What is due; whether there was anything. Raises Unavailable, StoreError and GoneError."""
        found = self._fill()
        sent = 0
        if time.monotonic() >= self._delivery.due:
            sent = self._delivery.step()
            self._show()
        return bool(found or sent)

    def due_in(self) -> float:
        """Seconds until something is to be tried again."""
        return max(0.0, self._delivery.due - time.monotonic()) or _REST_SECONDS

    def begin_anew(self) -> None:
        """A transaction may have failed: what was read in it is read again."""
        self._following = None

    def end(self) -> None:
        self._delivery.end()
        with suppress(Unavailable), self._store.writing() as connection:
            listening.leave(connection, self._store.tables, self._listener)

    def _fill(self) -> bool:
        if self._following is None:
            self._following = Following(self._listener.place, self._listener.missing)
        with self._store.reading() as connection:
            room = listening.room(connection, self._store.tables, self._listener)
            seqs = self._following.read(connection, self._store.tables, room) if room > 0 else []
        if not seqs and time.monotonic() < self._life_due:
            return False
        with self._store.writing() as connection:
            filled = listening.fill(connection, self._store.tables, self._listener, seqs, self._following)
            gone = listening.forgotten(connection, self._store.tables, seqs) if seqs else 0
        self._listener = filled  # it has committed: until then its place is not there to begin anew behind
        if gone:
            self._tell(f"{gone} of the events are older than [retention] bodies: what they said is gone, none is sent")
        self._life_due = time.monotonic() + _LIFE_SECONDS
        return bool(seqs)

    def _show(self) -> None:
        """After delivery has noted what has arrived: nobody who reads this may end it before."""
        posted, self._consumer.posted = self._consumer.posted, []
        for one in posted:
            self._tell(one)
        trouble = self._consumer.said
        if self._delivery.trouble == GONE:
            raise GoneError
        was_told, self._told = self._told, trouble
        if trouble is not None and trouble != was_told:
            self._tell(f"{trouble}; it is tried again")


class _Consumer(Webhook):
    """posted: answers that were not shown yet. said: why none came; None where the last one did."""

    most = 16
    longest_delay = 2.0  # somebody waits for it

    def __init__(self, sink: Sink, stop: Stop) -> None:
        super().__init__(sink)
        self.posted: list[Posted] = []
        self.said: str | None = None
        self._asked = stop

    def publish(self, messages: Sequence[Message]) -> Result:
        result = super().publish(messages)
        result.returned |= result.refused  # too large for it now; somebody is about to mend it
        result.refused.clear()
        return result

    async def post(self, message: Message) -> httpx.Response:
        if self._asked.asked:
            raise self.trouble("interrupted", said="it was not asked any more")
        started = time.monotonic()
        try:
            answer = await super().post(message)
        except BrokerTrouble as trouble:
            self.said = trouble.detail
            raise
        self.said = None
        self.posted.append(Posted(message.body, answer.status_code, time.monotonic() - started))
        return answer
