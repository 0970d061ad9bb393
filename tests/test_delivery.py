"""Rows of the outbox on their way to RabbitMQ: nothing counts as published that has not arrived, whatever breaks."""

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from brokers import Line, Received
from served import in_order, running
from stock import Stock
from waiting import until

from receiver import store as storing
from receiver.errors import Unavailable
from receiver.outgoing import delivery as delivering
from receiver.outgoing import place as reading_place
from receiver.outgoing.delivery import Delivery
from receiver.outgoing.publisher import Message, Publisher, Result
from receiver.settings import Queue
from receiver.store import now_ms, outbox
from receiver.store.tables import QUEUE
from receiver.system.stopping import Stop

pytestmark = pytest.mark.service("rabbitmq")


@pytest.fixture
def delivery(filled: Stock, line: Line, tmp_path: Path) -> Iterator[Delivery]:
    with opened(filled, line.settings(), tmp_path) as one:
        yield one


@contextmanager
def opened(made: Stock, queue: Queue, folder: Path) -> Iterator[Delivery]:
    one = Delivery(made.runtime.store, Publisher(queue, folder), Stop())
    try:
        yield one
    finally:
        one.end()


def deliver(delivery: Delivery, made: Stock, **states: int) -> None:
    """Step until the events are in these states."""
    until(lambda: (delivery.step(), made.states() == states)[1])


def reasons(capsys: pytest.CaptureFixture[str], event: str = "publish_failed") -> list[str]:
    """Of what has been logged since the last look."""
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    return [line["reason"] for line in lines if line["event"] == event]


def revise(made: Stock, faxes: int = 5) -> int:
    """Two events of each fax; how many that makes."""
    for status in ("0", "2"):
        for number in range(faxes):
            made.fax(number, status=status)
    return 2 * faxes


# --- all is well -----------------------------------------------------------------------------------------------------


def test_every_row_arrives_as_it_is_stored_and_those_of_a_fax_in_their_order(
    anywhere: Stock, line: Line, tmp_path: Path
) -> None:
    count = revise(anywhere, 120)
    with opened(anywhere, line.settings(), tmp_path) as one:
        deliver(one, anywhere, published=count)
    received = line.take()
    assert len(received) == count
    assert {one.event_id for one in received} == {event["id"] for event in anywhere.events()}
    for one in received[:10] + received[-10:]:
        assert one.body == anywhere.payload(one.event_id)
        assert one.event_id == json.loads(one.body)["id"]
    assert in_order(received)
    assert {one.routing_key for one in received} == {"fax.completed.delivered", "fax.amended.failed"}


def test_switching_from_the_embedded_queue_sends_exactly_what_was_not_acknowledged(
    anywhere: Stock, line: Line, tmp_path: Path
) -> None:
    anywhere.fill(9)
    store = anywhere.runtime.store
    dead = f"{outbox.owner().partition('/')[0]}/999999999/1"
    with store.writing() as connection:
        leased, _ = outbox.lease(connection, store.tables, dead, 6, now_ms())
        outbox.acknowledge(connection, store.tables, dead, leased[:3], now_ms())
    assert anywhere.states() == {"published": 3, "leased": 3, "pending": 3}
    expected = [event["id"] for event in anywhere.events() if event["state"] != "published"]
    anywhere.config.write_text(anywhere.config.read_text() + line.toml())
    with running(anywhere, "relay") as relay:
        until(lambda: anywhere.states() == {"published": 9})
        relay.terminate()
        assert relay.wait(60) == 0
    assert sorted(one.event_id for one in line.take()) == sorted(expected)


def test_what_is_republished_is_the_same_event_again(delivery: Delivery, filled: Stock, line: Line) -> None:
    filled.fill(3)
    deliver(delivery, filled, published=3)
    first = line.take()
    process = filled.start("events", "republish", "--id", first[1].event_id)
    assert b"1 event put into the queue again" in process.communicate(timeout=120)[0]
    deliver(delivery, filled, published=3)
    (again,) = line.take()
    assert (again.event_id, again.body, again.routing_key) == (first[1].event_id, first[1].body, first[1].routing_key)


# --- the broker does not take it -------------------------------------------------------------------------------------


def test_a_binding_that_is_gone_holds_events_until_it_is_back(
    delivery: Delivery, filled: Stock, line: Line, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line.make()
    with opened(filled, line.settings(declare=False), tmp_path) as one:
        filled.fax(1000)
        deliver(one, filled, published=1)
        with line.channel() as channel:
            channel.queue_unbind(line.queue, line.exchange, "fax.#")
        count = revise(filled)
        for _ in range(3):
            assert one.step() == 0
        assert filled.states() == {"published": 1, "pending": count}
        assert set(reasons(capsys)) == {"unroutable"}
        assert one.trouble == "unroutable"
        line.bind()
        deliver(one, filled, published=1 + count)
        assert one.trouble is None
    received = line.take()
    assert len(received) == 1 + count
    assert in_order(received)


def test_a_deleted_queue_is_made_again_and_nothing_is_lost(
    delivery: Delivery, filled: Stock, line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    filled.fax(1000)
    deliver(delivery, filled, published=1)
    with line.channel() as channel:
        channel.queue_delete(line.queue)
    count = revise(filled)
    assert delivery.step() == 0
    assert filled.states() == {"published": 1, "pending": count}
    deliver(delivery, filled, published=1 + count)
    assert reasons(capsys) == ["unroutable"]
    received = line.take()
    assert len(received) == count
    assert in_order(received)


def test_a_deleted_exchange_is_made_again_and_nothing_is_lost(
    delivery: Delivery, filled: Stock, line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    filled.fax(1000)
    deliver(delivery, filled, published=1)
    with line.channel() as channel:
        channel.exchange_delete(line.exchange)
    count = revise(filled)
    assert delivery.step() == 0
    assert filled.states() == {"published": 1, "pending": count}
    deliver(delivery, filled, published=1 + count)
    assert reasons(capsys) == ["missing"]
    received = line.take()
    assert len(received) == 1 + count
    assert in_order(received)


@pytest.mark.parametrize(("thing", "expected"), [("exchange", "exchange_missing"), ("queue", "queue_missing")])
def test_what_is_deleted_and_not_ours_to_declare_is_waited_for(
    filled: Stock, line: Line, tmp_path: Path, capsys: pytest.CaptureFixture[str], thing: str, expected: str
) -> None:
    line.make()
    with opened(filled, line.settings(declare=False), tmp_path) as one:
        filled.fax(1000)
        deliver(one, filled, published=1)
        with line.channel() as channel:
            channel.queue_delete(line.queue) if thing == "queue" else channel.exchange_delete(line.exchange)
        count = revise(filled)
        for _ in range(4):
            one.step()
        assert filled.states() == {"published": 1, "pending": count}
        assert expected in reasons(capsys)
        line.make()
        deliver(one, filled, published=1 + count)


def test_a_full_queue_says_no_and_takes_the_rest_when_there_is_room(
    delivery: Delivery, filled: Stock, line: Line
) -> None:
    line.make(**{"x-max-length": 3, "x-overflow": "reject-publish"})
    count = revise(filled)
    received: list[Received] = []
    for _ in range(4):
        delivery.step()
    in_queue = filled.states()["published"]
    assert 3 <= in_queue < count  # RabbitMQ counts what is under way a little late
    assert filled.states() == {"published": in_queue, "pending": count - in_queue}
    until(lambda: (received.extend(line.take()), delivery.step(), filled.states() == {"published": count})[2])
    received += line.take()
    assert sorted(one.event_id for one in received) == sorted(event["id"] for event in filled.events())
    assert in_order(received)


def test_an_event_that_nothing_is_bound_for_does_not_hold_the_others(
    filled: Stock, line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Publisher, "most", 4)
    line.make()
    with line.channel() as channel:
        channel.queue_unbind(line.queue, line.exchange, "fax.#")
        channel.queue_bind(line.queue, line.exchange, "fax.completed.delivered")
    for number in range(10):
        filled.fax(number, status="2")  # failed
    for number in range(10, 15):
        filled.fax(number)
    with opened(filled, line.settings(declare=False), tmp_path) as one:
        deliver(one, filled, published=5, pending=10)
        line.bind()
        deliver(one, filled, published=15)
    assert len(line.take()) == 15


# --- a row is not as it was, or the store does not take the mark -----------------------------------------------------


def test_a_damaged_row_is_parked_and_the_others_go_on(
    anywhere: Stock, line: Line, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    anywhere.fill(5)
    victim = anywhere.events()[2]["id"]
    anywhere.rewrite(victim, body=b'{"id": "other"}')
    with opened(anywhere, line.settings(), tmp_path) as one:
        deliver(one, anywhere, published=4, dead=1)
    assert victim not in {one.event_id for one in line.take()}
    assert reasons(capsys, "dead_letter") == ["damaged"]
    assert [event["id"] for event in anywhere.events() if event["state"] == "dead"] == [victim]


def test_while_the_store_is_locked_nothing_is_sent_twice(
    delivery: Delivery, filled: Stock, line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another writer takes its turn when the broker has confirmed, and keeps it over several tries."""
    monkeypatch.setattr(storing, "BUSY_SECONDS", 0.3)
    filled.fill(10)
    publish = delivery._publisher.publish
    with (tmp_path / "store" / "faxhook.db.lock").open("ab") as other:

        def then_lock(messages: list[Message]) -> Result:
            result = publish(messages)
            fcntl.flock(other, fcntl.LOCK_EX)
            return result

        monkeypatch.setattr(delivery._publisher, "publish", then_lock)
        for _ in range(3):
            with pytest.raises(Unavailable):
                delivery.step()
        assert filled.states() == {"pending": 10}
    deliver(delivery, filled, published=10)
    assert sorted(one.event_id for one in line.take()) == sorted(event["id"] for event in filled.events())


def test_what_was_confirmed_before_a_failure_is_marked(
    delivery: Delivery, filled: Stock, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first half arrives, and then the connection is gone."""
    filled.fill(10)
    assert delivery.step() == 10
    for number in range(10):
        filled.fax(number)
    pipeline: Any = delivery._publisher._pipeline
    send = pipeline._publish

    def break_off(message: Message) -> None:
        if pipeline._tag == 15:
            until(lambda: delivery._publisher.broker.wait(0.1) and pipeline.is_empty)
            pipeline._broker.channel.connection.sock.close()
        send(message)

    monkeypatch.setattr(pipeline, "_publish", break_off)
    delivery.step()
    assert filled.states() == {"published": 15, "pending": 5}
    deliver(delivery, filled, published=20)
    assert len(line.take()) == 20


def test_where_reading_begins_is_not_remembered_for_ever(anywhere: Stock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading_place, "_LATE_SECONDS", 0.0)
    waiting = delivering._Waiting(anywhere.runtime.store, QUEUE, 200)
    anywhere.fill(1)
    for _ in range(20):
        assert len(waiting.read(0, set())) == 1
    assert len(waiting._place._turns) < 4
