"""Kafka passes the contract, against librdkafka's mock cluster in a process of its own."""

import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, TopicPartition
from contract import TRACEPARENT, Contract, Received, Stand, arrive, message, opened

from receiver.errors import ConfigurationError
from receiver.outgoing.sinks import kafka, publisher
from receiver.settings import Sink

_PARTITIONS = 2
_PRODUCE = 0  # the number of that request
_NO_LOGIN = "the mock cluster knows no login and no TLS: nothing here has tried either"


class KafkaStand(Stand):
    name = "Kafka"
    cannot = MappingProxyType({"who_is_not_let_in_is_told_so": _NO_LOGIN, "tls_is_checked": _NO_LOGIN})

    def __init__(self) -> None:
        self.topic = f"faxes-{secrets.token_hex(4)}"
        command = [sys.executable, str(Path(__file__).with_name("mock_kafka.py")), self.topic]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.address = self._process.stdout.readline().strip()
        self._is_frozen = False

    def order(self, line: str) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "done\n"

    def sink(self, **changes: Any) -> Sink:
        return replace(Sink("contract", f"kafka://{self.address}/{self.topic}"), **changes)

    def received(self) -> list[Received]:
        return [(event_id(one), one.value()) for one in self.messages()]

    def messages(self) -> list[Any]:
        """Those of a partition in their order."""
        consumer = Consumer(
            {"bootstrap.servers": self.address, "group.id": secrets.token_hex(4), "enable.partition.eof": True},
            logger=kafka._SILENT,
        )
        partitions = [TopicPartition(self.topic, number, 0) for number in range(_PARTITIONS)]
        consumer.assign(partitions)
        found, ended, deadline = [], set(), time.monotonic() + 60
        while len(ended) < _PARTITIONS:
            assert time.monotonic() < deadline
            one = consumer.poll(0.1)
            if one is None:
                continue
            if one.error() is None:
                found.append(one)
            elif one.error().code() == KafkaError._PARTITION_EOF:
                ended.add(one.partition())
        consumer.close()
        return found

    def hurry(self, patch: pytest.MonkeyPatch) -> None:
        patch.setattr(kafka, "REPORT_SECONDS", 1.5)

    def refuse(self) -> None:
        self.order("down")

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)
        self._is_frozen = True

    def mute(self) -> None:
        self.order("rtt 20000")

    def drop(self) -> None:
        self.order("down")
        self.order("up")

    def slow_down(self) -> None:
        self.order("rtt 300")

    def mend(self) -> None:
        if self._is_frozen:
            self._process.send_signal(signal.SIGCONT)
        self._is_frozen = False
        self.order("rtt 0")
        self.order("up")

    @contextmanager
    def unroutable(self) -> Iterator[Sink]:
        self.order("unknown elsewhere")
        yield self.sink(url=f"kafka://{self.address}/elsewhere")

    def close(self) -> None:
        self._process.kill()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()
        self._process.wait(60)


def event_id(one: Any) -> str:
    import json

    return str(json.loads(one.value())["id"])


@pytest.fixture
def stand() -> Iterator[KafkaStand]:
    made = KafkaStand()
    yield made
    made.close()


class TestKafka(Contract):
    pass


def test_the_fax_is_the_key(stand: KafkaStand, tmp_path: Path) -> None:
    sent = message()
    with opened(stand.sink(), tmp_path) as one:
        arrive(one, [sent])
    (got,) = stand.messages()
    assert got.key().decode() == sent.fax_id
    assert dict(got.headers())["content-type"] == b"application/cloudevents+json"
    assert dict(got.headers())["traceparent"] == TRACEPARENT.encode()


@pytest.mark.parametrize("code", [KafkaError.NOT_ENOUGH_REPLICAS, KafkaError.NOT_LEADER_FOR_PARTITION])
def test_an_error_that_passes_loses_nothing(stand: KafkaStand, tmp_path: Path, code: int) -> None:
    messages = [message() for _ in range(10)]
    stand.order(f"errors {_PRODUCE} {code} {code}")
    with opened(stand.sink(), tmp_path) as one:
        arrive(one, messages)
    assert sorted(stand.received()) == sorted((one.event_id, one.body) for one in messages)


def test_an_error_that_stays_is_trouble_and_the_next_producer_is_a_fresh_one(stand: KafkaStand, tmp_path: Path) -> None:
    stand.order(f"errors {_PRODUCE} {KafkaError.TOPIC_AUTHORIZATION_FAILED}")
    with opened(stand.sink(), tmp_path) as one:
        result = one.publish([message()])
        assert result.trouble is not None
        assert result.trouble.kind == "forbidden"
        assert one.publish([message()]).trouble is None


@pytest.mark.parametrize(
    "url", ["kafka://host", "kafka:///x", "kafka://h/a/b", "kafka://u:p@h/x?sasl=NONE", "kafka://h/x?sasl=PLAIN"]
)
def test_a_url_that_cannot_be_one_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"sinks\.x\.url"):
        publisher(Sink("x", url), tmp_path)
