"""Forgetting: what is personal goes first, what tells a duplicate stays, and what is unpublished is never touched."""

import time
from datetime import timedelta

import pytest
import sqlalchemy as sa
from announcing import NOON, failed, fax, identity, numbered, rows, tell

from receiver.store import discrepancies, jobs
from receiver.store.discrepancies import Discrepancy
from receiver.store.jobs import ExpectedFax
from receiver.store.retention import Limits, give_back_space, purge
from schemas.event import Recipient

LIMITS = Limits(bodies=timedelta(days=7), rejected=timedelta(days=30), ids=timedelta(days=90))
DAY = 24 * 3600 * 1000
START = 1_800_000_000_000


def purged(store, days, batch=500):
    """Forget until nothing is left that is too old, so many days after START."""
    changed = []
    while not changed or changed[-1]:
        with store.writing() as connection:
            changed.append(purge(connection, store.tables, LIMITS, round(START + days * DAY), batch))
        assert len(changed) < 100
    return changed[:-1]


def publish(store, state="published"):
    with store.writing() as connection:
        connection.execute(store.tables.events.update().values(state=state))


def test_nothing_is_forgotten_before_its_time(store):
    tell(store, fax(), received_at_ms=START)
    publish(store)
    assert purged(store, 7) == []


def test_bodies_payloads_and_facts_go_first_and_ids_stay(store):
    (event,) = tell(store, fax(), received_at_ms=START).events
    publish(store)
    assert purged(store, 7.001) == [3]
    assert rows(store, "bodies") == rows(store, "payloads") == []
    assert rows(store, "faxes", "facts", "outcome", "event_id") == [(None, "delivered", event)]
    assert len(rows(store, "events")) == len(rows(store, "receipts")) == 1
    assert tell(store, fax(), received_at_ms=START + 8 * DAY).state == "duplicate"


@pytest.mark.parametrize("other", [{"refused": "unprocessable"}, {"invalid": 1}])
def test_a_body_that_can_be_replayed_is_kept_longer(store, other):
    tell(store, received_at_ms=START, **other)
    tell(store, received_at_ms=START)
    purged(store, 29.9)
    assert len(rows(store, "bodies")) == 1
    purged(store, 30.001)
    assert rows(store, "bodies") == []


@pytest.mark.parametrize("state", ["pending", "leased", "dead"])
def test_what_is_not_published_is_never_deleted(store, state):
    tell(store, fax(), received_at_ms=START)
    publish(store, state)
    purged(store, 1000)
    assert len(rows(store, "events")) == len(rows(store, "payloads")) == len(rows(store, "faxes")) == 1
    assert rows(store, "faxes", "facts") != [None]
    publish(store)
    purged(store, 1000)
    assert rows(store, "events") == rows(store, "payloads") == rows(store, "faxes") == []


def test_after_the_ids_time_nothing_is_left(store):
    tell(store, *numbered(20), received_at_ms=START)
    tell(store, *numbered(10, completed_at=NOON), received_at_ms=START)
    publish(store)
    purged(store, 90.001)
    for table in ("receipts", "bodies", "faxes", "announcements", "events", "payloads"):
        assert rows(store, table) == []


def test_it_works_in_small_batches(store):
    tell(store, *numbered(25), received_at_ms=START)
    publish(store)
    assert purged(store, 8, batch=10) == [21, 20, 10]


@pytest.mark.parametrize("rounds", range(1, 8))
def test_a_fax_that_is_heard_again_during_a_purge_is_never_half_known(store, rounds):
    """Whatever is left after some batches: the same announcements are taken once more, as new or as duplicates."""
    faxes = numbered(6)
    tell(store, *faxes, received_at_ms=START)
    for attempt in range(4):
        tell(store, *[failed(fax.key[0], completed_at=NOON, attempts=attempt) for fax in faxes], received_at_ms=START)
    publish(store)
    with store.writing() as connection:
        for _ in range(rounds):
            purge(connection, store.tables, LIMITS, START + 91 * DAY, batch=3)
    again = tell(store, *faxes, received_at_ms=START + 91 * DAY)
    assert len(again.events) == 6
    assert set(again.events) <= set(rows(store, "events", "id"))


def test_a_late_repetition_is_a_duplicate_and_a_contradiction_is_told(store):
    (event,) = tell(store, fax(), received_at_ms=START).events
    publish(store)
    purged(store, 80)
    again = tell(store, fax(), received_at_ms=START + 80 * DAY)
    assert (again.state, again.events) == ("duplicate", [event])
    assert tell(store, fax(attempts=2), received_at_ms=START + 80 * DAY).state == "duplicate"
    contradicted = tell(store, failed(), received_at_ms=START + 80 * DAY)
    assert (contradicted.state, contradicted.flips) == ("accepted", 1)
    purged(store, 169)
    assert len(rows(store, "faxes")) == 1, "the last word about it was on day 80"


@pytest.mark.service("postgresql")
def test_a_fax_at_work_is_left_alone(postgresql):
    store = postgresql
    tell(store, *numbered(2), received_at_ms=START)
    publish(store)
    faxes = store.tables.faxes
    at_work = min(rows(store, "faxes", "fax_id"))
    with store.writing() as callback:
        callback.execute(sa.select(faxes).where(faxes.c.fax_id == at_work).with_for_update())
        with store.writing() as connection:
            purge(connection, store.tables, LIMITS, START + 8 * DAY)
    assert {row.fax_id for row in rows(store, "faxes") if row.facts} == {at_work}


def expect(store, *keys, at_ms=START):
    faxes = [ExpectedFax(str(identity(key)), "faxage", "acme", "fax-age", key, {}, at_ms) for key in keys]
    with store.writing() as connection:
        jobs.register(connection, store.tables, faxes, at_ms)


def test_a_job_that_is_never_heard_of_is_forgotten_with_the_ids(store):
    expect(store, "1", "2")
    expect(store, "3", at_ms=START + 2 * DAY)
    assert purged(store, 90) == []
    assert purged(store, 90.001, batch=1) == [1, 1]
    assert rows(store, "jobs", "fax_id") == [str(identity("3"))]


def test_a_job_is_forgotten_when_its_fax_is_known(store):
    """Recorded by a transaction that did not see the registration."""
    expect(store, "1", "2")
    job = rows(store, "jobs")
    tell(store, fax("1"), received_at_ms=START)
    with store.writing() as connection:
        connection.execute(store.tables.jobs.delete())
        connection.execute(store.tables.jobs.insert(), [row._asdict() for row in job])
    assert purged(store, 0) == [1]
    assert rows(store, "jobs", "fax_id") == [str(identity("2"))]


def test_a_discrepancy_is_forgotten_after_the_ids_time_once_it_is_closed(store):
    found = [Discrepancy("faxage", "acme", "fax-age", "missing", subject) for subject in ("open", "closed", "late")]
    with store.writing() as connection:
        discrepancies.note(connection, store.tables, found, START)
        by_subject = sa.select(store.tables.discrepancies.c.seq).order_by(sa.column("subject"))
        closed, late, _ = connection.scalars(by_subject)
        for seq, closed_at in ((closed, START), (late, START + 2 * DAY)):
            discrepancies.close_one(connection, store.tables, seq, closed_at)
    assert purged(store, 90) == []
    assert purged(store, 90.001) == [1]
    assert sorted(rows(store, "discrepancies", "subject")) == ["late", "open"]


def test_purged_bytes_are_gone_from_the_files(sqlite):
    secret = "Anna Purged"
    body = b"callback of " + secret.encode() + b" " + b"x" * 20_000
    tell(sqlite, *numbered(50, recipient=Recipient(name=secret)), body=body, received_at_ms=START)
    publish(sqlite)
    folder = sqlite.file.path.parent

    def found():
        return sum(path.read_bytes().count(secret.encode()) for path in folder.iterdir())

    assert found() > 50
    purged(sqlite, 8)
    assert sqlite.empty_log()
    assert found() == 0


def test_freed_pages_are_given_back_to_the_disk(sqlite):
    for _ in range(20):
        tell(sqlite, fax(), body=bytes(50_000) + b"%d" % _, received_at_ms=START)
    publish(sqlite)
    assert sqlite.empty_log()
    before = sqlite.file.path.stat().st_size
    purged(sqlite, 8)
    more = True
    while more:
        with sqlite.writing() as connection:
            more = give_back_space(connection)
    assert sqlite.empty_log()
    assert sqlite.file.path.stat().st_size < before / 4


def test_the_log_is_not_emptied_under_a_reader_and_nobody_waits(sqlite):
    tell(sqlite, fax())
    with sqlite.reading() as reader:
        reader.execute(sa.select(sqlite.tables.faxes)).all()
        tell(sqlite, fax("2"))
        started = time.monotonic()
        assert not sqlite.empty_log()
        assert time.monotonic() - started < 3
    assert sqlite.empty_log()
