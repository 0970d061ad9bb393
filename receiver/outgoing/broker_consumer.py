"""
``faxhook consume`` where a broker has the queue: messages are taken, written one a line, and acknowledged when flushed.

At least once: what a consumer had not acknowledged when it died, the broker gives to the next one.
"""

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from kombu import entity
from kombu.messaging import Consumer

from receiver.errors import BrokerTrouble, ConfigurationError
from receiver.logs import error_class, log
from receiver.outgoing import lines
from receiver.outgoing.broker import Broker
from receiver.outgoing.declared import declared, is_stream
from receiver.settings import Queue
from receiver.system.backoff import Backoff
from receiver.system.stopping import Interrupted, Stop, on_signals
from schemas.envelope import CONTENT_TYPE

_BATCH = 50  # messages that are on their way or in hand at once
_WAIT_SECONDS = 0.25  # below 1: kombu's Redis looks for what dead consumers held only in waits that short
_MORE_SECONDS = 0.002  # for the rest of a batch
_COUNTED_SECONDS = 5.0  # for messages that the broker counts, but does not give to us
_STUCK_SECONDS = 5.0  # after SIGTERM, for a reader that does not read; platforms kill us at 10
_CLOSE_SECONDS = 2.0
_FIRST_DELAY_SECONDS = 0.25
_LONGEST_DELAY_SECONDS = 5.0


def consume(
    queue: Queue,
    state_dir: Path,
    out: lines.Output,
    *,
    follow: bool,
    max_events: int | None,
    idle_seconds: float | None,
) -> None:
    """
    Write the queue's events to ``out``, each as its published bytes and a newline.

    Ends after max_events, after idle_seconds without an event, at SIGTERM or SIGINT with the batch in hand finished;
    without follow and idle_seconds also when the queue is empty. Raises BrokerTrouble, following only after
    idle_seconds, ConfigurationError for a stream, ReaderGone, and OSError when ``out`` takes nothing.
    """
    ends_when_empty = not follow and idle_seconds is None
    with on_signals() as stop:
        consumer = _Consumer(Broker(queue, "faxhook consume", state_dir), out, stop, max_events)
        backoff = Backoff(_FIRST_DELAY_SECONDS, _LONGEST_DELAY_SECONDS)
        busy_at = time.monotonic()
        try:
            while not consumer.is_done:
                try:
                    with stop.interrupting(_CLOSE_SECONDS):
                        is_new = consumer.open()
                    if is_new:
                        busy_at = time.monotonic()
                    left = _WAIT_SECONDS if idle_seconds is None else busy_at + idle_seconds - time.monotonic()
                    if consumer.step(max(0.0, min(left, _WAIT_SECONDS))):
                        busy_at = time.monotonic()
                        backoff.reset()
                    elif left <= 0 or (ends_when_empty and consumer.is_empty(time.monotonic() - busy_at)):
                        return
                except BrokerTrouble as trouble:
                    is_idle = idle_seconds is not None and time.monotonic() >= busy_at + idle_seconds
                    if not stop.asked and (is_idle or not follow):
                        raise
                    delay = backoff.next()
                    error = error_class(trouble.error)
                    said = {"reason": trouble.kind, "error": error, "cause": trouble.detail}
                    log.warning("broker_unavailable", **said, delay_seconds=delay)
                    if stop.wait(delay):
                        return
        except BrokenPipeError:
            raise consumer.lines.gone() from None
        except Interrupted:
            return
        finally:
            consumer.end()


def peek(queue: Queue, state_dir: Path, out: lines.Output, max_events: int | None) -> None:
    """
    Write what the queue has to give, and give it back: nothing is acknowledged.

    All of it is in our hands meanwhile, and nobody else gets it. A quorum queue then gives it out in another order,
    however it is given back (seen with RabbitMQ 3.10). Raises BrokerTrouble, and OSError when ``out`` takes
    nothing.
    """
    broker = Broker(queue, "faxhook consume --peek", state_dir)
    broker.open()
    messages: list[Any] = []
    with broker.trouble():
        source = entity.Queue(queue.queue, channel=broker.channel)
        while max_events is None or len(messages) < max_events:
            message = source.get(accept=None)
            if message is None:
                break
            messages.append(message)
        bodies = [_body(message) for message in messages]
        for message in reversed(messages):  # each goes to the front; RabbitMQ's classic queues know the places
            message.requeue()
    broker.close()
    lines.write(out, bodies)


class _Consumer:
    def __init__(self, broker: Broker, out: lines.Output, stop: Stop, max_events: int | None) -> None:
        self._broker = broker
        self.lines = lines.Lines(out, _BATCH)
        self._stop = stop
        self._wanted = max_events
        self._consumer: Any = None
        self._limit = 0  # of messages that the broker may have given to us without an acknowledgement
        self._taken: list[Any] = []  # from the broker, and not yet written
        self._is_known = False  # the queue is one that can be read

    @property
    def is_done(self) -> bool:
        return (self._stop.asked and not self._taken) or self._wanted == 0

    def open(self) -> bool:
        """Connect, if need be; whether it had to."""
        if self._broker.is_open:
            return False
        self._consumer, self._limit, self._taken = None, 0, []  # what came over the connection before comes again
        self._broker.open()
        self._refuse_stream()
        self._ask()
        return True

    def _refuse_stream(self) -> None:
        """Once, where we may ask: a stream would give us only what comes from now on, and keep what we acknowledge."""
        queue = self._broker.queue
        if self._is_known or not (self._broker.transport.speaks_amqp and queue.declare):
            return
        known = declared(self._broker)
        if known is not None and is_stream(known):
            raise ConfigurationError(f"queue.queue: {queue.queue} is a stream; expected a classic or quorum queue")
        self._is_known = True

    def step(self, seconds: float) -> bool:
        """Wait so long for events, and write what is there; whether there was something."""
        self._take(seconds)
        if not self._taken:
            return False
        count = self.lines.batch
        messages, self._taken = self._taken[:count], self._taken[count:]
        try:
            self._write(messages)
        except (OSError, Interrupted):
            self._taken = messages + self._taken
            raise
        with self._broker.trouble():
            if self._wanted is not None:
                self._wanted -= len(messages)
                self._ask()  # first: an acknowledgement makes room for another message
            if self._broker.transport.speaks_amqp:
                # One for all: RabbitMQ forgets some of many that come just before the connection ends.
                messages[-1].ack(multiple=True)
            else:
                for message in messages:
                    message.ack()
        self.lines.note(map(_body, messages))
        return True

    def is_empty(self, waited_seconds: float) -> bool:
        """Whether there is nothing for us in the queue, after a wait that brought nothing."""
        if waited_seconds >= _COUNTED_SECONDS:
            return True
        with self._broker.trouble():
            # Not passive elsewhere: an empty list of Redis is none.
            passive = self._broker.transport.speaks_amqp
            found = self._broker.channel.queue_declare(self._broker.queue.queue, passive=passive)
            return bool(found.message_count == 0) and not self._taken

    def end(self) -> None:
        """What is still in hand goes back at once."""
        with suppress(Interrupted, BrokerTrouble), self._stop.interrupting(_CLOSE_SECONDS):
            if self._broker.is_open:
                with self._broker.trouble():
                    for message in self._taken:
                        message.requeue()
            self._broker.close()

    # --- the broker's side -------------------------------------------------------------------------------------------

    def _take(self, seconds: float) -> None:
        # Elsewhere than in AMQP one wait brings what there is, and the next one could be long.
        has_more = self._taken or self._broker.wait(seconds)
        while has_more and self._broker.transport.speaks_amqp and len(self._taken) < self._limit:
            has_more = self._broker.wait(_MORE_SECONDS)

    def _ask(self) -> None:
        """Let the broker give us as many messages as we are to take, and no more."""
        if self._room() == self._limit:
            return
        with self._broker.trouble():
            if self._consumer is None:
                queue = entity.Queue(self._broker.queue.queue)
                channel = self._broker.channel
                self._consumer = Consumer(channel, [queue], on_message=self._came, auto_declare=False)
            else:
                self._consumer.cancel()  # RabbitMQ keeps to the limit that was set when a consumer began
            self._limit = self._room()  # only now: the last ones came while it was ended
            if self._limit:
                self._consumer.qos(prefetch_count=self._limit)
                self._consumer.consume()

    def _room(self) -> int:
        return _BATCH if self._wanted is None else min(_BATCH, self._wanted - len(self._taken))

    def _came(self, message: Any) -> None:
        if message.content_type == CONTENT_TYPE and b"\n" not in _body(message):
            self._taken.append(message)
        else:
            log.error("message_rejected", reason="not_an_event")  # RabbitMQ makes it a dead letter
            message.reject()

    # --- the reader's side -------------------------------------------------------------------------------------------

    def _write(self, messages: list[Any]) -> None:
        # A reader that takes its time must not cost the connection.
        meanwhile = self._beat if self._broker.transport.speaks_amqp else None
        with self._stop.interrupting(_STUCK_SECONDS):
            self.lines.write(list(map(_body, messages)), meanwhile)

    def _beat(self) -> None:
        if self._broker.is_open:
            with suppress(BrokerTrouble):  # the line is finished all the same, and comes again
                while self._broker.wait(0.0):  # heartbeats are sent when all that has come is taken in
                    pass


def _body(message: Any) -> bytes:
    body = message.body
    return body.encode() if isinstance(body, str) else bytes(body)
