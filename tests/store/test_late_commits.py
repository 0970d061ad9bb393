"""
PostgreSQL: transactions that commit in another order than they began, and instances that record the same faxes.

SQLite has one writer at a time, so that none of this can happen there.
"""

import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import psycopg
import pytest
from announcing import NOON, failed, fax, numbered, rows, submission, tell, tell_all

from receiver.outgoing import delivery
from receiver.outgoing import place as reading_place
from receiver.store import Store, now_ms, outbox
from receiver.store.recording import record
from receiver.store.tables import QUEUE
from receiver.store.trouble import ConflictError
from receiver.store.writer import Writer
from schemas.event import Recipient

pytestmark = pytest.mark.service("postgresql")


@contextmanager
def uncommitted(store, *faxes):
    """Recorded, and committed when the block ends."""
    with store.recording(time.monotonic() + 60) as cursor:
        record(cursor, store.engine.dialect, [submission(*faxes)])
        yield


def take(store, place):
    """The keys of the faxes that the relay would send now, which arrive."""
    found = place.read(0, set())
    with store.writing() as connection:
        outbox.publish(connection, store.tables, found, now_ms())
    return [row.event_id for row in found]


def test_what_commits_after_a_younger_one_has_been_read_is_sent_at_once(postgresql):
    place = delivery._Waiting(postgresql, QUEUE, 200)
    assert take(postgresql, place) == []
    with uncommitted(postgresql, fax("late")):
        younger = tell(postgresql, fax("younger")).events
        assert take(postgresql, place) == younger
    turns = rows(postgresql, "waiting", "turn")
    assert turns < rows(postgresql, "taken", "first"), "it was given its turn first"
    assert len(take(postgresql, place)) == 1
    assert rows(postgresql, "waiting") == []


def test_what_commits_very_late_is_found_from_the_start(postgresql, monkeypatch):
    monkeypatch.setattr(reading_place, "_LATE_SECONDS", 0.0)
    monkeypatch.setattr(reading_place, "_FROM_THE_START_SECONDS", 0.5)
    place = delivery._Waiting(postgresql, QUEUE, 200)
    with uncommitted(postgresql, fax("late")):
        for number in range(5):
            tell(postgresql, fax(f"younger {number}"))
            assert len(take(postgresql, place)) == 1
    deadline = time.monotonic() + 30
    while not (found := take(postgresql, place)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert len(found) == 1
    assert rows(postgresql, "waiting") == []


def test_no_later_event_of_a_fax_goes_out_before_one_that_committed_late(postgresql, monkeypatch):
    monkeypatch.setattr(reading_place, "_LATE_SECONDS", 0.0)
    monkeypatch.setattr(reading_place, "_FROM_THE_START_SECONDS", 3600.0)
    place = delivery._Waiting(postgresql, QUEUE, 200)
    take(postgresql, place)
    with uncommitted(postgresql, fax("late")):
        for number in range(3):
            tell(postgresql, fax(f"younger {number}"))
            assert len(take(postgresql, place)) == 1
    (first,) = rows(postgresql, "waiting", "turn")
    tell(postgresql, failed("late", completed_at=NOON))
    found = place.read(0, set())
    assert [row.turn for row in found] == [first]
    assert [row.revision for row in found] == [1]


def test_rows_that_an_old_snapshot_keeps_are_not_walked_again(postgresql):
    """As counted by the database: index entries read for one look at the queue."""
    url = postgresql.url.set(drivername="postgresql").render_as_string(hide_password=False)
    place = delivery._Waiting(postgresql, QUEUE, 200)
    with psycopg.connect(url) as old:
        old.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        old.execute("SELECT count(*) FROM faxhook.waiting").fetchone()
        for number in range(10):
            tell(postgresql, *numbered(500, prefix=f"{number}-"))
            while take(postgresql, place):
                pass
        turn = max(rows(postgresql, "taken", "last"))
        place._place._turns.extend([(0.0, turn), (0.0, turn)])  # as if these were two seconds ago
        tell(postgresql, fax("new"))
        with postgresql.reading() as connection:
            explained = connection.exec_driver_sql(
                "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT turn FROM faxhook.waiting"
                f" WHERE sink = 'queue' AND turn > {place._place._turns[-1][1]} ORDER BY turn LIMIT 200"
            ).scalar_one()
        assert explained[0]["Plan"]["Shared Hit Blocks"] < 20
        assert len(take(postgresql, place)) == 1


@pytest.mark.parametrize("group", [1, 25])
def test_two_instances_that_record_the_same_new_faxes_tell_each_once(postgresql, group):
    count = 400
    url = postgresql.url.render_as_string(hide_password=False)

    def post(order):
        store = Store(url)
        writer = Writer(store)
        keys = [str(number) for number in range(count)][::order]
        told = Counter()
        for start in range(0, count, group):
            recorded = writer.submit(submission(*[fax(key) for key in keys[start : start + group]]))
            told.update(event.event_id for event in recorded.told)
            told[recorded.state] += 1
        store.close()
        return told

    with ThreadPoolExecutor(3) as threads:
        told = sum(threads.map(post, (1, -1, 1)), Counter())
    states = {name: told.pop(name, 0) for name in ("accepted", "duplicate")}
    assert set(told.values()) == {1}
    assert len(told) == count
    assert sum(states.values()) == 3 * count // group
    assert group > 1 or states["accepted"] == count
    assert len(rows(postgresql, "events")) == len(rows(postgresql, "waiting")) == count


def test_the_rows_of_one_fax_are_in_the_order_of_its_revisions_whoever_commits_first(postgresql):
    url = postgresql.url.render_as_string(hide_password=False)

    def amend(number):
        store = Store(url)
        for attempt in range(10):
            for key in ("a", "b", "c"):
                number_of_call = Recipient(number=f"+1303555{number}{attempt:03}")
                tell_all(store, submission(fax(key, recipient=number_of_call)))
        store.close()

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(amend, range(4)))
    by_fax = {}
    for event in rows(postgresql, "events"):
        by_fax.setdefault(event.fax_id, []).append(event.revision)
    assert len(by_fax) == 3
    for revisions in by_fax.values():
        assert revisions == list(range(1, 4 * 10 + 1))


class Rollback(Exception):  # noqa: N818 - a group that does not come to its end
    pass


def post_groups(url, keys, seed):
    """
    One instance: groups of these faxes. The first one, and then one in a hundred, is rolled back and sent again.

    How often each event was told, and each state answered.
    """
    store, chance = Store(url), random.Random(seed)
    told, is_first = Counter(), True
    while keys:
        size = chance.randint(1, 12)
        some, keys = keys[:size], keys[size:]
        group = [submission(fax(key)) for key in some]
        if is_first or chance.random() < 0.01:
            is_first = False
            with suppress(Rollback), store.recording(time.monotonic() + 60) as cursor:
                record(cursor, store.engine.dialect, group)
                raise Rollback
        while True:
            try:
                recorded = tell_all(store, *group)
                break
            except ConflictError:  # as the writer does
                time.sleep(0.001)
        for one in recorded:
            told.update([one.state, *(event.event_id for event in one.told)])
    store.close()
    return told


@pytest.mark.parametrize("count", [400, pytest.param(5000, marks=pytest.mark.campaign)])
def test_two_instances_with_groups_that_are_rolled_back_and_a_writer_left_open(postgresql, monkeypatch, count):
    """Each fax is accepted once, and its event is sent once, the relay reading all the while; so is the late one."""
    monkeypatch.setattr(reading_place, "_FROM_THE_START_SECONDS", 0.5)
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    keys = [str(number) for number in range(count)]
    url = postgresql.url.render_as_string(hide_password=False)
    place, sent, ended = delivery._Waiting(postgresql, QUEUE, 200), Counter(), threading.Event()

    def relay():
        while not ended.is_set() or rows(postgresql, "waiting"):
            if not (some := take(postgresql, place)):
                time.sleep(0.005)
            sent.update(some)

    with ThreadPoolExecutor(3) as threads:
        sending = threads.submit(relay)
        try:
            with uncommitted(postgresql, fax("left open")):
                instances = [threads.submit(post_groups, url, keys[::order], seed + order) for order in (1, -1)]
                told = sum((one.result() for one in instances), Counter())
                assert sending.running()
        finally:
            ended.set()
        sending.result(60)
    states = {name: told.pop(name, 0) for name in ("accepted", "duplicate")}
    assert states == {"accepted": count, "duplicate": count}
    assert set(told.values()) == {1}
    events = set(rows(postgresql, "events", "id"))
    assert set(told) < events
    assert len(events) == count + 1
    assert sent == Counter(dict.fromkeys(events, 1)), "each is sent, and once"
