"""What arrives at RabbitMQ and where, by a relay's publisher; and what it says when that cannot be."""

import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import amqp
import pytest
from brokers import Line

from receiver.errors import BrokerTrouble
from receiver.outgoing import broker
from receiver.outgoing.publisher import Message, Publisher, Result
from receiver.settings import Queue
from receiver.system.stopping import Stop
from schemas.envelope import AMENDED, COMPLETED, CONTENT_TYPE, routing_key

pytestmark = pytest.mark.service("rabbitmq")

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
BODY = b'{"traceparent":"%s","data":{"from": "\xc3\xa9"}}' % TRACEPARENT.encode()
EVENT = Message("event 0", "fax 0", "fax.completed.delivered", BODY)


def message(number: int) -> Message:
    return Message(f"event {number}", f"fax {number}", "fax.completed.failed", b"{}")


@pytest.fixture
def publisher(line: Line, tmp_path: Path) -> Iterator[Publisher]:
    made = Publisher(line.settings(), tmp_path)
    yield made
    made.close(Stop())


def publish_once(queue: Queue, folder: Path) -> Result:
    made = Publisher(queue, folder)
    try:
        return made.publish([EVENT])
    finally:
        made.close(Stop())


def reason(result: Result) -> str:
    assert result.confirmed == set()
    assert result.trouble is not None
    return result.trouble.kind


def test_a_confirmed_event_is_in_the_queue_as_it_was_stored(publisher: Publisher, line: Line) -> None:
    result = publisher.publish([EVENT])
    assert (result.confirmed, result.returned, result.trouble) == ({EVENT.event_id}, set(), None)
    (received,) = line.take()
    assert received.body == EVENT.body
    assert received.routing_key == EVENT.routing_key
    assert received.properties["message_id"] == EVENT.event_id
    assert received.properties["content_type"] == CONTENT_TYPE == "application/cloudevents+json"
    assert received.properties["delivery_mode"] == 2
    assert received.properties["application_headers"]["traceparent"] == TRACEPARENT


def test_a_batch_is_confirmed_whole_and_arrives_in_order(publisher: Publisher, line: Line) -> None:
    sent = [message(number) for number in range(200)]
    for _ in range(2):  # the second time on the same channel, whose tags go on
        assert publisher.publish(sent).confirmed == {one.event_id for one in sent}
        assert [one.event_id for one in line.take()] == [one.event_id for one in sent]


def test_both_outcomes_and_amendments_reach_the_queue(publisher: Publisher, line: Line) -> None:
    keys = [routing_key(kind, outcome) for kind in (COMPLETED, AMENDED) for outcome in ("delivered", "failed")]
    result = publisher.publish([Message(key, key, key, b"{}") for key in keys])
    assert result.trouble is None
    assert [one.routing_key for one in line.take()] == keys
    assert keys[0] == "fax.completed.delivered"


def test_what_a_consumer_rejects_becomes_a_dead_letter_of_a_quorum_queue(publisher: Publisher, line: Line) -> None:
    publisher.publish([EVENT])
    with line.channel() as channel:
        arguments = {"x-queue-type": "quorum", "x-dead-letter-exchange": f"{line.exchange}.dead"}
        channel.queue_declare(line.queue, durable=True, auto_delete=False, arguments=arguments)  # it is that already
        channel.queue_declare(
            f"{line.queue}.dead", durable=True, auto_delete=False, arguments={"x-queue-type": "quorum"}
        )
        got = channel.basic_get(line.queue)
        channel.basic_reject(got.delivery_tag, requeue=False)
        dead = line.collect(1, f"{line.queue}.dead")
    assert [one.body for one in dead] == [EVENT.body]
    assert line.take() == []


def test_a_queue_that_somebody_has_made_is_used_as_it_is(publisher: Publisher, line: Line) -> None:
    line.make(**{"x-max-length": 1000})
    assert publisher.publish([EVENT]).trouble is None
    assert len(line.take()) == 1
    with line.channel() as channel, pytest.raises(amqp.NotFound):
        channel.queue_declare(f"{line.queue}.dead", passive=True)


def test_without_declare_nothing_is_made_and_what_is_missing_is_named(line: Line, tmp_path: Path) -> None:
    queue = line.settings(declare=False)
    assert reason(publish_once(queue, tmp_path)) == "exchange_missing"
    with line.channel() as channel:
        channel.exchange_declare(line.exchange, "topic", durable=True, auto_delete=False)
    assert reason(publish_once(queue, tmp_path)) == "queue_missing"
    with line.channel() as channel:
        channel.queue_declare(line.queue, durable=True, auto_delete=False)
    assert reason(publish_once(queue, tmp_path)) == "unroutable"
    line.bind()
    assert publish_once(queue, tmp_path).confirmed == {EVENT.event_id}


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("amqp://guest:wrong@127.0.0.1:5672//", "forbidden"),
        (f"amqp://guest:guest@127.0.0.1:5672/{quote('no such vhost')}", "forbidden"),
        ("amqp://guest:guest@127.0.0.1:19/", "connection"),
    ],
)
def test_a_broker_that_does_not_let_us_in_is_told_from_one_that_is_not_there(
    line: Line, tmp_path: Path, url: str, expected: str
) -> None:
    started = time.monotonic()
    assert reason(publish_once(line.settings(url=url), tmp_path)) == expected
    assert time.monotonic() - started < 60


def test_one_of_several_brokers_is_enough(line: Line, tmp_path: Path) -> None:
    queue = line.settings(url=f"amqp://guest:guest@127.0.0.1:19/;{line.url}")
    assert publish_once(queue, tmp_path).confirmed == {EVENT.event_id}


def test_heartbeats_keep_an_idle_connection(line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "HEARTBEAT_SECONDS", 1.0)
    kept, left = Publisher(line.settings(), tmp_path), Publisher(line.settings(), tmp_path)
    assert kept.publish([EVENT]).trouble is None
    assert left.publish([EVENT]).trouble is None
    channel = kept.broker.channel
    deadline = time.monotonic() + 4
    while time.monotonic() < deadline:
        kept.idle(0.2)
    assert kept.publish([EVENT]).trouble is None
    assert kept.broker.channel is channel
    with pytest.raises(BrokerTrouble, match="connection"):
        left.idle(0.2)  # the broker has closed this one: the heartbeats were asked for
    assert left.publish([EVENT]).confirmed == {EVENT.event_id}
    for one in (kept, left):
        one.close(Stop())


def test_a_connection_is_left_in_good_order(publisher: Publisher, line: Line) -> None:
    publisher.publish([EVENT])
    sock = publisher.broker.channel.connection.sock
    publisher.close(Stop())
    assert sock.fileno() == -1
    assert publisher.publish([EVENT]).confirmed == {EVENT.event_id}
