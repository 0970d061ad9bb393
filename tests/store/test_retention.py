"""Forgetting: what is personal goes first, what tells a duplicate stays, and what is unpublished is never touched."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import sqlalchemy as sa
from announcing import NOON, deliver, facts_known, failed, fax, identity, numbered, project, rows, submission, tell

from receiver.store import dead_letters, discrepancies, jobs, outbox, places, republishing
from receiver.store.discrepancies import Discrepancy
from receiver.store.jobs import ExpectedFax
from receiver.store.places import PLACES, locked
from receiver.store.recording import record
from receiver.store.republishing import Chosen
from receiver.store.retention import STEPS, Limits, Purged, _Purge, give_back_space, purge
from schemas.event import Recipient

LIMITS = Limits(bodies=timedelta(days=7), rejected=timedelta(days=30), ids=timedelta(days=90))
DAY = 24 * 3600 * 1000
START = 1_800_000_000_000
PERSONAL = [step for step in STEPS if step is not _Purge.stats]


def purged(store, days, batch=500):
    """Forget until nothing is left that is too old, so many days after START; how many each time."""
    forgotten = []
    while True:
        with store.writing() as connection:
            done = purge(connection, store.tables, LIMITS, round(START + days * DAY), batch, PERSONAL)
        if done == Purged():
            return forgotten
        forgotten.append(done.forgotten)
        assert len(forgotten) < 100


def lease_all(store):
    with store.writing() as connection:
        outbox.lease(connection, store.tables, "elsewhere/1/1", 1000, START)


def park_all(store):
    with store.writing() as connection:
        outbox.park(connection, store.tables, outbox.all_waiting(connection, store.tables), "refused", START)


def revive_all(store):
    with store.writing() as connection:
        letters = dead_letters.after(connection, store.tables, limit=1000)
        dead_letters.revive(connection, store.tables, letters)


def is_blank(store):
    """Whether of each event only what tells a duplicate is left."""
    return set(rows(store, "events", "body")) == {None} and rows(store, "learned") == []


def test_nothing_is_forgotten_before_its_time(store):
    tell(store, fax(), received_at_ms=START)
    deliver(store)
    assert purged(store, 7) == []


def test_bodies_payloads_and_facts_go_first_and_ids_stay(store):
    (event,) = tell(store, fax(), received_at_ms=START).events
    tell(store, fax(attempts=2), received_at_ms=START)
    assert len(rows(store, "learned")) == 1
    deliver(store)
    assert purged(store, 7.001) == [3]
    kept = ("content_type", "reference", "query", "body")
    assert rows(store, "receipts", *kept) == [(None,) * 4] * 2
    assert is_blank(store)
    assert facts_known(store) is None
    assert rows(store, "faxes", "outcome", "event_id") == [("delivered", event)]
    assert len(rows(store, "events")) == 1
    assert tell(store, fax(), received_at_ms=START + 8 * DAY).state == "duplicate"


@pytest.mark.parametrize("other", [{"refused": "unprocessable"}, {"invalid": 1}])
def test_a_body_that_can_be_replayed_is_kept_longer(store, other):
    tell(store, received_at_ms=START, **other)
    tell(store, received_at_ms=START)
    purged(store, 29.9)
    assert rows(store, "receipts", "body") == [None]
    assert None not in rows(store, "rejected_receipts", "body")
    purged(store, 30.001)
    assert rows(store, "rejected_receipts", "body") == [None]


@pytest.mark.parametrize("leave", [lambda _: None, lease_all, park_all], ids=["pending", "leased", "dead"])
@pytest.mark.parametrize("days", [8, 1000])
def test_what_is_not_published_is_never_deleted(store, leave, days):
    tell(store, fax(), received_at_ms=START)
    tell(store, fax("2"), received_at_ms=START)
    leave(store)
    purged(store, days)
    assert len(rows(store, "events")) == len(rows(store, "faxes")) == 2
    assert None not in rows(store, "events", "body")
    assert facts_known(store) is not None
    revive_all(store)
    assert purged(store, days) == [], "it has been looked at, and waits again"
    deliver(store)
    assert len(rows(store, "overdue")) == 2
    purged(store, days)
    assert rows(store, "overdue") == []
    if days == 8:
        assert is_blank(store)
        assert len(rows(store, "faxes")) == 2
    else:
        for table in ("events", "faxes", "late_faxes", "taken"):
            assert rows(store, table) == []


def test_what_is_sent_again_while_its_time_is_over_is_kept_until_it_has_arrived(store):
    (event,) = tell(store, fax(), received_at_ms=START).events
    tell(store, fax("2"), received_at_ms=START + 20 * DAY)
    purged(store, 8)  # undelivered, and left
    deliver(store)
    with store.writing() as connection:
        assert republishing.republish_one(connection, store.tables, event, Chosen()) == 1
    purged(store, 8)
    assert None not in rows(store, "events", "body")
    deliver(store)
    purged(store, 8)
    assert rows(store, "events", "body")[0] is None


def test_after_the_ids_time_nothing_is_left(store):
    tell(store, *numbered(20), received_at_ms=START)
    tell(store, *numbered(10, completed_at=NOON), received_at_ms=START)
    tell(store, *numbered(10, completed_at=NOON, attempts=3), received_at_ms=START)
    deliver(store)
    purged(store, 90.001)
    for table in ("receipts", "faxes", "announcements", "events", "learned", "taken", "late_faxes"):
        assert rows(store, table) == []


def test_what_comes_after_everything_was_forgotten_is_forgotten_as_well(store):
    """SQLite then gives the row numbers again that retention has passed."""
    for days in (0, 100, 200):
        tell(store, *numbered(3), received_at_ms=START + days * DAY)
        deliver(store)
        purged(store, days + 8)
        assert is_blank(store)
        purged(store, days + 91)
        assert rows(store, "events") == rows(store, "faxes") == []


@pytest.mark.service("postgresql")
def test_a_dead_letter_that_is_replayed_while_retention_looks_is_not_forgotten(postgresql):
    store = postgresql
    tell(store, fax(), received_at_ms=START)
    park_all(store)
    with store.writing() as retention:
        places.locked(retention, store.tables)
        with ThreadPoolExecutor(1) as threads:
            replaying = threads.submit(revive_all, store)
            with pytest.raises(TimeoutError):
                replaying.result(0.5)
            purge(retention, store.tables, LIMITS, START + 8 * DAY)
            retention.commit()
            replaying.result(60)
    assert None not in rows(store, "events", "body")


@pytest.mark.service("postgresql")
def test_retention_has_its_turn_however_many_take_events(postgresql):
    store, stop = postgresql, threading.Event()

    def share():
        while not stop.is_set():
            with store.writing() as connection:
                places.locked(connection, store.tables, shared=True)
                stop.wait(0.02)

    threads = [threading.Thread(target=share) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(5):
            assert purged(store, 0) == []
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)


def test_what_a_fax_learned_beside_a_dead_letter_goes_with_it(store):
    tell(store, fax(), received_at_ms=START)
    park_all(store)
    tell(store, fax(recipient=Recipient(name="Anna")), received_at_ms=START)
    assert len(rows(store, "learned")) == 1
    purged(store, 91)
    revive_all(store)
    tell(store, fax(), received_at_ms=START + 91 * DAY)
    deliver(store)
    purged(store, 92)
    assert rows(store, "events") == rows(store, "learned") == []


def test_what_was_written_while_a_clock_was_ahead_holds_nothing_back(store):
    for key, at in (("1", START), ("2", START + 3650 * DAY), ("3", START), ("4", START + 9 * DAY)):
        tell(store, fax(key), received_at_ms=at)
    deliver(store)
    purged(store, 8)
    assert [body is None for body in rows(store, "events", "body")] == [True, True, True, False]
    purged(store, 91)
    assert rows(store, "events", "outcome") == ["delivered"]


def test_places_that_were_lost_are_begun_anew(store):
    tell(store, fax(), received_at_ms=START)
    with store.writing() as connection:
        connection.execute(store.tables.meta.delete().where(store.tables.meta.c.name == PLACES))
    deliver(store)
    purged(store, 8)
    assert is_blank(store)


def test_places_of_a_newer_version_are_understood(store):
    with store.writing() as connection:
        noted = '{"payloads": 7, "something": 1}'
        connection.execute(store.tables.meta.update().where(store.tables.meta.c.name == PLACES).values(value=noted))
        assert locked(connection, store.tables).payloads == 7


def test_it_works_in_small_batches(store):
    tell(store, *numbered(25), received_at_ms=START)
    deliver(store)
    assert purged(store, 8, batch=10) == [11, 10, 5]


@pytest.mark.parametrize("rounds", range(1, 8))
def test_a_fax_that_is_heard_again_during_a_purge_is_never_half_known(store, rounds):
    """Whatever is left after some batches: the same announcements are taken once more, as new or as duplicates."""
    faxes = numbered(6)
    tell(store, *faxes, received_at_ms=START)
    for attempt in range(4):
        tell(store, *[failed(fax.key[0], completed_at=NOON, attempts=attempt) for fax in faxes], received_at_ms=START)
    deliver(store)
    with store.writing() as connection:
        for _ in range(rounds):
            purge(connection, store.tables, LIMITS, START + 91 * DAY, batch=3)
    again = tell(store, *faxes, received_at_ms=START + 91 * DAY)
    assert len(again.events) == 6
    with store.reading() as connection:
        assert {outcome for (outcome,) in connection.execute(sa.select(store.tables.faxes.c.outcome))} <= {
            "delivered",
            "failed",
        }
    new = {event.event_id for event in again.told}
    assert new <= set(rows(store, "events", "id"))
    purged(store, 182 + 91)
    assert len(rows(store, "faxes")) == len(new), "what was told again waits, the rest is forgotten"


def test_a_late_repetition_is_a_duplicate_and_a_contradiction_is_told(store):
    (event,) = tell(store, fax(), received_at_ms=START).events
    deliver(store)
    purged(store, 80)
    again = tell(store, fax(), received_at_ms=START + 80 * DAY)
    assert (again.state, again.events) == ("duplicate", [event])
    assert tell(store, fax(attempts=2), received_at_ms=START + 80 * DAY).state == "duplicate"
    contradicted = tell(store, failed(), received_at_ms=START + 80 * DAY)
    assert (contradicted.state, contradicted.flips) == ("accepted", 1)
    purged(store, 169)
    assert len(rows(store, "faxes")) == 1, "the last word about it was on day 80"


def test_a_fax_that_is_spoken_of_is_known_for_longer_than_its_events(store):
    tell(store, fax(), received_at_ms=START)
    deliver(store)
    tell(store, fax(), received_at_ms=START + 60 * DAY)
    purged(store, 91)
    assert rows(store, "events") == []
    again = tell(store, fax(), received_at_ms=START + 91 * DAY)
    assert (again.state, again.told) == ("duplicate", [])
    purged(store, 151)
    assert len(rows(store, "faxes")) == 1, "the last word about it was on day 91"
    purged(store, 181.001)
    assert rows(store, "faxes") == rows(store, "late_faxes") == []


def test_a_fax_with_a_dead_letter_stays_known(store):
    """Else, heard of again, its event would be told under an id that is there already."""
    tell(store, fax(), received_at_ms=START)
    park_all(store)
    tell(store, failed(completed_at=NOON), received_at_ms=START)
    deliver(store)
    purged(store, 91)
    assert rows(store, "events", "outcome") == ["delivered"]
    assert tell(store, fax(), received_at_ms=START + 91 * DAY).state == "duplicate"
    purged(store, 400)
    assert len(rows(store, "faxes")) == 1
    revive_all(store)
    deliver(store)
    purged(store, 402)
    assert rows(store, "faxes") == rows(store, "events") == []


def drop_all(store):
    with store.writing() as connection:
        dead_letters.drop(connection, store.tables, dead_letters.after(connection, store.tables, limit=1000))


def test_what_was_dropped_leaves_a_fax_known_by_its_other_events_and_nothing_in_the_end(store):
    tell(store, fax("1"), fax("2"), received_at_ms=START)
    deliver(store)
    tell(store, failed("1", completed_at=NOON), received_at_ms=START)
    tell(store, fax("3"), fax("3", attempts=2), received_at_ms=START)
    park_all(store)
    drop_all(store)
    assert rows(store, "events", "revision") == [1, 1]
    assert {row.fax_id for row in rows(store, "faxes")} == {str(identity("1")), str(identity("2"))}
    assert tell(store, fax("1"), received_at_ms=START).state == "duplicate"
    assert tell(store, fax("3"), received_at_ms=START).state == "accepted"
    deliver(store)
    purged(store, 91)
    for table in ("events", "faxes", "announcements", "learned", "late_faxes"):
        assert rows(store, table) == []


def test_what_gets_the_number_of_a_dropped_event_is_forgotten_as_well(store):
    tell(store, fax("1"), received_at_ms=START)
    park_all(store)
    purged(store, 91)
    drop_all(store)
    tell(store, fax("2"), received_at_ms=START + 91 * DAY)
    deliver(store)
    purged(store, 99)
    assert is_blank(store)


@pytest.mark.service("postgresql")
def test_what_a_fax_learns_while_its_payload_goes_does_not_outlive_it(postgresql):
    store = postgresql
    tell(store, fax(), received_at_ms=START)
    deliver(store)
    with store.recording(time.monotonic() + 60) as cursor:
        record(cursor, store.engine.dialect, [submission(fax(attempts=2), received_at_ms=START)])
        thread = threading.Thread(target=purged, args=(store, 8))
        thread.start()
        thread.join(0.5)
        assert thread.is_alive(), "it waits for the callback that is at work on the fax"
    thread.join(60)
    assert is_blank(store)


@pytest.mark.service("postgresql")
def test_what_arrives_while_retention_looks_at_it_is_not_forgotten_to_be_forgotten(postgresql):
    store = postgresql
    tell(store, fax(), received_at_ms=START)
    with store.reading() as connection:
        found = outbox.pending(connection, store.tables, 10)
    with store.writing() as retention:
        purge(retention, store.tables, LIMITS, START + 8 * DAY)
        with ThreadPoolExecutor(1) as threads:
            arriving = threads.submit(deliver, store)
            with pytest.raises(TimeoutError):
                arriving.result(0.5)
            retention.commit()
            arriving.result(60)
    assert len(found) == 1
    purged(store, 8)
    assert is_blank(store)


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


def test_a_job_is_forgotten_when_the_projector_comes_to_its_fax(store):
    """Recorded by a transaction that did not see the registration."""
    expect(store, "1", "2")
    job = rows(store, "jobs")
    tell(store, fax("1"), received_at_ms=START)
    with store.writing() as connection:
        connection.execute(store.tables.jobs.delete())
        connection.execute(store.tables.jobs.insert(), [row._asdict() for row in job])
    project(store)
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


def test_the_audit_is_kept_as_long_as_the_ids(store):
    audit = store.tables.audit
    with store.writing() as connection:
        for days in (0, 0, 2):
            row = {"at_ms": START + days * DAY, "actor": "anna", "action": "receipts.reveal", "subject": f"day {days}"}
            connection.execute(audit.insert().values(row))
    assert purged(store, 90) == []
    assert purged(store, 90.001, batch=1) == [1, 1]
    assert rows(store, "audit", "subject") == ["day 2"]


def test_purged_bytes_are_gone_from_the_files(sqlite):
    secret = "Anna Purged"
    body = b"callback of " + secret.encode() + b" " + b"x" * 20_000
    tell(sqlite, *numbered(50, recipient=Recipient(name=secret)), body=body, received_at_ms=START)
    deliver(sqlite)
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
    deliver(sqlite)
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
