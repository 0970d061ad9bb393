"""
What a broker has returned holds the later events of its fax, no other ones, and is tried again in time.

The broker here is a list: the tests of the real one cannot say when which message comes back.
"""

from contextlib import nullcontext

import pytest
from announcing import NOON, failed, fax, identity, numbered, tell
from test_late_commits import uncommitted

from receiver.outgoing import delivery as delivering
from receiver.outgoing.publisher import Result


class Returning:
    """In the publisher's place: it returns events of one fax as long as it is told to. sent: what was confirmed."""

    class broker:  # noqa: N801 - an attribute of the publisher
        class transport:  # noqa: N801
            largest = None

    def __init__(self):
        self.returns = str(identity("returned"))
        self.sent = []
        self.meanwhile = lambda: None

    def publish(self, messages):
        result = Result()
        for message in messages:
            back = message.fax_id == self.returns
            (result.returned if back else result.confirmed).add(message.event_id)
            if not back:
                self.sent.append((message.fax_id, message.routing_key))
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
def broker(monkeypatch):
    one = Returning()
    monkeypatch.setattr(delivering, "Publisher", lambda *_: one)
    return one


def delivery_of(store, tmp_path):
    return delivering.Delivery(store, None, tmp_path, NeverStopped())


def test_no_event_overtakes_another_of_its_fax_while_a_third_has_come_back(store, broker, tmp_path):
    tell(store, fax("F"))
    tell(store, failed("F", completed_at=NOON))
    tell(store, fax("returned"))
    tell(store, *numbered(delivering.BATCH - 2))
    tell(store, fax("F", completed_at=NOON))
    delivery = delivery_of(store, tmp_path)
    for _ in range(6):
        delivery.step()
    assert broker.of("F") == ["fax.completed.delivered", "fax.amended.failed", "fax.amended.delivered"]


@pytest.mark.service("postgresql")
def test_what_commits_late_is_not_overtaken_while_another_has_come_back(postgresql, broker, tmp_path):
    delivery = delivery_of(postgresql, tmp_path)
    with uncommitted(postgresql, fax("F")):
        tell(postgresql, fax("returned"))
        delivery.step()
    tell(postgresql, failed("F", completed_at=NOON))
    for _ in range(4):
        delivery.step()
    assert broker.of("F") == ["fax.completed.delivered", "fax.amended.failed"]


def test_what_came_back_is_tried_again_under_steady_traffic(store, broker, tmp_path, monkeypatch):
    monkeypatch.setattr(delivering, "_LONGEST_DELAY_SECONDS", 0.0)
    delivery = delivery_of(store, tmp_path)
    tell(store, fax("returned"))
    delivery.step()
    broker.returns = None
    for number in range(3):
        tell(store, fax(f"{number}"))
        delivery.step()
    assert broker.of("returned") == ["fax.completed.delivered"]


def test_however_many_cannot_be_sent_the_next_one_that_can_is_sent(sqlite, broker, tmp_path, monkeypatch):
    tell(sqlite, *numbered(1000))
    tell(sqlite, fax("F"))
    events = sqlite.tables.events
    with sqlite.writing() as connection:
        connection.execute(events.update().where(events.c.fax_id != str(identity("F"))).values(body=b""))
    monkeypatch.setattr(delivering, "BATCH", 1)
    delivery_of(sqlite, tmp_path).step()
    assert broker.of("F") == ["fax.completed.delivered"]
