"""Faxes that are expected: each is there once, goes with its announcement, and is asked for ever more seldom."""

import threading

import pytest
import sqlalchemy as sa
from announcing import fax, identity, rows, tell

from receiver.store import jobs
from receiver.store.jobs import ExpectedFax

START = 1_800_000_000_000
MINUTE = 60_000


def expected(key, *, job="J1", due_at_ms=START, **facts):
    known = {name.replace("_", "."): value for name, value in facts.items()}
    return ExpectedFax(str(identity(key)), "faxage", "acme", "fax-age", job, known, due_at_ms)


def register(store, *faxes, at_ms=START):
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
