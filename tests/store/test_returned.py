"""
What a broker has returned holds the later events of its fax, no other ones, and is tried again in time.

The broker here is a list: the tests of the real one cannot say when which message comes back.
"""

from contextlib import nullcontext

import pytest
from announcing import NOON, failed, fax, identity, numbered, tell
from test_late_commits import uncommitted

from receiver.errors import BrokerTrouble
from receiver.outgoing import delivery as delivering
from receiver.outgoing.contract import Result


class Returning:
    """In the publisher's place: it returns events of one fax as long as it is told to. sent: what was confirmed."""

    most = 200
    longest_delay = 10.0
    largest = None

    def __init__(self):
        self.returns = str(identity("returned"))
        self.sent = []
        self.is_well = False  # it says so by no trouble when it returns something
        self.asked_again = 0
        self.meanwhile = lambda: None

    def publish(self, messages):
        result = Result()
        for message in messages:
            back = message.fax_id == self.returns
            (result.returned if back else result.confirmed).add(message.event_id)
            if not back:
                self.sent.append((message.fax_id, message.routing_key))
        self.asked_again += len(result.returned)
        if result.returned and not self.is_well:
            result.trouble = BrokerTrouble("unroutable")
        self.meanwhile()
        return result

    def of(self, key):
        """In which order the events of a fax were sent."""
        return [routing_key for fax_id, routing_key in self.sent if fax_id == str(identity(key))]


class NeverStopped:
    asked = False

    def interrupting(self, _seconds):
        return nullcontext()


@pytest.fixture
def broker():
    return Returning()


def delivery_of(store, broker):
    return delivering.Delivery(store, broker, NeverStopped())


def test_no_event_overtakes_another_of_its_fax_while_a_third_has_come_back(store, broker):
    tell(store, fax("F"))
    tell(store, failed("F", completed_at=NOON))
    tell(store, fax("returned"))
    tell(store, *numbered(Returning.most - 2))
    tell(store, fax("F", completed_at=NOON))
    delivery = delivery_of(store, broker)
    for _ in range(6):
        delivery.step()
    assert broker.of("F") == ["fax.completed.delivered", "fax.amended.failed", "fax.amended.delivered"]


@pytest.mark.service("postgresql")
def test_what_commits_late_is_not_overtaken_while_another_has_come_back(postgresql, broker):
    delivery = delivery_of(postgresql, broker)
    with uncommitted(postgresql, fax("F")):
        tell(postgresql, fax("returned"))
        delivery.step()
    tell(postgresql, failed("F", completed_at=NOON))
    for _ in range(4):
        delivery.step()
    assert broker.of("F") == ["fax.completed.delivered", "fax.amended.failed"]


def test_what_came_back_is_tried_again_under_steady_traffic(store, broker, monkeypatch):
    monkeypatch.setattr(delivering, "_AGAIN_SECONDS", 0.0)
    delivery = delivery_of(store, broker)
    tell(store, fax("returned"))
    delivery.step()
    broker.returns = None
    for number in range(3):
        tell(store, fax(f"{number}"))
        delivery.step()
    assert broker.of("returned") == ["fax.completed.delivered"]


def test_however_many_cannot_be_sent_the_next_one_that_can_is_sent(sqlite, broker):
    tell(sqlite, *numbered(1000))
    tell(sqlite, fax("F"))
    events = sqlite.tables.events
    with sqlite.writing() as connection:
        connection.execute(events.update().where(events.c.fax_id != str(identity("F"))).values(body=b""))
    broker.most = 1
    delivery_of(sqlite, broker).step()
    assert broker.of("F") == ["fax.completed.delivered"]


def test_what_alone_comes_back_waits_longer_and_longer_while_the_others_go_on(store, broker, monkeypatch):
    """A sink that takes other events is well: only a later event of the same fax waits with the one it did not take."""
    delivery = delivery_of(store, broker)
    broker.is_well = True
    tell(store, fax("returned"))
    tell(store, failed("returned", completed_at=NOON))
    for number in range(5):
        tell(store, fax(f"other {number}"))
        assert delivery.step() == 1
        assert delivery.due == 0.0
    assert broker.of("returned") == []
    assert broker.asked_again == 1
    monkeypatch.setattr(delivery, "_again_due", 0.0)
    delivery.step()
    assert broker.asked_again == 2
    broker.returns = None
    monkeypatch.setattr(delivery, "_again_due", 0.0)
    for _ in range(3):
        delivery.step()
    assert broker.of("returned") == ["fax.completed.delivered", "fax.amended.failed"]
