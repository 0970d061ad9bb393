"""Faxes that are expected: each is there once, goes with its announcement, and is asked for ever more seldom."""

import json
import threading
import time

import pytest
import sqlalchemy as sa
from announcing import (
    MORNING,
    NOON,
    blank_payloads,
    facts_known,
    failed,
    fax,
    identity,
    numbered,
    published,
    rows,
    submission,
    tell,
)

from receiver.advice import RULES_ALONE
from receiver.store import jobs, recording
from receiver.store.jobs import ExpectedFax, Registered
from receiver.store.recording import record
from schemas.event import Recipient

START = 1_800_000_000_000
MINUTE = 60_000


def expected(key, *, job="J1", due_at_ms=START, **facts):
    known = {name.replace("_", ".", 1): value for name, value in facts.items()}
    return ExpectedFax(str(identity(key)), "faxage", "acme", "fax-age", job, known, due_at_ms)


def register(store, *faxes, at_ms=START):
    """fax_id -> its state."""
    return {fax_id: one.state for fax_id, one in registered(store, *faxes, at_ms=at_ms).items()}


def registered(store, *faxes, at_ms=START):
    with store.writing() as connection:
        return jobs.register(connection, store.tables, faxes, at_ms)


def overdue(store, at_ms, *, limit=100, account="acme"):
    with store.reading() as connection:
        return jobs.overdue(connection, store.tables, "faxage", account, at_ms, limit)


def missing(store, at_ms):
    with store.reading() as connection:
        return jobs.missing(connection, store.tables, "faxage", "acme", at_ms)


def test_a_fax_is_expected_once_and_as_it_was_told_first(store):
    one, two = str(identity("1")), str(identity("2"))
    assert register(store, expected("1", reference_id="a"), expected("1", reference_id="b")) == {one: "expected"}
    assert register(store, expected("2"), expected("1", reference_id="c")) == {two: "expected", one: "registered"}
    tell(store, fax("2"))
    assert register(store, expected("1"), expected("2")) == {one: "registered", two: "known"}
    assert rows(store, "jobs", "facts") == ['{"reference.id": "a"}']


def test_many_are_registered_at_once(store):
    """More than one statement takes."""
    faxes = [expected(str(number)) for number in range(2500)]
    assert set(register(store, *faxes).values()) == {"expected"}
    assert set(register(store, *faxes).values()) == {"registered"}
    assert len(rows(store, "jobs")) == 2500


# --- a job that is registered when its fax has been heard of ----------------------------------------------------------

REFERENCE = {"reference_id": "order-1", "recipient_number": "+13035550199", "recipient_number_raw": "303 555 0199"}


def facts_of(store):
    return facts_known(store)


def test_a_known_fax_learns_what_its_sender_says_and_nothing_is_published(store):
    first = tell(store, fax("1", recipient=Recipient(name="Anna")))
    said = expected("1", recipient_name="Bert", sender_number="+13035550100", **REFERENCE)
    assert registered(store, said) == {str(identity("1")): Registered("known", "delivered", first.events[0])}
    learned = facts_of(store)
    assert learned["reference"]["id"] == "order-1"
    assert learned["recipient"]["number"] == "+13035550199"
    assert learned["recipient"]["name"] == "Anna"  # what the provider states wins
    assert (rows(store, "events", "id"), rows(store, "jobs")) == (first.events, [])
    assert tell(store, fax("1", recipient=Recipient(name="Anna"))).state == "duplicate"
    assert facts_of(store) == learned


def test_the_next_event_of_the_fax_has_what_was_learned_and_names_the_current_event_from_then_on(store):
    tell(store, fax("1", completed_at=MORNING))
    register(store, expected("1", **REFERENCE))
    amended = tell(store, failed("1", completed_at=NOON))
    data = published(store, amended.events[0])["data"]
    assert (data["revision"], data["outcome"], data["reference"]["id"]) == (2, "failed", "order-1")
    again = registered(store, expected("1", reference_id="another", reference_billing_code="7"))
    assert again == {str(identity("1")): Registered("known", "failed", amended.events[0])}
    assert facts_of(store)["reference"] == {"id": "order-1", "billing_code": "7", "billing_info": None}


def test_a_fax_whose_facts_are_forgotten_learns_nothing(store):
    tell(store, fax("1"))
    blank_payloads(store)
    assert register(store, expected("1", **REFERENCE)) == {str(identity("1")): "known"}
    assert (facts_known(store), rows(store, "learned")) == (None, [])


def test_many_known_faxes_learn_at_once(store):
    tell(store, *numbered(1200))
    said = [expected(str(number), reference_id=f"order-{number}") for number in range(1200)]
    assert set(register(store, *said).values()) == {"known"}
    assert {json.loads(facts)["reference"]["id"] for facts in rows(store, "learned", "facts")} == {
        f"order-{number}" for number in range(1200)
    }


class Meeting:
    """A fax is recorded and its job registered at the same moment: the first is held before it commits."""

    def __init__(self, store):
        self.store = store
        self.fax, self.job = fax("1", completed_at=MORNING), expected("1", **REFERENCE)

    def recording(self):
        with self.store.recording(time.monotonic() + 60) as cursor:
            yield from self.held(lambda: record(cursor, self.store.engine.dialect, [submission(self.fax)])[0])

    def loading(self):
        """Held when it has looked for jobs and has written nothing yet."""
        with self.store.recording(time.monotonic() + 60) as cursor:
            said = submission(self.fax)
            rows = recording._rows_of(cursor, self.store.engine.dialect)
            loaded = rows.load(*recording._said([said]))
            yield
            group = recording._Group(*loaded, RULES_ALONE)
            one = group.submission(said)
            rows.write(group.changes(rows.numbers))
            yield one

    def registering(self):
        with self.store.writing() as connection:
            yield from self.held(lambda: jobs.register(connection, self.store.tables, [self.job], START))

    def held(self, work):
        done = work()
        yield
        yield done

    def run(self, first, second):
        """What each came to; the second begins while the first is held, and has to wait for it."""
        results = {}

        def rest():
            steps = second()
            next(steps)
            results["second"] = next(steps)
            for _ in steps:
                pass

        steps = first()
        next(steps)
        thread = threading.Thread(target=rest)
        thread.start()
        thread.join(0.3)  # time to get as far as it can: where it does not wait for the first, it ends
        assert thread.is_alive()
        results["first"] = next(steps)
        for _ in steps:
            pass
        thread.join(60)
        return results["first"], results["second"]


@pytest.mark.parametrize("held", ["recording", "loading"])
def test_a_job_that_is_registered_while_its_fax_is_being_recorded_finds_it(store, held):
    meeting = Meeting(store)
    recorded, states = meeting.run(getattr(meeting, held), meeting.registering)
    assert states == {str(identity("1")): Registered("known", "delivered", recorded.events[0])}
    assert (facts_of(store)["reference"]["id"], rows(store, "jobs")) == ("order-1", [])
    amended = tell(store, failed("1", completed_at=NOON))
    assert published(store, amended.events[0])["data"]["reference"]["id"] == "order-1"


@pytest.mark.parametrize("waits", ["recording", "loading"])
def test_a_fax_that_is_recorded_while_its_job_is_being_registered_has_what_its_sender_says(store, waits):
    meeting = Meeting(store)
    states, recorded = meeting.run(meeting.registering, getattr(meeting, waits))
    assert {one.state for one in states.values()} == {"expected"}
    assert published(store, recorded.events[0])["data"]["reference"]["id"] == "order-1"
    assert rows(store, "jobs") == []


def test_what_an_earlier_version_let_pass_each_other_is_learned_with_the_next_announcement(store):
    tell(store, fax("1", completed_at=MORNING))
    row = {"fax_id": str(identity("1")), "provider": "faxage", "account": "acme", "endpoint": "fax-age", "asked": 0}
    with store.writing() as connection:
        facts = '{"reference.id": "order-1"}'
        values = {**row, "job_id": "J1", "facts": facts, "registered_at_ms": START, "due_at_ms": START}
        connection.execute(store.tables.jobs.insert().values(**values))
    tell(store, fax("1", completed_at=MORNING))  # a duplicate
    assert (facts_of(store)["reference"]["id"], rows(store, "jobs")) == ("order-1", [])


@pytest.mark.service("postgresql")
def test_who_comes_second_waits_and_finds_what_the_first_has_registered(postgresql):
    states = {}

    def second():
        states.update(register(postgresql, expected("3"), expected("2"), expected("1")))

    thread = threading.Thread(target=second)
    with postgresql.writing() as connection:
        jobs.register(connection, postgresql.tables, [expected("1"), expected("2")], START)
        thread.start()
        waits = sa.text("SELECT count(*) FROM pg_locks WHERE NOT granted AND pid <> pg_backend_pid()")
        for _ in range(400):  # until it does, or has ended
            if connection.execute(waits).scalar_one() or not thread.is_alive():
                break
            thread.join(0.01)
        assert thread.is_alive()
    thread.join()
    found = {key: states[str(identity(key))] for key in ("1", "2", "3")}
    assert found == {"1": "registered", "2": "registered", "3": "expected"}


def test_an_announcement_takes_what_was_known_and_the_job_goes(store):
    register(store, expected("1", reference_id="a"), expected("2"))
    tell(store, fax("1"))
    assert rows(store, "jobs", "fax_id") == [str(identity("2"))]


def test_a_job_is_asked_for_when_it_is_due_and_then_ever_more_seldom(store):
    register(
        store,
        expected("1", job="late", due_at_ms=START + 5 * MINUTE),
        expected("2", job="early"),
        expected("3", job="early"),
    )
    assert overdue(store, START - 1) == []
    assert overdue(store, START) == ["early"]
    assert overdue(store, START + 5 * MINUTE) == ["early", "late"]
    assert overdue(store, START + 5 * MINUTE, limit=1) == ["early"]
    assert overdue(store, START + 5 * MINUTE, account="other") == []
    at, pauses = START, []
    for _ in range(12):
        with store.writing() as connection:
            jobs.note_asked(connection, store.tables, "faxage", "acme", ["early"], at)
        pause = next(minutes for minutes in range(1, 2000) if "early" in overdue(store, at + minutes * MINUTE))
        pauses.append(pause)
        at += pause * MINUTE
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 128, *[360] * 4]


def test_what_is_missing_is_counted_by_job(store):
    register(store, expected("1"), expected("2", due_at_ms=START + 1), expected("3", job="J2", due_at_ms=START + 9))
    assert missing(store, START + 1) == {"J1": (2, START)}
    tell(store, fax("1"))
    assert missing(store, START + 9) == {"J1": (1, START + 1), "J2": (1, START + 9)}
