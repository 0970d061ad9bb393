"""What the projector makes findable: all that is recorded, no more than that, and no longer than its facts are kept."""

import random
import time

import pytest
import sqlalchemy as sa
from announcing import KEYS, deliver, fax, identity, numbered, project, rows, submission, tell, tell_all
from test_retention import DAY, START, purged

from receiver.outgoing.projector import Projector
from receiver.store import browsing, dead_letters, jobs, outbox, projection
from receiver.store.jobs import ExpectedFax
from receiver.store.projection import Keys
from receiver.store.salvaging import salvage
from receiver.store.tables import PROJECTOR
from schemas.event import Recipient, Reference


def reached(number="+12085550139", **others):
    return fax(recipient=Recipient(number=number, number_raw=number), **others)


def found(store, kind, text, keys=KEYS):
    """The fax ids that a text leads to."""
    events = store.tables.events
    with store.reading() as connection:
        seqs = projection.find(connection, store.tables, keys.find(kind, text))
        return [connection.scalar(sa.select(events.c.fax_id).where(events.c.seq == seq)) for seq in seqs]


def seq_of(store, event_id):
    with store.reading() as connection:
        return projection.seq_of(connection, store.tables, event_id)


def test_an_event_is_found_by_what_it_says(store):
    tell(store, reached(provider_job_id="job-7", provider_fax_id="779029", reference=Reference(id="order-4711")))
    project(store)
    its = [str(identity())]
    assert (
        found(store, "job", "job-7") == found(store, "fax", "779029") == found(store, "reference", "order-4711") == its
    )
    assert found(store, "number", "12085550139") == found(store, "ending", "0139") == its
    assert found(store, "job", "779029") == found(store, "number", "0139") == []


@pytest.mark.parametrize(
    "spelling", ["+1 208 555 0139", "+1 (208) 555-0139", "001 208 555 0139", "011 1 208.555.0139", "12085550139"]
)
def test_a_number_is_its_digits(spelling):
    assert projection.digits(spelling) == "12085550139"


def test_an_event_is_found_by_its_id_before_it_is_projected_and_afterwards(store):
    told = tell(store, fax()).events[0]
    before = seq_of(store, told)
    project(store)
    assert before == seq_of(store, told) == rows(store, "events", "seq")[0]
    assert rows(store, "waiting", sink=PROJECTOR) == []
    assert seq_of(store, "00000000-0000-5000-8000-000000000000") is None


def test_all_that_is_recorded_is_found_whatever_the_chunks(store):
    """A recount: nothing is skipped, and nothing is there that is not an event's."""
    chance = random.Random(42)
    faxes = list(numbered(300))
    while faxes:
        some = [faxes.pop() for _ in range(min(len(faxes), chance.randint(1, 9)))]
        tell_all(store, *[submission(one) for one in some])
        if chance.random() < 0.3:
            project(store, chance.randint(1, 20))
    project(store, 7)
    events = rows(store, "events")
    ids = {projection.event_key(event.id): event.seq for event in events}
    keys = {row.key: row.seq for row in rows(store, "finds") if row.key in ids}
    assert keys == ids
    assert len(events) == 300


def test_a_key_that_is_not_the_servers_finds_nothing_and_an_earlier_one_does(store):
    tell(store, reached())
    project(store)
    assert found(store, "number", "12085550139", Keys([b"another secret"])) == []
    assert found(store, "number", "12085550139", Keys([b"another secret", b"a secret of the tests"])) != []


def test_no_number_stands_in_it(store):
    tell(store, reached())
    project(store)
    for table in ("finds", "find_keys"):
        for row in rows(store, table):
            assert "0139" not in str(row)
            assert b"0139" not in repr(tuple(row)).encode()


def test_what_is_personal_goes_with_the_facts_and_the_rest_with_the_ids(store):
    told = tell(
        store, reached(provider_job_id="job-7", reference=Reference(id="order-4711")), received_at_ms=START
    ).events[0]
    deliver(store)
    assert purged(store, 8) != []
    assert found(store, "number", "12085550139") == found(store, "reference", "order-4711") == []
    assert found(store, "ending", "0139") == []
    assert found(store, "job", "job-7") == [str(identity())]
    assert seq_of(store, told) is not None
    assert purged(store, 91) != []
    assert rows(store, "finds") == rows(store, "find_keys") == rows(store, "events") == []
    assert seq_of(store, told) is None


def test_retention_leaves_what_the_projector_has_not_reached_and_comes_back_for_it(store):
    tell(store, reached(), received_at_ms=START)
    while_unprojected(store)
    assert rows(store, "events", "body") != [None]
    project(store)
    assert purged(store, 91) != []
    assert rows(store, "events") == rows(store, "finds") == rows(store, "find_keys") == []


def while_unprojected(store):
    """Delivered, and looked at by retention."""
    waiting = store.tables.waiting
    with store.writing() as connection:
        connection.execute(waiting.delete().where(waiting.c.sink != PROJECTOR))
    purged(store, 91)


def test_what_a_fax_learns_without_an_event_it_is_found_by(store):
    tell(store, fax())
    project(store)
    tell(store, fax(reference=Reference(id="order-4711")))
    project(store)
    assert found(store, "reference", "order-4711") == [str(identity())]
    with store.writing() as connection:
        one = ExpectedFax(str(identity()), "faxage", "acme", "fax-age", "1", {"sender.name": "x"}, START)
        jobs.register(connection, store.tables, [one], START)
    project(store)
    assert found(store, "reference", "order-4711") == [str(identity())]


def test_a_registration_after_the_fax_makes_it_findable_by_its_reference(store):
    tell(store, fax())
    with store.writing() as connection:
        facts = {"reference.id": "order-4711"}
        one = ExpectedFax(str(identity()), "faxage", "acme", "fax-age", "1", facts, START)
        jobs.register(connection, store.tables, [one], START)
    project(store)
    assert found(store, "reference", "order-4711") == [str(identity())]


def test_a_stale_projector_writes_nothing_for_what_another_has_taken(store):
    tell(store, reached(), received_at_ms=START)
    with store.reading() as connection:
        stale = projection.prepare(connection, store.tables, KEYS, 0, 10)
    deliver(store)
    purged(store, 91)
    with store.writing() as connection:
        assert projection.take(connection, store.tables, stale) == 0
    assert rows(store, "finds") == rows(store, "find_keys") == []


def test_a_repetition_is_noted_with_its_fax_until_its_receipt_goes(store):
    first = submission(fax(), received_at_ms=START)
    again = submission(fax(), received_at_ms=START + DAY)
    tell_all(store, first, again)
    assert [tuple(row) for row in rows(store, "repeats")] == [(str(identity()), again.receipt)]
    deliver(store)
    purged(store, 93)
    assert rows(store, "repeats") == []


@pytest.mark.parametrize("is_projected", [False, True])
def test_of_a_dead_letter_that_is_dropped_nothing_is_left_in_it(store, is_projected):
    tell(store, reached())
    with store.reading() as connection:
        stale = projection.prepare(connection, store.tables, KEYS, 0, 10)
    if is_projected:
        project(store)
    with store.writing() as connection:
        outbox.park(connection, store.tables, outbox.all_waiting(connection, store.tables), "refused", START)
        dead_letters.drop(connection, store.tables, dead_letters.after(connection, store.tables))
        assert projection.take(connection, store.tables, stale) == 0
    project(store)
    for table in ("events", "finds", "find_keys", "faxes"):
        assert rows(store, table) == []


def test_events_of_a_fax_are_found_without_the_projector(store):
    for version in range(3):
        tell(store, reached(f"+1208555013{version}"))
    with store.reading() as connection:
        listed = browsing.events(connection, store.tables, limit=10, fax_id=str(identity()))
    assert [event["id"] for event in reversed(listed)] == rows(store, "events", "id")
    assert len(listed) == 3


def test_the_thread_works_off_what_waits_and_only_while_it_leads(store):
    tell_all(store, *[submission(one) for one in numbered(120)])
    leads = []
    projector = Projector(store, [b"a secret of the tests"], lambda: bool(leads))
    projector.start()
    try:
        time.sleep(0.4)
        with store.reading() as connection:
            assert outbox.undelivered(connection, store.tables, PROJECTOR) == 120
        leads.append(True)
        deadline = time.monotonic() + 20
        while rows(store, "waiting", sink=PROJECTOR) and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        projector.end()
    assert rows(store, "waiting", sink=PROJECTOR) == []
    assert len(rows(store, "waiting")) == 120, "the queue's are its own"


def test_a_salvaged_store_is_projected_anew(sqlite, tmp_path):
    told = tell(sqlite, reached()).events[0]
    project(sqlite)
    sqlite.close()
    fresh = type(sqlite)(f"sqlite:///{tmp_path}/fresh.db")
    list(salvage(sqlite.file.path, fresh))
    assert rows(fresh, "finds") == []
    assert seq_of(fresh, told) is not None
    project(fresh)
    assert found(fresh, "number", "12085550139") == [str(identity())]
    fresh.close()
