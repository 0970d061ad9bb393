"""Several sinks in the store: what a commit puts in for each, how events stand with them, how sinks begin and end."""

import time

import pytest
import sqlalchemy as sa
from announcing import NOON, blank_payloads, failed, fax, numbered, project, rows, submission

from receiver.errors import ConfigurationError
from receiver.outgoing import carrier
from receiver.outgoing.contract import Result
from receiver.settings import EVERYTHING, Filter, Sink
from receiver.store import browsing, dead_letters, now_ms, outbox, republishing, retention, sinks
from receiver.store.recording import record
from receiver.store.republishing import Chosen
from receiver.store.retention import Limits
from receiver.store.tables import QUEUE

ALL = {"partner": EVERYTHING, "failures": Filter(outcome=("failed",), type=("fax.completed.v1",))}


def known(store, **others):
    """Let the store know these sinks beside the queue."""
    with store.writing() as connection:
        return sinks.register(connection, store.tables, {QUEUE: None, **others})


def both(store):
    known(store, partner=Sink("partner", ""), failures=Sink("failures", ""))


def tell(store, *faxes, to=ALL):
    with store.recording(deadline=time.monotonic() + 60) as cursor:
        return record(cursor, store.engine.dialect, [submission(*faxes)], sinks=to)[0]


def waits(store, sink):
    return rows(store, "waiting", "seq", sink=sink)


def take(store, sink, limit=100):
    with store.writing() as connection:
        found = outbox.pending(connection, store.tables, limit, sink=sink)
        outbox.publish(connection, store.tables, found, now_ms(), sink)
    return found


def listed(store, **chosen):
    with store.reading() as connection:
        return browsing.events(connection, store.tables, limit=None, **chosen)[::-1]


def test_a_commit_puts_a_row_in_for_each_sink_whose_filter_passes(store):
    tell(store, fax("1"), failed("2"))
    tell(store, failed("1", completed_at=NOON))
    assert len(waits(store, QUEUE)) == len(waits(store, "partner")) == 3
    assert len(waits(store, "failures")) == 1  # the amendment is of another type


@pytest.mark.parametrize(
    ("chosen", "passes"),
    [
        (Filter(), True),
        (Filter(outcome=("failed", "delivered")), True),
        (Filter(outcome=("failed",)), False),
        (Filter(provider=("faxage",), endpoint=("fax-age",)), True),
        (Filter(provider=("retarus",)), False),
        (Filter(endpoint=("other",)), False),
        (Filter(type=("fax.completed.v1",)), True),
        (Filter(type=("fax.amended.v1",)), False),
        (Filter(type=("fax.amended.v1", "fax.completed.v1")), True),
    ],
)
def test_a_filter_says_the_same_in_a_commit_and_in_a_query(store, chosen, passes):
    tell(store, fax(), to={"partner": chosen})
    assert len(waits(store, "partner")) == passes
    with store.reading() as connection:
        events = store.tables.events
        assert (
            len(connection.execute(sa.select(events.c.seq).where(sinks.passing(store.tables, chosen))).all()) == passes
        )


def statements_of(sqlite, to):
    """What a commit of one fax runs on the driver's cursor, and how many pages it writes."""
    seen = []
    with sqlite.recording(deadline=time.monotonic() + 60) as cursor:
        cursor.connection.set_trace_callback(seen.append)
        record(cursor, sqlite.engine.dialect, [submission(fax(str(len(seen))))], sinks=to)
        cursor.connection.set_trace_callback(None)
    return len(seen)


def test_a_commit_without_further_sinks_runs_what_it_ran_before(sqlite):
    """Jobs and faxes are read, the number is found; fax, event, waiting, receipt and its hour are written."""
    assert statements_of(sqlite, {}) == 8
    assert statements_of(sqlite, {"partner": EVERYTHING}) - 8 <= 1


def test_an_event_has_a_state_at_each_sink_and_the_worst_of_them(store):
    both(store)
    tell(store, failed("1"), fax("2"))
    one, two = listed(store)
    assert one["sinks"] == {"queue": "pending", "partner": "pending", "failures": "pending"}
    assert two["sinks"] == {"queue": "pending", "partner": "pending"}
    take(store, QUEUE)
    assert [event["state"] for event in listed(store)] == ["pending", "pending"]
    take(store, "partner")
    one, two = listed(store)
    assert (two["state"], two["published_at"] is not None) == ("published", True)
    assert (one["state"], one["published_at"]) == ("pending", None)
    assert one["sinks"] == {"queue": "published", "partner": "published", "failures": "pending"}
    with store.writing() as connection:
        found = outbox.pending(connection, store.tables, 10, sink="failures")
        outbox.park(connection, store.tables, found, "refused", now_ms(), "failures")
    assert [event["state"] for event in listed(store)] == ["dead", "published"]
    assert [event["id"] for event in listed(store, state="dead")] == [one["id"]]
    assert [event["id"] for event in listed(store, state="published")] == [two["id"]]


def test_with_the_queue_alone_nothing_is_said_of_sinks(store):
    known(store)
    tell(store, fax(), to={})
    assert "sinks" not in listed(store)[0]


def test_a_sink_holds_no_other_back(store):
    both(store)
    tell(store, *numbered(5))
    take(store, "partner")
    assert (waits(store, "partner"), len(waits(store, QUEUE))) == ([], 5)


def test_what_is_sent_again_goes_behind_the_rest_in_each_sink(store):
    both(store)
    tell(store, fax("1"))
    for sink in (QUEUE, "partner"):
        take(store, sink)
    project(store)
    (event,) = listed(store)
    for sink, times in (("partner", 1), (QUEUE, 1), ("failures", 0)):
        chosen = Chosen(sink=sink, passing=ALL.get(sink, EVERYTHING))
        with store.writing() as connection:
            assert republishing.republish_one(connection, store.tables, event["id"], chosen) == times
    tell(store, fax("2"))
    assert waits(store, "partner") == waits(store, QUEUE)
    assert [row.event_id for row in take(store, "partner")] == [event["id"], listed(store)[1]["id"]]


def test_an_event_is_kept_until_every_sink_has_it(store):
    both(store)
    old = now_ms() - 10 * 24 * 3600 * 1000
    with store.recording(deadline=time.monotonic() + 60) as cursor:
        record(cursor, store.engine.dialect, [submission(fax(), received_at_ms=old)], sinks=ALL)
    take(store, QUEUE)
    project(store)
    assert purged(store) == 0
    take(store, "partner")
    assert purged(store) == 1


def purged(store):
    """How many payloads are gone."""
    from datetime import timedelta

    week = timedelta(days=7)
    with store.writing() as connection:
        retention.purge(connection, store.tables, Limits(week, week, 10 * week), now_ms())
    return rows(store, "events", "body").count(None)


# --- beginning and ending -------------------------------------------------------------------------------------------


def test_a_sink_that_is_configured_no_more_stops_a_start_while_events_wait_for_it(store):
    both(store)
    tell(store, fax())
    with pytest.raises(ConfigurationError, match=r"1 for partner.*faxhook sinks drop partner --yes"):
        known(store, failures=Sink("failures", ""))
    take(store, "partner")
    assert known(store, failures=Sink("failures", "")) == ["partner"]
    assert sorted(rows(store, "sinks", "name")) == ["failures", "queue"]


def test_a_dropped_sink_leaves_its_events_to_the_others_and_to_retention(store):
    both(store)
    old = now_ms() - 10 * 24 * 3600 * 1000
    with store.recording(deadline=time.monotonic() + 60) as cursor:
        record(cursor, store.engine.dialect, [submission(*numbered(3), received_at_ms=old)], sinks=ALL)
    take(store, QUEUE)
    project(store)
    assert purged(store) == 0
    with store.writing() as connection:
        assert sinks.drop_some(connection, store.tables, "partner") == 3
        assert sinks.drop_some(connection, store.tables, "partner") == 0
    assert "partner" not in rows(store, "sinks", "name")
    assert purged(store) == 3


def test_a_sink_that_only_another_process_knows_is_found_by_what_waits_for_it(store):
    known(store)
    tell(store, fax(), to={"elsewhere": EVERYTHING})
    with pytest.raises(ConfigurationError, match="elsewhere"):
        known(store)


def fill(store, name, chosen=EVERYTHING):
    more = True
    while more:
        with store.writing() as connection:
            more = sinks.fill(connection, store.tables, name, chosen)


def test_a_new_sink_begins_with_the_oldest_event_if_it_is_to(store, monkeypatch):
    known(store)
    monkeypatch.setattr(sinks, "_AT_ONCE", 2)
    tell(store, *numbered(3), failed("F"), to={})
    known(store, partner=Sink("partner", "", from_oldest=True))
    tell(store, fax("new"), to={"partner": EVERYTHING})
    tell(store, fax("late"), to={})  # by a process that does not know the sink yet
    fill(store, "partner")
    assert waits(store, "partner") == rows(store, "events", "seq")
    assert rows(store, "sinks", "filled_to") == [None, None]


def test_nothing_goes_to_a_new_sink_before_every_process_knows_it(store, monkeypatch):
    """A later revision that was committed by one that does would overtake the first."""
    known(store)
    known(store, partner=Sink("partner", "", from_oldest=True))
    tell(store, fax("1"), to={})
    tell(store, failed("1", completed_at=NOON), to={"partner": EVERYTHING})
    sent = []

    class Publisher:
        most, largest, longest_delay = 10, None, 1.0

        def publish(self, messages):
            sent.extend(message.event_id for message in messages)
            return Result(confirmed={message.event_id for message in messages})

        def idle(self):
            pass

    monkeypatch.setattr(carrier, "_LOOK_SECONDS", 0.0)
    carries = carrier.Carrier(store, Sink("partner", "", from_oldest=True), Publisher(), lambda: True)
    carries.step()
    assert sent == []
    with store.writing() as connection:
        connection.execute(store.tables.sinks.update().values(made_at_ms=now_ms() - 60_000))
    for _ in range(4):
        carries.step()
    carries._changes.close()
    assert sent == rows(store, "events", "id")


def test_a_sink_with_dead_letters_is_not_forgotten_at_a_start(store):
    both(store)
    tell(store, failed("1"))
    dead(store, "partner")
    dead(store, "failures")
    with pytest.raises(ConfigurationError, match="dead letters"):
        known(store)


def test_what_waits_for_a_sink_is_counted_though_its_filter_leaves_holes(store, monkeypatch):
    monkeypatch.setattr(outbox, "_COUNTED", 2)
    tell(store, *(failed(str(number)) if number % 5 == 0 else fax(str(number)) for number in range(20)))
    with store.reading() as connection:
        assert outbox.undelivered(connection, store.tables, "failures") == 4
        assert outbox.undelivered(connection, store.tables, QUEUE) == 20


def test_what_is_filled_in_passes_the_filter_and_has_a_payload(store):
    known(store)
    tell(store, failed("0"), to={})
    blank_payloads(store)
    tell(store, failed("1"), fax("2"), to={})
    known(store, failures=Sink("failures", "", from_oldest=True))
    fill(store, "failures", ALL["failures"])
    assert len(waits(store, "failures")) == 1


def test_a_stopped_sink_is_resumed_once(store):
    both(store)
    with store.writing() as connection:
        sinks.stop(connection, store.tables, "partner", "gone")
        assert sinks.standing(connection, store.tables, "partner").stopped_for == "gone"
        assert sinks.resume(connection, store.tables, "partner")
        assert not sinks.resume(connection, store.tables, "partner")


# --- dead letters ---------------------------------------------------------------------------------------------------


def dead(store, sink):
    with store.writing() as connection:
        found = outbox.pending(connection, store.tables, 10, sink=sink)
        outbox.park(connection, store.tables, found, "refused", now_ms(), sink)
    with store.reading() as connection:
        return dead_letters.after(connection, store.tables, sink=sink)


def test_a_dead_letter_of_one_sink_goes_there_again(store):
    both(store)
    tell(store, *numbered(2))
    letters = dead(store, "partner")
    assert [letter.sink for letter in letters] == ["partner", "partner"]
    with store.writing() as connection:
        assert dead_letters.revive(connection, store.tables, letters) == 2
    assert (len(waits(store, "partner")), len(waits(store, QUEUE))) == (2, 2)


def test_dropping_a_dead_letter_takes_its_event_only_if_it_is_nowhere_else(store):
    both(store)
    tell(store, fax("1"))
    letters = dead(store, "partner")
    with store.writing() as connection:
        assert dead_letters.drop(connection, store.tables, letters) == 1
    assert len(rows(store, "events")) == 1
    project(store)
    letters = dead(store, QUEUE)
    with store.writing() as connection:
        assert dead_letters.drop(connection, store.tables, letters) == 1
    assert rows(store, "events") == []
