"""The outbox as a queue, on both databases."""

import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from announcing import NOON, NUMBER, fax, numbered, rows, states, tell

from receiver.store import Store, browsing, outbox, republishing, rfc3339
from receiver.store.republishing import Chosen

NOW = 1_800_000_000_000
SOON = NOW + outbox.LEASE_SECONDS * 1000 - 1
AFTER = NOW + outbox.LEASE_SECONDS * 1000


def lease(store, holder, limit=100, now=NOW):
    with store.writing() as connection:
        return outbox.lease(connection, store.tables, holder, limit, now)


def acknowledge(store, holder, leased):
    with store.writing() as connection:
        return outbox.acknowledge(connection, store.tables, holder, leased, NOW)


def reclaim(store, now):
    with store.writing() as connection:
        return outbox.reclaim(connection, store.tables, now)


def elsewhere(name="a"):
    return f"{name}.example/1/2"


def test_rows_are_leased_in_order_with_the_published_bytes(store):
    told = tell(store, *numbered(5)).events
    leased, damaged = lease(store, "me", limit=3)
    assert [row.event_id for row in leased] == told[:3]
    assert damaged == []
    assert {row.seq: row.body for row in leased}.items() <= dict(rows(store, "events", "seq", "body")).items()
    assert [(row.type, row.outcome) for row in leased] == [("fax.completed.v1", "delivered")] * 3
    assert states(store) == ["leased"] * 3 + ["pending"] * 2


def test_a_leased_row_is_nobody_elses(store):
    tell(store, *numbered(3))
    first, _ = lease(store, "me", limit=2)
    second, _ = lease(store, "you")
    assert {row.seq for row in first} & {row.seq for row in second} == set()
    assert len(second) == 1


def test_an_acknowledged_row_is_published_and_does_not_come_back(store):
    tell(store, fax())
    leased, _ = lease(store, "me")
    assert acknowledge(store, "me", leased) == 1
    with store.reading() as connection:
        (row,) = browsing.events(connection, store.tables, limit=10)
    assert (row["state"], row["published_at"], rows(store, "waiting")) == ("published", rfc3339(NOW), [])
    assert acknowledge(store, "me", leased) == 0
    assert reclaim(store, AFTER) == 0
    assert lease(store, "me") == ([], [])


def test_only_its_holder_acknowledges_a_row(store):
    tell(store, fax())
    leased, _ = lease(store, "me")
    assert acknowledge(store, "you", leased) == 0
    assert states(store) == ["leased"]


def test_released_rows_come_again(store):
    tell(store, *numbered(2))
    first, _ = lease(store, "me")
    with store.writing() as connection:
        assert outbox.release(connection, store.tables, "you") == 0
        assert outbox.release(connection, store.tables, "me") == 2
    assert lease(store, "you")[0] == first


def test_no_row_of_a_fax_leaves_while_an_earlier_one_is_not_acknowledged(store):
    tell(store, fax("1"), fax("2"))
    tell(store, fax("1", recipient=NUMBER))
    tell(store, fax("1", completed_at=NOON))
    first, _ = lease(store, "me")
    assert len(first) == 2, "one of each fax"
    assert lease(store, "me") == lease(store, "you") == ([], [])
    acknowledge(store, "me", first)
    second, _ = lease(store, "you")
    assert [row.type for row in second] == ["fax.amended.v1"]
    assert lease(store, "me") == ([], [])
    acknowledge(store, "you", second)
    assert len(lease(store, "me")[0]) == 1


def test_a_lease_that_ends_gives_the_row_back(store):
    tell(store, fax())
    lease(store, elsewhere())
    assert reclaim(store, SOON) == 0
    assert reclaim(store, AFTER) == 1
    assert len(lease(store, elsewhere("b"))[0]) == 1


def test_a_later_lease_of_the_same_holder_goes_on_when_an_earlier_one_ends(store):
    tell(store, *numbered(2))
    lease(store, elsewhere(), limit=1)
    lease(store, elsewhere(), limit=1, now=SOON)
    assert reclaim(store, AFTER) == 1
    assert states(store) == ["pending", "leased"]


def test_the_rows_of_a_process_that_died_here_come_back_at_once(store):
    tell(store, fax())
    program = "from receiver.store import outbox; print(outbox.owner(), flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        lease(store, process.stdout.readline().strip())
        assert reclaim(store, NOW) == 0, "it is alive"
        process.kill()
        process.wait()
        assert reclaim(store, NOW) == 1


def test_a_process_that_has_the_pid_of_a_dead_one_is_another():
    mine = outbox.owner()
    assert str(os.getpid()) in mine
    assert mine.startswith(socket.gethostname())
    assert not outbox.is_dead(mine)
    assert outbox.is_dead(mine + "1")
    assert not outbox.is_dead(elsewhere()), "nobody here knows"


@pytest.mark.parametrize("damage", [{"body": b"{}"}, {"checksum": "0" * 64}, {"body": None}, None])
def test_a_damaged_payload_is_parked_and_the_others_go_on(store, damage):
    told = tell(store, *numbered(3)).events
    events = store.tables.events
    with store.writing() as connection:
        where = events.c.seq == rows(store, "events", "seq")[1]
        connection.execute(events.update().where(where).values(damage) if damage else events.delete().where(where))
    leased, damaged = lease(store, "me")
    assert [row.event_id for row in leased] == [told[0], told[2]]
    assert [row.event_id for row in damaged] == [told[1] if damage else ""]
    assert states(store) == (["leased", "dead", "leased"] if damage else ["leased"] * 2)
    assert rows(store, "dead_letters", "reason") == ["damaged"]


def test_a_parked_row_does_not_hold_the_later_ones_of_its_fax(store):
    first = tell(store, fax())
    tell(store, fax(completed_at=NOON))
    events = store.tables.events
    with store.writing() as connection:
        first_row = events.c.seq == rows(store, "events", "seq")[0]
        connection.execute(events.update().where(first_row).values(body=None))
    assert [row.event_id for row in lease(store, "me")[1]] == first.events
    assert [row.type for row in lease(store, "me")[0]] == ["fax.amended.v1"]


def test_consumers_at_the_same_time_share_no_row(store):
    told = tell(store, *numbered(60)).events

    def consume(holder):
        mine = Store(store.url.render_as_string(hide_password=False))
        got = []
        while leased := lease(mine, holder, limit=7)[0]:
            assert acknowledge(mine, holder, leased) == len(leased)
            got += [row.event_id for row in leased]
        mine.close()
        return got

    with ThreadPoolExecutor(3) as threads:
        consumed = [event for some in threads.map(consume, "abc") for event in some]
    assert sorted(consumed) == sorted(told)


@pytest.mark.service("postgresql")
def test_an_uncommitted_lease_hides_the_later_rows_of_its_fax(postgresql):
    store = postgresql
    tell(store, fax("1"), fax("2"))
    tell(store, fax("1", completed_at=NOON))
    with store.writing() as one, store.writing() as other:
        first, _ = outbox.lease(one, store.tables, "me", 1, NOW)
        second, _ = outbox.lease(other, store.tables, "you", 10, NOW)
    assert [len(first), len(second)] == [1, 1]
    assert first[0].seq != second[0].seq


def test_a_published_event_can_be_sent_again_with_the_same_bytes(store):
    (event,) = tell(store, fax()).events
    first, _ = lease(store, "me")
    acknowledge(store, "me", first)
    with store.writing() as connection:
        assert republishing.republish_one(connection, store.tables, event, Chosen()) == 1
    (again,) = lease(store, "you")[0]
    assert (again.event_id, again.body) == (first[0].event_id, first[0].body)
    assert again.turn > first[0].turn
    assert states(store) == ["leased"]
    acknowledge(store, "you", [again])
    assert states(store) == ["published"]
