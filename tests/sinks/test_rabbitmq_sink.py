"""RabbitMQ as a sink passes the contract; what is RabbitMQ's alone is in ``test_publisher.py`` and its neighbours."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import amqp
import pytest
from brokers import Line, new_line
from contract import Contract, Received, Stand

from receiver.outgoing import broker
from receiver.outgoing import publisher as publishing
from receiver.settings import Queue, Sink

pytestmark = pytest.mark.service("rabbitmq")


class RabbitmqStand(Stand):
    name = "RabbitMQ"
    cannot = MappingProxyType(
        {
            "what_is_too_large_is_to_blame_and_the_others_go": "the shared server takes 128 MiB;"
            " test_broker_faults.py has a node that takes less",
            "tls_is_checked": "test_broker_tls.py has a server with certificates",
        }
    )

    def __init__(self, line: Line) -> None:
        super().__init__(5672)
        self._line = line
        self._received: list[Received] = []

    def sink(self, **changes: Any) -> Sink:
        return self._at(f"amqp://guest:guest@127.0.0.1:{self.cable.port}//", **changes)

    def _at(self, url: str, *, declare: bool = True, **changes: Any) -> Sink:
        queue = Queue(url, self._line.exchange, self._line.queue, declare)
        return replace(Sink("contract", url, queue=queue), **changes)

    def received(self) -> list[Received]:
        with suppress(amqp.NotFound):  # before the relay has made it
            self._received += [(one.event_id, one.body) for one in self._line.take()]
        return self._received

    def hurry(self, patch: pytest.MonkeyPatch) -> None:
        patch.setattr(publishing, "CONFIRM_SECONDS", 1.0)
        patch.setattr(broker, "SOCKET_SECONDS", 1.0)
        patch.setattr(broker, "CONNECT_SECONDS", 1.0)

    def stranger(self) -> Sink:
        return self._at(f"amqp://guest:wrong@127.0.0.1:{self.cable.port}//")

    @contextmanager
    def unroutable(self) -> Iterator[Sink]:
        self._line.make()
        with self._line.channel() as channel:
            channel.queue_unbind(self._line.queue, self._line.exchange, "fax.#")
        yield self._at(f"amqp://guest:guest@127.0.0.1:{self.cable.port}//", declare=False)


@pytest.fixture
def stand() -> Iterator[RabbitmqStand]:
    line = new_line()
    made = RabbitmqStand(line)
    yield made
    made.close()
    line.remove()


class TestRabbitmq(Contract):
    pass
