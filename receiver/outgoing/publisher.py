"""
The first sink, RabbitMQ, and what else kombu reaches: events count as published when the broker has confirmed them.

On AMQP a batch is sent without waiting, and each confirm is matched to its message by delivery tag. Everywhere else one
message is sent after the other, and the call's return is all the confirm there is.
"""

import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from typing import Any

from kombu.messaging import Producer

from receiver.errors import BrokerTrouble
from receiver.logs import log
from receiver.outgoing import formats
from receiver.outgoing.broker import KEPT, Broker
from receiver.outgoing.contract import Message, Result
from receiver.outgoing.formats import Packed
from receiver.settings import Queue, Sink
from receiver.system.stopping import Interrupted, Stop

CONFIRM_SECONDS = 10.0  # since the last confirm; a broker that syncs a slow disk takes some hundred milliseconds
_SLICE_SECONDS = 1.0  # of waiting, between two heartbeats
_CLOSE_SECONDS = 1.0
_PERSISTENT = 2


class Publisher:
    """One connection of one thread to the broker of ``queue``; see ``receiver.outgoing.contract``."""

    most = 200  # pipelined; more is not faster
    longest_delay = 10.0

    def __init__(self, queue: Queue, state_dir: Path, form: str = "structured") -> None:
        """form: as ``formats.packed`` takes it."""
        self._form = form
        self.broker = Broker(queue, "faxhook relay", state_dir)
        self._producer: Any = None
        self._pipeline: _Pipeline | None = None
        self._is_described = False

    @property
    def largest(self) -> int | None:
        return self.broker.transport.largest

    def publish(self, messages: Sequence[Message]) -> Result:
        """
        ``blocked`` is the one trouble that keeps the connection, with what is under way on it: called again with the
        same messages, it waits for those and sends the others.
        """
        result = Result()
        is_sending = False
        try:
            if not self.broker.is_open:
                self._open()
            is_sending = True
            self._send(messages, result)
        except BrokerTrouble as trouble:
            result.trouble = trouble
            result.is_about_message = is_sending and trouble.kind == "refused"
        except Interrupted as error:
            self.broker.discard()
            result.trouble = self.broker.fault("interrupted", error)
        return result

    def idle(self, seconds: float = 0.0) -> None:
        if self.broker.is_open and self._pipeline is not None and self._pipeline.is_empty:
            self.broker.wait(seconds)

    def close(self, stop: Stop) -> None:
        with suppress(Interrupted), stop.interrupting(_CLOSE_SECONDS):
            self.broker.close()

    def _open(self) -> None:
        self._pipeline = None
        self.broker.open()
        self._describe()
        with self.broker.trouble():
            self._producer = Producer(self.broker.channel, auto_declare=False)
            if self.broker.transport.speaks_amqp:
                self._pipeline = _Pipeline(self.broker, self._producer, self._form)

    def _describe(self) -> None:
        """Once: what this broker does to keep its messages, where that is a matter of its configuration."""
        if self._is_described:
            return
        if (durability := self.broker.durability()) is not None:
            (log.info if durability == KEPT else log.warning)("queue_durability", **durability)
        self._is_described = True

    def _send(self, messages: Sequence[Message], result: Result) -> None:
        with self.broker.trouble():
            if self._pipeline is not None:
                self._pipeline.send(messages, result)
            else:
                self._send_each(messages, result)
            if result.returned:
                raise self.broker.fault("unroutable")
            if self.broker.is_blocked:
                result.trouble = self.broker.fault("blocked")

    def _send_each(self, messages: Sequence[Message], result: Result) -> None:
        for message in messages:
            packed = formats.packed(message, self._form)
            self._producer.publish(
                packed.body,
                routing_key=self.broker.queue.queue,
                # What a FIFO queue of SQS keeps in order, and what it drops as a repetition.
                MessageGroupId=message.fax_id,
                MessageDeduplicationId=message.event_id,
                **_properties(message, packed),
            )
            result.confirmed.add(message.event_id)


def make(sink: Sink, state_dir: Path) -> Publisher:
    assert sink.queue is not None
    return Publisher(sink.queue, state_dir, sink.format)


class _Pipeline:
    """Publisher confirms without waiting for each: delivery tags count the messages of a channel from 1."""

    def __init__(self, broker: Broker, producer: Any, form: str) -> None:
        self._form = form
        self._broker = broker
        self._producer = producer
        self._tag = 0
        self._unconfirmed: dict[int, str] = {}  # delivery tag -> event id
        self._returned: set[str] = set()
        self._result = Result()
        channel = broker.channel
        channel.confirm_select()
        channel.events["basic_ack"].add(self._acked)
        channel.events["basic_nack"].add(self._nacked)
        channel.events["basic_return"].add(self._came_back)

    @property
    def is_empty(self) -> bool:
        return not self._unconfirmed

    def send(self, messages: Sequence[Message], result: Result) -> None:
        """Publish those that are not under way, and await the confirms of all; of a blocked broker, neither."""
        self._result = result
        under_way = set(self._unconfirmed.values())
        for message in messages:
            if self._broker.is_blocked:
                break
            if message.event_id not in under_way:
                self._publish(message)
        self._await()

    def _publish(self, message: Message) -> None:
        self._tag += 1
        self._unconfirmed[self._tag] = message.event_id
        packed = formats.packed(message, self._form)
        self._producer.publish(
            packed.body,
            exchange=self._broker.queue.exchange,
            routing_key=message.routing_key,
            mandatory=True,
            app_id="faxhook",
            **_properties(message, packed),
        )

    def _await(self) -> None:
        deadline = time.monotonic() + CONFIRM_SECONDS
        while self._unconfirmed or self._broker.is_blocked:
            if self._broker.wait(_SLICE_SECONDS):
                deadline = time.monotonic() + CONFIRM_SECONDS
            elif self._broker.is_blocked:
                return  # it has said that it will go on, so sending again would only make copies
            elif time.monotonic() >= deadline:
                raise self._broker.fault("timeout")

    def _acked(self, tag: int, multiple: bool) -> None:
        for event_id in self._take(tag, multiple):
            # A message that nothing is bound for is confirmed as well, after it has come back.
            (self._result.returned if event_id in self._returned else self._result.confirmed).add(event_id)

    def _nacked(self, tag: int, multiple: bool) -> None:
        self._result.returned.update(self._take(tag, multiple))

    def _came_back(self, _error: Exception, _exchange: str, _routing_key: str, message: Any) -> None:
        self._returned.add(message.properties["message_id"])

    def _take(self, tag: int, multiple: bool) -> list[str]:
        tags = list(takewhile(lambda one: one <= tag, self._unconfirmed)) if multiple else [tag]
        return [self._unconfirmed.pop(one) for one in tags]


def _properties(message: Message, packed: Packed) -> dict[str, Any]:
    return {
        "message_id": message.event_id,
        "content_type": packed.content_type,
        **({"headers": headers} if (headers := _headers(packed)) else {}),
        "content_encoding": "utf-8",
        "delivery_mode": _PERSISTENT,
    }


def _headers(packed: Packed) -> dict[str, str]:
    """As CloudEvents has them in AMQP, and those that have no prefix."""
    return {f"cloudEvents_{name}": value for name, value in packed.attributes.items()} | dict(packed.headers)
